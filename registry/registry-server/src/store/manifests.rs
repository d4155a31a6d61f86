//! Manifests: kept as they came, linked by their repository with the type that they came with.

use std::fs;
use std::io::Read;
use std::time::SystemTime;

use oci::Digest;

use super::durable::When;
use super::layout::{LINK, MEDIA_TYPE};
use super::{Store, StoreError, optional, set_time};
use crate::manifest::{MAX_SIZE, Manifest, sniff};
use crate::name::{Repository, Tag, TagOrDigest};

/// Longest media type, in bytes.
const MAX_TYPE: u64 = 1024;

/// What a manifest is stored under.
#[derive(Debug)]
pub struct Put<'a> {
    /// Its digest.
    pub digest: Digest,
    /// Tags to point to it.
    pub tags: &'a [Tag],
    /// Its bytes, of that digest.
    pub bytes: &'a [u8],
    /// What they say.
    pub manifest: &'a Manifest,
    /// What must hold for the first tag.
    pub condition: Condition,
}

/// What must hold of a tag, or of a manifest that is pushed by digest, before it is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// It does not exist.
    Absent,
    /// It exists.
    Present,
    /// It is one of these.
    Is(Vec<Digest>),
    /// It is none of these.
    IsNot(Vec<Digest>),
}

impl Condition {
    fn holds(&self, now: Option<&Digest>) -> bool {
        match self {
            Self::None => true,
            Self::Absent => now.is_none(),
            Self::Present => now.is_some(),
            Self::Is(these) => now.is_some_and(|now| these.contains(now)),
            Self::IsNot(these) => now.is_none_or(|now| !these.contains(now)),
        }
    }
}

/// A stored manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its digest.
    pub digest: Digest,
    /// The type that it came with.
    pub media_type: String,
    /// Its size in bytes.
    pub size: u64,
}

impl Store {
    /// Stores a manifest: what it refers to must be there, what it is about need not.
    ///
    /// # Errors
    /// [`StoreError::ManifestBlobsUnknown`], [`StoreError::Precondition`].
    pub fn put_manifest(&self, name: &Repository, put: &Put<'_>) -> Result<(), StoreError> {
        let Put { digest, manifest, .. } = put;
        let _changing = self.changing(name);
        let _pin = self.pin(manifest.references().chain([digest]));
        let missing: Vec<Digest> = self.missing(name, manifest).collect();
        if !missing.is_empty() {
            return Err(StoreError::ManifestBlobsUnknown(missing));
        }
        if put.condition != Condition::None {
            let now = match put.tags.first() {
                Some(tag) => self.tag_target(name, tag)?,
                None => self.has_manifest(name, digest).then_some(*digest),
            };
            if !put.condition.holds(now.as_ref()) {
                return Err(StoreError::Precondition(now));
            }
        }
        self.keep_bytes(digest, put.bytes)?;
        if let Some(subject) = manifest.subject() {
            let size = put.bytes.len() as u64;
            self.link_referrer(name, &subject, &manifest.descriptor(*digest, size))?;
        }
        self.link_manifest(name, digest, manifest.media_type())?;
        put.tags.iter().try_for_each(|tag| self.set_tag(name, tag, digest))
    }

    /// Keeps a manifest that another registry has, whose blobs need not be here, and lets `tag`
    /// point to it. The bytes have been verified.
    pub fn cache_manifest(
        &self,
        name: &Repository,
        digest: &Digest,
        media_type: &str,
        bytes: &[u8],
        tag: Option<&Tag>,
    ) -> Result<(), StoreError> {
        let _changing = self.changing(name);
        let _pin = self.pin([digest]);
        self.keep_bytes(digest, bytes)?;
        let parsed = Manifest::parse(media_type, bytes).ok();
        if let Some((manifest, subject)) = parsed.as_ref().and_then(|m| Some((m, m.subject()?))) {
            let shown = manifest.descriptor(*digest, bytes.len() as u64);
            self.link_referrer(name, &subject, &shown)?;
        }
        self.link_manifest(name, digest, media_type)?;
        tag.map_or(Ok(()), |tag| self.set_tag(name, tag, digest))
    }

