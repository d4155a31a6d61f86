//! One user's requests to one registry: redirects, retries, and the next host when one
//! fails. What they show of the user is in `authorize.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HOST, LOCATION, TRANSFER_ENCODING, USER_AGENT,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::sync::OnceCell;

use crate::answer::{Answer, MAX_BODY};
use crate::authorize::Demand;
use crate::challenge;
use crate::client::Inner;
use crate::credentials::{CredentialSource, Credentials};
use crate::error::{At, Error, Object, Place};
use crate::header;
use crate::hosts::Capability;
use crate::net::{Incoming, collect, drain};
use crate::remote::{Contact, Hop, Knock, Remote};
use crate::retry::Patience;
use crate::scope::Scopes;
use crate::source::Payload;
use crate::url::Url;

/// Redirects of a request that are followed; as many as Go follows.
const MAX_REDIRECTS: usize = 10;

/// Told when a request will be repeated, for docker's "Retrying in 5 seconds".
pub trait Watch: Send + Sync {
    /// `error` happened with `object`; the next attempt comes after `wait`.
    fn retrying(&self, object: &Object, wait: Duration, error: &Error);
}

/// One user and one registry.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) client: Arc<Inner>,
    pub(crate) registry: Arc<str>,
    pub(crate) credentials: Arc<dyn CredentialSource>,
    headers: Arc<HeaderMap>,
    user_agent: HeaderValue,
    watch: Option<Arc<dyn Watch>>,
    pub(crate) found: Arc<Found>,
}

/// The hosts, found at the first request.
#[derive(Default)]
pub(crate) struct Found {
    remotes: OnceCell<Vec<Arc<Remote>>>,
    /// A bit for each host that could not be reached: it is tried last.
    dead: AtomicU64,
    /// What the source said, by host: it may be a user who is asked.
    pub(crate) credentials: tokio::sync::Mutex<HashMap<String, Credentials>>,
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Below the root of the API: `/NAME/tags/list?n=5`.
    Path(String),
    /// To a URL that the registry gave.
    Url(Url),
}

/// A request.
#[derive(Clone)]
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) target: Target,
    pub(crate) repository: Option<&'a str>,
    pub(crate) object: Object,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Payload,
    pub(crate) scopes: &'a Scopes,
    pub(crate) timeout: Duration,
    /// Statuses that are no error; none means that none is.
    pub(crate) accept: &'a [u16],
}

/// An answer that was expected.
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// The status in the server's own words, where they are not the usual ones.
    reason: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Incoming,
    pub(crate) at: At,
    /// The URL that answered in the end.
    pub(crate) url: Url,
}

impl Reply {
    /// The whole body, which must not be larger than `limit`.
    pub(crate) async fn bytes(mut self, limit: u64) -> Result<bytes::Bytes, Error> {
        match collect(&mut self.body, limit).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(Error::TooLarge { at: self.at, limit }),
            Err(failure) => Err(Remote::failed(&self.at, failure)),
        }
    }

    /// Reads what nobody wants.
    pub(crate) async fn done(self) {
        drain(self.body).await;
    }
}

impl Session {
    pub(crate) fn new(
        client: Arc<Inner>,
        registry: &str,
        credentials: Arc<dyn CredentialSource>,
    ) -> Self {
        let agent = HeaderValue::from_str(&client.config.user_agent);
        let user_agent = agent.unwrap_or_else(|_| HeaderValue::from_static("ferry"));
        Self {
            client,
            registry: registry.into(),
            credentials,
            headers: Arc::default(),
            user_agent,
            watch: None,
            found: Arc::default(),
        }
    }

    pub(crate) fn with_headers(mut self, mut headers: HeaderMap) -> Self {
        if let Some(agent) = headers.remove(USER_AGENT) {
            self.user_agent = agent;
        }
        // These are the client's own business.
        for own in [AUTHORIZATION, HOST, CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION] {
            headers.remove(own);
        }
        self.headers = Arc::new(headers);
        self
    }

    pub(crate) fn with_watch(mut self, watch: Arc<dyn Watch>) -> Self {
        self.watch = Some(watch);
        self
    }

    pub(crate) fn user_agent(&self) -> &HeaderValue {
        &self.user_agent
    }

