//! What every client expects around an answer: version negotiation and the
//! headers that name the server.

use engine_api::ApiVersion;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::response::Known;
use super::{ApiError, Response};

/// What the server says about itself in headers.
#[derive(Debug, Clone)]
pub struct ServerFacts {
    /// `Server`, such as `Ferry/0.1.0 (linux)`.
    pub server: HeaderValue,
    /// `Docker-Experimental`.
    pub experimental: bool,
}

impl ServerFacts {
    /// The facts of this build.
    pub fn new(experimental: bool) -> Self {
        let server =
            HeaderValue::from_static(concat!("Ferry/", env!("CARGO_PKG_VERSION"), " (linux)"));
        Self { server, experimental }
    }

    /// Adds the headers that an answer has.
    pub(super) fn identify(&self, headers: &mut HeaderMap, known: Known) {
        if known == Known::No {
            return;
        }
        let name = HeaderName::from_static;
        let version = HeaderValue::from_str(&ApiVersion::MAX.to_string());
        headers.insert(name("api-version"), version.unwrap_or(HeaderValue::from_static("1.51")));
        headers.insert(name("ostype"), HeaderValue::from_static("linux"));
        headers.insert(name("server"), self.server.clone());
        if known == Known::Route {
            let value = if self.experimental { "true" } else { "false" };
            headers.insert(name("docker-experimental"), HeaderValue::from_static(value));
        }
    }
}

/// Splits `/v1.24/info` into version text and path.
pub(super) fn split_version(path: &str) -> (Option<&str>, &str) {
    let inner = || {
        let rest = path.strip_prefix("/v")?;
        let end = rest.find('/')?;
        let version = &rest[..end];
        let valid = !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        valid.then(|| (Some(version), &rest[end..]))
    };
    inner().unwrap_or((None, path))
}

/// The version that a prefix asks for.
///
/// # Errors
/// The whole answer: plain text for a version that is too old, JSON for one
/// that is too new.
pub fn check_version(text: &str) -> Result<ApiVersion, Box<Response>> {
    let numbers: Vec<u64> = text.split('.').map(|n| n.parse().unwrap_or(0)).collect();
    let mut padded = numbers.clone();
    padded.resize(numbers.len().max(2), 0);
    let bound = |v: ApiVersion| [u64::from(v.major), u64::from(v.minor)];
    if padded[..2] < bound(ApiVersion::MIN)[..] {
        let text = format!(
            "client version {text} is too old. Minimum supported API version is {}, \
             please upgrade your client to a newer version\n",
            ApiVersion::MIN
        );
        let plain = Response::new(StatusCode::BAD_REQUEST, "text/plain; charset=utf-8", text);
        let nosniff = HeaderValue::from_static("nosniff");
        let plain = plain.header(http::header::X_CONTENT_TYPE_OPTIONS, nosniff);
        return Err(Box::new(plain.known_as(Known::Version)));
    }
    let too_long = padded[..2] == bound(ApiVersion::MAX)[..] && padded[2..].iter().any(|n| *n > 0);
    if padded[..2] > bound(ApiVersion::MAX)[..] || too_long {
        let text = format!(
            "client version {text} is too new. Maximum supported API version is {}",
            ApiVersion::MAX
        );
        let refused = Response::from(ApiError::bad_request(text));
        return Err(Box::new(refused.known_as(Known::Version)));
    }
    Ok(ApiVersion { major: padded[0] as u16, minor: padded[1] as u16 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digits_and_dots_make_a_version() {
        assert_eq!(split_version("/v1.24/info"), (Some("1.24"), "/info"));
        assert_eq!(split_version("/vx/info"), (None, "/vx/info"));
        assert_eq!(split_version("/volumes"), (None, "/volumes"));
        assert_eq!(split_version("/v1.24"), (None, "/v1.24"));
    }

    #[test]
    fn versions_outside_the_range_are_refused() {
        assert_eq!(check_version("1.051").unwrap(), ApiVersion::MAX);
        assert_eq!(check_version("1.24").unwrap(), ApiVersion::MIN);
        for bad in ["1.10", "1", "1.99", "2.0", "1.51.1", "0.9"] {
            assert_eq!(check_version(bad).unwrap_err().status, StatusCode::BAD_REQUEST, "{bad}");
        }
    }
}
