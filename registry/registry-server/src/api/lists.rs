//! Lists, in pages: tags, repositories, referrers.

use std::collections::BTreeMap;

use http::{StatusCode, header};
use oci::{Digest, Index, media_type};
use serde_json::json;

use super::{Answer, ApiError, Call, Code, Registry, answer};
use crate::http::escape;
use crate::name::Repository;
use crate::store::{Page, Store};

/// Most tags of a page that names no number.
const MAX_TAGS: usize = 10_000;
/// Repositories of a page that names no number, as docker-registry has it, and at most.
const REPOSITORIES: (usize, usize) = (100, 10_000);

impl Registry {
    /// The list of a repository's tags.
    pub(super) async fn tags(&self, call: &Call, name: Repository) -> Answer {
        let limit = number(call)?.unwrap_or(MAX_TAGS).min(MAX_TAGS);
        let last = call.query.get("last").map(str::to_owned);
        let shown = name.to_string();
        let there = self.tags_there(&name, last.as_deref(), limit).await?;
        let (tags, more) = if let Some(listed) = there {
            listed
        } else {
            let list = move |store: &Store| store.tags(&name, last.as_deref(), limit);
            let (tags, more) = self.blocking(list).await?;
            (tags.iter().map(ToString::to_string).collect(), more)
        };
        let mut response = answer::json(&json!({"name": shown, "tags": tags}));
        if let (true, Some(last)) = (more, tags.last()) {
            let target = format!("/v2/{shown}/tags/list?n={limit}&last={}", escape(last));
            answer::link_next(response.headers_mut(), &target);
        }
        Ok(response)
    }

    /// The tags that the registry behind a cache has, if there is one and it can be reached.
    async fn tags_there(
        &self,
        name: &Repository,
        last: Option<&str>,
        limit: usize,
    ) -> Result<Option<(Vec<String>, bool)>, ApiError> {
        let Some(proxy) = &self.proxy else { return Ok(None) };
        let mut tags = match proxy.tags(name).await {
            Err(failure) if failure.may_pass() && self.store.has_repository(name) => {
                return Ok(None);
            }
            tags => tags?,
        };
        tags.sort_unstable();
        tags.retain(|tag| last.is_none_or(|last| tag.as_str() > last));
        let more = tags.len() > limit;
        tags.truncate(limit);
        Ok(Some((tags, more)))
    }

    /// The list of all repositories.
    pub(super) async fn catalog(&self, call: &Call) -> Answer {
        let limit = number(call)?.unwrap_or(REPOSITORIES.0).min(REPOSITORIES.1);
        let last = call.query.get("last").map(str::to_owned);
        let listed = self.blocking(move |store| store.repositories(last.as_deref(), limit)).await?;
        let names: Vec<&str> = listed.0.iter().map(Repository::as_str).collect();
        let mut response = answer::json(&json!({"repositories": names}));
        if let (true, Some(last)) = (listed.1, names.last()) {
            let target = format!("/v2/_catalog?n={limit}&last={}", escape(last));
            answer::link_next(response.headers_mut(), &target);
        }
        Ok(response)
    }

    /// The list of those who refer to a manifest.
    pub(super) async fn referrers(&self, call: &Call, name: Repository, subject: Digest) -> Answer {
        let wanted = call.query.get("artifactType").filter(|own| !own.is_empty());
        let wanted = wanted.map(str::to_owned);
        let last = match call.query.get("last") {
            Some(text) => Some(super::route::digest(text)?),
            None => None,
        };
        let (shown, filter) = (name.to_string(), wanted.clone());
        let there = match &self.proxy {
            None => None,
            Some(proxy) => match proxy.referrers(&name, &subject, wanted.as_deref()).await {
                Err(failure) if failure.may_pass() => None,
                found => Some(found?),
            },
        };
        let page = self
            .blocking(move |store| match there {
                Some(all) => Ok(Page::of(all, last.as_ref())),
                None => store.referrers(&name, &subject, filter.as_deref(), last.as_ref()),
            })
            .await?;
        let mut response = answer::json(&Index {
            schema_version: 2,
            media_type: media_type::OCI_INDEX.into(),
            artifact_type: None,
            manifests: page.entries,
            subject: None,
            annotations: BTreeMap::new(),
            other: serde_json::Map::new(),
        });
        let headers = response.headers_mut();
        answer::set(headers, header::CONTENT_TYPE, media_type::OCI_INDEX);
        if wanted.is_some() {
            answer::set(headers, "OCI-Filters-Applied", "artifactType");
        }
        if let Some(next) = page.next {
            let mut target = format!("/v2/{shown}/referrers/{subject}?last={next}");
            if let Some(wanted) = wanted {
                target.push_str(&format!("&artifactType={}", escape(&wanted)));
            }
            answer::link_next(headers, &target);
        }
        Ok(response)
    }
}

/// How many entries a client wants.
fn number(call: &Call) -> Result<Option<usize>, ApiError> {
    let Some(text) = call.query.get("n") else { return Ok(None) };
    let number = text.parse().map_err(|_| {
        ApiError::new(Code::Unsupported)
            .status(StatusCode::BAD_REQUEST)
            .message("invalid number of results requested")
    });
    number.map(Some)
}
