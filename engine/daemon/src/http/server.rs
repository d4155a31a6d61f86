//! Sockets and connections: accept, read a request, run its handler, write the
//! answer, go on or hand the connection over.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt;
use http::{Method, StatusCode, header};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Mutex, Notify};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use super::body::{Body, ReadSide, Shared};
use super::compat::{ServerFacts, check_version, split_version};
use super::head::{self, BadHead, Head, Length};
use super::query::unescape;
use super::response::{Content, Known, TakeOver};
use super::router::{Outcome, Route};
use super::stream::{
    Hijacked, HijackedReader, HijackedWriter, ReadHalf, WriteHalf, split_tcp, split_unix,
};
use super::write::{Frame, write_full, write_hijack, write_raw, write_socket, write_stream};
use super::{ApiError, Query, Request, Response, Router};

/// How much of a body that nobody read is skipped to keep a connection.
const MAX_DRAIN: usize = 256 << 10;
/// How many bytes a client may send ahead of its answer.
const MAX_AHEAD: usize = 256 << 10;

/// A socket that is listened on.
#[derive(Debug)]
pub enum Listener {
    /// A unix socket.
    Unix(UnixListener),
    /// A TCP socket, without TLS.
    Tcp(TcpListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<(ReadHalf, WriteHalf)> {
        match self {
            Listener::Unix(listener) => Ok(split_unix(listener.accept().await?.0)),
            Listener::Tcp(listener) => {
                let stream = listener.accept().await?.0;
                stream.set_nodelay(true)?;
                Ok(split_tcp(stream))
            }
        }
    }
}

struct Server {
    router: Router,
    facts: ServerFacts,
}

/// Serves all `listeners` until `stop`; connections that are open then run on.
pub async fn serve(
    listeners: Vec<Listener>,
    router: Router,
    facts: ServerFacts,
    stop: CancellationToken,
) {
    let server = Arc::new(Server { router, facts });
    let accepting = listeners.into_iter().map(|listener| {
        let (server, stop) = (Arc::clone(&server), stop.clone());
        async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                match accepted {
                    Ok((read, write)) => {
                        tokio::spawn(connection(Arc::clone(&server), read, write));
                    }
                    Err(e) => {
                        // Descriptors ran out: those that close make room.
                        error!("accept on the API socket: {e}");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                }
            }
        }
    });
    futures_util::future::join_all(accepting).await;
}

/// What becomes of a connection after an answer.
enum Next {
    Go,
    End,
    HandOver(TakeOver),
}

async fn connection(server: Arc<Server>, read: ReadHalf, write: WriteHalf) {
    let shared = Arc::new(Shared {
        read: Mutex::new(ReadSide::new(read)),
        write: Mutex::new(write),
        expects: AtomicBool::new(false),
        consumed: Notify::new(),
    });
    loop {
        let head = match read_head(&shared).await {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(bad) => return refuse(&shared, &bad).await,
        };
        let length = match head.length() {
            Ok(length) => length,
            Err(bad) => return refuse(&shared, &bad).await,
        };
        match exchange(&server, &shared, head, length).await {
            Ok(Next::Go) => {}
            Ok(Next::End) => return,
            Ok(Next::HandOver(run)) => {
                let Some(shared) = Arc::into_inner(shared) else {
                    error!("a handler kept the body of a connection that it takes over");
                    return;
                };
                let read = shared.read.into_inner();
                let reader = HijackedReader { early: read.buf, ended: read.eof, half: read.half };
                let writer = HijackedWriter { half: shared.write.into_inner() };
                return run(Hijacked { reader, writer }).await;
            }
            Err(e) => {
                debug!("connection ended: {e}");
                return;
            }
        }
    }
}

/// The next request's head; `None` when the client is done.
async fn read_head(shared: &Shared) -> Result<Option<Head>, BadHead> {
    let mut read = shared.read.lock().await;
    loop {
        if let Some(head) = head::parse(&read.buf)? {
            let _ = read.buf.split_to(head.len);
            return Ok(Some(head));
        }
        if !read.fill().await.unwrap_or(false) {
            return Ok(None);
        }
    }
}

async fn refuse(shared: &Shared, BadHead(status, text): &BadHead) {
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n\
         Connection: close\r\n\r\n{text}"
    );
    let mut write = shared.write.lock().await;
    let _ = write.write_all(answer.as_bytes()).await;
    let _ = write.shutdown().await;
}

