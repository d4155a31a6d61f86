//! ttrpc over tokio: the calling side that talks to one shim, and the serving side that takes
//! events of shims. Framing is `shim-api`'s; here is only the socket. A call is written by its
//! caller; one task a connection reads.

use shim_api::prost::Message;
use shim_api::ttrpc::{Client as Codec, Code, Server as ServerCodec, Status};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

/// Bytes read at once; replies of shims are small.
const READ: usize = 16 * 1024;

#[derive(Default)]
struct State {
    codec: Codec,
    waiting: HashMap<u32, oneshot::Sender<Result<Vec<u8>, Status>>>,
    closed: bool,
}

struct Shared {
    stream: UnixStream,
    state: Mutex<State>,
    /// Wakes the reader when a writer found the socket full.
    stuck: Notify,
    closed: CancellationToken,
}

/// A connection to a shim. Cheap to clone; the connection ends when the last clone goes.
#[derive(Clone)]
pub(super) struct TtrpcClient {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
}

/// Ends the reading task when the last client is dropped.
struct Owner(CancellationToken);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl TtrpcClient {
    /// Connects to the socket at `path`.
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            stream: UnixStream::connect(path).await?,
            state: Mutex::default(),
            stuck: Notify::new(),
            closed: CancellationToken::new(),
        });
        let dropped = CancellationToken::new();
        let (reader, gone) = (Arc::clone(&shared), dropped.clone());
        tokio::spawn(async move {
            tokio::select! {
                _ = reader.run() => {}
                () = gone.cancelled() => {}
            }
            reader.close();
        });
        Ok(Self { shared, _owner: Arc::new(Owner(dropped)) })
    }

    /// Resolves when the peer has gone.
    pub(super) fn closed(&self) -> CancellationToken {
        self.shared.closed.clone()
    }

    /// Calls `service`.`method`. Errors: the peer's status; `Unavailable` when the connection
    /// is lost, `DeadlineExceeded` after `timeout`.
    pub(super) async fn call<A: Message + Default>(
        &self,
        service: &str,
        method: &str,
        request: &impl Message,
        timeout: Option<Duration>,
    ) -> Result<A, Status> {
        let (stream, answer) = self.shared.send(service, method, request, timeout)?;
        let guard = Forget { shared: &self.shared, stream };
        let lost = || Status::new(Code::Unavailable, "ttrpc: closed");
        let payload = match timeout {
            None => answer.await.map_err(|_| lost())?,
            Some(limit) => match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer.map_err(|_| lost())?,
                Err(_) => {
                    return Err(Status::new(Code::DeadlineExceeded, "context deadline exceeded"));
                }
            },
        }?;
        drop(guard);
        A::decode(payload.as_slice())
            .map_err(|e| Status::new(Code::Internal, format!("{method}: malformed answer: {e}")))
    }
}

/// Takes a call off the waiting list however it ends.
struct Forget<'a> {
    shared: &'a Shared,
    stream: u32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.stream);
    }
}

