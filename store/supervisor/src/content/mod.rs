//! Content: blobs by digest, shared on disk, visible per namespace.
//!
//! ```text
//! <root>/content/blobs/<alg>/<hex>    as received, read-only
//! <root>/content/ingest/<id>/data     being written
//! ```

mod service;
mod writer;

use std::fs::File;
use std::path::PathBuf;

use containerd_api::events::ContentDelete;
use metastore::{Batch, Class, Table};
use oci::{Algorithm, Digest};
use serde::{Deserialize, Serialize};

pub use service::Service;
pub(crate) use writer::{INGESTS, Ingest, OpenRefs, PendingBlobs};

/// How the references begin that no client gave.
pub(crate) const OWN: &str = "ferry-own-";

/// A new reference for an ingest that only this process knows of.
pub(crate) fn own_reference() -> Result<String, Error> {
    Ok(format!("{OWN}{}", crate::state::random_uuid()?))
}

/// Forgets the ingests that a process before this one began by itself: nobody can resume them, and
/// each would keep the blob that it expects for a day. The collector removes the folders.
pub(crate) fn drop_own_ingests(store: &metastore::Store) -> Result<(), Error> {
    let all = store.scan(INGESTS, b"")?.into_iter().map(|(key, _)| key);
    let cut = all.filter(|key| name_of(key).starts_with(OWN));
    let batch = cut.fold(Batch::default(), |batch, key| batch.delete(INGESTS, key));
    Ok(store.commit(Class::Crash, batch)?)
}
pub use writer::{IngestStatus, Writer};

use crate::context::name_of;
use crate::labels::{self, Labels};
use crate::{Context, Error, State};

pub(crate) const BLOBS: Table = Table::new("blobs");

/// A blob's record in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// Size in bytes.
    pub size: u64,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// Nanoseconds since the epoch.
    pub updated: i64,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// Fields of newer versions, kept (such as a backing other than the file).
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

fn not_found(digest: &Digest) -> Error {
    Error::NotFound(format!("content digest {digest}"))
}

