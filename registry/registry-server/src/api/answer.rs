//! Answers, and what is noted when one is over.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use serde::Serialize;

use super::Registry;
use crate::access_log::Line;
use crate::http::Body;

/// A JSON document.
pub(super) fn json(document: &impl Serialize) -> Response<Body> {
    // None of ours has a key that is no text.
    let bytes = serde_json::to_vec(document).unwrap_or_default();
    let mut response = Response::new(Body::from(bytes));
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// A line of text.
pub(super) fn text(text: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::Full(Bytes::from_static(text.as_bytes())));
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// A path that nobody knows.
pub(super) fn page_not_found() -> Response<Body> {
    let mut response = text("404 page not found\n");
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

/// Somewhere else for good.
pub(super) fn moved(to: &'static str) -> Response<Body> {
    let mut response = status(StatusCode::MOVED_PERMANENTLY);
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}

/// Nothing but a status.
pub(super) fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// Sets a header to a text of ours, which is always a valid value.
pub(super) fn set(headers: &mut HeaderMap, name: impl header::IntoHeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

/// `Link` to the next page.
pub(super) fn link_next(headers: &mut HeaderMap, target: &str) {
    set(headers, header::LINK, &format!("<{target}>; rel=\"next\""));
}

/// What will be noted about a request when its answer is over.
pub(super) struct Ending {
    registry: Arc<Registry>,
    begun: Instant,
    peer: Option<IpAddr>,
    method: Method,
    uri: Uri,
    version: Version,
    referer: Option<HeaderValue>,
    agent: Option<HeaderValue>,
    user: Option<String>,
    route: &'static str,
    status: StatusCode,
    sent: u64,
}

impl Ending {
    pub(super) fn new(
        registry: Arc<Registry>,
        peer: Option<IpAddr>,
        request: &Request<Incoming>,
    ) -> Self {
        let header = |name| request.headers().get(name).cloned();
        Self {
            registry,
            begun: Instant::now(),
            peer,
            method: request.method().clone(),
            uri: request.uri().clone(),
            version: request.version(),
            referer: header(header::REFERER),
            agent: header(header::USER_AGENT),
            user: None,
            route: "unknown",
            status: StatusCode::OK,
            sent: 0,
        }
    }

    pub(super) fn route(&mut self, route: &'static str) {
        self.route = route;
    }

    pub(super) fn user(&mut self, user: Option<String>) {
        self.user = user.filter(|user| !user.is_empty());
    }

    /// Lets the answer's body carry this to its end. A HEAD request gets the same headers as GET
    /// and no body.
    pub(super) fn wrap(mut self, response: Response<Body>) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        self.status = head.status;
        let length = body.size_hint().exact();
        let bare = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if let Some(length) = length.filter(|_| !bare) {
            head.headers.entry(header::CONTENT_LENGTH).or_insert(HeaderValue::from(length));
        }
        let body = if self.method == Method::HEAD { Body::empty() } else { body };
        Response::from_parts(head, Body::Stream(Box::pin(Noted { body, ending: self })))
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let took = self.begun.elapsed();
        let code = self.status.as_u16();
        self.registry.metrics.request(&self.method, self.route, code, self.sent, took);
        let Some(log) = &self.registry.access_log else { return };
        let text = |value: &Option<HeaderValue>| {
            value.as_ref().and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned()
        };
        let target = self.uri.path_and_query().map_or(self.uri.path(), |both| both.as_str());
        log.add(&Line {
            peer: self.peer,
            user: self.user.as_deref(),
            method: self.method.as_str(),
            target,
            version: &format!("{:?}", self.version),
            status: code,
            bytes: self.sent,
            referer: &text(&self.referer),
            agent: &text(&self.agent),
            took,
        });
    }
}

/// A body that counts what goes out.
struct Noted {
    body: Body,
    ending: Ending,
}

impl http_body::Body for Noted {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                this.ending.sent += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
            Some(Err(error)) => tracing::error!("sending {}: {error}", this.ending.uri.path()),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
