//! Bearer tokens: fetched from the realm that a challenge names, kept until they expire.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use tokio::time::Instant;

use crate::answer::{self, Answer};
use crate::challenge::{self, Challenge};
use crate::credentials::Credentials;
use crate::error::{At, Error, Object, Place};
use crate::header;
use crate::net::{collect, drain};
use crate::remote::{Hop, Remote};
use crate::scope::Scopes;
use crate::url::{Scheme, Url, encode_form};

/// Largest answer of a token server.
const MAX_ANSWER: u64 = 1 << 20;
/// Tokens of so many kinds are kept.
const MAX_TOKENS: usize = 256;
/// What a token lives that says less, or nothing.
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
/// What a token lives that says more.
const LONGEST_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A token this near its end is not used any more.
const MARGIN: Duration = Duration::from_secs(10);
/// The name by which token servers know clients of Docker's kind.
const CLIENT: &str = "docker";
/// Redirects of a token server that are followed.
const MAX_REDIRECTS: usize = 5;

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TokenKey {
    realm: Url,
    service: String,
    scopes: Scopes,
    account: [u8; 32],
}

#[derive(Clone)]
struct Token {
    value: HeaderValue,
    expires: Instant,
}

type Slot = Arc<tokio::sync::Mutex<Option<Token>>>;

/// Tokens by what they are for. Who needs one that is just being fetched waits for it.
#[derive(Default)]
pub(crate) struct TokenCache(Mutex<HashMap<TokenKey, Slot>>);

impl TokenCache {
    fn slot(&self, key: &TokenKey) -> Slot {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= MAX_TOKENS && !slots.contains_key(key) {
            let now = Instant::now();
            slots.retain(|_, slot| match slot.try_lock() {
                Ok(token) => token.as_ref().is_some_and(|token| token.expires > now),
                Err(_) => true,
            });
            if slots.len() >= MAX_TOKENS {
                slots.clear();
            }
        }
        slots.entry(key.clone()).or_default().clone()
    }
}

/// A token and how it was come by.
pub(crate) struct Granted {
    pub(crate) value: HeaderValue,
    /// Whether it was fetched just now, so that another would be no better.
    pub(crate) fresh: bool,
}

/// What is asked of a token server.
pub(crate) struct TokenRequest<'a> {
    pub(crate) challenge: &'a Challenge,
    pub(crate) scopes: &'a Scopes,
    pub(crate) credentials: &'a Credentials,
    pub(crate) user_agent: &'a HeaderValue,
    pub(crate) timeout: Duration,
    /// The request that needs the token.
    pub(crate) at: &'a At,
}

impl TokenRequest<'_> {
    fn realm(&self, remote: &Remote, base: &Url) -> Result<Url, Error> {
        let at = || self.at.clone();
        let Some(realm) = self.challenge.get("realm") else {
            return Err(Error::protocol(at(), "no realm specified for token auth challenge"));
        };
        let url = Url::parse(realm).map_err(|why| Error::bad_url(at(), "realm", realm, &why))?;
        // A registry that is reached protected must not have secrets sent in the clear.
        let exposed = url.scheme() == Scheme::Http && base.scheme() == Scheme::Https;
        if exposed && *self.credentials != Credentials::Anonymous && !remote.host.tls.skip_verify {
            let what = format!("credentials are not sent to {realm}: it is not protected by TLS");
            return Err(Error::protocol(at(), what));
        }
        Ok(url)
    }

    fn service(&self) -> &str {
        self.challenge.get("service").unwrap_or_default()
    }
}

/// A token from the cache, else from the server. One that was `rejected` is not given
/// again; if another request has renewed it meanwhile, that one is.
pub(crate) async fn token(
    cache: &TokenCache,
    remote: &Remote,
    base: &Url,
    request: &TokenRequest<'_>,
    rejected: Option<&HeaderValue>,
) -> Result<Granted, Error> {
    let realm = request.realm(remote, base)?;
    let key = TokenKey {
        realm: realm.clone(),
        service: request.service().into(),
        scopes: request.scopes.clone(),
        account: request.credentials.fingerprint(),
    };
    let slot = cache.slot(&key);
    let mut kept = slot.lock().await;
    if let Some(token) = kept.as_ref()
        && token.expires > Instant::now()
        && rejected != Some(&token.value)
    {
        return Ok(Granted { value: token.value.clone(), fresh: false });
    }
    *kept = None;
    let (token, _) = fetch(remote, &realm, request, false).await?;
    let value = token.value.clone();
    *kept = Some(token);
    Ok(Granted { value, fresh: true })
}

