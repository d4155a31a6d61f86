//! Taking away: each removal behind the gate, after one more look.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::{PoisonError, RwLockWriteGuard};
use std::time::SystemTime;

use oci::{Algorithm, Digest};

use super::mark::{Marks, is_younger};
use super::{Gone, Wish};
use crate::name::Repository;
use crate::store::durable::{Durable, When};
use crate::store::error::optional;
use crate::store::layout::{DATA, LINK};
use crate::store::referrers::digests_below;
use crate::store::{Store, StoreError};

impl Store {
    /// Takes what a repository does not need from it; adds what it still has to `live`.
    pub(super) fn sweep_repository(
        &self,
        name: &Repository,
        mut marks: Marks,
        wish: &Wish,
        limit: SystemTime,
        live: &mut HashSet<Digest>,
        tell: &mut dyn FnMut(&Gone),
    ) -> Result<(), StoreError> {
        for digest in std::mem::take(&mut marks.untagged) {
            if self.sweep_manifest(name, &digest, wish, limit)? {
                tell(&Gone::Manifest(name.clone(), digest));
            } else {
                live.insert(digest);
            }
        }
        live.extend(&marks.manifests);
        for (digest, folder) in digests_below(&self.layout.layers(name))? {
            let needed = marks.blobs.contains(&digest);
            let orphan = marks.orphans.contains(&digest);
            // In earnest, an orphan looks old by now.
            let limit = if wish.dry_run && orphan { SystemTime::now() } else { limit };
            if !needed && self.sweep_link(&digest, &folder, wish, limit)? {
                tell(&Gone::Link(name.clone(), digest));
            } else {
                live.insert(digest);
            }
        }
        if !wish.dry_run {
            self.sweep_referrers(name)?;
            if self.sweep_folders(name)? {
                tell(&Gone::Repository(name.clone()));
            }
        }
        Ok(())
    }

    fn behind_gate(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn sweep_manifest(
        &self,
        name: &Repository,
        digest: &Digest,
        wish: &Wish,
        limit: SystemTime,
    ) -> Result<bool, StoreError> {
        let _gate = self.behind_gate();
        let link = self.layout.revision(name, digest).join(LINK);
        if self.is_pinned(digest) || is_younger(&link, limit) != Some(false) {
            return Ok(false);
        }
        if !wish.dry_run {
            self.remove_manifest(name, digest, When::Later)?;
        }
        Ok(true)
    }

    fn sweep_link(
        &self,
        digest: &Digest,
        folder: &Path,
        wish: &Wish,
        limit: SystemTime,
    ) -> Result<bool, StoreError> {
        let gate = self.behind_gate();
        // A folder without a link is nothing that anybody could rely on.
        let young = is_younger(&folder.join(LINK), limit).unwrap_or(false);
        if self.is_pinned(digest) || young {
            return Ok(false);
        }
        if wish.dry_run {
            return Ok(true);
        }
        let gone = self.durable.take_away(folder, When::Later)?;
        drop(gate);
        Ok(gone.is_some())
    }

    /// Removes entries of manifests that are not there, and folders without entries.
    fn sweep_referrers(&self, name: &Repository) -> Result<(), StoreError> {
        for (_, folder) in digests_below(&self.layout.all_referrers(name))? {
            for (referrer, path) in digests_below(&folder)? {
                let _gate = self.behind_gate();
                if !self.has_manifest(name, &referrer) {
                    self.durable.take_away(&path, When::Later)?;
                }
            }
            let _gate = self.behind_gate();
            for algorithm in Algorithm::ALL {
                Durable::remove_if_empty(&folder.join(algorithm.as_str()));
            }
            Durable::remove_if_empty(&folder);
        }
        Ok(())
    }

    /// Removes tags that lead nowhere, and all folders of a repository in which nothing is left.
    fn sweep_folders(&self, name: &Repository) -> Result<bool, StoreError> {
        for tag in self.tag_names(name)? {
            let _gate = self.behind_gate();
            if self.tag_target(name, &tag)?.is_none() {
                self.durable.take_away(&self.layout.tag(name, &tag), When::Later)?;
            }
        }
        let _gate = self.behind_gate();
        let layout = &self.layout;
        let groups = [layout.layers(name), layout.revisions(name), layout.all_referrers(name)];
        for group in &groups {
            for algorithm in Algorithm::ALL {
                Durable::remove_if_empty(&group.join(algorithm.as_str()));
            }
            Durable::remove_if_empty(group);
        }
        Durable::remove_if_empty(&layout.tags(name));
        Durable::remove_if_empty(&layout.manifests(name));
        if self.has_repository(name) {
            return Ok(false);
        }
        // docker-registry's folder of uploads goes too, if it is empty, and parents without children.
        Durable::remove_if_empty(&layout.repository(name).join("_uploads"));
        let mut path = layout.repository(name);
        while path != layout.repositories() && Durable::remove_if_empty(&path) {
            path.pop();
        }
        Ok(true)
    }

    /// Removes the bytes of blobs that no repository has.
    pub(super) fn sweep_blobs(
        &self,
        live: &HashSet<Digest>,
        wish: &Wish,
        tell: &mut dyn FnMut(&Gone),
    ) -> Result<(), StoreError> {
        if !wish.dry_run {
            // No link may come back after a power cut without its bytes.
            self.durable.sync_removals()?;
        }
        for algorithm in Algorithm::ALL {
            let folder = self.layout.blobs().join(algorithm.as_str());
            for prefix in subfolders(&folder)? {
                for path in subfolders(&prefix)? {
                    let hex = path.file_name().unwrap_or_default().to_string_lossy();
                    let Ok(digest) = format!("{algorithm}:{hex}").parse() else { continue };
                    if live.contains(&digest) {
                        continue;
                    }
                    if let Some(size) = self.sweep_blob(&digest, &path, wish)? {
                        tell(&Gone::Blob(digest, size));
                    }
                }
            }
        }
        self.durable.sync_removals()
    }

    fn sweep_blob(
        &self,
        digest: &Digest,
        folder: &Path,
        wish: &Wish,
    ) -> Result<Option<u64>, StoreError> {
        let gate = self.behind_gate();
        if self.is_pinned(digest) {
            return Ok(None);
        }
        let size = fs::metadata(folder.join(DATA)).map_or(0, |meta| meta.len());
        if wish.dry_run {
            return Ok(Some(size));
        }
        let gone = self.durable.take_away(folder, When::Later)?;
        // Deleting a large file takes its time: nobody waits for it.
        drop(gate);
        Ok(gone.map(|_| size))
    }
}

fn subfolders(folder: &Path) -> Result<Vec<std::path::PathBuf>, StoreError> {
    let entries = optional(fs::read_dir(folder)).map_err(StoreError::at("reading", folder))?;
    Ok(entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect())
}
