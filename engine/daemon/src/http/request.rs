//! A request as handlers see it.

use engine_api::filters::Filters;
use engine_api::{ApiVersion, Wire};
use http::{HeaderMap, Method};
use tokio_util::sync::CancellationToken;

use super::{ApiError, Body, Query};

/// A request: what was asked, with which parameters, for which version.
#[derive(Debug)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// The path, decoded, without the version.
    pub path: String,
    /// The values of the pattern's placeholders, in order.
    pub params: Vec<String>,
    /// The query's parameters.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// The version of the API that the client speaks.
    pub version: ApiVersion,
    /// Whether the client asked to upgrade the connection, and to what.
    pub upgrade: Option<String>,
    /// The body.
    pub body: Body,
    /// Cancelled when the client is gone, also while nothing is written.
    pub gone: CancellationToken,
}

impl Request {
    /// The first placeholder's value: the name in `/containers/{name}/json`.
    pub fn name(&self) -> &str {
        self.params.first().map_or("", String::as_str)
    }

    /// The filters, checked against the keys that the endpoint allows.
    ///
    /// # Errors
    /// 400 with dockerd's text.
    pub fn filters(&self, allowed: &[&str]) -> Result<Filters, ApiError> {
        let filters = Filters::parse(self.query.get("filters"))?;
        filters.only(allowed)?;
        Ok(filters)
    }

    /// Whether the body is JSON, as dockerd checks it: without a body no
    /// Content-Type is needed.
    ///
    /// # Errors
    /// 400 with dockerd's text.
    pub fn check_json(&self) -> Result<(), ApiError> {
        let header = self.headers.get(http::header::CONTENT_TYPE);
        let given = header.map_or("", |v| v.to_str().unwrap_or_default());
        if given.is_empty() && self.body.length() == Some(0) {
            return Ok(());
        }
        let kind = given.split(';').next().unwrap_or_default().trim();
        if kind.is_empty() {
            let text = format!("malformed Content-Type header ({given}): mime: no media type");
            return Err(ApiError::bad_request(text));
        }
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(ApiError::bad_request(format!(
                "unsupported Content-Type header ({kind}): must be 'application/json'"
            )));
        }
        Ok(())
    }

    /// The body as `T`; an absent body is `T`'s default.
    ///
    /// # Errors
    /// 400 with dockerd's text for a wrong Content-Type or wrong JSON.
    pub async fn json<T: Wire + Default>(self) -> Result<T, ApiError> {
        self.check_json()?;
        if self.body.length() == Some(0) {
            return Ok(T::default());
        }
        Ok(engine_api::decode(&self.body.bytes().await?)?)
    }

    /// The body as `T`; an absent body is an error (create).
    ///
    /// # Errors
    /// 400 as for `json`, and for an empty body.
    pub async fn json_required<T: Wire + Default>(self) -> Result<T, ApiError> {
        self.check_json()?;
        Ok(engine_api::decode(&self.body.bytes().await?)?)
    }

    /// Takes the body out, so that the rest can be kept beside it.
    pub fn take_body(self) -> (RequestInfo, Body) {
        let info = RequestInfo {
            params: self.params,
            query: self.query,
            headers: self.headers,
            version: self.version,
            upgrade: self.upgrade,
            gone: self.gone,
        };
        (info, self.body)
    }
}

/// A request without its body.
#[derive(Debug, Clone)]
pub struct RequestInfo {
    /// The values of the pattern's placeholders, in order.
    pub params: Vec<String>,
    /// The query's parameters.
    pub query: Query,
    /// The headers.
    pub headers: HeaderMap,
    /// The version of the API that the client speaks.
    pub version: ApiVersion,
    /// Whether the client asked to upgrade the connection, and to what.
    pub upgrade: Option<String>,
    /// Cancelled when the client is gone.
    pub gone: CancellationToken,
}