    /// The hosts that may do `what`, the most wanted first, dead ones last.
    pub(crate) async fn remotes(
        &self,
        what: Capability,
    ) -> Result<Vec<(usize, Arc<Remote>)>, Error> {
        let find = || async {
            let (client, registry) = (self.client.clone(), self.registry.clone());
            let found = tokio::task::spawn_blocking(move || client.config.hosts.of(&registry));
            let found = found.await.map_err(|error| {
                Error::InvalidParameter(format!("cannot find {}: {error}", self.registry))
            })??;
            Ok::<_, Error>(found.into_iter().map(|host| self.client.remote(host)).collect())
        };
        let all = self.found.remotes.get_or_try_init(find).await?;
        let mut able: Vec<(usize, Arc<Remote>)> = all
            .iter()
            .enumerate()
            .filter(|(_, remote)| remote.host.capabilities.has(what))
            .map(|(at, remote)| (at, remote.clone()))
            .collect();
        let dead = self.found.dead.load(Ordering::Relaxed);
        able.sort_by_key(|(at, _)| dead >> (*at).min(63) & 1);
        if able.is_empty() {
            return Err(Error::NoHost { registry: self.registry.to_string(), what });
        }
        Ok(able)
    }

    /// The host that may write.
    pub(crate) async fn writer(&self) -> Result<Arc<Remote>, Error> {
        let able = self.remotes(Capability::Push).await?;
        // Writes are not spread: the registry itself when it may, else the most wanted.
        let upstream = able.iter().find(|(_, remote)| remote.host.upstream);
        Ok(upstream.unwrap_or(&able[0]).1.clone())
    }

    /// Asks one host after the other until one answers as expected; the last error is
    /// told, earlier ones are logged.
    pub(crate) async fn ask(
        &self,
        what: Capability,
        call: &Call<'_>,
        patience: &Patience,
    ) -> Result<Reply, Error> {
        let able = self.remotes(what).await?;
        let last = able.len() - 1;
        for (position, (index, remote)) in able.into_iter().enumerate() {
            match self.send(&remote, call, &mut patience.clone()).await {
                Ok(reply) => return Ok(reply),
                Err(error) if position == last => return Err(error),
                Err(error) => {
                    if matches!(error, Error::Connect { .. } | Error::Timeout { .. }) {
                        self.found.dead.fetch_or(1 << index.min(63), Ordering::Relaxed);
                    }
                    tracing::warn!("trying the next host: {error}");
                }
            }
        }
        Err(Error::NoHost { registry: self.registry.to_string(), what })
    }

