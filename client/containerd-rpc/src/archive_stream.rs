//! Image archives to and from containerd's Transfer service, as bytes: over the raw unix stream
//! that ferry-containerd announces, else over containerd's gRPC streaming. Which images, names and
//! snapshotters is in the messages that the caller gives.
//!
//! The raw socket: connect, send one line `{"v":1,"namespace":"N","id":"ID"}`, read `ok\n`; from
//! then on the connection is the stream, and half-close ends a direction. Introspection announces
//! it as plugin `io.ferry.stream.v1`/`archive` with the path in the export `address`.

use crate::tar_end::TarEnd;
use crate::{Client, Kind, RpcError};
use containerd_api::RegistrySettings;
use containerd_api::any;
use containerd_api::prost_types::Any;
use containerd_api::services::introspection::v1::PluginsRequest;
use containerd_api::services::streaming::v1::StreamInit;
use containerd_api::services::transfer::v1::{TransferOptions, TransferRequest};
use containerd_api::transfer_types::{
    Data, ImageExportStream, ImageImportStream, ImageStore, Progress, WindowUpdate,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tonic::{Request, Status, Streaming};

/// Bytes of one `Data` message, as containerd's own clients send.
const CHUNK: usize = 32 << 10;
/// Messages queued towards the peer.
const QUEUE: usize = 32;
/// Window that the peer gets for what it sends, in bytes.
const WINDOW: i32 = 8 << 20;

/// A stream towards the Transfer service, under an id that a request names.
enum Stream {
    Raw(UnixStream),
    Grpc { outgoing: mpsc::Sender<Any>, incoming: Streaming<Any> },
}

fn failed(what: &str, why: impl std::fmt::Display) -> RpcError {
    RpcError { kind: Kind::Unavailable, message: format!("{what}: {why}") }
}

/// An id that no other stream has: process, time and a count.
pub(crate) fn fresh_id() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("ferry-{}-{nanos:x}-{count}", std::process::id())
}

/// The raw socket's path; `None` on a containerd that has none.
///
/// # Errors
/// The peer can't be asked.
pub async fn raw_address(client: &Client) -> Result<Option<PathBuf>, RpcError> {
    let filters = vec!["type==io.ferry.stream.v1".to_owned()];
    let plugins = client.introspection().plugins(PluginsRequest { filters }).await?.into_inner();
    let address = plugins.plugins.into_iter().find_map(|mut p| p.exports.remove("address"));
    Ok(address.map(PathBuf::from))
}

/// Sends the archive that `source` brings to the peer, which stores its images as `store` says.
/// `progress` gets what the peer tells meanwhile. Returns when all is stored.
///
/// # Errors
/// What the peer answers, or that `source` can't be read.
pub async fn import(
    client: &Client,
    source: &mut (impl AsyncRead + Unpin),
    store: &ImageStore,
    progress: Option<mpsc::Sender<Progress>>,
) -> Result<(), RpcError> {
    let id = fresh_id();
    let stream = open(client, &id).await?;
    let from = any::pack(&ImageImportStream { stream: id, ..ImageImportStream::default() });
    let call = Call { source: from, destination: any::pack(store), ..Call::default() };
    let transfer = transfer(client, call, progress);
    tokio::pin!(transfer);
    let feed = feed(stream, source);
    tokio::pin!(feed);
    tokio::select! {
        // The peer gave up before it read everything: its reason is the answer.
        done = &mut transfer => Ok(done?),
        fed = &mut feed => match fed {
            Ok(_held) => Ok(transfer.await?),
            // A peer that refuses closes its end; only it knows why.
            Err(error) => match transfer.await {
                Err(reason) => Err(reason.into()),
                Ok(()) => Err(error),
            },
        },
    }
}

