//! Requests: paths, versions, bodies, errors. The version is negotiated by asking
//! for the newest and, where the daemon is older, once more for the daemon's.

use crate::http::{Conn, Head, Hijacked, Idle, Response, Stream};
use crate::query::{Query, encode_into};
use crate::{ClientError, Endpoint};
use engine_api::{ApiVersion, ErrorResponse, Wire, decode, encode};
use std::fmt::Write as _;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpStream, UnixStream};

/// The body of a request.
pub enum Payload<'a> {
    /// None.
    Empty,
    /// JSON.
    Json(String),
    /// Bytes as they come, of a content type.
    Stream(&'a str, &'a mut (dyn AsyncRead + Unpin)),
}

impl Payload<'_> {
    /// A value of the API as JSON.
    pub fn of<T: Wire>(value: &T) -> Self {
        Payload::Json(encode(value, ApiVersion::MAX))
    }
}

/// What a request has beyond the usual.
#[derive(Clone, Copy, Default)]
struct Extra<'a> {
    headers: &'a [(&'a str, String)],
    upgrade: bool,
}

/// A client of one daemon.
#[derive(Debug)]
pub struct Client {
    host: String,
    endpoint: Endpoint,
    version: Mutex<ApiVersion>,
    fixed: bool,
    known: AtomicBool,
    idle: Idle,
    headers: Vec<(String, String)>,
}

impl Client {
    /// A client of the daemon at `host`; `version` fixes the API's version.
    ///
    /// # Errors
    /// When the address can't be read.
    pub fn new(host: &str, version: Option<ApiVersion>) -> Result<Self, crate::InvalidHost> {
        Ok(Self {
            host: host.to_owned(),
            endpoint: Endpoint::parse(host)?,
            version: Mutex::new(version.unwrap_or(ApiVersion::MAX)),
            fixed: version.is_some(),
            known: AtomicBool::new(version.is_some()),
            idle: Idle::default(),
            headers: Vec::new(),
        })
    }

    /// The same, sending further headers with each request.
    pub fn with_headers(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers = headers;
        self
    }

    /// The daemon's address, as configured.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The daemon's address, taken apart.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The API's version in use; before anything was asked, the newest.
    pub fn version(&self) -> ApiVersion {
        self.version.lock().map_or(ApiVersion::MAX, |v| *v)
    }

