//! What a URL holds that a user named, as `import` takes it: no registry, no credentials,
//! redirects followed, errors in docker's words.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use http::header::USER_AGENT;
use http::{HeaderMap, Method, Response};

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{At, Object, Place};
use crate::header;
use crate::hosts::{Host, Reach};
use crate::net::{Incoming, collect, drain};
use crate::remote::{Hop, Remote};
use crate::told::{Asked, Told};
use crate::url::{InvalidUrl, Url};

/// Redirects that are followed; as many as Go follows.
const MAX_REDIRECTS: usize = 10;
/// So much of what a server says about its refusal is told.
const MAX_REASON: u64 = 64 << 10;

/// What is being fetched: a stream of its bytes, silent for a bounded time only.
pub struct Download {
    body: Incoming,
    at: At,
    address: String,
    length: Option<u64>,
}

impl Download {
    /// The address that was given, with its scheme.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How long it is, when the server says so.
    pub fn length(&self) -> Option<u64> {
        self.length
    }
}

impl Stream for Download {
    type Item = std::io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let at = self.at.clone();
        let told = |failure| {
            std::io::Error::other(Remote::failed(&at, failure).told(Asked::Login).message)
        };
        self.body.poll_chunk(cx).map(|chunk| chunk.map(|chunk| chunk.map_err(told)))
    }
}

impl Client {
    /// Begins to fetch what is at `address`; without a scheme it is reached by http.
    ///
    /// # Errors
    /// In docker's words: no URL, nobody there, or a server that refuses.
    pub async fn download(&self, address: &str) -> Result<Download, Told> {
        let full = with_scheme(address);
        let mut url = Url::parse(&full).map_err(|why| unusable(address, &full, &why))?;
        for _ in 0..=MAX_REDIRECTS {
            let at = place(&url);
            let reply = self.get(&at, &url).await?;
            let location = header::text(reply.headers(), "location").map(str::to_owned);
            if let (true, Some(location)) = (reply.status().is_redirection(), location) {
                drain(reply.into_body()).await;
                url = url.join(&location).map_err(|why| unusable(&location, &location, &why))?;
                continue;
            }
            if reply.status().as_u16() >= 400 {
                return Err(refusal(&full, reply).await);
            }
            let length = header::text(reply.headers(), "content-length");
            let length = length.and_then(|text| text.parse().ok());
            return Ok(Download { body: reply.into_body(), at, address: full, length });
        }
        let message = format!("Get \"{url}\": stopped after {MAX_REDIRECTS} redirects");
        Err(Told { status: 500, message })
    }

    async fn get(&self, at: &At, url: &Url) -> Result<Response<Incoming>, Told> {
        let session = self.session(url.authority(), Arc::new(Credentials::Anonymous));
        let host = Host {
            reach: Reach::Only(url.scheme()),
            upstream: false,
            ..Host::upstream(url.authority())
        };
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, session.user_agent().clone());
        let timeout = self.inner.config.timeouts.answer;
        let hop = Hop { method: Method::GET, url, headers, away: false, timeout };
        let reply = self.inner.remote(host).hop(at, hop, Bytes::new()).await;
        reply.map_err(|error| error.told(Asked::Login))
    }
}

fn with_scheme(address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("http://{address}") }
}

fn place(url: &Url) -> At {
    Box::new(Place {
        method: Method::GET,
        url: url.clone(),
        registry: url.authority().to_owned(),
        repository: None,
        object: Object::Registry,
    })
}

/// What is no URL is the user's fault; one that can't be fetched is told as Go's client does.
fn unusable(address: &str, full: &str, why: &InvalidUrl) -> Told {
    let port = || {
        let authority = full.split("://").nth(1)?.split(['/', '?', '#']).next()?;
        let host = authority.find(':')?;
        let port = &authority[host..];
        (!port[1..].bytes().all(|b| b.is_ascii_digit()))
            .then(|| port.rfind(':').map(|at| &port[at..]))?
    };
    match why {
        InvalidUrl::Host if address.is_empty() => {
            Told { status: 500, message: "Get \"http:\": http: no Host in request URL".into() }
        }
        InvalidUrl::Host => Told {
            status: 400,
            message: match port() {
                Some(port) => format!("parse {full:?}: invalid port {port:?} after host"),
                None => format!("Get {full:?}: http: {why}"),
            },
        },
        InvalidUrl::Scheme(_) => Told { status: 500, message: format!("Get {full:?}: {why}") },
        why => Told { status: 400, message: format!("parse {full:?}: {why}") },
    }
}

async fn refusal(address: &str, reply: Response<Incoming>) -> Told {
    let (parts, mut body) = reply.into_parts();
    let reason = collect(&mut body, MAX_REASON).await.ok().flatten().unwrap_or_default();
    let reason = String::from_utf8_lossy(&reason).trim().to_owned();
    let code = parts.status.as_u16();
    let phrase = parts.status.canonical_reason().unwrap_or_default();
    let status = if matches!(code, 400 | 401 | 403 | 404) { code } else { 500 };
    let message = format!("failed to GET {address} with status {code} {phrase}: {reason}");
    Told { status, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_url_is_told_as_docker_does() {
        let told = |address: &str| {
            let full = with_scheme(address);
            let told = unusable(address, &full, &Url::parse(&full).unwrap_err());
            (told.status, told.message)
        };
        assert_eq!(told(""), (500, "Get \"http:\": http: no Host in request URL".into()));
        let scheme = "Get \"ftp://x/y\": unsupported protocol scheme \"ftp\"";
        assert_eq!(told("ftp://x/y"), (500, scheme.into()));
        let port = "parse \"http://x:::y\": invalid port \":y\" after host";
        assert_eq!(told("x:::y"), (400, port.into()));
    }
}