/// Writes the images that `store` names to `sink` as one archive; `how` chooses platforms and
/// form, its stream id is filled in here. Returns the number of bytes.
///
/// # Errors
/// What the peer answers, or that `sink` can't be written.
pub async fn export(
    client: &Client,
    store: &ImageStore,
    how: ImageExportStream,
    sink: &mut (impl AsyncWrite + Unpin),
) -> Result<u64, RpcError> {
    let id = fresh_id();
    let stream = open(client, &id).await?;
    let to = any::pack(&ImageExportStream { stream: id, ..how });
    // A peer that refuses leaves the stream alone: its answer must end the waiting.
    let call = Call { source: any::pack(store), destination: to, ..Call::default() };
    let sent = async { Ok::<_, RpcError>(transfer(client, call, None).await?) };
    let ((), total) = tokio::try_join!(sent, drain(stream, sink))?;
    Ok(total)
}

/// A transfer to be asked for.
#[derive(Default)]
pub(crate) struct Call {
    pub(crate) source: Any,
    pub(crate) destination: Any,
    pub(crate) settings: RegistrySettings,
}

/// [`export`] by the raw stream, for a caller that has the kernel pass on what comes: the socket,
/// and the call that fills it, which must be awaited meanwhile. `None` on a peer without.
///
/// # Errors
/// The peer can't be reached.
pub async fn export_raw(
    client: &Client,
    store: &ImageStore,
    how: ImageExportStream,
) -> Result<Option<(UnixStream, impl Future<Output = Result<(), RpcError>> + use<>)>, RpcError> {
    let id = fresh_id();
    let Some(path) = raw_address(client).await? else { return Ok(None) };
    let socket = open_raw(client, &path, &id).await?;
    let to = any::pack(&ImageExportStream { stream: id, ..how });
    let call = Call { source: any::pack(store), destination: to, ..Call::default() };
    let client = client.clone();
    let sent = async move { Ok::<_, RpcError>(transfer(&client, call, None).await?) };
    Ok(Some((socket, sent)))
}

pub(crate) async fn transfer(
    client: &Client,
    call: Call,
    progress: Option<mpsc::Sender<Progress>>,
) -> Result<(), Status> {
    let mut options = None;
    let mut listener = None;
    if let Some(progress) = progress {
        let id = fresh_id();
        let (outgoing, mut incoming) = open_grpc(client, &id).await.map_err(unavailable)?;
        options = Some(TransferOptions { progress_stream: id });
        listener = Some(tokio::spawn(async move {
            // The stream stays open towards the peer for as long as we listen.
            let _outgoing = outgoing;
            while let Ok(Some(message)) = incoming.message().await {
                if let Some(Ok(told)) = any::unpack::<Progress>(&message)
                    && progress.send(told).await.is_err()
                {
                    return;
                }
            }
        }));
    }
    let Call { source, destination, settings } = call;
    let request = TransferRequest { source: Some(source), destination: Some(destination), options };
    let mut request = Request::new(request);
    settings.write(request.metadata_mut());
    let done = client.transfer().transfer(request).await;
    if let Some(listener) = listener {
        match &done {
            // The peer ends the stream with the transfer; what it told last is still on its way.
            Ok(_) => drop(tokio::time::timeout(std::time::Duration::from_secs(1), listener).await),
            Err(_) => listener.abort(),
        }
    }
    done?;
    Ok(())
}

fn unavailable(error: RpcError) -> Status {
    Status::unavailable(error.message)
}

async fn open(client: &Client, id: &str) -> Result<Stream, RpcError> {
    let Some(path) = raw_address(client).await? else {
        let (outgoing, incoming) = open_grpc(client, id).await?;
        return Ok(Stream::Grpc { outgoing, incoming });
    };
    open_raw(client, &path, id).await.map(Stream::Raw)
}

async fn open_raw(client: &Client, path: &Path, id: &str) -> Result<UnixStream, RpcError> {
    let what = format!("opening the stream {}", path.display());
    let mut socket = UnixStream::connect(path).await.map_err(|e| failed(&what, e))?;
    // Both are identifiers: nothing in them needs escaping.
    let hello = format!("{{\"v\":1,\"namespace\":\"{}\",\"id\":\"{id}\"}}\n", client.namespace());
    socket.write_all(hello.as_bytes()).await.map_err(|e| failed(&what, e))?;
    let mut answer = Vec::new();
    loop {
        let byte = socket.read_u8().await.map_err(|e| failed(&what, e))?;
        if byte == b'\n' || answer.len() > 4096 {
            break;
        }
        answer.push(byte);
    }
    match answer.as_slice() {
        b"ok" => Ok(socket),
        refused => Err(failed(&what, String::from_utf8_lossy(refused))),
    }
}