async fn exchange(
    server: &Server,
    shared: &Arc<Shared>,
    head: Head,
    length: Length,
) -> io::Result<Next> {
    shared.read.lock().await.expect(length);
    let expects = head.lists(header::EXPECT, "100-continue") && length != Length::Fixed(0);
    shared.expects.store(expects, Ordering::Release);
    let upgrades = head.lists(header::CONNECTION, "upgrade");
    let mut frame = Frame {
        head_only: head.method == Method::HEAD,
        http10: head.http10,
        keep_alive: head.keeps_alive(),
        upgrade: upgrades && head.headers.contains_key(header::UPGRADE),
    };
    let gone = CancellationToken::new();
    let Some(response) = answer(server, shared, head, length, &gone).await else {
        return Ok(Next::End);
    };
    // A body that nobody asked for, and that the client still holds back, can
    // not be skipped.
    if shared.expects.load(Ordering::Acquire) {
        frame.keep_alive = false;
    }
    let mut headers = response.headers;
    server.facts.identify(&mut headers, response.known);
    match response.content {
        Content::Full(body) => {
            write_full(shared, &frame, response.status, headers, &body).await?;
        }
        Content::Stream(body) => {
            if !write_stream(shared, &mut frame, headers, body, &gone).await? {
                return Ok(Next::End);
            }
        }
        Content::Socket(source) => {
            if !write_socket(shared, &mut frame, headers, source, &gone).await? {
                return Ok(Next::End);
            }
        }
        Content::Raw(body) => {
            write_raw(shared, &frame, response.status, &headers, &body).await?;
            return Ok(Next::End);
        }
        Content::Hijack { protocol, run } => {
            write_hijack(shared, &frame, protocol, headers).await?;
            return Ok(Next::HandOver(run));
        }
    }
    if !frame.keep_alive || !shared.read.lock().await.drain(MAX_DRAIN).await {
        return Ok(Next::End);
    }
    Ok(Next::Go)
}

/// Finds and runs the handler. `None`: the client went, and so did the handler.
async fn answer(
    server: &Server,
    shared: &Arc<Shared>,
    head: Head,
    length: Length,
    gone: &CancellationToken,
) -> Option<Response> {
    let (found, request) = match prepare(server, shared, head, length, gone) {
        Ok(prepared) => prepared,
        Err(response) => return Some(*response),
    };
    let cancels = found.cancels;
    let operation = found.endpoint.name;
    let outcome: Outcome = (found.handler)(request);
    let mut guarded = std::panic::AssertUnwindSafe(outcome).catch_unwind();
    let finished = tokio::select! {
        biased;
        finished = &mut guarded => finished,
        () = client_gone(shared) => {
            gone.cancel();
            if cancels {
                return None;
            }
            guarded.await
        }
    };
    Some(match finished {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => error.into(),
        Err(_) => {
            error!("the handler of {operation} panicked");
            ApiError::internal(format!("internal error in {operation}")).into()
        }
    })
}

fn prepare<'s>(
    server: &'s Server,
    shared: &Arc<Shared>,
    head: Head,
    length: Length,
    gone: &CancellationToken,
) -> Result<(&'s Route, Request), Box<Response>> {
    let refused = |e: ApiError| Box::new(Response::from(e));
    let target = absolute_path(&head.target);
    let (raw_path, raw_query) = target.split_once('?').unwrap_or((target, ""));
    if head.method == Method::OPTIONS {
        return Err(Box::new(Response::status(StatusCode::OK)));
    }
    let not_found = || {
        let e = ApiError::not_found("page not found");
        Box::new(Response::from(e).known_as(Known::No))
    };
    let path = unescape(raw_path, false).map_err(|_| not_found())?;
    let (version, path) = split_version(&path);
    let (route, params) = server.router.find(head.method.as_str(), path).ok_or_else(not_found)?;
    let version = match version {
        None => engine_api::ApiVersion::MAX,
        Some(text) => check_version(text)?,
    };
    if version.before(route.endpoint.since) {
        return Err(not_found());
    }
    let query = Query::parse(raw_query).map_err(refused)?;
    let upgrades = head.lists(header::CONNECTION, "upgrade");
    let upgrade = head.headers.get(header::UPGRADE).filter(|_| upgrades);
    let upgrade = upgrade.and_then(|v| v.to_str().ok()).map(str::to_owned);
    let request = Request {
        path: path.to_owned(),
        params,
        query,
        version,
        upgrade,
        method: head.method,
        headers: head.headers,
        body: Body::new(Arc::clone(shared), length),
        gone: gone.clone(),
    };
    Ok((route, request))
}

/// `http://host/path` → `/path`.
fn absolute_path(target: &str) -> &str {
    match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    }
}

/// Waits until the client is gone: the end of its input once the body is read,
/// or a broken connection. What it sends ahead is kept, within a bound.
pub(super) async fn client_gone(shared: &Shared) {
    loop {
        let mut read = shared.read.lock().await;
        if read.is_done() {
            if read.buf.len() > MAX_AHEAD {
                drop(read);
                return std::future::pending().await;
            }
            match read.fill().await {
                Ok(true) => {}
                Ok(false) | Err(_) => return,
            }
        } else {
            drop(read);
            shared.consumed.notified().await;
        }
    }
}