    fn lower(&self, daemon: ApiVersion) {
        if let Ok(mut version) = self.version.lock()
            && !self.fixed
            && daemon < *version
        {
            *version = daemon;
        }
        self.known.store(true, Ordering::Relaxed);
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When nobody answers, or the socket may not be opened.
    pub async fn dial(&self) -> Result<Stream, ClientError> {
        match &self.endpoint {
            Endpoint::Unix(path) => match UnixStream::connect(path).await {
                Ok(stream) => Ok(Stream::Unix(stream)),
                Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
                    Err(ClientError::Denied {
                        host: self.host.clone(),
                        path: path.display().to_string(),
                    })
                }
                Err(_) => Err(ClientError::Unreachable { host: self.host.clone() }),
            },
            Endpoint::Tcp(address) => match TcpStream::connect(address.as_str()).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    Ok(Stream::Tcp(stream))
                }
                Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                    Err(ClientError::Unreachable { host: self.host.clone() })
                }
                Err(e) => Err(ClientError::Connect(format!("dial tcp {address}: {e}"))),
            },
            Endpoint::Ssh { .. } => self.dial_ssh(),
        }
    }

    /// Starts `ssh` with one end of a socket pair as its standard input and output.
    fn dial_ssh(&self) -> Result<Stream, ClientError> {
        let failed = |e: &dyn std::fmt::Display| ClientError::Connect(format!("ssh: {e}"));
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(|e| failed(&e))?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path)
            .map(|folder| folder.join("ssh"))
            .find(|file| file.is_absolute() && file.is_file())
            .ok_or_else(|| failed(&"exec: \"ssh\": executable file not found in $PATH"))?;
        let stderr = std::io::stderr();
        sys::spawn::Command::new(program)
            .args(self.endpoint.ssh_args())
            .inherit_env()
            .fd(theirs.as_fd(), 0)
            .fd(theirs.as_fd(), 1)
            .fd(stderr.as_fd(), 2)
            .spawn()
            .map_err(|e| failed(&e))?;
        ours.set_nonblocking(true).map_err(|e| failed(&e))?;
        Ok(Stream::Unix(UnixStream::from_std(ours).map_err(|e| failed(&e))?))
    }

    /// Asks for the daemon's version, unless it is known.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn negotiate(&self) -> Result<ApiVersion, ClientError> {
        if !self.known.load(Ordering::Relaxed) {
            self.ping().await?;
        }
        Ok(self.version())
    }

    /// `HEAD /_ping`, unversioned.
    ///
    /// # Errors
    /// When nobody answers.
    pub async fn ping(&self) -> Result<Response, ClientError> {
        let (conn, head) = self.send("HEAD", "/_ping", Payload::Empty, Extra::default()).await?;
        let daemon = head.get("api-version").and_then(|v| v.parse().ok());
        self.lower(daemon.unwrap_or(ApiVersion::MIN));
        Ok(Response::new(conn, head, true, self.idle.clone()))
    }

    /// Sends a request and reads the answer's head.
    async fn send(
        &self,
        method: &str,
        target: &str,
        payload: Payload<'_>,
        extra: Extra<'_>,
    ) -> Result<(Conn, Head), ClientError> {
        let reused =
            if extra.upgrade { None } else { self.idle.lock().ok().and_then(|mut i| i.pop()) };
        let fresh = reused.is_none();
        let mut conn = match reused {
            Some(conn) => conn,
            None => Conn { stream: self.dial().await?, buffer: Vec::new() },
        };
        let head = self.request_head(method, target, &payload, extra);
        match payload {
            Payload::Stream(_, source) => {
                conn.write(head.as_bytes()).await?;
                if let Some(answer) = stream_body(&mut conn, source).await? {
                    return Ok((conn, answer));
                }
            }
            Payload::Json(body) => {
                let whole = head + &body;
                self.exchange(&mut conn, whole.as_bytes(), fresh).await?;
            }
            Payload::Empty => self.exchange(&mut conn, head.as_bytes(), fresh).await?,
        }
        let head = conn.head().await?;
        Ok((conn, head))
    }

    /// Writes a whole request; a connection that the daemon closed meanwhile is replaced.
    async fn exchange(
        &self,
        conn: &mut Conn,
        bytes: &[u8],
        fresh: bool,
    ) -> Result<(), ClientError> {
        if conn.write(bytes).await.is_ok() || fresh {
            return Ok(());
        }
        *conn = Conn { stream: self.dial().await?, buffer: Vec::new() };
        Ok(conn.write(bytes).await?)
    }

    fn request_head(
        &self,
        method: &str,
        target: &str,
        payload: &Payload<'_>,
        extra: Extra<'_>,
    ) -> String {
        let host = match &self.endpoint {
            Endpoint::Tcp(address) => address.as_str(),
            _ => "api.moby.localhost",
        };
        let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n");
        head.push_str(concat!(
            "User-Agent: Ferry-Client/",
            env!("CARGO_PKG_VERSION"),
            " (linux)\r\n"
        ));
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        for (name, value) in extra.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if extra.upgrade {
            head.push_str("Connection: Upgrade\r\nUpgrade: tcp\r\n");
        }
        match payload {
            Payload::Json(body) => {
                let _ = write!(
                    head,
                    "Content-Type: application/json\r\nContent-Length: {}\r\n",
                    body.len()
                );
            }
            Payload::Stream(kind, _) => {
                let _ = write!(head, "Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n");
            }
            Payload::Empty if method == "POST" || method == "PUT" => {
                head.push_str("Content-Length: 0\r\n");
            }
            Payload::Empty => {}
        }
        head.push_str("\r\n");
        head
    }

    fn target(&self, path: &str, query: &Query) -> String {
        let mut target = format!("/v{}", self.version());
        encode_into(&mut target, path, true);
        target.push_str(&query.0);
        target
    }

    /// Sends a request to a versioned path; an error status becomes an error.
    ///
    /// # Errors
    /// When nobody answers, or with the daemon's error.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        query: &Query,
        payload: Payload<'_>,
    ) -> Result<Response, ClientError> {
        self.call_with(method, path, query, payload, &[]).await
    }

    /// The same with further headers.
    ///
    /// # Errors
    /// As `call`.
    pub async fn call_with(
        &self,
        method: &str,
        path: &str,
        query: &Query,
        payload: Payload<'_>,
        headers: &[(&str, String)],
    ) -> Result<Response, ClientError> {
        let again = match &payload {
            Payload::Empty => Some(Payload::Empty),
            Payload::Json(body) => Some(Payload::Json(body.clone())),
            Payload::Stream(..) => {
                self.negotiate().await?;
                None
            }
        };
        let extra = Extra { headers, upgrade: false };
        match (self.try_call(method, path, query, payload, extra).await, again) {
            (Err(error), Some(payload)) if self.learn_version(&error) => {
                self.try_call(method, path, query, payload, extra).await
            }
            (result, _) => result,
        }
    }

    async fn try_call(
        &self,
        method: &str,
        path: &str,
        query: &Query,
        payload: Payload<'_>,
        extra: Extra<'_>,
    ) -> Result<Response, ClientError> {
        let target = self.target(path, query);
        let (conn, head) = self.send(method, &target, payload, extra).await?;
        let mut response = Response::new(conn, head, method == "HEAD", self.idle.clone());
        if response.status >= 400 {
            return Err(failure(&mut response, &target).await);
        }
        Ok(response)
    }

    /// Whether an error says that the daemon is older; then its version is used from now on.
    fn learn_version(&self, error: &ClientError) -> bool {
        let ClientError::Api { status: 400, message } = error else { return false };
        let daemon = message
            .split_once("is too new. Maximum supported API version is ")
            .and_then(|(_, version)| version.trim().parse::<ApiVersion>().ok());
        match daemon {
            Some(daemon) if !self.fixed && daemon < self.version() => {
                self.lower(daemon);
                true
            }
            _ => false,
        }
    }

    /// `GET`, the answer decoded.
    ///
    /// # Errors
    /// As `call`, and when the body isn't what the type says.
    pub async fn get<T: Wire + Default>(
        &self,
        path: &str,
        query: &Query,
    ) -> Result<T, ClientError> {
        self.json("GET", path, query, Payload::Empty).await
    }

    /// A request, its answer decoded.
    ///
    /// # Errors
    /// As `call`, and when the body isn't what the type says.
    pub async fn json<T: Wire + Default>(
        &self,
        method: &str,
        path: &str,
        query: &Query,
        payload: Payload<'_>,
    ) -> Result<T, ClientError> {
        let body = self.bytes(method, path, query, payload).await?;
        decode(&body).map_err(|e| ClientError::Decode(e.to_string()))
    }

    /// A request, its answer's body as it is.
    ///
    /// # Errors
    /// As `call`.
    pub async fn bytes(
        &self,
        method: &str,
        path: &str,
        query: &Query,
        payload: Payload<'_>,
    ) -> Result<Vec<u8>, ClientError> {
        self.call(method, path, query, payload).await?.body.all().await
    }

    /// A `POST` without a body, its answer dropped.
    ///
    /// # Errors
    /// As `call`.
    pub async fn post(&self, path: &str, query: &Query) -> Result<(), ClientError> {
        self.bytes("POST", path, query, Payload::Empty).await.map(drop)
    }

    /// A `POST` after which the connection is the caller's.
    ///
    /// # Errors
    /// When nobody answers, or the daemon keeps the connection.
    pub async fn hijack(
        &self,
        path: &str,
        query: &Query,
        body: String,
    ) -> Result<Hijacked, ClientError> {
        let target = self.target(path, query);
        let upgrade = Extra { upgrade: true, ..Extra::default() };
        let (conn, head) = self.send("POST", &target, Payload::Json(body), upgrade).await?;
        if head.status != 101 && head.status != 200 {
            return Err(ClientError::NotUpgraded(head.status));
        }
        let content_type = head.get("content-type").unwrap_or_default().to_owned();
        Ok(Hijacked { stream: conn.stream, early: conn.buffer, content_type })
    }
}

