//! The pool of connections of one host, and the limits on its silence.

use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::capture_connection;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::{Instant, sleep_until};

use super::body::{Activity, Incoming, Outgoing, SourceFailed};
use super::connector::{Connector, Shared};
use super::dial::{self, Refusal};
use super::tls;
use crate::error::ConnectKind;
use crate::hosts::TlsFiles;
use crate::url::{Scheme, Url};

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(20);
/// How many of them are kept.
const MAX_IDLE: usize = 8;

/// Why there is no answer, or not the rest of it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// No connection.
    Connect(ConnectKind, String),
    /// No head of an answer in time.
    NoAnswer(Duration),
    /// No further bytes of a body in time.
    Silent(Duration),
    /// The connection broke.
    Broken(String),
    /// What came is no HTTP.
    Malformed(String),
    /// What was to be sent can't be read.
    Source(io::Error),
}

impl Failure {
    fn of(error: &hyper_util::client::legacy::Error) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = error.source();
        while let Some(error) = cause {
            if let Some(refusal) = error.downcast_ref::<Refusal>() {
                return Self::Connect(refusal.kind.clone(), refusal.text.clone());
            }
            if let Some(error) = error.downcast_ref::<hyper::Error>() {
                return Self::of_hyper(error);
            }
            cause = error.source();
        }
        Self::Broken(error.to_string())
    }

    pub(crate) fn of_hyper(error: &hyper::Error) -> Self {
        let mut cause: Option<&(dyn StdError + 'static)> = error.source();
        while let Some(inner) = cause {
            if let Some(SourceFailed(error)) = inner.downcast_ref::<SourceFailed>() {
                return Self::Source(io::Error::new(error.kind(), error.to_string()));
            }
            if let Some(error) = inner.downcast_ref::<io::Error>() {
                return Self::Broken(read_words(error));
            }
            cause = inner.source();
        }
        if error.is_parse() {
            return Self::Malformed(format!("malformed HTTP response: {error}"));
        }
        if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
            return Self::Broken("EOF".into());
        }
        Self::Broken(error.to_string())
    }
}

fn read_words(error: &io::Error) -> String {
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return tls::words(error);
    }
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "unexpected EOF".into(),
        _ => format!("read tcp: {}", dial::words(error)),
    }
}

/// Requests to one host, and to where it redirects.
pub(crate) struct Transport {
    shared: Arc<Shared>,
    files: TlsFiles,
    dial_timeout: Duration,
    /// Silence that a body may keep.
    body_timeout: Duration,
    home: Client<Connector, Outgoing>,
    away: OnceLock<Client<Connector, Outgoing>>,
}

/// One request as it goes onto the wire.
pub(crate) struct Wanted<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) headers: HeaderMap,
    /// Whether another server than the host answers: it is shown no client certificate.
    pub(crate) away: bool,
    pub(crate) answer_timeout: Duration,
}

impl Transport {
    pub(crate) fn new(
        shared: Arc<Shared>,
        files: TlsFiles,
        dial_timeout: Duration,
        body_timeout: Duration,
    ) -> Self {
        let home = client(Connector::new(shared.clone(), files.clone(), dial_timeout));
        Self { shared, files, dial_timeout, body_timeout, home, away: OnceLock::new() }
    }

    /// Sends a request whose body reports to `activity`; the answer's body is not read yet.
    pub(crate) async fn send(
        &self,
        wanted: Wanted<'_>,
        body: Outgoing,
        activity: &Activity,
    ) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::new(body);
        let connection = capture_connection(&mut request);
        request.body_mut().goes_onto(connection);
        *request.method_mut() = wanted.method;
        *request.uri_mut() = wanted.url.to_uri();
        *request.headers_mut() = wanted.headers;
        // A proxy of plain HTTP is asked with each request, one of https at CONNECT.
        if wanted.url.scheme() == Scheme::Http
            && let Some(proxy) = self.shared.proxies.of(wanted.url)
            && let Some(value) = &proxy.authorization
        {
            request.headers_mut().insert(http::header::PROXY_AUTHORIZATION, value.clone());
        }
        let client = if wanted.away { self.away() } else { &self.home };
        let answer = client.request(request);
        tokio::pin!(answer);
        loop {
            let deadline = activity.last() + wanted.answer_timeout;
            tokio::select! {
                answer = &mut answer => {
                    let answer = answer.map_err(|error| Failure::of(&error))?;
                    return Ok(answer.map(|body| Incoming::new(body, self.body_timeout)));
                }
                () = sleep_until(deadline) => {
                    if activity.last() + wanted.answer_timeout <= Instant::now() {
                        return Err(Failure::NoAnswer(wanted.answer_timeout));
                    }
                }
            }
        }
    }

    fn away(&self) -> &Client<Connector, Outgoing> {
        self.away.get_or_init(|| {
            let files = TlsFiles { client: Vec::new(), ..self.files.clone() };
            client(Connector::new(self.shared.clone(), files, self.dial_timeout))
        })
    }
}

fn client(connector: Connector) -> Client<Connector, Outgoing> {
    // HTTP/1.1 alone: each blob gets a connection and window of its own.
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(MAX_IDLE)
        .build(connector)
}
