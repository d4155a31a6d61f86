//! Bytes to and from the store's transfers: on the raw socket beside
//! containerd's where the peer announces one, else in messages over its
//! Streaming service with containerd's window protocol.

use std::io;

use bytes::Bytes;
use containerd_api::any;
use containerd_api::prost_types::Any;
use containerd_api::services::introspection::v1::PluginsRequest;
use containerd_api::services::streaming::v1::StreamInit;
use containerd_api::transfer_types::{Data, WindowUpdate};
use containerd_rpc::{Client, RpcError};
use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::ImageError;

/// Bytes in one message: what stock containerd accepts.
const MESSAGE: usize = 32 << 10;
/// How far a sender may be ahead, in bytes.
const WINDOW: i32 = 64 << 10;
/// How much is read from a raw stream at once, in bytes.
const READ: usize = 1 << 20;

/// The id of a stream, and the task that moves its bytes.
pub(crate) struct Upload {
    pub id: String,
    pub pump: tokio::task::JoinHandle<io::Result<()>>,
}

/// The id of a stream, and what arrives on it.
pub(crate) struct Download {
    pub id: String,
    pub bytes: mpsc::Receiver<io::Result<Bytes>>,
}

/// Where the peer's raw socket is, if it has one.
async fn raw_address(client: &Client) -> Option<String> {
    let request = PluginsRequest { filters: vec!["type==io.ferry.stream.v1".into()] };
    let plugins = client.introspection().plugins(request).await.ok()?.into_inner().plugins;
    plugins.into_iter().find_map(|mut plugin| plugin.exports.remove("address"))
}

async fn open_raw(client: &Client, address: &str, id: &str) -> io::Result<UnixStream> {
    let mut socket = UnixStream::connect(address).await?;
    let hello = serde_json::json!({"v": 1, "namespace": client.namespace(), "id": id});
    socket.write_all(format!("{hello}\n").as_bytes()).await?;
    // The answer is one line; for an upload nothing follows it, and for a
    // download nothing before the transfer began.
    let mut line = String::new();
    BufReader::with_capacity(1, &mut socket).read_line(&mut line).await?;
    match line.trim_end() {
        "ok" => Ok(socket),
        other => Err(io::Error::other(format!("raw stream: {other}"))),
    }
}

/// Opens a stream that the store reads `body` from.
pub(crate) async fn upload<S>(client: &Client, body: S) -> Result<Upload, ImageError>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let id = format!("ferry-{}", crate::snapshot::unique());
    if let Some(address) = raw_address(client).await {
        if let Ok(mut socket) = open_raw(client, &address, &id).await {
            let pump = tokio::spawn(async move {
                let mut body = std::pin::pin!(body);
                while let Some(part) = body.next().await {
                    socket.write_all(&part?).await?;
                }
                socket.shutdown().await
            });
            return Ok(Upload { id, pump });
        }
    }
    let (sender, mut answers) = open_grpc(client, &id).await?;
    let pump = tokio::spawn(async move {
        let mut body = std::pin::pin!(body);
        let mut window: i64 = 0;
        while let Some(part) = body.next().await {
            let mut part = part?;
            while !part.is_empty() {
                while window <= 0 {
                    let answer = answers.message().await.map_err(io::Error::other)?;
                    let Some(answer) = answer else { return Ok(()) };
                    if let Some(Ok(update)) = any::unpack::<WindowUpdate>(&answer) {
                        window += i64::from(update.update);
                    }
                }
                let take = part.len().min(MESSAGE).min(window as usize);
                let data = Data { data: part.split_to(take) };
                window -= take as i64;
                if sender.send(any::pack(&data)).await.is_err() {
                    return Ok(());
                }
            }
        }
        // Dropping the answers would reset the stream under what the peer has
        // not read yet.
        drop(sender);
        while let Ok(Some(_)) = answers.message().await {}
        Ok(())
    });
    Ok(Upload { id, pump })
}

/// Opens a stream that the store writes to.
pub(crate) async fn download(client: &Client) -> Result<Download, ImageError> {
    let id = format!("ferry-{}", crate::snapshot::unique());
    let (out, bytes) = mpsc::channel(4);
    if let Some(address) = raw_address(client).await {
        if let Ok(mut socket) = open_raw(client, &address, &id).await {
            tokio::spawn(async move {
                loop {
                    let mut part = bytes::BytesMut::with_capacity(READ);
                    let item = match socket.read_buf(&mut part).await {
                        Ok(0) => return,
                        Ok(_) => Ok(part.freeze()),
                        Err(e) => Err(e),
                    };
                    if out.send(item).await.is_err() {
                        return;
                    }
                }
            });
            return Ok(Download { id, bytes });
        }
    }
    let (sender, mut answers) = open_grpc(client, &id).await?;
    tokio::spawn(async move {
        let grant = |n| any::pack(&WindowUpdate { update: n });
        if sender.send(grant(WINDOW)).await.is_err() {
            return;
        }
        loop {
            let item = match answers.message().await {
                Ok(None) => return,
                Ok(Some(answer)) => match any::unpack::<Data>(&answer) {
                    Some(Ok(data)) => Ok(data.data),
                    _ => continue,
                },
                Err(status) => Err(io::Error::other(status)),
            };
            let taken = item.as_ref().map_or(0, Bytes::len) as i32;
            if out.send(item).await.is_err() || sender.send(grant(taken)).await.is_err() {
                return;
            }
        }
    });
    Ok(Download { id, bytes })
}

type Answers = containerd_rpc::Streaming<Any>;

async fn open_grpc(client: &Client, id: &str) -> Result<(mpsc::Sender<Any>, Answers), ImageError> {
    let (sender, receiver) = mpsc::channel(8);
    let init = any::pack(&StreamInit { id: id.into() });
    // The channel has room: nobody else sends yet.
    let _ = sender.try_send(init);
    let answer = client.streaming().stream(ReceiverStream::new(receiver)).await;
    let mut answers = answer.map_err(RpcError::from)?.into_inner();
    // The first answer says that the id is known.
    answers.message().await.map_err(RpcError::from)?;
    Ok((sender, answers))
}
