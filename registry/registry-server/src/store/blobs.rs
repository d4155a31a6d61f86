//! Blobs: bytes by digest, and the links by which repositories have them.

use std::fs::{self, File};
use std::path::Path;
use std::time::SystemTime;

use oci::Digest;

use super::layout::{DATA, LINK};
use super::{Refresh, Store, StoreError, optional, set_time};
use crate::name::Repository;

/// An open blob.
#[derive(Debug)]
pub struct Blob {
    /// Its bytes.
    pub file: File,
    /// Their number.
    pub size: u64,
}

impl Store {
    /// Opens a blob of the repository.
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`]; [`StoreError::NameUnknown`] for no repository at all.
    pub fn blob(&self, name: &Repository, digest: &Digest) -> Result<Blob, StoreError> {
        let link = self.layout.layer(name, digest).join(LINK);
        let there = match self.options.refresh {
            Refresh::WhenUsed => self.rely_on(&link, digest)?,
            Refresh::Never | Refresh::WhenAsked => {
                let meta = optional(fs::metadata(&link));
                meta.map_err(StoreError::at("reading", &link))?.is_some()
            }
        };
        if !there {
            return Err(StoreError::BlobUnknown(*digest));
        }
        self.open_blob(digest)
    }

    /// The size of a blob of the repository, for a client that goes on to rely on it.
    pub fn blob_size(&self, name: &Repository, digest: &Digest) -> Result<u64, StoreError> {
        if !self.rely_on(&self.layout.layer(name, digest).join(LINK), digest)? {
            return Err(StoreError::BlobUnknown(*digest));
        }
        self.size_of(digest)?.ok_or(StoreError::BlobUnknown(*digest))
    }

    /// Gives `to` the blob of `from`. `false`: `from` does not have it.
    pub fn mount_blob(
        &self,
        digest: &Digest,
        from: &Repository,
        to: &Repository,
    ) -> Result<bool, StoreError> {
        let _pin = self.pin([digest]);
        let link = self.layout.layer(from, digest).join(LINK);
        if !link.is_file() || self.size_of(digest)?.is_none() {
            return Ok(false);
        }
        self.link_blob(to, digest)?;
        Ok(true)
    }

    /// Whether a blob's bytes are here for any repository.
    pub fn has_bytes(&self, digest: &Digest) -> Result<bool, StoreError> {
        Ok(self.size_of(digest)?.is_some())
    }

    /// Gives the repository a blob whose bytes are here for another one. `false`: they are not.
    /// Whether it may have it the caller found out elsewhere.
    pub fn adopt_blob(&self, name: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let _pin = self.pin([digest]);
        if self.size_of(digest)?.is_none() {
            return Ok(false);
        }
        self.link_blob(name, digest)?;
        Ok(true)
    }

    /// Takes the blob from the repository; its bytes stay until they are collected.
    pub fn delete_blob(&self, name: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let _changing = self.changing(name);
        let _pin = self.pin([]);
        if self.durable.remove(&self.layout.layer(name, digest))? {
            return Ok(());
        }
        Err(StoreError::BlobUnknown(*digest))
    }

    pub(super) fn open_blob(&self, digest: &Digest) -> Result<Blob, StoreError> {
        let path = self.layout.blob(digest).join(DATA);
        let opened = optional(File::open(&path)).map_err(StoreError::at("opening", &path))?;
        let file = opened.ok_or(StoreError::BlobUnknown(*digest))?;
        let size = file.metadata().map_err(StoreError::at("reading", &path))?.len();
        Ok(Blob { file, size })
    }

    pub(super) fn size_of(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        let path = self.layout.blob(digest).join(DATA);
        let meta = optional(fs::metadata(&path)).map_err(StoreError::at("reading", &path))?;
        Ok(meta.map(|meta| meta.len()))
    }

    /// Whether the repository has the blob.
    pub(super) fn has_blob(&self, name: &Repository, digest: &Digest) -> bool {
        self.layout.layer(name, digest).join(LINK).is_file()
    }

    /// Links a blob whose bytes are there. The caller pins it.
    pub(super) fn link_blob(&self, name: &Repository, digest: &Digest) -> Result<(), StoreError> {
        let folder = self.layout.layer(name, digest);
        if self.durable.write_folder(&folder, &[(LINK, digest.to_string().as_bytes())])? {
            return Ok(());
        }
        let link = folder.join(LINK);
        if !set_time(&link, SystemTime::now())? {
            // A folder without a link is what a crash of another program leaves.
            self.durable.write(&link, digest.to_string().as_bytes())?;
        }
        Ok(())
    }

    /// Makes a folder with the file `data`, which is on the disk, the blob's. The bytes have been
    /// verified; the caller pins the digest.
    pub(super) fn keep_blob(
        &self,
        fresh: &Path,
        digest: &Digest,
        size: u64,
    ) -> Result<(), StoreError> {
        let folder = self.layout.blob(digest);
        if self.durable.publish(fresh, &folder)? || self.size_of(digest)? == Some(size) {
            return Ok(());
        }
        tracing::warn!(%digest, "a blob of another size was there: replaced");
        self.durable.remove(&folder)?;
        if self.durable.publish(fresh, &folder)? || self.size_of(digest)? == Some(size) {
            return Ok(());
        }
        Err(StoreError::Damaged(*digest))
    }

    /// Stores a small blob. The caller pins the digest, which is that of the bytes.
    pub(super) fn keep_bytes(&self, digest: &Digest, bytes: &[u8]) -> Result<(), StoreError> {
        let folder = self.layout.blob(digest);
        let size = bytes.len() as u64;
        if self.size_of(digest)? == Some(size) {
            return Ok(());
        }
        if self.durable.write_folder(&folder, &[(DATA, bytes)])? {
            return Ok(());
        }
        if self.size_of(digest)? != Some(size) {
            tracing::warn!(%digest, "a blob of another size was there: replaced");
            self.durable.write(&folder.join(DATA), bytes)?;
        }
        Ok(())
    }
}
