//! Writing answers: the head as Go's server writes it, bodies, streams, and the
//! heads of connections that are taken over.

use std::io;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::{HeaderMap, StatusCode, header};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::body::Shared;
use super::response::ByteStream;
use super::server::client_gone;
use super::splice::{Incoming, pass_on};

/// How the answer must be written.
pub(super) struct Frame {
    pub head_only: bool,
    pub http10: bool,
    pub keep_alive: bool,
    pub upgrade: bool,
}

/// The status line and what depends on the connection.
fn status_line(frame: &Frame, status: StatusCode, reason: Option<&str>) -> BytesMut {
    let version = if frame.http10 { "1.0" } else { "1.1" };
    let reason = reason.or(status.canonical_reason()).unwrap_or("Unknown");
    BytesMut::from(format!("HTTP/{version} {} {reason}\r\n", status.as_u16()).as_bytes())
}

/// Headers sorted and spelled as Go does it.
fn push_headers(out: &mut BytesMut, headers: &HeaderMap) {
    let mut lines: Vec<(String, &[u8])> =
        headers.iter().map(|(name, value)| (canonical(name.as_str()), value.as_bytes())).collect();
    lines.sort();
    for (name, value) in lines {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
}

/// `content-type` → `Content-Type`.
fn canonical(name: &str) -> String {
    let mut upper = true;
    let spell = |c: char| {
        let out = if upper { c.to_ascii_uppercase() } else { c };
        upper = c == '-';
        out
    };
    name.chars().map(spell).collect()
}

fn push_date(out: &mut BytesMut) {
    let now = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT");
    out.extend_from_slice(format!("Date: {now}\r\n").as_bytes());
}

fn push_connection(out: &mut BytesMut, frame: &Frame) {
    if !frame.keep_alive && !frame.http10 {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if frame.keep_alive && frame.http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
}

pub(super) async fn write_full(
    shared: &Shared,
    frame: &Frame,
    status: StatusCode,
    headers: HeaderMap,
    body: &Bytes,
) -> io::Result<()> {
    let mut out = status_line(frame, status, None);
    push_headers(&mut out, &headers);
    push_date(&mut out);
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    if !bodiless && !headers.contains_key(header::CONTENT_LENGTH) {
        out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    push_connection(&mut out, frame);
    out.extend_from_slice(b"\r\n");
    if !frame.head_only && !bodiless {
        out.extend_from_slice(body);
    }
    shared.write.lock().await.write_all(&out).await
}

/// Writes the head of a body of unknown length; whether it comes in chunks.
async fn begin_stream(shared: &Shared, frame: &mut Frame, headers: &HeaderMap) -> io::Result<bool> {
    let chunked = !frame.http10;
    frame.keep_alive &= chunked;
    let mut out = status_line(frame, StatusCode::OK, None);
    push_headers(&mut out, headers);
    push_date(&mut out);
    if chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    }
    push_connection(&mut out, frame);
    out.extend_from_slice(b"\r\n");
    shared.write.lock().await.write_all(&out).await?;
    Ok(chunked)
}

/// Writes what comes by a socket; whether the connection can go on.
pub(super) async fn write_socket(
    shared: &Shared,
    frame: &mut Frame,
    headers: HeaderMap,
    source: Incoming,
    gone: &CancellationToken,
) -> io::Result<bool> {
    let chunked = begin_stream(shared, frame, &headers).await?;
    if frame.head_only {
        return Ok(true);
    }
    let passed = tokio::select! {
        biased;
        passed = pass_on(shared, source, chunked) => passed,
        () = client_gone(shared) => {
            gone.cancel();
            return Ok(false);
        }
    };
    if let Err(e) = passed {
        debug!("a streamed answer failed: {e}");
        return Ok(false);
    }
    if chunked {
        shared.write.lock().await.write_all(b"0\r\n\r\n").await?;
    }
    Ok(true)
}

/// Writes a stream; whether the connection can go on.
pub(super) async fn write_stream(
    shared: &Shared,
    frame: &mut Frame,
    headers: HeaderMap,
    mut body: ByteStream,
    gone: &CancellationToken,
) -> io::Result<bool> {
    let chunked = begin_stream(shared, frame, &headers).await?;
    if frame.head_only {
        return Ok(true);
    }
    let leaving = client_gone(shared);
    tokio::pin!(leaving);
    loop {
        let item = tokio::select! {
            biased;
            item = body.next() => item,
            () = &mut leaving => {
                gone.cancel();
                return Ok(false);
            }
        };
        let data = match item {
            None => break,
            Some(Ok(data)) if data.is_empty() => continue,
            Some(Ok(data)) => data,
            Some(Err(e)) => {
                debug!("a streamed answer failed: {e}");
                return Ok(false);
            }
        };
        let mut write = shared.write.lock().await;
        if chunked {
            let mut piece = BytesMut::with_capacity(data.len() + 16);
            piece.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
            piece.extend_from_slice(&data);
            piece.extend_from_slice(b"\r\n");
            write.write_all(&piece).await?;
        } else {
            write.write_all(&data).await?;
        }
    }
    if chunked {
        shared.write.lock().await.write_all(b"0\r\n\r\n").await?;
    }
    Ok(true)
}

/// The head of a connection that is taken over, in the form that the client
/// asked for.
pub(super) async fn write_hijack(
    shared: &Shared,
    frame: &Frame,
    protocol: &str,
    mut headers: HeaderMap,
) -> io::Result<()> {
    let reason = if protocol == "tcp" { "UPGRADED" } else { "Switching Protocols" };
    let mut out = if frame.upgrade {
        status_line(frame, StatusCode::SWITCHING_PROTOCOLS, Some(reason))
    } else {
        // Without an upgrade only the old content type is understood.
        let raw = header::HeaderValue::from_static("application/vnd.docker.raw-stream");
        headers.insert(header::CONTENT_TYPE, raw);
        status_line(frame, StatusCode::OK, None)
    };
    let kind = headers.remove(header::CONTENT_TYPE);
    if let Some(kind) = kind {
        out.extend_from_slice(b"Content-Type: ");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if frame.upgrade {
        let lines = format!("Connection: Upgrade\r\nUpgrade: {protocol}\r\n");
        out.extend_from_slice(lines.as_bytes());
    }
    push_headers(&mut out, &headers);
    out.extend_from_slice(b"\r\n");
    shared.write.lock().await.write_all(&out).await
}

/// Plain text on a connection that ends after it.
pub(super) async fn write_raw(
    shared: &Shared,
    frame: &Frame,
    status: StatusCode,
    headers: &HeaderMap,
    body: &Bytes,
) -> io::Result<()> {
    let mut out = status_line(frame, status, None);
    push_headers(&mut out, headers);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    shared.write.lock().await.write_all(&out).await
}
