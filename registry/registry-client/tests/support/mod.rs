//! A scripted registry for tests: every request is recorded, every answer is the test's,
//! down to where the connection breaks.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

pub mod cutter;
pub mod images;
pub mod jwt;
pub mod proxy;
pub mod registry;
pub mod store;
pub mod tls;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use registry_client::{Client, Config, Credentials, Repository, Retry};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// How the answer's body ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ending {
    Whole,
    /// The connection is closed after so many bytes of the body.
    CutAfter(usize),
    /// Nothing more comes after so many bytes, and the connection stays.
    StallAfter(usize),
    /// No Content-Length: the body ends with the connection.
    Unframed,
    /// No answer at all: the connection is closed at once.
    Nothing,
    /// No answer at all, and the connection stays.
    Silence,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub reason: Option<&'static str>,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub ending: Ending,
}

impl Answer {
    pub fn new(status: u16) -> Self {
        Self { status, reason: None, headers: Vec::new(), body: Vec::new(), ending: Ending::Whole }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub fn json(self, body: impl Into<Vec<u8>>) -> Self {
        self.with("content-type", "application/json").body(body)
    }

    pub fn ending(mut self, ending: Ending) -> Self {
        self.ending = ending;
        self
    }

    /// A registry's error.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body =
            format!(r#"{{"errors":[{{"code":"{code}","message":"{message}","detail":{{}}}}]}}"#);
        Self::new(status).json(body)
    }
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;
type Takes = dyn Fn(&Seen) -> Option<usize> + Send + Sync;

/// A server that plays a script.
pub struct Fake {
    pub address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Fake {
    pub async fn start(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self::run(Arc::new(script), Arc::new(|_| None), None).await
    }

    /// With `takes`: of a request's body only so many bytes are read, then the connection
    /// is closed.
    pub async fn start_taking(
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
        takes: impl Fn(&Seen) -> Option<usize> + Send + Sync + 'static,
    ) -> Self {
        Self::run(Arc::new(script), Arc::new(takes), None).await
    }

    pub async fn start_tls(
        acceptor: TlsAcceptor,
        script: impl Fn(&Seen) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::run(Arc::new(script), Arc::new(|_| None), Some(acceptor)).await
    }

    async fn run(script: Arc<Script>, takes: Arc<Takes>, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let log = seen.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, takes, log) = (script.clone(), takes.clone(), log.clone());
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &*script, &*takes, &log).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &*script, &*takes, &log).await;
                            }
                        }
                    }
                });
            }
        });
        Self { address, seen, task }
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Method and path of what came so far, without the first contact.
    pub fn lines(&self) -> Vec<String> {
        let first = |line: &String| line != "GET /v2/";
        self.seen().iter().map(Seen::line).filter(first).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    script: &Script,
    takes: &Takes,
    log: &Mutex<Vec<Seen>>,
) {
    let mut buffer = Vec::new();
    loop {
        let Some(mut seen) = read_head(&mut stream, &mut buffer).await else { return };
        let limit = takes(&seen);
        let whole = read_body(&mut stream, &mut buffer, &mut seen, limit).await;
        log.lock().unwrap().push(seen.clone());
        if !whole {
            return;
        }
        if !send(&mut stream, &seen, script(&seen)).await {
            return;
        }
    }
}

