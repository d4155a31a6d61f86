//! The head of a request: request line and headers, within bounds.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

/// Longest head in bytes, and most headers.
pub(super) const MAX_HEAD: usize = 128 << 10;
const MAX_HEADERS: usize = 128;

/// A request's head.
#[derive(Debug)]
pub(super) struct Head {
    pub method: Method,
    /// As sent: path and query.
    pub target: String,
    pub http10: bool,
    pub headers: HeaderMap,
    /// Bytes that the head took.
    pub len: usize,
}

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Fixed(u64),
    Chunked,
}

/// A head that ends the connection: status line's tail and text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadHead(pub &'static str, pub &'static str);

const BAD: BadHead = BadHead("400 Bad Request", "400 Bad Request");
const NO_HOST: BadHead = BadHead(
    "400 Bad Request: missing required Host header",
    "400 Bad Request: missing required Host header",
);
const TOO_LARGE: BadHead =
    BadHead("431 Request Header Fields Too Large", "431 Request Header Fields Too Large");
const BAD_ENCODING: BadHead = BadHead("501 Not Implemented", "Unsupported transfer encoding");

/// Reads the head at the start of `bytes`; `None` while it is incomplete.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Head>, BadHead> {
    // Go skips empty lines before a request.
    let skipped = bytes.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let len = match request.parse(&bytes[skipped..]) {
        Ok(httparse::Status::Complete(len)) => skipped + len,
        Ok(httparse::Status::Partial) if bytes.len() > MAX_HEAD => return Err(TOO_LARGE),
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
        Err(_) => return Err(BAD),
    };
    let method = request.method.unwrap_or_default();
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| BAD)?;
    let http10 = request.version == Some(0);
    let mut map = HeaderMap::with_capacity(request.headers.len());
    for header in request.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| BAD)?;
        map.append(name, HeaderValue::from_bytes(header.value).map_err(|_| BAD)?);
    }
    if !http10 && !map.contains_key(http::header::HOST) {
        return Err(NO_HOST);
    }
    let target = request.path.unwrap_or_default().to_owned();
    Ok(Some(Head { method, target, http10, headers: map, len }))
}

impl Head {
    /// How long the body is. Both ways of saying it at once is refused: that is
    /// how requests are smuggled.
    pub(super) fn length(&self) -> Result<Length, BadHead> {
        let lengths: Vec<_> = self.headers.get_all(http::header::CONTENT_LENGTH).iter().collect();
        if let Some(encoding) = self.headers.get(http::header::TRANSFER_ENCODING) {
            if !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(BAD_ENCODING);
            }
            return if lengths.is_empty() { Ok(Length::Chunked) } else { Err(BAD) };
        }
        let Some(first) = lengths.first() else { return Ok(Length::Fixed(0)) };
        if lengths.iter().any(|l| l != first) {
            return Err(BAD);
        }
        let text = first.to_str().unwrap_or_default();
        if !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BAD);
        }
        text.parse().map(Length::Fixed).map_err(|_| BAD)
    }

    /// Whether header `name` lists `token`.
    pub(super) fn lists(&self, name: HeaderName, token: &str) -> bool {
        let values = self.headers.get_all(name);
        values
            .iter()
            .filter_map(|v| v.to_str().ok())
            .any(|v| v.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    }

    /// Whether the connection can serve another request.
    pub(super) fn keeps_alive(&self) -> bool {
        if self.http10 {
            self.lists(http::header::CONNECTION, "keep-alive")
        } else {
            !self.lists(http::header::CONNECTION, "close")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Head {
        parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn a_partial_head_waits_and_an_endless_one_is_refused() {
        assert!(parse(b"GET / HTTP/1.1\r\nHost: d\r\n").unwrap().is_none());
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(MAX_HEAD));
        assert_eq!(parse(endless.as_bytes()).unwrap_err(), TOO_LARGE);
        assert_eq!(parse(b"garbage\r\n\r\n").unwrap_err(), BAD);
        assert_eq!(parse(b"GET / HTTP/1.1\r\n\r\n").unwrap_err(), NO_HOST);
    }

    #[test]
    fn two_lengths_are_refused() {
        let both =
            "POST / HTTP/1.1\r\nHost:\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(head(both).length(), Err(BAD));
        let two = "POST / HTTP/1.1\r\nHost:\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n";
        assert_eq!(head(two).length(), Err(BAD));
        let junk = "POST / HTTP/1.1\r\nHost:\r\nTransfer-Encoding: junk\r\n\r\n";
        assert_eq!(head(junk).length(), Err(BAD_ENCODING));
    }
}