pub(crate) async fn open_grpc(
    client: &Client,
    id: &str,
) -> Result<(mpsc::Sender<Any>, Streaming<Any>), RpcError> {
    let (outgoing, messages) = mpsc::channel(QUEUE);
    let init = any::pack(&StreamInit { id: id.to_owned() });
    outgoing.try_send(init).map_err(|e| failed("opening a stream", e))?;
    let request = Request::new(tokio_stream::wrappers::ReceiverStream::new(messages));
    let mut incoming = client.streaming().stream(request).await?.into_inner();
    // The first message acknowledges the registration.
    incoming.message().await?;
    Ok((outgoing, incoming))
}

/// Sends all of `source`. What is returned keeps the stream's other direction open.
async fn feed(stream: Stream, source: &mut (impl AsyncRead + Unpin)) -> Result<Stream, RpcError> {
    let what = "sending an image archive";
    match stream {
        Stream::Raw(mut socket) => {
            let mut source = tokio::io::BufReader::with_capacity(1 << 20, source);
            tokio::io::copy_buf(&mut source, &mut socket).await.map_err(|e| failed(what, e))?;
            socket.shutdown().await.map_err(|e| failed(what, e))?;
            Ok(Stream::Raw(socket))
        }
        Stream::Grpc { outgoing, mut incoming } => {
            let mut window = 0_i64;
            let mut buffer = vec![0; CHUNK];
            loop {
                while window <= 0 {
                    let message = incoming.message().await?;
                    let message =
                        message.ok_or_else(|| failed(what, "the peer closed the stream"))?;
                    if let Some(Ok(update)) = any::unpack::<WindowUpdate>(&message) {
                        window += i64::from(update.update);
                    }
                }
                let most = CHUNK.min(usize::try_from(window).unwrap_or(CHUNK));
                let n = source.read(&mut buffer[..most]).await.map_err(|e| failed(what, e))?;
                if n == 0 {
                    drop(outgoing);
                    let (closed, _) = mpsc::channel(1);
                    return Ok(Stream::Grpc { outgoing: closed, incoming });
                }
                let data = any::pack(&Data { data: buffer[..n].to_vec().into() });
                outgoing.send(data).await.map_err(|e| failed(what, e))?;
                window -= n as i64;
            }
        }
    }
}

/// Writes all that the peer sends to `sink`.
async fn drain(stream: Stream, sink: &mut (impl AsyncWrite + Unpin)) -> Result<u64, RpcError> {
    let what = "receiving an image archive";
    match stream {
        Stream::Raw(socket) => {
            let mut source = tokio::io::BufReader::with_capacity(1 << 20, socket);
            tokio::io::copy_buf(&mut source, sink).await.map_err(|e| failed(what, e))
        }
        Stream::Grpc { outgoing, mut incoming } => {
            let grant = |update| any::pack(&WindowUpdate { update });
            outgoing.send(grant(WINDOW)).await.map_err(|e| failed(what, e))?;
            let (mut total, mut used) = (0, 0);
            // A stock containerd keeps the stream open behind the archive.
            let mut end = TarEnd::new();
            while let Some(message) =
                incoming.message().await.map_err(|e: Status| failed(what, e))?
            {
                let Some(Ok(data)) = any::unpack::<Data>(&message) else { continue };
                sink.write_all(&data.data).await.map_err(|e| failed(what, e))?;
                total += data.data.len() as u64;
                if end.feed(&data.data) {
                    break;
                }
                used += data.data.len() as i32;
                if used >= WINDOW / 4 {
                    // A peer that has sent everything no longer listens.
                    let _ = outgoing.send(grant(std::mem::take(&mut used))).await;
                }
            }
            Ok(total)
        }
    }
}
