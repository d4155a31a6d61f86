//! A store in a temporary folder and small images to put into it.

#![allow(clippy::unwrap_used, dead_code, reason = "each test file uses a part")]

use bytes::Bytes;
use oci::{Algorithm, Descriptor, Digest, media_type};
use registry_server::manifest::Manifest;
use registry_server::name::{Repository, Tag};
use registry_server::store::{Condition, Options, Put, Store, StoreError};

/// A repository's name.
pub(crate) fn repo(name: &str) -> Repository {
    name.parse().unwrap()
}

/// A tag.
pub(crate) fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

/// A store that goes with its folder.
pub(crate) struct Fixture {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Fixture {
    /// An empty one.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Options::default()).unwrap();
        Self { dir, store }
    }

    /// The same after a restart.
    pub(crate) fn reopen(self) -> Self {
        let Self { dir, store } = self;
        drop(store);
        let store = Store::open(dir.path(), Options::default()).unwrap();
        Self { dir, store }
    }

    /// Pushes a blob.
    pub(crate) fn blob(&self, name: &str, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        push(&self.store, name, bytes, &digest).unwrap();
        digest
    }

    /// Pushes a manifest under tags.
    pub(crate) fn manifest(&self, name: &str, bytes: &[u8], tags: &[&str]) -> Digest {
        self.try_manifest(name, bytes, tags, Condition::None).unwrap()
    }

    /// The same, which may fail.
    pub(crate) fn try_manifest(
        &self,
        name: &str,
        bytes: &[u8],
        tags: &[&str],
        condition: Condition,
    ) -> Result<Digest, StoreError> {
        let value: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        let manifest = Manifest::parse(value["mediaType"].as_str().unwrap(), bytes).unwrap();
        let tags: Vec<Tag> = tags.iter().map(|name| tag(name)).collect();
        let digest = Digest::sha256(bytes);
        let put = Put { digest, tags: &tags, bytes, manifest: &manifest, condition };
        self.store.put_manifest(&repo(name), &put)?;
        Ok(digest)
    }

    /// Pushes a whole image: config, one layer, manifest.
    pub(crate) fn image(&self, name: &str, seed: &str, tags: &[&str]) -> Digest {
        let config = self.blob(name, format!("config {seed}").as_bytes());
        let layer = self.blob(name, format!("layer {seed}").as_bytes());
        self.manifest(name, &image(&config, &[layer], None), tags)
    }
}

/// Pushes a blob in one piece.
pub(crate) fn push(
    store: &Store,
    name: &str,
    bytes: &[u8],
    digest: &Digest,
) -> Result<u64, StoreError> {
    let session = store.begin_upload(&repo(name), Algorithm::Sha256)?;
    let mut claim = block_on(session.claim())?;
    claim.append(&[Bytes::copy_from_slice(bytes)])?;
    store.finish_upload(claim, digest)
}

/// Waits for a future.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
}

/// An image manifest.
pub(crate) fn image(config: &Digest, layers: &[Digest], subject: Option<&Digest>) -> Vec<u8> {
    let describe = |media: &str, digest: &Digest| Descriptor::new(media, *digest, 1);
    let layers: Vec<Descriptor> =
        layers.iter().map(|l| describe(media_type::OCI_LAYER, l)).collect();
    let mut value = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": describe(media_type::OCI_CONFIG, config), "layers": layers,
    });
    if let Some(subject) = subject {
        value["subject"] =
            serde_json::to_value(describe(media_type::OCI_MANIFEST, subject)).unwrap();
    }
    serde_json::to_vec(&value).unwrap()
}

/// An index.
pub(crate) fn index(children: &[Digest]) -> Vec<u8> {
    let describe = |digest: &Digest| Descriptor::new(media_type::OCI_MANIFEST, *digest, 1);
    let manifests: Vec<Descriptor> = children.iter().map(describe).collect();
    serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests,
    }))
    .unwrap()
}