/// Sends a body in chunks; answers the head if it came before the body's end.
async fn stream_body(
    conn: &mut Conn,
    source: &mut (dyn AsyncRead + Unpin),
) -> Result<Option<Head>, ClientError> {
    let mut buffer = vec![0u8; 64 * 1024];
    loop {
        let count =
            source.read(&mut buffer).await.map_err(|e| ClientError::Broken(e.to_string()))?;
        let mut frame = format!("{count:x}\r\n").into_bytes();
        frame.extend_from_slice(&buffer[..count]);
        frame.extend_from_slice(b"\r\n");
        if conn.write(&frame).await.is_err() {
            // The daemon has had enough; its answer tells why.
            return conn.head().await.map(Some);
        }
        if count == 0 {
            return Ok(None);
        }
    }
}

/// The error that an answer tells.
async fn failure(response: &mut Response, target: &str) -> ClientError {
    let status = response.status;
    let is_json = response.header("content-type").is_some_and(|t| t.contains("json"));
    let body = response.body.all().await.unwrap_or_default();
    let message = if is_json {
        decode::<ErrorResponse>(&body).map(|e| e.message).unwrap_or_default()
    } else {
        String::from_utf8_lossy(&body).into_owned()
    };
    let message = match message.trim() {
        "" => format!(
            "request returned {status} for API route and version {target}, \
             check if the server supports the requested API version"
        ),
        text => text.to_owned(),
    };
    ClientError::Api { status, message }
}
