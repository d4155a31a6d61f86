//! One host as it was found: by which scheme it answers, what it wants to see, and
//! the connections to it. Requests here are single hops: no retry, no authorization.

use std::time::Duration;

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Method, Response};
use tokio::time::Instant;

use crate::challenge::{self, Challenge};
use crate::error::{At, ConnectKind, Error, Object, Phase, Place};
use crate::hosts::{Host, Reach};
use crate::net::{Activity, Failure, Incoming, Outgoing, Transport, Wanted, drain};
use crate::source::Payload;
use crate::url::{Scheme, Url};

/// Redirects of a first contact that are followed.
const MAX_REDIRECTS: usize = 5;

/// What the first answer of a host said.
#[derive(Clone, Debug)]
pub(crate) struct Contact {
    /// Root of its API.
    pub(crate) base: Url,
    /// What it wants to see, as last heard.
    pub(crate) challenges: Vec<Challenge>,
    /// Whether its first answer wanted to see nothing.
    pub(crate) open: bool,
    made: Instant,
}

/// How long a first contact is believed: a registry may change its mind about http and
/// about whom it lets in, and a daemon lives for months.
const BELIEVED: Duration = Duration::from_secs(60);

/// A host, its connections, and what is known of it.
pub(crate) struct Remote {
    pub(crate) host: Host,
    transport: Transport,
    /// Held while the first contact is made, so that one request finds out for all.
    contact: tokio::sync::Mutex<Option<Contact>>,
}

/// A single request.
pub(crate) struct Hop<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    pub(crate) headers: HeaderMap,
    /// Whether another server than the host answers.
    pub(crate) away: bool,
    pub(crate) timeout: Duration,
}

/// How a first contact is made.
pub(crate) struct Knock<'a> {
    pub(crate) registry: &'a str,
    pub(crate) user_agent: &'a HeaderValue,
    pub(crate) timeout: Duration,
    /// What is asked for below the root.
    pub(crate) path: &'a str,
}

/// A first contact that failed.
pub(crate) struct Tried {
    /// By https, where http was tried after it.
    pub(crate) secure: Option<Error>,
    /// The last attempt.
    pub(crate) last: Error,
}

impl Remote {
    pub(crate) fn new(host: Host, transport: Transport) -> Self {
        Self { host, transport, contact: tokio::sync::Mutex::new(None) }
    }

    /// Sends one request with a small body or none.
    pub(crate) async fn hop(
        &self,
        at: &At,
        hop: Hop<'_>,
        body: Bytes,
    ) -> Result<Response<Incoming>, Error> {
        let body = if body.is_empty() { Payload::Empty } else { Payload::Whole(body) };
        self.hop_with(at, hop, &body).await
    }

    /// Sends one request.
    pub(crate) async fn hop_with(
        &self,
        at: &At,
        hop: Hop<'_>,
        body: &Payload,
    ) -> Result<Response<Incoming>, Error> {
        let activity = Activity::new();
        let outgoing = match body {
            Payload::Empty => Outgoing::empty(activity.clone()),
            Payload::Whole(bytes) => Outgoing::whole(bytes.clone(), activity.clone()),
            Payload::Part { source, offset, length } => {
                Outgoing::part(source.clone(), *offset, *length, activity.clone())
            }
        };
        let wanted = Wanted {
            method: hop.method,
            url: hop.url,
            headers: hop.headers,
            away: hop.away,
            answer_timeout: hop.timeout,
        };
        let sent = self.transport.send(wanted, outgoing, &activity).await;
        sent.map_err(|failure| Self::failed(at, failure))
    }

    /// A failure of the connection as an error.
    pub(crate) fn failed(at: &At, failure: Failure) -> Error {
        let at = at.clone();
        match failure {
            Failure::Connect(kind, text) => Error::Connect { at, kind, text },
            Failure::NoAnswer(after) => Error::Timeout { at, phase: Phase::Answer, after },
            Failure::Silent(after) => Error::Timeout { at, phase: Phase::Body, after },
            Failure::Broken(text) => Error::Broken { at, text },
            Failure::Malformed(what) => Error::Protocol { at, what },
            Failure::Source(cause) => Error::Source { at, cause },
        }
    }

