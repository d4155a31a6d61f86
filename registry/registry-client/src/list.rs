//! Lists: the tags of a repository, the repositories of a registry. Paged, bounded.

use std::sync::Arc;

use http::{HeaderMap, Method};
use serde::Deserialize;

use crate::answer::json_error;
use crate::client::Client;
use crate::credentials::Credentials;
use crate::error::{Error, Object};
use crate::hosts::Capability;
use crate::referrers::next_page;
use crate::repository::Repository;
use crate::scope::{Scope, Scopes};
use crate::session::{Call, Session, Target};
use crate::source::Payload;
use crate::url::escape;

/// Entries asked for at once; servers may give fewer.
const PAGE: usize = 1000;
/// Largest page.
const MAX_PAGE: u64 = 4 << 20;
/// Most pages: a server must not lead a client on for ever.
const MAX_PAGES: usize = 10_000;

#[derive(Deserialize)]
struct Tags {
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Repositories {
    repositories: Option<Vec<String>>,
}

impl Repository {
    /// The tags, at most `limit`, as the registry orders them; those after `last` if given.
    pub async fn tags(&self, last: Option<&str>, limit: usize) -> Result<Vec<String>, Error> {
        let scopes = self.scopes(&["pull"]);
        let mut query = format!("?n={}", PAGE.min(limit));
        if let Some(last) = last {
            query = format!("{query}&last={}", escape(last));
        }
        let target = self.target(&format!("tags/list{query}"));
        let call = self.call(Method::GET, target, Object::Tags, &scopes);
        let read = |bytes: &[u8]| serde_json::from_slice::<Tags>(bytes).map(|list| list.tags);
        pages(&self.session, call, limit, read).await
    }
}

impl Client {
    /// The repositories of a registry, at most `limit`.
    pub async fn catalog(
        &self,
        registry: &str,
        credentials: Credentials,
        limit: usize,
    ) -> Result<Vec<String>, Error> {
        let session = self.session(registry, Arc::new(credentials));
        let scopes: Scopes = Scope::new("registry", "catalog", &["*"]).into();
        let call = Call {
            method: Method::GET,
            target: Target::Path(format!("/_catalog?n={}", PAGE.min(limit))),
            repository: None,
            object: Object::Catalog,
            headers: HeaderMap::new(),
            body: Payload::Empty,
            scopes: &scopes,
            timeout: self.inner.config.timeouts.answer,
            accept: &[200],
        };
        let read =
            |bytes: &[u8]| serde_json::from_slice::<Repositories>(bytes).map(|l| l.repositories);
        pages(&session, call, limit, read).await
    }
}

async fn pages(
    session: &Session,
    mut call: Call<'_>,
    limit: usize,
    read: impl Fn(&[u8]) -> Result<Option<Vec<String>>, serde_json::Error>,
) -> Result<Vec<String>, Error> {
    let mut all = Vec::new();
    for _ in 0..MAX_PAGES {
        let patience = session.client.config.retry.begin();
        let reply = session.ask(Capability::Resolve, &call, &patience).await?;
        let next = next_page(&reply)?;
        let at = reply.at.clone();
        let bytes = reply.bytes(MAX_PAGE).await?;
        let page = read(&bytes)
            .map_err(|error| Error::protocol(at.clone(), json_error(&bytes, &error)))?
            .unwrap_or_default();
        let empty = page.is_empty();
        all.extend(page);
        match next {
            Some(url) if !empty && all.len() < limit => call.target = Target::Url(url),
            _ => {
                all.truncate(limit);
                return Ok(all);
            }
        }
    }
    Ok(all)
}
