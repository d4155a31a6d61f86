//! What a repository needs: its manifests, and what they lead to.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use oci::Digest;

use super::Wish;
use crate::manifest::{Manifest, sniff};
use crate::name::Repository;
use crate::store::layout::LINK;
use crate::store::referrers::digests_below;
use crate::store::{Store, StoreError};

/// What stays in a repository, and what may go.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// Manifests that stay.
    pub(super) manifests: HashSet<Digest>,
    /// Manifests that may go.
    pub(super) untagged: Vec<Digest>,
    /// Blobs that manifests need.
    pub(super) blobs: HashSet<Digest>,
    /// Blobs that only manifests need that may go.
    pub(super) orphans: HashSet<Digest>,
}

/// What collection must know of a manifest.
struct Node {
    children: Vec<Digest>,
    blobs: Vec<Digest>,
    subject: Option<Digest>,
    young: bool,
}

impl Store {
    pub(super) fn mark(
        &self,
        name: &Repository,
        wish: &Wish,
        limit: SystemTime,
    ) -> Result<Marks, StoreError> {
        let mut nodes = HashMap::new();
        for (digest, folder) in digests_below(&self.layout.revisions(name))? {
            let Some(young) = is_younger(&folder.join(LINK), limit) else { continue };
            nodes.insert(digest, self.node(name, &digest, young)?);
        }
        let manifests: HashSet<Digest> = if wish.is_cache {
            nodes.iter().filter(|(_, node)| node.young).map(|(digest, _)| *digest).collect()
        } else if wish.delete_untagged {
            self.reached(name, &nodes)?
        } else {
            nodes.keys().copied().collect()
        };
        let mut marks = Marks { manifests, ..Marks::default() };
        for (digest, node) in nodes {
            let needs = node.blobs.into_iter().chain(node.children);
            if wish.is_cache {
                // Links are as old as they look, whoever needs them.
                if !marks.manifests.contains(&digest) {
                    marks.untagged.push(digest);
                }
            } else if marks.manifests.contains(&digest) {
                marks.blobs.extend(needs);
            } else {
                marks.untagged.push(digest);
                marks.orphans.extend(needs);
            }
        }
        Ok(marks)
    }

    fn node(&self, name: &Repository, digest: &Digest, young: bool) -> Result<Node, StoreError> {
        let bytes = match self.manifest_bytes(digest) {
            Ok(bytes) => bytes,
            Err(StoreError::BlobUnknown(_)) => Vec::new(),
            Err(other) => return Err(other),
        };
        let recorded = self.recorded_type(name, digest)?;
        let media_type = recorded.unwrap_or_else(|| sniff(&bytes).to_owned());
        let (children, blobs, subject) = match Manifest::parse(&media_type, &bytes) {
            Ok(m) => (m.children().copied().collect(), m.blobs().copied().collect(), m.subject()),
            // Schema 1, which only other programs store: whatever it mentions, it needs.
            Err(_) => (Vec::new(), mentioned(&bytes), None),
        };
        Ok(Node { children, blobs, subject, young })
    }

    /// Manifests that a tag leads to, that are young, that are in an index that stays, or that
    /// are about one that stays.
    fn reached(
        &self,
        name: &Repository,
        nodes: &HashMap<Digest, Node>,
    ) -> Result<HashSet<Digest>, StoreError> {
        let mut about: HashMap<Digest, Vec<Digest>> = HashMap::new();
        for (digest, node) in nodes {
            if let Some(subject) = node.subject {
                about.entry(subject).or_default().push(*digest);
            }
        }
        let young = nodes.iter().filter(|(_, node)| node.young).map(|(digest, _)| *digest);
        let mut open: Vec<Digest> = young.collect();
        for tag in self.tag_names(name)? {
            open.extend(self.tag_target(name, &tag)?);
        }
        let mut reached = HashSet::new();
        while let Some(digest) = open.pop() {
            let Some(node) = nodes.get(&digest).filter(|_| reached.insert(digest)) else {
                continue;
            };
            open.extend(&node.children);
            open.extend(about.get(&digest).into_iter().flatten());
        }
        Ok(reached)
    }
}

/// All digests in a text.
fn mentioned(bytes: &[u8]) -> Vec<Digest> {
    let text = String::from_utf8_lossy(bytes);
    text.split(['"', '\'']).filter_map(|word| word.parse().ok()).collect()
}

/// Whether a link is younger than `limit`; nothing if it is not there.
pub(super) fn is_younger(link: &std::path::Path, limit: SystemTime) -> Option<bool> {
    let meta = std::fs::metadata(link).ok()?;
    Some(meta.modified().is_ok_and(|time| time > limit))
}