    /// What is known of the host; asks it when nothing is.
    pub(crate) async fn contact(&self, knock: &Knock<'_>) -> Result<Contact, Error> {
        self.try_contact(knock).await.map_err(|tried| tried.last)
    }

    /// The same, with all that was tried.
    pub(crate) async fn try_contact(&self, knock: &Knock<'_>) -> Result<Contact, Box<Tried>> {
        let only = |last| Box::new(Tried { secure: None, last });
        let mut known = self.contact.lock().await;
        if let Some(contact) = known.as_ref().filter(|known| known.made.elapsed() < BELIEVED) {
            return Ok(contact.clone());
        }
        let fresh = match self.host.reach {
            Reach::Only(scheme) => self.knock(knock, scheme).await.map_err(only)?,
            Reach::HttpsThenHttp => match self.knock(knock, Scheme::Https).await {
                Ok(contact) => contact,
                Err(error @ Error::Connect { kind: ConnectKind::Configuration, .. }) => {
                    return Err(only(error));
                }
                Err(error) => {
                    tracing::debug!("trying http: {error}");
                    let plain = self.knock(knock, Scheme::Http).await;
                    plain.map_err(|last| Box::new(Tried { secure: Some(error), last }))?
                }
            },
        };
        *known = Some(fresh.clone());
        Ok(fresh)
    }

    /// A contact with a host that is known without asking.
    pub(crate) fn known(&self, scheme: Scheme) -> Result<Contact, Error> {
        let base = self.host.base(scheme)?;
        Ok(Contact { base, challenges: Vec::new(), open: true, made: Instant::now() })
    }

    /// Remembers what the host asked for last.
    pub(crate) async fn heard(&self, challenges: Vec<Challenge>) {
        if let Some(contact) = self.contact.lock().await.as_mut() {
            contact.challenges = challenges;
        }
    }

    /// Forgets what is known: the server may come back as another.
    pub(crate) async fn forget(&self) {
        *self.contact.lock().await = None;
    }

    async fn knock(&self, knock: &Knock<'_>, scheme: Scheme) -> Result<Contact, Error> {
        let base = self.host.base(scheme)?;
        let path = format!("{}/{}", base.path().trim_end_matches('/'), knock.path);
        let url = base.with_path(&path).map_err(|why| {
            crate::error::ConfigError::Value(format!("registry host {base}: {why}"))
        })?;
        let at: At = Box::new(Place {
            method: Method::GET,
            url: url.clone(),
            registry: knock.registry.into(),
            repository: None,
            object: Object::Registry,
        });
        let mut headers = self.host.headers.clone();
        headers.entry(USER_AGENT).or_insert_with(|| knock.user_agent.clone());
        let origin = url.origin();
        let mut url = url;
        for _ in 0..=MAX_REDIRECTS {
            let home = origin.trusts(&url.origin());
            let hop = Hop {
                method: Method::GET,
                url: &url,
                headers: if home { headers.clone() } else { HeaderMap::new() },
                away: !home,
                timeout: knock.timeout,
            };
            let reply = self.hop(&at, hop, Bytes::new()).await?;
            let location = crate::header::text(reply.headers(), "location").map(str::to_owned);
            if let (true, Some(location)) = (reply.status().is_redirection(), location) {
                url = url
                    .join(&location)
                    .map_err(|why| Error::bad_url(at.clone(), "redirect", &location, &why))?;
                drain(reply.into_body()).await;
                continue;
            }
            let challenges = if home { challenge::of_headers(reply.headers()) } else { Vec::new() };
            drain(reply.into_body()).await;
            let open = challenges.is_empty();
            return Ok(Contact { base, challenges, open, made: Instant::now() });
        }
        Err(Error::protocol(at, format!("stopped after {MAX_REDIRECTS} redirects")))
    }
}
