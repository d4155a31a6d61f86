//! Search by Docker's v1 API: on its hub, and on private registries that have it.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::{AUTHORIZATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Deserializer};

use crate::answer::{Answer, json_error};
use crate::challenge;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{At, Error, Object, Place};
use crate::hosts::{DOCKER_IO, Host, Reach};
use crate::net::collect;
use crate::remote::{Contact, Hop, Knock, Remote, Tried};
use crate::scope::{Scope, Scopes};
use crate::session::Session;
use crate::token::{self, TokenRequest};
use crate::url::{Scheme, escape};

/// The server that searches Docker's hub.
const INDEX: &str = "index.docker.io";
/// Results without a limit.
const DEFAULT_LIMIT: i64 = 25;
/// Largest answer.
const MAX_ANSWER: u64 = 4 << 20;

/// One repository that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Hit {
    /// Its name.
    #[serde(default, deserialize_with = "null_is_default")]
    pub name: String,
    /// What its owner says about it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub description: String,
    /// How many users marked it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub star_count: i64,
    /// Whether Docker keeps it.
    #[serde(default, deserialize_with = "null_is_default")]
    pub is_official: bool,
}

fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[derive(Deserialize)]
struct Hits {
    results: Option<Vec<Hit>>,
}

/// Which hits are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchFilter {
    official: Option<bool>,
    /// Docker builds nothing any more: `true` finds nothing.
    automated: bool,
    stars: Option<i64>,
}

impl SearchFilter {
    /// From the filters of the API: `is-official`, `is-automated`, `stars`. Errors are in
    /// docker's words.
    pub fn parse(filters: &BTreeMap<String, Vec<String>>) -> Result<Self, Error> {
        let mut filter = Self::default();
        for name in filters.keys() {
            if !matches!(name.as_str(), "is-official" | "is-automated" | "stars") {
                return Err(Error::InvalidParameter(format!("invalid filter '{name}'")));
            }
        }
        filter.automated = flag(filters, "is-automated")?.unwrap_or(false);
        filter.official = flag(filters, "is-official")?;
        for value in filters.get("stars").into_iter().flatten() {
            let stars: i64 = value.parse().map_err(|_| {
                Error::InvalidParameter(format!(
                    "invalid filter 'stars={value}': strconv.Atoi: parsing {value:?}: invalid syntax"
                ))
            })?;
            filter.stars = Some(filter.stars.unwrap_or(0).max(stars));
        }
        Ok(filter)
    }

    fn wants(&self, hit: &Hit) -> bool {
        self.official.is_none_or(|official| official == hit.is_official)
            && self.stars.is_none_or(|stars| hit.star_count >= stars)
    }
}

fn flag(filters: &BTreeMap<String, Vec<String>>, name: &str) -> Result<Option<bool>, Error> {
    let Some(values) = filters.get(name) else { return Ok(None) };
    match values.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["true" | "1"] => Ok(Some(true)),
        ["false" | "0"] => Ok(Some(false)),
        values => {
            let shown = values.join(" ");
            Err(Error::InvalidParameter(format!("invalid filter '{name}=[{shown}]'")))
        }
    }
}

impl Client {
    /// Searches for `term`, which may begin with a registry's name; 0 is docker's limit.
    pub async fn search(
        &self,
        term: &str,
        limit: i64,
        filter: &SearchFilter,
        credentials: &Credentials,
        username: &str,
    ) -> Result<Vec<Hit>, Error> {
        if filter.automated {
            return Ok(Vec::new());
        }
        if term.contains("://") {
            let why = format!("repository name ({term}) should not have a scheme");
            return Err(Error::InvalidParameter(format!("invalid repository name: {why}")));
        }
        let limit = if limit == 0 { DEFAULT_LIMIT } else { limit };
        let (registry, name) = split_term(term);
        let session = self.session(&registry, Arc::new(Credentials::Anonymous));
        let remote = self.index_of(&registry).await?;
        let search =
            Search { client: self, session: &session, remote: &remote, registry: &registry };
        let contact = search.contact().await?;
        // In this order, as docker checks them.
        if !(1..=100).contains(&limit) {
            let why = format!("limit {limit} is outside the range of [1, 100]");
            return Err(Error::InvalidParameter(why));
        }
        let hits = search.ask(&contact, name, limit, credentials, username).await?;
        Ok(hits.into_iter().filter(|hit| filter.wants(hit)).collect())
    }

