//! One connection: HTTP/1.1 or HTTP/2, with bounds on heads, streams and silence.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;

use super::{Body, Stream};

/// Longest head of a request in HTTP/1, and the buffer that bodies are read into.
const BUFFER: usize = 256 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 100;
/// Longest head of a request in HTTP/2.
const MAX_HEAD: u32 = 64 << 10;
/// Requests at once on a connection of HTTP/2.
const MAX_STREAMS: u32 = 100;
/// Unread bytes of one request's body in HTTP/2, and of all of a connection.
const WINDOWS: (u32, u32) = (1 << 20, 4 << 20);

/// How long clients may be silent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Between requests, and in the middle of a head.
    pub(crate) idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(90) }
    }
}

/// Serves a connection to its end; after `stop` it ends with the request that it is at.
pub(crate) async fn serve_connection<H, R>(
    stream: Stream,
    limits: Limits,
    stop: CancellationToken,
    handle: H,
) where
    H: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let files = stream.files();
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(files) = &files {
            request.extensions_mut().insert(files.clone());
        }
        let answer = handle(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let is_http2 = stream.is_http2();
    let io = TokioIo::new(stream);
    let ended = if is_http2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD)
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .max_frame_size(256 << 10)
            .max_send_buf_size(1 << 20)
            .keep_alive_interval(limits.idle)
            .keep_alive_timeout(Duration::from_secs(20));
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let mut builder = http1::Builder::new();
        builder
            .timer(TokioTimer::new())
            .header_read_timeout(limits.idle)
            .max_buf_size(BUFFER)
            .max_headers(MAX_HEADERS)
            .writev(true)
            .title_case_headers(true);
        let mut connection = pin!(builder.serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!("connection ended: {error}");
    }
}
