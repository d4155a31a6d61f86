//! A plain HTTP/1.1 client for tests that care about every header: one request, one connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// How long a server may stay silent.
const SILENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// Headers as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// All headers of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let own = self.headers.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name));
        own.map(|(_, value)| value.as_str()).collect()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null if it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Sends a request with a whole body, and reads the answer to its end.
pub fn http(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Reply> {
    let mut request = Request::begin(address, method, target, headers, Some(body.len() as u64))?;
    // A server may refuse before it has read all; its answer says why.
    request.stream.write_all(body).ok();
    request.reply()
}

/// The same to a server on a unix socket.
pub fn http_unix(
    socket: &Path,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Result<Reply> {
    let stream = UnixStream::connect(socket).context("connect")?;
    stream.set_read_timeout(Some(SILENCE))?;
    let length = Some(body.len() as u64);
    let mut request = Request::begin_on(stream, "daemon", method, target, headers, length)?;
    request.stream.write_all(body).ok();
    request.reply()
}

/// A request that is still being sent.
pub struct Request<S = TcpStream> {
    /// Where bytes of the body go, as they are to stand on the wire.
    pub stream: S,
    method: String,
}

impl Request {
    /// Sends the head. Without a length the caller sends chunks, and says so in a header.
    pub fn begin(
        address: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        length: Option<u64>,
    ) -> Result<Request> {
        // A location may be a whole URL.
        let target = match target.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or("/", |at| &rest[at..]),
            None => target,
        };
        let stream = TcpStream::connect(address).context("connect")?;
        stream.set_read_timeout(Some(SILENCE))?;
        Self::begin_on(stream, &address.to_string(), method, target, headers, length)
    }
}

impl<S: Read + Write> Request<S> {
    fn begin_on(
        mut stream: S,
        host: &str,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        length: Option<u64>,
    ) -> Result<Self> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        head.push_str("Connection: close\r\n");
        if let Some(length) = length.filter(|length| *length > 0 || method != "GET") {
            head.extend(["Content-Length: ", &length.to_string(), "\r\n"]);
        }
        for (name, value) in headers {
            head.extend([*name, ": ", *value, "\r\n"]);
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        Ok(Request { stream, method: method.to_owned() })
    }

    /// Reads the answer.
    pub fn reply(self) -> Result<Reply> {
        let mut from = BufReader::new(self.stream);
        let status = line(&mut from)?;
        let code = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = code.with_context(|| format!("no status line: {status:?}"))?;
        let mut headers = Vec::new();
        loop {
            let line = line(&mut from)?;
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').context("no header")?;
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        if status == 100 {
            bail!("an answer to a request that did not expect one");
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        if self.method == "HEAD" || status == 204 || status == 304 {
            return Ok(reply);
        }
        reply.body = if reply.header("Transfer-Encoding").is_some() {
            chunks(&mut from)?
        } else if let Some(length) = reply.header("Content-Length") {
            let mut body = vec![0; length.parse()?];
            from.read_exact(&mut body)?;
            body
        } else {
            let mut body = Vec::new();
            from.read_to_end(&mut body)?;
            body
        };
        Ok(reply)
    }
}

fn line(from: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        bail!("the connection ended in the middle of an answer");
    }
    Ok(line.trim_end().to_owned())
}

fn chunks(from: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(&line(from)?, 16)?;
        let at = body.len();
        body.resize(at + size, 0);
        from.read_exact(&mut body[at..])?;
        line(from)?;
        if size == 0 {
            return Ok(body);
        }
    }
}
