//! `POST /auth`: whether a registry accepts credentials, and what it gives for later.

use std::sync::Arc;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};

use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{At, Error, Object, Place};
use crate::hosts::DOCKER_IO;
use crate::remote::{Contact, Hop, Remote};
use crate::scope::Scopes;
use crate::session::Session;
use crate::token::{self, TokenRequest};
use crate::url::{InvalidUrl, Url};

/// A login that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// To be kept in place of the password, when the registry gives one.
    pub identity_token: Option<String>,
}

impl Client {
    /// Logs in to the registry at `address`, as docker's users write it: a host, perhaps
    /// with port, scheme or path; empty for Docker's own.
    pub async fn login(&self, address: &str, credentials: &Credentials) -> Result<Login, Error> {
        let registry = registry_of(address)?;
        let session = self.session(&registry, Arc::new(Credentials::Anonymous));
        let hosts = self.inner.clone();
        let domain = registry.clone();
        let found = tokio::task::spawn_blocking(move || hosts.config.hosts.upstream(&domain)).await;
        let host = found.map_err(|error| Error::InvalidParameter(error.to_string()))??;
        let remote = self.inner.remote(host);
        // A login asks anew: what was heard long ago may no longer hold.
        remote.forget().await;
        let contact = session.contact(&remote).await?;
        let attempt =
            Attempt { client: self, session: &session, remote: &remote, contact: &contact };
        attempt.run(credentials).await
    }
}

struct Attempt<'a> {
    client: &'a Client,
    session: &'a Session,
    remote: &'a Remote,
    contact: &'a Contact,
}

impl Attempt<'_> {
    async fn run(&self, credentials: &Credentials) -> Result<Login, Error> {
        let url = format!("{}/", self.contact.base.path().trim_end_matches('/'));
        let url = self.contact.base.with_path(&url);
        let url = url.map_err(|why| Error::InvalidParameter(why.to_string()))?;
        let at: At = Box::new(Place {
            method: Method::GET,
            url: url.clone(),
            registry: self.session.registry.to_string(),
            repository: None,
            object: Object::Registry,
        });
        let (proof, identity_token) = self.prove(&at, credentials).await?;
        let mut headers = self.remote.host.headers.clone();
        headers.insert(http::header::USER_AGENT, self.session.user_agent().clone());
        if let Some(proof) = proof {
            headers.insert(AUTHORIZATION, proof);
        }
        let reply = self.knock(&at, &url, headers).await?;
        if reply != 200 {
            return Err(Error::Login { at, status: reply });
        }
        Ok(Login { identity_token })
    }

    async fn prove(
        &self,
        at: &At,
        credentials: &Credentials,
    ) -> Result<(Option<HeaderValue>, Option<String>), Error> {
        let scopes = Scopes::default();
        for challenge in &self.contact.challenges {
            if challenge.is("bearer") {
                let request = TokenRequest {
                    challenge,
                    scopes: &scopes,
                    credentials,
                    user_agent: self.session.user_agent(),
                    timeout: self.client.inner.config.timeouts.contact,
                    at,
                };
                let (value, identity) =
                    token::login(self.remote, &self.contact.base, &request).await?;
                return Ok((Some(value), identity));
            }
            if challenge.is("basic") {
                let value =
                    credentials.basic().ok_or_else(|| Error::NoCredentials { at: at.clone() });
                return Ok((Some(value?), None));
            }
        }
        Ok((None, None))
    }

    /// Asks with the proof; redirects to the same server are followed.
    async fn knock(&self, at: &At, url: &Url, headers: HeaderMap) -> Result<u16, Error> {
        let timeout = self.client.inner.config.timeouts.contact;
        let mut url = url.clone();
        let origin = url.origin();
        for _ in 0..5 {
            let hop = Hop {
                method: Method::GET,
                url: &url,
                headers: headers.clone(),
                away: false,
                timeout,
            };
            let reply = self.remote.hop(at, hop, bytes::Bytes::new()).await?;
            let status = reply.status();
            let location = crate::header::text(reply.headers(), "location").map(str::to_owned);
            crate::net::drain(reply.into_body()).await;
            let (true, Some(location)) = (status.is_redirection(), location) else {
                return Ok(status.as_u16());
            };
            let next = url.join(&location);
            url = next.map_err(|why| Error::bad_url(at.clone(), "redirect", &location, &why))?;
            if !origin.trusts(&url.origin()) {
                return Ok(status.as_u16());
            }
        }
        Err(Error::protocol(at.clone(), "stopped after 5 redirects"))
    }
}

/// The registry that an address of a login means.
fn registry_of(address: &str) -> Result<String, Error> {
    if address.is_empty() {
        return Ok(DOCKER_IO.into());
    }
    let full = match address {
        full if full.starts_with("http://") || full.starts_with("https://") => full.to_owned(),
        host => format!("https://{host}"),
    };
    let told = |why: String| {
        Error::InvalidParameter(format!("unable to parse server address: parse {full:?}: {why}"))
    };
    let host = full.split("://").nth(1).unwrap_or_default();
    let host = host.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some(c) = host.chars().find(|c| {
        matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}') || c.is_control()
    }) {
        return Err(told(format!("invalid character {:?} in host name", char::to_string(&c))));
    }
    let url = Url::parse(&full).map_err(|why: InvalidUrl| told(why.to_string()))?;
    Ok(match url.authority() {
        "docker.io" | "index.docker.io" | "registry-1.docker.io" => DOCKER_IO.into(),
        authority => authority.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_docker_reads_them() {
        for (address, expected) in [
            ("", "docker.io"),
            ("https://index.docker.io/v1/", "docker.io"),
            ("docker.io", "docker.io"),
            ("R.io", "r.io"),
            ("r.io:5000/foo/bar", "r.io:5000"),
            ("http://127.0.0.1:5000/v2/", "127.0.0.1:5000"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(registry_of(address).unwrap(), expected, "{address}");
        }
        assert_eq!(
            registry_of("a b").unwrap_err().to_string(),
            r#"unable to parse server address: parse "https://a b": invalid character " " in host name"#
        );
    }
}