type Answer = oneshot::Receiver<Result<Vec<u8>, Status>>;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(
        &self,
        service: &str,
        method: &str,
        request: &impl Message,
        timeout: Option<Duration>,
    ) -> Result<(u32, Answer), Status> {
        let mut state = self.lock();
        if state.closed {
            return Err(Status::new(Code::Unavailable, "ttrpc: closed"));
        }
        let nanos = timeout.map_or(0, |t| i64::try_from(t.as_nanos()).unwrap_or(i64::MAX));
        let stream = state.codec.call(service, method, request, nanos)?;
        let (sender, answer) = oneshot::channel();
        state.waiting.insert(stream, sender);
        if !self.flush(&mut state.codec) {
            self.stuck.notify_one();
        }
        Ok((stream, answer))
    }

    /// Writes what the socket takes; false when something is left.
    fn flush(&self, codec: &mut Codec) -> bool {
        while !codec.pending().is_empty() {
            match self.stream.try_write(codec.pending()) {
                Ok(n) => codec.advance(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                // The reader sees the same and ends the connection.
                Err(_) => return true,
            }
        }
        true
    }

    async fn run(&self) -> io::Result<()> {
        loop {
            tokio::select! {
                ready = self.stream.readable() => {
                    ready?;
                    if !self.receive()? {
                        return Ok(());
                    }
                }
                () = self.stuck.notified() => {
                    self.stream.writable().await?;
                    if !self.flush(&mut self.lock().codec) {
                        self.stuck.notify_one();
                    }
                }
            }
        }
    }

    /// Takes what has arrived; false at the end.
    fn receive(&self) -> io::Result<bool> {
        let mut buffer = [0_u8; READ];
        loop {
            let n = match self.stream.try_read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            };
            let mut state = self.lock();
            state.codec.feed(&buffer[..n]).map_err(io::Error::other)?;
            while let Some(reply) = state.codec.next_reply() {
                if let Some(waiter) = state.waiting.remove(&reply.stream) {
                    // The caller may have given up meanwhile.
                    let _ = waiter.send(reply.result);
                }
            }
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.closed.cancel();
    }
}

/// Answers one encoded request of `service`, `method`.
pub(super) trait Handler: Send + Sync + 'static {
    /// The encoded answer or a status.
    fn handle(&self, service: &str, method: &str, payload: &[u8]) -> Result<Vec<u8>, Status>;
}

/// Serves one connection until the peer leaves. Calls are answered in order.
pub(super) async fn serve(stream: UnixStream, handler: Arc<dyn Handler>) -> io::Result<()> {
    let mut codec = ServerCodec::default();
    loop {
        stream.readable().await?;
        if !feed(&stream, &mut codec)? {
            return Ok(());
        }
        while let Some(call) = codec.next_call() {
            let result = handler.handle(&call.service, &call.method, &call.payload);
            codec.reply(call.stream, result);
        }
        while !codec.pending().is_empty() {
            stream.writable().await?;
            match stream.try_write(codec.pending()) {
                Ok(n) => codec.advance(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }
}

/// Takes once what has arrived; false at the end. The buffer is the thread's: a connection that
/// idles holds none.
fn feed(stream: &UnixStream, codec: &mut ServerCodec) -> io::Result<bool> {
    let mut buffer = [0_u8; READ];
    match stream.try_read(&mut buffer) {
        Ok(0) => Ok(false),
        Ok(n) => codec.feed(&buffer[..n]).map(|()| true).map_err(io::Error::other),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(true),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shim_api::task::{StartRequest, StartResponse};
    use tokio::net::UnixListener;

    struct Echo;
    impl Handler for Echo {
        fn handle(&self, _: &str, method: &str, payload: &[u8]) -> Result<Vec<u8>, Status> {
            let request = StartRequest::decode(payload).unwrap();
            match method {
                "Start" => Ok(StartResponse { pid: request.id.len() as u32 }.encode_to_vec()),
                _ => Err(Status::new(Code::Unimplemented, method)),
            }
        }
    }

    #[tokio::test]
    async fn calls_are_answered_and_a_lost_peer_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream, Arc::new(Echo)).await
        });
        let client = TtrpcClient::connect(&path).await.unwrap();
        for length in [0_usize, 1, 300_000] {
            let request = StartRequest { id: "x".repeat(length), ..StartRequest::default() };
            let answer: StartResponse = client.call("s", "Start", &request, None).await.unwrap();
            assert_eq!(answer.pid as usize, length);
        }
        let request = StartRequest::default();
        let refused = client.call::<StartResponse>("s", "Nope", &request, None).await.unwrap_err();
        assert_eq!(refused.code, Code::Unimplemented);
        server.abort();
        client.closed().cancelled().await;
        let lost = client.call::<StartResponse>("s", "Start", &request, None).await.unwrap_err();
        assert_eq!(lost.code, Code::Unavailable);
    }
}