/// A token for a login, and the identity token that the server gives for later.
pub(crate) async fn login(
    remote: &Remote,
    base: &Url,
    request: &TokenRequest<'_>,
) -> Result<(HeaderValue, Option<String>), Error> {
    let realm = request.realm(remote, base)?;
    let (token, identity) = fetch(remote, &realm, request, true).await?;
    Ok((token.value, identity))
}

async fn fetch(
    remote: &Remote,
    realm: &Url,
    request: &TokenRequest<'_>,
    login: bool,
) -> Result<(Token, Option<String>), Error> {
    let wrapped = |cause| Error::Token { at: request.at.clone(), cause: Box::new(cause) };
    fetch_bare(remote, realm, request, login).await.map_err(wrapped)
}

async fn fetch_bare(
    remote: &Remote,
    realm: &Url,
    request: &TokenRequest<'_>,
    login: bool,
) -> Result<(Token, Option<String>), Error> {
    let form = match request.credentials {
        Credentials::IdentityToken(token) => Some(grant(request, token.expose(), login)),
        _ => None,
    };
    let url = if form.is_some() { realm.clone() } else { with_query(realm, request, login) };
    let method = if form.is_some() { Method::POST } else { Method::GET };
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, request.user_agent.clone());
    if form.is_some() {
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
    } else if let Some(basic) = request.credentials.basic() {
        headers.insert(AUTHORIZATION, basic);
    }
    let at: At = Box::new(Place {
        method: method.clone(),
        url: url.clone(),
        object: Object::Token,
        ..Place::clone(request.at)
    });
    let body = form.map(|form| Bytes::from(form.into_bytes())).unwrap_or_default();
    let reply = ask(remote, &at, url, headers, body, request.timeout).await?;
    let (parts, mut body) = reply.into_parts();
    let (status, headers) = (parts.status, &parts.headers);
    let limit = if status.is_success() { MAX_ANSWER } else { answer::MAX_BODY as u64 };
    let bytes = collect(&mut body, limit)
        .await
        .map_err(|failure| Remote::failed(&at, failure))?
        .ok_or_else(|| Error::TooLarge { at: at.clone(), limit })?;
    if !status.is_success() {
        let kind = header::text(headers, "content-type");
        let challenges = challenge::of_headers(headers);
        let answer = Answer::read(status.as_u16(), &challenges, kind, &bytes);
        let answer = answer.with_reason(crate::session::reason(&parts));
        return Err(Error::refused(at, answer, header::retry_after(headers)));
    }
    read(&at, &bytes)
}

/// Sends the request; redirects of a GET are followed, and lose the credentials when they
/// lead elsewhere.
async fn ask(
    remote: &Remote,
    at: &At,
    mut url: Url,
    mut headers: HeaderMap,
    body: Bytes,
    timeout: Duration,
) -> Result<http::Response<crate::net::Incoming>, Error> {
    let origin = url.origin();
    for _ in 0..=MAX_REDIRECTS {
        let hop = Hop {
            method: at.method.clone(),
            url: &url,
            headers: headers.clone(),
            away: false,
            timeout,
        };
        let reply = remote.hop(at, hop, body.clone()).await?;
        let location = header::text(reply.headers(), "location").map(ToOwned::to_owned);
        let (true, Some(location)) = (reply.status().is_redirection(), location) else {
            return Ok(reply);
        };
        if at.method != Method::GET {
            let what = "the token server redirects a request that holds a secret";
            return Err(Error::protocol(at.clone(), what));
        }
        url = url
            .join(&location)
            .map_err(|why| Error::bad_url(at.clone(), "redirect", &location, &why))?;
        if !origin.trusts(&url.origin()) {
            headers.remove(AUTHORIZATION);
        }
        drain(reply.into_body()).await;
    }
    Err(Error::protocol(at.clone(), format!("stopped after {MAX_REDIRECTS} redirects")))
}

