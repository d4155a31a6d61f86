//! Referrers: for each subject, a small file for every manifest that is about it, whose content
//! is what the list shows. A file counts only while its manifest is there.

use std::fs;
use std::path::PathBuf;

use oci::{Algorithm, Descriptor, Digest};

use super::error::optional;
use super::{Store, StoreError};
use crate::name::Repository;

/// Most descriptors on one page.
const MAX_ENTRIES: usize = 1000;
/// A page with this many bytes of descriptors is full.
const MAX_BYTES: usize = 2 << 20;

/// A part of a list of referrers.
#[derive(Debug, Default)]
pub struct Page {
    /// Descriptors by digest, in order.
    pub entries: Vec<Descriptor>,
    /// The last of them, when more follow.
    pub next: Option<Digest>,
}

impl Page {
    /// The page of a whole list that comes after `last`.
    pub fn of(mut all: Vec<Descriptor>, last: Option<&Digest>) -> Self {
        all.sort_by_key(|entry| entry.digest);
        let (mut page, mut bytes) = (Self::default(), 0);
        for entry in all {
            if last.is_some_and(|last| entry.digest <= *last) {
                continue;
            }
            let size = serde_json::to_vec(&entry).map_or(0, |json| json.len());
            if !page.add(entry, size, &mut bytes) {
                break;
            }
        }
        page
    }

    /// Adds an entry, unless the page is full.
    fn add(&mut self, entry: Descriptor, size: usize, bytes: &mut usize) -> bool {
        *bytes += size;
        let full = self.entries.len() == MAX_ENTRIES || *bytes > MAX_BYTES;
        if full && !self.entries.is_empty() {
            self.next = self.entries.last().map(|last| last.digest);
            return false;
        }
        self.entries.push(entry);
        true
    }
}

impl Store {
    /// Who refers to `subject`: those after `last`, of the type `artifact_type` if one is given.
    /// Nobody, if the repository is not there.
    pub fn referrers(
        &self,
        name: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
        last: Option<&Digest>,
    ) -> Result<Page, StoreError> {
        let mut all: Vec<Digest> = Vec::new();
        let folder = self.layout.referrers(name, subject);
        for (digest, _) in digests_below(&folder)? {
            if last.is_none_or(|last| digest > *last) {
                all.push(digest);
            }
        }
        all.sort_unstable();
        let (mut page, mut bytes) = (Page::default(), 0);
        for digest in all {
            let Some((descriptor, size)) = self.referrer(name, subject, &digest)? else { continue };
            let own = descriptor.artifact_type.as_deref();
            if artifact_type.is_some_and(|wanted| own != Some(wanted)) {
                continue;
            }
            if !page.add(descriptor, size, &mut bytes) {
                break;
            }
        }
        Ok(page)
    }

    fn referrer(
        &self,
        name: &Repository,
        subject: &Digest,
        digest: &Digest,
    ) -> Result<Option<(Descriptor, usize)>, StoreError> {
        if !self.has_manifest(name, digest) {
            return Ok(None);
        }
        let path = self.layout.referrer(name, subject, digest);
        let bytes = optional(fs::read(&path)).map_err(StoreError::at("reading", &path))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let parsed = serde_json::from_slice(&bytes).map_err(std::io::Error::from);
        let descriptor = parsed.map_err(StoreError::at("reading", &path))?;
        Ok(Some((descriptor, bytes.len())))
    }

    /// Notes that the manifest of `descriptor` is about `subject`.
    pub(super) fn link_referrer(
        &self,
        name: &Repository,
        subject: &Digest,
        descriptor: &Descriptor,
    ) -> Result<(), StoreError> {
        let path = self.layout.referrer(name, subject, &descriptor.digest);
        let json = serde_json::to_vec(descriptor).map_err(std::io::Error::from);
        self.durable.write(&path, &json.map_err(StoreError::at("writing", &path))?)
    }
}

/// The entries of a folder that are named ALG/HEX.
pub(super) fn digests_below(
    folder: &std::path::Path,
) -> Result<Vec<(Digest, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for algorithm in Algorithm::ALL {
        let folder = folder.join(algorithm.as_str());
        let entries =
            optional(fs::read_dir(&folder)).map_err(StoreError::at("reading", &folder))?;
        for entry in entries.into_iter().flatten().flatten() {
            let hex = entry.file_name();
            let digest = format!("{algorithm}:{}", hex.to_string_lossy()).parse();
            if let Ok(digest) = digest {
                found.push((digest, entry.path()));
            }
        }
    }
    Ok(found)
}
