//! What refers to a manifest: by the registry's own list, or where it keeps none by the
//! tag `sha256-HEX`, which clients then keep themselves (distribution-spec 1.1).

use bytes::Bytes;
use http::header::ACCEPT;
use http::{HeaderValue, Method};
use oci::media_type::OCI_INDEX;
use oci::{Descriptor, Digest, Index};

use crate::error::{At, Error, Object};
use crate::header;
use crate::hosts::Capability;
use crate::manifest::{Parsed, RawManifest};
use crate::repository::{MAX_MANIFEST, Repository, Which};
use crate::session::{Reply, Target};
use crate::url::{Url, escape};

/// Most pages of a list.
const MAX_PAGES: usize = 256;
/// Most referrers that are listed.
const MAX_REFERRERS: usize = 16 << 10;
/// How often a fall-back tag that others change too is written anew.
const MAX_ROUNDS: usize = 5;

impl Repository {
    /// The manifests whose subject is `digest`, only those of `artifact_type` if given.
    pub async fn referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let found = match self.listed_referrers(digest, artifact_type).await? {
            Some(found) => found,
            None => self
                .tagged_referrers(digest)
                .await?
                .map(|index| index.manifests)
                .unwrap_or_default(),
        };
        // Servers need not filter, and the tag can't.
        let wanted =
            |d: &Descriptor| artifact_type.is_none_or(|t| d.artifact_type.as_deref() == Some(t));
        Ok(found.into_iter().filter(wanted).collect())
    }

    /// By the API; `None` when the registry has none.
    async fn listed_referrers(
        &self,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Option<Vec<Descriptor>>, Error> {
        let scopes = self.scopes(&["pull"]);
        let query = artifact_type.map(|kind| format!("?artifactType={}", escape(kind)));
        let mut target = self.target(&format!("referrers/{digest}{}", query.unwrap_or_default()));
        let mut found = Vec::new();
        for page in 0..MAX_PAGES {
            let mut call = self.call(Method::GET, target, Object::Referrers(*digest), &scopes);
            call.headers.insert(ACCEPT, HeaderValue::from_static(OCI_INDEX));
            let patience = self.retry().begin();
            let asked = self.session.ask(Capability::Referrers, &call, &patience);
            let reply = match asked.await {
                Ok(reply) => reply,
                Err(error) if page == 0 && has_no_list(&error) => return Ok(None),
                Err(error) => return Err(error),
            };
            let next = next_page(&reply)?;
            let at = reply.at.clone();
            let bytes = reply.bytes(MAX_MANIFEST).await?;
            let Ok(index) = serde_json::from_slice::<Index>(&bytes) else {
                // Some servers answer any path with a page of their own.
                return if page == 0 { Ok(None) } else { Err(Error::protocol(at, "no index")) };
            };
            found.extend(index.manifests);
            match next {
                Some(url) if found.len() < MAX_REFERRERS => target = Target::Url(url),
                _ => return Ok(Some(found)),
            }
        }
        Ok(Some(found))
    }

    /// By the fall-back tag; `None` when there is none.
    async fn tagged_referrers(&self, digest: &Digest) -> Result<Option<Index>, Error> {
        let raw = match self.manifest(&Which::Tag(fallback_tag(digest))).await {
            Ok(raw) => raw,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match parse_index(&raw) {
            Some(index) => Ok(Some(index)),
            // A tag of that name that is none of ours: left alone.
            None => Ok(None),
        }
    }

    /// Adds a manifest to its subject's fall-back tag.
    pub(crate) async fn add_referrer(
        &self,
        at: &At,
        subject: Digest,
        referrer: Descriptor,
    ) -> Result<(), Error> {
        if self.listed_referrers(&subject, None).await?.is_some() {
            // The list exists, the header was only forgotten.
            return Ok(());
        }
        self.change_referrers(at, subject, |manifests| {
            let known = manifests.iter().any(|known| known.digest == referrer.digest);
            if !known {
                manifests.push(referrer.clone());
            }
            !known
        })
        .await
    }

    /// Takes a deleted manifest out of its subject's fall-back tag.
    pub(crate) async fn remove_referrer(
        &self,
        at: &At,
        subject: Digest,
        digest: &Digest,
    ) -> Result<(), Error> {
        if self.listed_referrers(&subject, None).await?.is_some() {
            return Ok(());
        }
        self.change_referrers(at, subject, |manifests| {
            let before = manifests.len();
            manifests.retain(|known| known.digest != *digest);
            manifests.len() != before
        })
        .await
    }

    /// Reads, changes and writes the tag until the change is in it: there is no locking, so
    /// another writer may have overwritten it.
    async fn change_referrers(
        &self,
        at: &At,
        subject: Digest,
        change: impl Fn(&mut Vec<Descriptor>) -> bool,
    ) -> Result<(), Error> {
        let which = Which::Tag(fallback_tag(&subject));
        let scopes = self.scopes(&["pull", "push"]);
        for _ in 0..MAX_ROUNDS {
            let mut index = self.tagged_referrers(&subject).await?.unwrap_or_else(empty_index);
            if !change(&mut index.manifests) {
                return Ok(());
            }
            let bytes = serde_json::to_vec(&index)
                .map_err(|error| Error::protocol(at.clone(), error.to_string()))?;
            let bytes = Bytes::from(bytes);
            let (reply, _) = self.put_manifest(&which, OCI_INDEX, &bytes, &scopes).await?;
            reply.done().await;
        }
        let what = format!("the tag {which} is overwritten by others again and again");
        Err(Error::protocol(at.clone(), what))
    }
}

/// A registry without the list says so in one of several ways.
fn has_no_list(error: &Error) -> bool {
    match error {
        Error::NotFound { .. } | Error::NoHost { .. } => true,
        Error::Rejected { answer, .. } => matches!(answer.status, 400 | 405 | 406),
        Error::Server { answer, .. } => answer.status == 501,
        _ => false,
    }
}

/// The next page of a list, which must be on the same server.
pub(crate) fn next_page(reply: &Reply) -> Result<Option<Url>, Error> {
    let mut links = reply.headers.get_all("link").iter().filter_map(|value| value.to_str().ok());
    let Some(link) = links.find_map(header::next_link) else { return Ok(None) };
    let url =
        reply.url.join(link).map_err(|why| Error::bad_url(reply.at.clone(), "Link", link, &why))?;
    if !reply.url.origin().trusts(&url.origin()) {
        return Err(Error::protocol(
            reply.at.clone(),
            format!("the next page is elsewhere: {url}"),
        ));
    }
    Ok(Some(url))
}

/// The tag that lists the referrers of a digest.
fn fallback_tag(digest: &Digest) -> String {
    let mut hex = digest.hex();
    hex.truncate(64);
    format!("{}-{hex}", digest.algorithm())
}

fn parse_index(raw: &RawManifest) -> Option<Index> {
    match raw.parse() {
        Ok(Parsed::Index(index)) => Some(*index),
        _ => None,
    }
}

fn empty_index() -> Index {
    Index {
        schema_version: 2,
        media_type: OCI_INDEX.into(),
        artifact_type: None,
        manifests: Vec::new(),
        subject: None,
        annotations: std::collections::BTreeMap::new(),
        other: serde_json::Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fallback_tag_fits_a_tag() {
        let short = Digest::sha256(b"x");
        assert_eq!(fallback_tag(&short), format!("sha256-{}", short.hex()));
        let long = Digest::of(oci::Algorithm::Sha512, b"x");
        assert_eq!(fallback_tag(&long), format!("sha512-{}", &long.hex()[..64]));
    }
}