    /// The host that searches a registry.
    async fn index_of(&self, registry: &str) -> Result<Arc<Remote>, Error> {
        let (inner, domain) = (self.inner.clone(), registry.to_owned());
        let found = tokio::task::spawn_blocking(move || match domain.as_str() {
            DOCKER_IO => Ok(Host::upstream(INDEX)),
            domain => inner.config.hosts.upstream(domain),
        });
        let found = found.await.map_err(|error| Error::InvalidParameter(error.to_string()))?;
        let mut host = found?;
        host.path = "/v1".into();
        Ok(self.inner.remote(host))
    }
}

struct Search<'a> {
    client: &'a Client,
    session: &'a Session,
    remote: &'a Remote,
    registry: &'a str,
}

impl Search<'_> {
    /// The hub needs no first contact; a private registry's failure is docker's long text.
    async fn contact(&self) -> Result<Contact, Error> {
        if self.registry == DOCKER_IO {
            return self.remote.known(Scheme::Https);
        }
        let knock = Knock {
            registry: self.registry,
            user_agent: self.session.user_agent(),
            timeout: self.client.inner.config.timeouts.contact,
            path: "_ping",
        };
        self.remote.try_contact(&knock).await.map_err(|tried| self.unreachable(*tried))
    }

    fn unreachable(&self, tried: Tried) -> Error {
        let host = &self.remote.host.authority;
        let words = |error: &Error| error.told(crate::told::Asked::Login).message;
        let Tried { secure, last } = tried;
        let text = match secure {
            _ if last.at().is_none() => return last,
            Some(secure) => format!(
                "invalid registry endpoint \"http://{host}/v1/\". HTTPS attempt: {}. HTTP \
                 attempt: {}",
                words(&secure),
                words(&last)
            ),
            None if self.remote.host.reach == Reach::Only(Scheme::Https) => format!(
                "invalid registry endpoint https://{host}/v1/: {}. If this private registry \
                 supports only HTTP or HTTPS with an unknown CA certificate, please add \
                 `--insecure-registry {host}` to the daemon's arguments. In the case of HTTPS, if \
                 you have access to the registry's CA certificate, no need for the flag; simply \
                 place the CA certificate at /etc/docker/certs.d/{host}/ca.crt",
                words(&last)
            ),
            None => return last,
        };
        Error::InvalidRegistry { text }
    }

    async fn ask(
        &self,
        contact: &Contact,
        name: &str,
        limit: i64,
        credentials: &Credentials,
        username: &str,
    ) -> Result<Vec<Hit>, Error> {
        let path = format!("/v1/search?q={}&n={limit}", escape(name));
        let url = contact.base.with_path(&path);
        let url = url.map_err(|why| Error::InvalidParameter(why.to_string()))?;
        let at: At = Box::new(Place {
            method: Method::GET,
            url: url.clone(),
            registry: self.registry.into(),
            repository: None,
            object: Object::Search(name.into()),
        });
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, self.session.user_agent().clone());
        headers.insert(HeaderName::from_static("x-docker-token"), HeaderValue::from_static("true"));
        if let Some(proof) = self.prove(contact, &at, credentials, username).await? {
            headers.insert(AUTHORIZATION, proof);
        }
        let timeout = self.client.inner.config.timeouts.answer;
        let hop = Hop { method: Method::GET, url: &url, headers, away: false, timeout };
        let reply = self.remote.hop(&at, hop, bytes::Bytes::new()).await?;
        let (parts, mut body) = reply.into_parts();
        let bytes = collect(&mut body, MAX_ANSWER).await.map_err(|f| Remote::failed(&at, f))?;
        let bytes = bytes.ok_or_else(|| Error::TooLarge { at: at.clone(), limit: MAX_ANSWER })?;
        if parts.status != 200 {
            let challenges = challenge::of_headers(&parts.headers);
            let answer = Answer::read(parts.status.as_u16(), &challenges, None, b"");
            return Err(Error::refused(at, answer, crate::header::retry_after(&parts.headers)));
        }
        let hits: Hits = serde_json::from_slice(&bytes).map_err(|error| {
            let why = json_error(&bytes, &error);
            Error::protocol(at, format!("error decoding registry search results: {why}"))
        })?;
        Ok(hits.results.unwrap_or_default())
    }

    /// A password goes along only where TLS protects it; an identity token buys a token
    /// where the server's API of version 2 says.
    async fn prove(
        &self,
        contact: &Contact,
        at: &At,
        credentials: &Credentials,
        username: &str,
    ) -> Result<Option<HeaderValue>, Error> {
        if contact.base.scheme() == Scheme::Https
            && let Some(basic) = credentials.basic()
        {
            return Ok(Some(basic));
        }
        if !matches!(credentials, Credentials::IdentityToken(_)) || username.is_empty() {
            return Ok(None);
        }
        let host = Host { path: "/v2".into(), ..self.remote.host.clone() };
        let remote = self.client.inner.remote(host);
        let contact = self.session.contact(&remote).await?;
        let bearer = contact.challenges.iter().find(|challenge| challenge.is("bearer"));
        let Some(challenge) = bearer else { return Ok(None) };
        let scopes: Scopes = Scope::new("registry", "catalog", &["search"]).into();
        let request = TokenRequest {
            challenge,
            scopes: &scopes,
            credentials,
            user_agent: self.session.user_agent(),
            timeout: self.client.inner.config.timeouts.answer,
            at,
        };
        let tokens = &self.client.inner.tokens;
        let granted = token::token(tokens, &remote, &contact.base, &request, None).await?;
        Ok(Some(granted.value))
    }
}

