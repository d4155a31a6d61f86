//! Collection: what no repository needs any more goes, while the registry is in use.
//!
//! It first looks, without stopping anybody, and then takes away, one object at a time, behind a
//! gate that whoever links something passes too. What was linked since it began to look is
//! pinned and stays; so does a link that somebody was told of not long ago.

mod mark;
mod sweep;

use std::collections::HashSet;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use oci::Digest;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::name::Repository;

/// What is collected.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Only say what would go.
    pub dry_run: bool,
    /// Manifests go that neither a tag nor another manifest leads to.
    pub delete_untagged: bool,
    /// Links younger than this stay: a push may be about to use them.
    pub min_age: Duration,
    /// What is older goes, needed or not: in a cache it can be had again.
    pub is_cache: bool,
}

/// How long a link is safe unless somebody says otherwise.
pub const MIN_AGE: Duration = Duration::from_secs(24 * 3600);

impl Default for Wish {
    fn default() -> Self {
        Self { dry_run: false, delete_untagged: false, min_age: MIN_AGE, is_cache: false }
    }
}

/// Something that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gone {
    /// A manifest of a repository.
    Manifest(Repository, Digest),
    /// A blob of a repository, as far as that repository goes.
    Link(Repository, Digest),
    /// A blob's bytes, and their number.
    Blob(Digest, u64),
    /// A repository in which nothing is left.
    Repository(Repository),
}

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Manifest(name, digest) => write!(f, "manifest {name}@{digest}"),
            Self::Link(name, digest) => write!(f, "link {name}@{digest}"),
            Self::Blob(digest, size) => write!(f, "blob {digest} ({size} bytes)"),
            Self::Repository(name) => write!(f, "repository {name}"),
        }
    }
}

/// What a collection did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Manifests that went.
    pub manifests: usize,
    /// Links that went.
    pub links: usize,
    /// Blobs that went.
    pub blobs: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Empty repositories that went.
    pub repositories: usize,
}

impl Report {
    fn add(&mut self, gone: &Gone) {
        match gone {
            Gone::Manifest(..) => self.manifests += 1,
            Gone::Link(..) => self.links += 1,
            Gone::Blob(_, size) => (self.blobs, self.bytes) = (self.blobs + 1, self.bytes + size),
            Gone::Repository(_) => self.repositories += 1,
        }
    }
}

impl Store {
    /// Collects; `tell` hears of each thing that goes (or would). Blocks for as long as it takes;
    /// a second one is refused.
    pub fn collect(&self, wish: &Wish, tell: &mut dyn FnMut(&Gone)) -> Result<Report, StoreError> {
        let watch = Watch::begin(self)?;
        let limit = SystemTime::now().checked_sub(wish.min_age).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut report = Report::default();
        let mut live = HashSet::new();
        self.each_repository(None, &mut |name| {
            let marks = self.mark(&name, wish, limit)?;
            self.sweep_repository(&name, marks, wish, limit, &mut live, &mut |gone| {
                report.add(gone);
                tell(gone);
            })?;
            Ok(true)
        })?;
        self.sweep_blobs(&live, wish, &mut |gone| {
            report.add(gone);
            tell(gone);
        })?;
        drop(watch);
        Ok(report)
    }

    /// What was linked since the collection began.
    fn is_pinned(&self, digest: &Digest) -> bool {
        let pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        pinned.as_ref().is_some_and(|pinned| pinned.contains(digest))
    }
}

/// While it lives, links are noted.
struct Watch<'a>(&'a Store);

impl<'a> Watch<'a> {
    fn begin(store: &'a Store) -> Result<Self, StoreError> {
        // Behind the gate: whoever links something now either is seen or is done.
        let _gate = store.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut pinned = store.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        if pinned.is_some() {
            return Err(StoreError::Collecting);
        }
        *pinned = Some(HashSet::new());
        Ok(Self(store))
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        *self.0.pinned.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