fn with_query(realm: &Url, request: &TokenRequest<'_>, login: bool) -> Url {
    let scopes: Vec<String> = request.scopes.iter().map(ToString::to_string).collect();
    let mut pairs: Vec<(&str, &str)> = scopes.iter().map(|s| ("scope", s.as_str())).collect();
    if !request.service().is_empty() {
        pairs.push(("service", request.service()));
    }
    if login {
        pairs.extend([("offline_token", "true"), ("client_id", CLIENT)]);
    }
    if let Credentials::Password { username, password } = request.credentials
        && !username.is_empty()
        && !password.expose().is_empty()
    {
        pairs.push(("account", username));
    }
    if pairs.is_empty() {
        return realm.clone();
    }
    let form = encode_form(&pairs);
    let query = realm.query().filter(|query| !query.is_empty());
    let query = query.map_or_else(|| form.clone(), |query| format!("{query}&{form}"));
    realm.with_path(&format!("{}?{query}", realm.path())).unwrap_or_else(|_| realm.clone())
}

fn grant(request: &TokenRequest<'_>, refresh_token: &str, login: bool) -> String {
    let scopes = request.scopes.to_string();
    let mut pairs = vec![
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
        ("service", request.service()),
        ("client_id", CLIENT),
    ];
    if !scopes.is_empty() {
        pairs.push(("scope", &scopes));
    }
    if login {
        pairs.push(("access_type", "offline"));
    }
    encode_form(&pairs)
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<f64>,
    refresh_token: Option<String>,
}

/// What a token server gave.
pub struct Grant {
    /// The value of `Authorization`.
    pub value: HeaderValue,
    /// For how long.
    pub life: Duration,
    /// An identity token, for later.
    pub identity: Option<String>,
}

/// Reads a token server's answer; an error is in Go's words.
pub fn grant_of(bytes: &[u8]) -> Result<Grant, String> {
    let answer: TokenAnswer = serde_json::from_slice(bytes).map_err(|error| {
        format!("unable to decode token response: {}", answer::json_error(bytes, &error))
    })?;
    let given = [answer.access_token, answer.token].into_iter().flatten().find(|t| !t.is_empty());
    let given = given.ok_or("authorization server did not include a token in the response")?;
    let mut value = HeaderValue::from_str(&format!("Bearer {given}"))
        .map_err(|_| "the token holds characters that no header may hold")?;
    value.set_sensitive(true);
    let life = answer.expires_in.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let life = life.unwrap_or(SHORTEST_LIFE).clamp(SHORTEST_LIFE, LONGEST_LIFE);
    let identity = answer.refresh_token.filter(|token| !token.is_empty());
    Ok(Grant { value, life, identity })
}

fn read(at: &At, bytes: &[u8]) -> Result<(Token, Option<String>), Error> {
    let Grant { value, life, identity } =
        grant_of(bytes).map_err(|what| Error::protocol(at.clone(), what))?;
    Ok((Token { value, expires: Instant::now() + life.saturating_sub(MARGIN) }, identity))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at() -> At {
        Box::new(Place {
            method: Method::GET,
            url: Url::parse("http://h/t").unwrap(),
            registry: "h".into(),
            repository: None,
            object: Object::Token,
        })
    }

    #[test]
    fn either_name_of_the_token_is_read() {
        for body in [
            r#"{"token":"T"}"#,
            r#"{"access_token":"T","token":"U","expires_in":300}"#,
            r#"{"token":"T","expires_in":-5,"issued_at":"2026-01-01T00:00:00Z"}"#,
            r#"{"token":"T","expires_in":1e300}"#,
        ] {
            let (token, identity) = read(&at(), body.as_bytes()).unwrap();
            assert_eq!(token.value, "Bearer T");
            assert!(token.value.is_sensitive() && identity.is_none());
        }
        let told = |body: &str| read(&at(), body.as_bytes()).err().unwrap().to_string();
        assert!(told("junk").ends_with(
            "unable to decode token response: invalid character 'j' looking for beginning of value"
        ));
        assert!(
            told("{}").ends_with("authorization server did not include a token in the response")
        );
        assert!(told("{\"token\":\"a\\nb\"}").contains("no header may hold"));
    }

    proptest! {
        #[test]
        fn no_answer_panics(body in "\\PC{0,60}") {
            let _ = read(&at(), body.as_bytes());
        }
    }
}