/// The registry that a term names, and the rest.
fn split_term(term: &str) -> (String, &str) {
    match term.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => match host {
            "docker.io" | "index.docker.io" => (DOCKER_IO.into(), without_library(rest)),
            host => (host.into(), rest),
        },
        _ => (DOCKER_IO.into(), without_library(term)),
    }
}

fn without_library(name: &str) -> &str {
    name.strip_prefix("library/").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_term_may_name_its_registry() {
        for (term, registry, name) in [
            ("nginx", "docker.io", "nginx"),
            ("me/nginx", "docker.io", "me/nginx"),
            ("library/nginx", "docker.io", "nginx"),
            ("docker.io/library/nginx", "docker.io", "nginx"),
            ("r.io:5000/a/b", "r.io:5000", "a/b"),
            ("localhost/library/a", "localhost", "library/a"),
        ] {
            assert_eq!(split_term(term), (registry.to_owned(), name), "{term}");
        }
    }

    #[test]
    fn filters_are_checked_in_dockers_words() {
        let parse = |name: &str, value: &str| {
            SearchFilter::parse(&BTreeMap::from([(name.to_owned(), vec![value.to_owned()])]))
        };
        for (name, value, error) in [
            ("nope", "x", "invalid filter 'nope'"),
            (
                "stars",
                "x",
                r#"invalid filter 'stars=x': strconv.Atoi: parsing "x": invalid syntax"#,
            ),
            ("is-official", "maybe", "invalid filter 'is-official=[maybe]'"),
        ] {
            assert_eq!(parse(name, value).unwrap_err().to_string(), error);
        }
        let hit = Hit { star_count: 5, is_official: true, ..Hit::default() };
        assert!(parse("stars", "5").unwrap().wants(&hit));
        assert!(!parse("stars", "6").unwrap().wants(&hit));
        assert!(parse("is-official", "1").unwrap().wants(&hit));
        assert!(!parse("is-official", "false").unwrap().wants(&hit));
    }
}
