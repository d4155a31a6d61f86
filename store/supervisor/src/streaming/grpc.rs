//! `containerd.services.streaming.v1.Streaming`, and containerd's byte protocol on it: `Data`
//! messages one way, `WindowUpdate` the other.

use super::{Endpoint, Stream as Registered, Streams};
use crate::Context;
use bytes::{Buf as _, Bytes};
use containerd_api::any;
use containerd_api::prost_types::Any;
use containerd_api::services::streaming::v1 as api;
use containerd_api::transfer_types::{Data, WindowUpdate};
use futures_util::Stream;
use std::io::{self, Read, Write};
use std::pin::Pin;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

/// Messages in flight a direction; containerd's clients send 32 KiB each.
const QUEUE: usize = 32;
/// Window that a sender gets in all, in bytes.
const WINDOW: i32 = 8 << 20;
/// How long a client may take to see the end of a stream.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(2);
/// Largest message that is sent, in bytes; a client's window often is 64 KiB.
const CHUNK: usize = 32 << 10;

/// The gRPC service over [`Streams`].
#[derive(Clone, Debug)]
pub struct Service(pub Streams);

#[tonic::async_trait]
impl api::streaming_server::Streaming for Service {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<Any, Status>> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<Any>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let mut messages = request.into_inner();
        let first = messages.message().await?;
        let first = first.ok_or_else(|| Status::invalid_argument("a stream without a message"))?;
        let init = any::unpack::<api::StreamInit>(&first)
            .ok_or_else(|| Status::invalid_argument(format!("unexpected {}", first.type_url)))?
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        let (to_user, incoming) = mpsc::channel(QUEUE);
        let (outgoing, to_client) = mpsc::channel(QUEUE);
        // The acknowledgement stands before anything that a user may send.
        let ready = Any { type_url: "google.protobuf.Empty".into(), value: Vec::new() };
        let _ = outgoing.try_send(Ok(ready));
        let endpoint = Registered::Grpc(Endpoint { incoming, outgoing });
        self.0.register(&context.namespace, &init.id, endpoint)?;
        tokio::spawn(async move {
            // An error ends the stream like the client's close: the user sees a short stream.
            while let Ok(Some(message)) = messages.message().await {
                if to_user.send(message).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(to_client))))
    }
}

/// Reads what a client sends as `Data`.
#[derive(Debug)]
pub struct GrpcReader {
    endpoint: Endpoint,
    chunk: Bytes,
    /// Bytes taken since the last window update.
    used: i32,
    opened: bool,
}

impl GrpcReader {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, chunk: Bytes::new(), used: 0, opened: false }
    }

    fn grant(&self, update: i32) {
        let message = any::pack(&WindowUpdate { update });
        // A client that has sent everything no longer listens, which is not an error.
        let _ = self.endpoint.outgoing.blocking_send(Ok(message));
    }
}

impl Read for GrpcReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if !self.opened {
            self.opened = true;
            self.grant(WINDOW);
        }
        while self.chunk.is_empty() {
            let Some(message) = self.endpoint.incoming.blocking_recv() else { return Ok(0) };
            let data = any::unpack::<Data>(&message)
                .ok_or_else(|| io::Error::other(format!("unexpected {}", message.type_url)))?;
            self.chunk = data.map_err(io::Error::other)?.data;
            self.used += i32::try_from(self.chunk.len()).unwrap_or(i32::MAX);
            if self.used >= WINDOW / 4 {
                let used = std::mem::take(&mut self.used);
                self.grant(used);
            }
        }
        let n = buf.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buf[..n]);
        Ok(n)
    }
}

/// Sends `Data` to a client within the window that it grants. Dropping it ends the call.
#[derive(Debug)]
pub struct GrpcWriter {
    endpoint: Endpoint,
    window: i64,
}

impl GrpcWriter {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, window: 0 }
    }

    /// Ends the answer; the client's side of the stream ends once the end has reached it.
    pub(super) fn finish(self) {
        let Endpoint { mut incoming, outgoing } = self.endpoint;
        drop(outgoing);
        let ended = async move { while incoming.recv().await.is_some() {} };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Past the limit the client is stuck or gone: nothing more can be done for it.
            let limited = async { tokio::time::timeout(FAREWELL, ended).await };
            let _ = runtime.block_on(limited);
        }
    }
}

impl Write for GrpcWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let message = if self.window > 0 {
                match self.endpoint.incoming.try_recv() {
                    Ok(message) => message,
                    Err(_) => break,
                }
            } else {
                let message = self.endpoint.incoming.blocking_recv();
                message.ok_or(io::ErrorKind::BrokenPipe)?
            };
            let update = any::unpack::<WindowUpdate>(&message)
                .ok_or_else(|| io::Error::other(format!("unexpected {}", message.type_url)))?;
            self.window += i64::from(update.map_err(io::Error::other)?.update);
        }
        let n = buf.len().min(CHUNK).min(usize::try_from(self.window).unwrap_or(CHUNK));
        let message = any::pack(&Data { data: Bytes::copy_from_slice(&buf[..n]) });
        let sent = self.endpoint.outgoing.blocking_send(Ok(message));
        sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.window -= n as i64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