async fn read_head<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<Seen> {
    loop {
        let mut headers = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(buffer) {
            Ok(httparse::Status::Complete(length)) => {
                let seen = Seen {
                    method: request.method?.into(),
                    path: request.path?.into(),
                    headers: request
                        .headers
                        .iter()
                        .map(|h| {
                            let value = String::from_utf8_lossy(h.value).into_owned();
                            (h.name.to_ascii_lowercase(), value)
                        })
                        .collect(),
                    body: Vec::new(),
                };
                buffer.drain(..length);
                return Some(seen);
            }
            Ok(httparse::Status::Partial) => {}
            Err(_) => {
                return None;
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// Reads the body; `false` when the connection is to be closed.
async fn read_body<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    seen: &mut Seen,
    limit: Option<usize>,
) -> bool {
    if seen.header("transfer-encoding").is_some() {
        return read_chunks(stream, buffer, seen).await.is_some();
    }
    let length: usize = seen.header("content-length").map_or(0, |text| text.parse().unwrap());
    let wanted = limit.map_or(length, |limit| limit.min(length));
    while buffer.len() < wanted {
        match stream.read_buf(buffer).await {
            Ok(read) if read > 0 => {}
            _ => return false,
        }
    }
    seen.body = buffer.drain(..wanted).collect();
    wanted == length
}

/// Reads a body that grows while it is sent.
async fn read_chunks<S: AsyncRead + Unpin>(
    stream: &mut S,
    buffer: &mut Vec<u8>,
    seen: &mut Seen,
) -> Option<()> {
    loop {
        while !buffer.windows(2).any(|pair| pair == b"\r\n") {
            more(stream, buffer).await?;
        }
        let end = buffer.windows(2).position(|pair| pair == b"\r\n")?;
        let line = String::from_utf8(buffer.drain(..end + 2).collect()).ok()?;
        let size = usize::from_str_radix(line.trim(), 16).ok()?;
        while buffer.len() < size + 2 {
            more(stream, buffer).await?;
        }
        seen.body.extend(buffer.drain(..size));
        buffer.drain(..2);
        if size == 0 {
            return Some(());
        }
    }
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<()> {
    stream.read_buf(buffer).await.ok().filter(|read| *read > 0).map(drop)
}

/// Sends an answer; `false` when the connection is to be closed.
async fn send<S: AsyncWrite + Unpin>(stream: &mut S, seen: &Seen, answer: Answer) -> bool {
    match answer.ending {
        Ending::Nothing => return false,
        Ending::Silence => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            return false;
        }
        _ => {}
    }
    let status = http::StatusCode::from_u16(answer.status).unwrap();
    let reason = status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, answer.reason.unwrap_or(reason));
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let framed = answer.headers.iter().any(|(name, _)| name == "content-length");
    match answer.ending {
        Ending::Unframed => head.push_str("connection: close\r\n"),
        _ if framed || answer.status == 204 => {}
        _ => head.push_str(&format!("content-length: {}\r\n", answer.body.len())),
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    let sent = match answer.ending {
        _ if seen.method == "HEAD" => 0,
        Ending::CutAfter(length) | Ending::StallAfter(length) => length.min(answer.body.len()),
        _ => answer.body.len(),
    };
    bytes.extend_from_slice(&answer.body[..sent]);
    if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
        return false;
    }
    match answer.ending {
        Ending::StallAfter(_) => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            false
        }
        Ending::CutAfter(_) | Ending::Unframed => {
            stream.shutdown().await.ok();
            false
        }
        _ => true,
    }
}

/// Waits that no test notices.
pub fn quick() -> Retry {
    Retry {
        attempts: 4,
        first_wait: Duration::from_millis(1),
        longest_wait: Duration::from_millis(2),
        longest_asked: Duration::from_secs(2),
    }
}

pub fn config() -> Config {
    Config { retry: quick(), ..Config::default() }
}

pub fn client() -> Client {
    Client::new(config())
}

pub fn repository(fake: &Fake) -> Repository {
    repository_as(fake, Credentials::Anonymous)
}

pub fn repository_as(fake: &Fake, credentials: Credentials) -> Repository {
    client().repository(&format!("{}/app", fake.host()).parse().unwrap(), credentials)
}

/// An address where nobody listens: a port that is never given out.
pub fn nobody() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

/// Connects until it works: for servers of other programs.
pub async fn reachable(address: SocketAddr) {
    let tries = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), tries).await.expect("the server never came up");
}
