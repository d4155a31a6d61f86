//! What handlers answer: a body in memory, a stream, or the connection itself.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use engine_api::{ApiVersion, Wire, steps::DowngradeResponse};
use futures_util::{Stream, StreamExt, stream};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::{ApiError, Hijacked, Incoming};

/// The bytes of a streamed reply. An error ends the connection without the
/// end mark, so that the client notices.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, ApiError>> + Send>>;

/// What runs on a connection that was taken over.
pub type TakeOver = Box<dyn FnOnce(Hijacked) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What follows the head.
pub(super) enum Content {
    Full(Bytes),
    Stream(ByteStream),
    Socket(Incoming),
    Hijack {
        protocol: &'static str,
        run: TakeOver,
    },
    /// Plain text on a connection that is given up, as attach answers errors.
    Raw(Bytes),
}

/// An answer.
pub struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) content: Content,
    pub(super) known: Known,
}

/// Which headers about the server an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// All: a known route.
    Route,
    /// All but `Docker-Experimental`: the version was refused.
    Version,
    /// None: an unknown route, or a connection that is taken over.
    No,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("status", &self.status).finish_non_exhaustive()
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const RAW_STREAM: HeaderValue = HeaderValue::from_static("application/vnd.docker.raw-stream");

impl Response {
    /// An answer with a body of some type.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let content = Content::Full(body.into());
        let out = Self { status, headers: HeaderMap::new(), content, known: Known::Route };
        if content_type.is_empty() {
            return out;
        }
        out.header(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// A status alone: 201, 204, 304.
    pub fn status(status: StatusCode) -> Self {
        Self::new(status, "", Bytes::new())
    }

    /// 204.
    pub fn no_content() -> Self {
        Self::status(StatusCode::NO_CONTENT)
    }

    /// 200 with a value, in the form of `version`.
    pub fn json<T: Wire + ?Sized>(value: &T, version: ApiVersion) -> Self {
        Self::json_with(StatusCode::OK, value, version)
    }

    /// Some status with a value.
    pub fn json_with<T: Wire + ?Sized>(status: StatusCode, value: &T, version: ApiVersion) -> Self {
        Self::new(status, "application/json", engine_api::encode(value, version))
    }

    /// 200 with a value whose form changes by steps.
    pub fn versioned<T: DowngradeResponse>(mut value: T, version: ApiVersion) -> Self {
        value.downgrade_response(version);
        Self::new(StatusCode::OK, "application/json", value.body(version))
    }

    /// 200 with a stream; its head is sent at once.
    pub fn stream(content_type: HeaderValue, body: ByteStream) -> Self {
        let content = Content::Stream(body);
        Self { status: StatusCode::OK, headers: HeaderMap::new(), content, known: Known::Route }
            .header(CONTENT_TYPE, content_type)
    }

    /// 200 with what comes by a socket.
    pub fn socket(content_type: HeaderValue, body: Incoming) -> Self {
        let content = Content::Socket(body);
        Self { status: StatusCode::OK, headers: HeaderMap::new(), content, known: Known::Route }
            .header(CONTENT_TYPE, content_type)
    }

    /// 200 with a stream of JSON.
    pub fn json_stream(body: ByteStream) -> Self {
        Self::stream(JSON, body)
    }

    /// The connection itself, for attach and exec: `101 UPGRADED` where the
    /// client asked for it, else `200 OK`. `bare` leaves all headers away but
    /// the content type (attach).
    pub fn hijack<F>(bare: bool, content_type: &'static str, run: F) -> Self
    where
        F: FnOnce(Hijacked) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static,
    {
        let content = Content::Hijack { protocol: "tcp", run: Box::new(run) };
        let status = StatusCode::SWITCHING_PROTOCOLS;
        Self {
            status,
            headers: HeaderMap::new(),
            content,
            known: if bare { Known::No } else { Known::Route },
        }
        .header(CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// An upgrade to another protocol (`h2c`).
    pub fn upgrade<F>(protocol: &'static str, run: F) -> Self
    where
        F: FnOnce(Hijacked) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + 'static,
    {
        let content = Content::Hijack { protocol, run: Box::new(run) };
        let status = StatusCode::SWITCHING_PROTOCOLS;
        Self { status, headers: HeaderMap::new(), content, known: Known::No }
    }

    /// An error as attach answers it: plain text on a connection that ends.
    pub fn raw_error(error: &ApiError) -> Self {
        let content = Content::Raw(format!("{}\r\n", error.message).into());
        Self { status: error.status, headers: HeaderMap::new(), content, known: Known::No }
            .header(CONTENT_TYPE, RAW_STREAM)
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.append(name, value);
        self
    }

    /// With other headers about the server.
    #[must_use]
    pub(super) fn known_as(mut self, known: Known) -> Self {
        self.known = known;
        self
    }
}

impl From<ApiError> for Response {
    fn from(error: ApiError) -> Self {
        if error.status == StatusCode::NOT_MODIFIED {
            return Self::status(error.status);
        }
        let body = engine_api::error_body(error.message);
        Self::new(error.status, "application/json", body)
    }
}

/// A stream whose head waits for the first item, so that a failure before it
/// still has a status.
///
/// # Errors
/// The first item, when it is an error.
pub async fn delayed(mut body: ByteStream) -> Result<ByteStream, ApiError> {
    match body.next().await {
        None => Ok(Box::pin(stream::empty())),
        Some(Err(error)) => Err(error),
        Some(Ok(first)) => Ok(Box::pin(stream::iter([Ok(first)]).chain(body))),
    }
}