    /// One request to one host, repeated while that may help.
    pub(crate) async fn send(
        &self,
        remote: &Remote,
        call: &Call<'_>,
        patience: &mut Patience,
    ) -> Result<Reply, Error> {
        loop {
            // Known but for the first time; a failure here is told as it is.
            let contact = self.contact(remote).await?;
            let error = match self.once(remote, &contact, call).await {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let Some(wait) = patience.after(&error) else {
                if matches!(error, Error::Connect { .. }) {
                    remote.forget().await;
                }
                return Err(error);
            };
            self.will_retry(&call.object, wait, &error).await;
        }
    }

    /// Says that a request will be repeated, and waits.
    pub(crate) async fn will_retry(&self, object: &Object, wait: Duration, error: &Error) {
        tracing::debug!("retrying in {} ms: {error}", wait.as_millis());
        if let Some(watch) = &self.watch {
            watch.retrying(object, wait, error);
        }
        tokio::time::sleep(wait).await;
    }

    pub(crate) async fn contact(&self, remote: &Remote) -> Result<Contact, Error> {
        let knock = Knock {
            registry: &self.registry,
            user_agent: &self.user_agent,
            timeout: self.client.config.timeouts.contact,
            path: "",
        };
        remote.contact(&knock).await
    }

    async fn once(
        &self,
        remote: &Remote,
        contact: &Contact,
        call: &Call<'_>,
    ) -> Result<Reply, Error> {
        let at = self.place(remote, contact, call)?;
        let trusted = contact.base.origin().trusts(&at.url.origin());
        let mut proof = None;
        if trusted {
            let (challenges, at) = (&contact.challenges[..], &at);
            let demand = Demand { remote, contact, challenges, call, at, rejected: None };
            proof = self.prove(&demand).await?;
        }
        let value = proof.as_ref().and_then(|proof| proof.value.as_ref());
        let (mut reply, home) = self.follow(remote, &at, call, value).await?;
        if let Some(proof) = proof.filter(|_| home) {
            let renewed = self.renew(remote, contact, call, &at, &reply, &proof).await?;
            if let Some(value) = renewed {
                reply.done().await;
                (reply, _) = self.follow(remote, &at, call, Some(&value)).await?;
            }
        }
        if call.accept.is_empty() || call.accept.contains(&reply.status) {
            return Ok(reply);
        }
        Err(refusal(reply, &call.method).await)
    }

    fn place(&self, remote: &Remote, contact: &Contact, call: &Call<'_>) -> Result<At, Error> {
        let mut at: At = Box::new(Place {
            method: call.method.clone(),
            url: contact.base.clone(),
            registry: self.registry.to_string(),
            repository: call.repository.map(Into::into),
            object: call.object.clone(),
        });
        let bad = |at: &At, text: &str, why| Error::bad_url(at.clone(), "URL", text, &why);
        let mut url = match &call.target {
            Target::Url(url) => url.clone(),
            Target::Path(path) => {
                let full = format!("{}{path}", contact.base.path().trim_end_matches('/'));
                contact.base.with_path(&full).map_err(|why| bad(&at, &full, why))?
            }
        };
        if let (Some(name), Target::Path(_)) = (&remote.host.namespace, &call.target) {
            url = url.with_parameter("ns", name).map_err(|why| bad(&at, name, why))?;
        }
        at.url = url;
        Ok(at)
    }

    /// Sends a request and goes where it is redirected; with whether it was the host
    /// itself that answered in the end.
    async fn follow(
        &self,
        remote: &Remote,
        at: &At,
        call: &Call<'_>,
        proof: Option<&HeaderValue>,
    ) -> Result<(Reply, bool), Error> {
        let origin = at.url.origin();
        let mut url = at.url.clone();
        let mut own = true;
        for _ in 0..=MAX_REDIRECTS {
            let hop = Hop {
                method: call.method.clone(),
                url: &url,
                headers: self.headers(remote, call, proof, own),
                away: !own,
                timeout: call.timeout,
            };
            let reply = remote.hop_with(at, hop, &call.body).await?;
            let location = match reply.status() {
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => reply.headers().get(LOCATION).cloned(),
                _ => None,
            };
            let Some(location) = location else {
                let (parts, body) = reply.into_parts();
                let status = parts.status.as_u16();
                let reason = reason(&parts);
                let (headers, at) = (parts.headers, at.clone());
                let reply = Reply { status, reason, headers, body, at, url };
                return Ok((reply, own));
            };
            let keeps = matches!(reply.status().as_u16(), 307 | 308);
            if !keeps && call.method != Method::GET && call.method != Method::HEAD {
                let what = format!("the answer {} to a {} loses it", reply.status(), call.method);
                return Err(Error::protocol(at.clone(), what));
            }
            let location = String::from_utf8_lossy(location.as_bytes()).into_owned();
            url = url
                .join(&location)
                .map_err(|why| Error::bad_url(at.clone(), "redirect", &location, &why))?;
            // Once it led elsewhere, nothing that is secret travels any further.
            own = own && origin.trusts(&url.origin());
            drain(reply.into_body()).await;
        }
        Err(Error::protocol(at.clone(), format!("stopped after {MAX_REDIRECTS} redirects")))
    }

    fn headers(
        &self,
        remote: &Remote,
        call: &Call<'_>,
        proof: Option<&HeaderValue>,
        own: bool,
    ) -> HeaderMap {
        let mut headers = call.headers.clone();
        headers.insert(USER_AGENT, self.user_agent.clone());
        if !own {
            return headers;
        }
        // What the request itself needs is not theirs to change.
        for (name, value) in self.headers.iter().chain(remote.host.headers.iter()) {
            if !call.headers.contains_key(name) && name != USER_AGENT {
                headers.append(name.clone(), value.clone());
            }
        }
        if let Some(value) = proof {
            headers.insert(AUTHORIZATION, value.clone());
        }
        headers
    }
}

/// The words of a status line, where they are not the usual ones.
pub(crate) fn reason(parts: &http::response::Parts) -> Option<String> {
    let told = parts.extensions.get::<hyper::ext::ReasonPhrase>()?;
    Some(String::from_utf8_lossy(told.as_bytes()).into_owned())
}

/// The error that an unexpected answer is.
async fn refusal(mut reply: Reply, method: &Method) -> Error {
    let retry_after = header::retry_after(&reply.headers);
    if reply.status < 400 {
        let status = crate::answer::status_line(reply.status);
        return Error::protocol(reply.at, format!("received unexpected HTTP status: {status}"));
    }
    let body = match *method {
        Method::HEAD => None,
        _ => collect(&mut reply.body, MAX_BODY as u64).await.ok().flatten(),
    };
    let kind = header::text(&reply.headers, "content-type");
    let challenges = challenge::of_headers(&reply.headers);
    let answer = Answer::read(reply.status, &challenges, kind, &body.unwrap_or_default());
    Error::refused(reply.at, answer.with_reason(reply.reason), retry_after)
}
