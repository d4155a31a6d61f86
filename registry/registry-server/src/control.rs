//! The control socket, by which `ferry-registry gc` has the server collect: two processes must
//! not work on one root. Whoever may open the socket owns the root's files.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::api::Registry;
use crate::http::{Body, Limits, Query, serve_connection};
use crate::store::gc::{Gone, Report, Wish};
use crate::store::{Options, Store, StoreError, control_socket};

/// Lines that may wait for the other side.
const WAITING: usize = 256;
/// Longest line that is read.
const MAX_LINE: usize = 64 << 10;

/// One line of the answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Line {
    Gone(String),
    Done(Report),
    Failed(String),
}

impl Line {
    fn bytes(&self) -> Bytes {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text.into()
    }
}

/// Listens; a socket that is there is a dead server's, since the root is ours.
pub(crate) fn listen(path: &Path) -> io::Result<(UnixListener, PathBuf)> {
    std::fs::remove_file(path).ok();
    let socket = std::os::unix::net::UnixListener::from(sys::unix::listen(path, 0o600)?);
    Ok((UnixListener::from_std(socket)?, path.to_owned()))
}

/// Serves the socket until `stop`.
pub(crate) async fn serve(
    registry: Arc<Registry>,
    listener: UnixListener,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else { continue };
        let registry = Arc::clone(&registry);
        let answer = move |request| std::future::ready(handle(&registry, &request));
        tokio::spawn(serve_connection(stream.into(), Limits::default(), stop.clone(), answer));
    }
}

fn handle(registry: &Arc<Registry>, request: &Request<Incoming>) -> Response<Body> {
    let wish = (request.method() == Method::POST && request.uri().path() == "/gc")
        .then(|| Query::parse(request.uri().query().unwrap_or_default()))
        .flatten()
        .and_then(|query| wish(&query));
    let Some(wish) = wish else {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return response;
    };
    let (sender, receiver) = mpsc::channel::<Bytes>(WAITING);
    let registry = Arc::clone(registry);
    tokio::task::spawn_blocking(move || {
        // Once begun it goes on, whoever listens.
        let tell = |line: &Line| drop(sender.blocking_send(line.bytes()));
        let done = registry.store.collect(&wish, &mut |gone| tell(&Line::Gone(gone.to_string())));
        match done {
            Ok(report) => {
                if !wish.dry_run {
                    registry.metrics.collected(report.bytes);
                }
                tracing::info!(dry_run = wish.dry_run, ?report, "collected");
                tell(&Line::Done(report));
            }
            Err(error) => {
                tracing::error!("collecting: {error}");
                tell(&Line::Failed(error.to_string()));
            }
        }
    });
    let lines = stream::unfold(receiver, |mut receiver| async move {
        let line = receiver.recv().await?;
        Some((Ok::<_, io::Error>(Frame::data(line)), receiver))
    });
    Response::new(Body::Stream(Box::pin(StreamBody::new(lines))))
}

fn wish(query: &Query) -> Option<Wish> {
    Some(Wish {
        dry_run: query.get("dry-run")? == "true",
        delete_untagged: query.get("delete-untagged")? == "true",
        min_age: Duration::from_secs(query.get("min-age")?.parse().ok()?),
        is_cache: false,
    })
}

/// Why a collection came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no store.
    #[error("no registry is below {}", .0.display())]
    NoRegistry(PathBuf),
    /// The server that has the root.
    #[error("asking the running registry: {0}")]
    Server(String),
}

/// Collects below `root`: here, or in the server that has it. `tell` hears of each thing that
/// goes.
///
/// # Errors
/// A [`CollectError`].
pub async fn collect(
    root: &Path,
    wish: &Wish,
    tell: &mut (dyn FnMut(&str) + Send),
) -> Result<Report, CollectError> {
    if !root.join("docker/registry/v2").is_dir() {
        return Err(CollectError::NoRegistry(root.to_owned()));
    }
    match Store::open(root, Options::default()) {
        Ok(store) => Ok(store.collect(wish, &mut |gone: &Gone| tell(&gone.to_string()))?),
        Err(StoreError::InUse { .. }) => {
            ask(root, wish, tell).await.map_err(CollectError::Server)?
        }
        Err(other) => Err(other.into()),
    }
}

async fn ask(
    root: &Path,
    wish: &Wish,
    tell: &mut (dyn FnMut(&str) + Send),
) -> Result<Result<Report, CollectError>, String> {
    let text = |e: &dyn std::fmt::Display| e.to_string();
    let socket = sys::unix::connect(&control_socket(root), true).map_err(|e| text(&e))?;
    let socket = std::os::unix::net::UnixStream::from(socket);
    let socket = UnixStream::from_std(socket).map_err(|e| text(&e))?;
    let (mut client, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(socket)).await.map_err(|e| text(&e))?;
    tokio::spawn(connection);
    let target = format!(
        "/gc?dry-run={}&delete-untagged={}&min-age={}",
        wish.dry_run,
        wish.delete_untagged,
        wish.min_age.as_secs()
    );
    let request = Request::post(target).header("Host", "registry").body(Empty::<Bytes>::new());
    let response = client.send_request(request.map_err(|e| text(&e))?).await;
    let mut response = response.map_err(|e| text(&e))?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()));
    }
    let mut held = Vec::new();
    while let Some(frame) = response.frame().await {
        let Ok(data) = frame.map_err(|e| text(&e))?.into_data() else { continue };
        held.extend_from_slice(&data);
        while let Some(end) = held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            match serde_json::from_slice(&line).map_err(|e| text(&e))? {
                Line::Gone(what) => tell(&what),
                Line::Done(report) => return Ok(Ok(report)),
                Line::Failed(why) => return Err(why),
            }
        }
        if held.len() > MAX_LINE {
            return Err("a line without an end".into());
        }
    }
    Err("it ended in the middle".into())
}