impl State {
    /// Where a blob's bytes are, whether or not it exists.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        let blobs = self.root.join("content/blobs");
        blobs.join(digest.algorithm().as_str()).join(digest.hex())
    }

    /// What is known of a blob.
    pub fn content_info(&self, context: &Context, digest: &Digest) -> Result<Info, Error> {
        let found = self.store.get_json(BLOBS, &context.key(&digest.to_string()))?;
        found.ok_or_else(|| not_found(digest))
    }

    /// Opens a blob for reading; it stays readable when it is removed meanwhile.
    pub fn content_open(&self, context: &Context, digest: &Digest) -> Result<(File, Info), Error> {
        let info = self.content_info(context, digest)?;
        match File::open(self.blob_path(digest)) {
            Ok(file) => Ok((file, info)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(not_found(digest)),
            Err(error) => Err(Error::io(format!("opening blob {digest}"))(error)),
        }
    }

    /// The bytes of a small blob: a manifest, an index, a config.
    ///
    /// # Errors
    /// [`Error::OutOfRange`] when it has more than `limit` bytes.
    pub fn content_bytes(
        &self,
        context: &Context,
        digest: &Digest,
        limit: u64,
    ) -> Result<Vec<u8>, Error> {
        let (mut file, info) = self.content_open(context, digest)?;
        if info.size > limit {
            return Err(Error::OutOfRange(format!("blob {digest} has {} bytes", info.size)));
        }
        let mut bytes = Vec::with_capacity(info.size as usize);
        std::io::Read::read_to_end(&mut file, &mut bytes)
            .map_err(Error::io(format!("reading blob {digest}")))?;
        Ok(bytes)
    }

    /// Stores `bytes` as a blob, durably, unless it exists; labels are added in either case.
    pub fn content_put(
        self: &std::sync::Arc<Self>,
        context: &Context,
        bytes: &[u8],
        labels: Labels,
    ) -> Result<Digest, Error> {
        self.content_put_as(context, Algorithm::Sha256, bytes, labels)
    }

    /// [`State::content_put`] under a digest of another algorithm.
    pub fn content_put_as(
        self: &std::sync::Arc<Self>,
        context: &Context,
        algorithm: Algorithm,
        bytes: &[u8],
        labels: Labels,
    ) -> Result<Digest, Error> {
        let digest = Digest::of(algorithm, bytes);
        if self.content_info(context, &digest).is_ok() {
            let paths: Vec<String> = labels.keys().map(|key| format!("labels.{key}")).collect();
            if !paths.is_empty() {
                self.content_update(context, &digest, &labels, &paths)?;
            }
            let _writing = self.write();
            let batch =
                self.with_lease(context, Batch::default(), "content", &digest.to_string())?;
            self.store.commit(Class::Crash, batch)?;
            return Ok(digest);
        }
        let name = own_reference()?;
        let mut writer = Writer::open(self, context, &name, bytes.len() as u64, Some(digest))?;
        if writer.status().offset == 0 {
            writer.write(bytes)?;
        }
        match writer.commit(bytes.len() as u64, Some(digest), labels) {
            Err(Error::AlreadyExists(_)) => Ok(digest),
            other => other,
        }
    }

    /// Changes labels: all of them when `paths` is empty, else those it names.
    pub fn content_update(
        &self,
        context: &Context,
        digest: &Digest,
        wanted: &Labels,
        paths: &[String],
    ) -> Result<Info, Error> {
        let _writing = self.write();
        let mut info = self.content_info(context, digest)?;
        if paths.is_empty() {
            info.labels.clone_from(wanted);
        }
        for path in paths {
            if !labels::apply(&mut info.labels, wanted, path) {
                return Err(Error::InvalidArgument(format!(
                    "cannot update {path:?} field on content info {:?}",
                    digest.to_string()
                )));
            }
        }
        info.updated = labels::now();
        let batch = Batch::default().put_json(BLOBS, context.key(&digest.to_string()), &info)?;
        self.store.commit(Class::Crash, batch)?;
        Ok(info)
    }

    /// All blobs of the namespace, by digest.
    pub fn contents(&self, context: &Context) -> Result<Vec<(Digest, Info)>, Error> {
        let rows = self.store.scan_json(BLOBS, &context.prefix())?.into_iter();
        Ok(rows.filter_map(|(key, info)| Some((name_of(&key).parse().ok()?, info))).collect())
    }

    /// Removes a blob from the namespace; its file goes when no namespace has it any more.
    pub fn content_delete(&self, context: &Context, digest: &Digest) -> Result<(), Error> {
        {
            let _writing = self.write();
            self.content_info(context, digest)?;
            let name = digest.to_string();
            let batch = Batch::default().delete(BLOBS, context.key(&name));
            self.store
                .commit(Class::Crash, self.without_lease(context, batch, "content", &name))?;
        }
        let event = ContentDelete { digest: digest.to_string() };
        self.events.publish(&context.namespace, "/content/delete", &event);
        self.gc.trigger();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn what_a_killed_process_was_about_to_store_keeps_nothing_alive() {
        let dir = tempfile::tempdir().unwrap();
        let config = crate::Config {
            root: dir.path().join("root"),
            state: dir.path().join("state"),
            ..crate::Config::default()
        };
        let open = || Arc::new(State::open(&config).unwrap());
        let state = open();
        let context = Context::new("n");
        let digest = Digest::sha256(b"a manifest");
        let own = own_reference().unwrap();
        drop(Writer::open(&state, &context, &own, 10, Some(digest)).unwrap());
        // It was stored by another call, so that the cut one names a blob that exists.
        state.content_put(&context, b"a manifest", Labels::new()).unwrap();
        drop(Writer::open(&state, &context, "a client's", 5, None).unwrap());
        drop(state);
        let state = open();
        crate::gc::collect(&state).await.unwrap();
        assert!(state.contents(&context).unwrap().is_empty());
        let left: Vec<_> = state.ingests(&context).unwrap();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].reference, "a client's");
        let folders = std::fs::read_dir(config.root.join("content/ingest")).unwrap();
        assert_eq!(folders.count(), 1);
    }
}