    fn missing<'a>(
        &'a self,
        name: &'a Repository,
        manifest: &'a Manifest,
    ) -> impl Iterator<Item = Digest> + 'a {
        let blobs = manifest.blobs().filter(|blob| !self.has_blob(name, blob));
        // What an index lists need not be a manifest: build caches list layers.
        let children = manifest
            .children()
            .filter(|child| !self.has_manifest(name, child) && !self.has_blob(name, child));
        blobs.chain(children).copied()
    }

    pub(super) fn link_manifest(
        &self,
        name: &Repository,
        digest: &Digest,
        media_type: &str,
    ) -> Result<(), StoreError> {
        let folder = self.layout.revision(name, digest);
        let link = digest.to_string();
        let files = [(LINK, link.as_bytes()), (MEDIA_TYPE, media_type.as_bytes())];
        if self.durable.write_folder(&folder, &files)? {
            return Ok(());
        }
        if self.recorded_type(name, digest)?.as_deref() != Some(media_type) {
            self.durable.write(&folder.join(MEDIA_TYPE), media_type.as_bytes())?;
        }
        if !set_time(&folder.join(LINK), SystemTime::now())? {
            self.durable.write(&folder.join(LINK), link.as_bytes())?;
        }
        Ok(())
    }

    /// Whether the repository has the manifest.
    pub(super) fn has_manifest(&self, name: &Repository, digest: &Digest) -> bool {
        self.layout.revision(name, digest).join(LINK).is_file()
    }

    /// Finds a manifest, for a client that goes on to rely on it.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`].
    pub fn manifest(&self, name: &Repository, which: &TagOrDigest) -> Result<Stored, StoreError> {
        let unknown = || StoreError::ManifestUnknown(which.to_string());
        let digest = match which {
            TagOrDigest::Digest(digest) => *digest,
            TagOrDigest::Tag(tag) => self.tag_target(name, tag)?.ok_or_else(unknown)?,
        };
        if !self.rely_on(&self.layout.revision(name, &digest).join(LINK), &digest)? {
            return Err(unknown());
        }
        let size = self.size_of(&digest)?.ok_or_else(unknown)?;
        let media_type = match self.recorded_type(name, &digest)? {
            Some(known) => known,
            None => sniff(&self.manifest_bytes(&digest)?).to_owned(),
        };
        Ok(Stored { digest, media_type, size })
    }

    /// A manifest's bytes, verified.
    pub fn manifest_bytes(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let blob = self.open_blob(digest)?;
        let mut bytes = Vec::with_capacity((blob.size as usize).min(MAX_SIZE));
        // docker-registry's limit is the same, so nothing larger is a manifest.
        let read = blob.file.take(MAX_SIZE as u64 + 1).read_to_end(&mut bytes);
        read.map_err(StoreError::io(format!("reading manifest {digest}")))?;
        if digest.matches(&bytes) { Ok(bytes) } else { Err(StoreError::Damaged(*digest)) }
    }

    pub(super) fn recorded_type(
        &self,
        name: &Repository,
        digest: &Digest,
    ) -> Result<Option<String>, StoreError> {
        let path = self.layout.revision(name, digest).join(MEDIA_TYPE);
        let opened = optional(fs::File::open(&path)).map_err(StoreError::at("opening", &path))?;
        let Some(file) = opened else { return Ok(None) };
        let mut text = String::new();
        let read = file.take(MAX_TYPE).read_to_string(&mut text);
        read.map_err(StoreError::at("reading", &path))?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// Removes a manifest and every tag that points to it.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`], [`StoreError::NameUnknown`].
    pub fn delete_manifest(&self, name: &Repository, digest: &Digest) -> Result<(), StoreError> {
        self.known(name)?;
        let _changing = self.changing(name);
        let _pin = self.pin([]);
        if !self.has_manifest(name, digest) {
            return Err(StoreError::ManifestUnknown(digest.to_string()));
        }
        self.remove_manifest(name, digest, When::Now)
    }

    /// The same, for who holds the locks.
    pub(super) fn remove_manifest(
        &self,
        name: &Repository,
        digest: &Digest,
        synced: When,
    ) -> Result<(), StoreError> {
        let manifest = self.read_manifest(name, digest);
        for tag in self.tags_of(name, digest)? {
            self.durable.take_away(&self.layout.tag(name, &tag), synced)?;
        }
        if let Some(subject) = manifest.as_ref().and_then(Manifest::subject) {
            self.durable.take_away(&self.layout.referrer(name, &subject, digest), synced)?;
        }
        self.durable.take_away(&self.layout.revision(name, digest), synced)?;
        // Nobody has just been told about these: the next collection may take them.
        for blob in manifest.iter().flat_map(Manifest::references) {
            let link = self.layout.layer(name, blob).join(LINK);
            set_time(&link, SystemTime::UNIX_EPOCH)?;
        }
        Ok(())
    }

    /// A manifest's content, if it can be read and understood.
    pub(super) fn read_manifest(&self, name: &Repository, digest: &Digest) -> Option<Manifest> {
        let bytes = self.manifest_bytes(digest).ok()?;
        let recorded = self.recorded_type(name, digest).ok()?;
        let media_type = recorded.unwrap_or_else(|| sniff(&bytes).to_owned());
        Manifest::parse(&media_type, &bytes).ok()
    }
}
