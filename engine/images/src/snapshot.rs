//! Unpacked layers and the writable snapshots of containers.

use std::collections::HashMap;

use containerd_api::services::content::v1::{Info, UpdateRequest};
use containerd_api::services::diff::v1::ApplyRequest;
use containerd_api::services::snapshots::v1::{
    CommitSnapshotRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use containerd_api::{prost_types::FieldMask, types};
use containerd_rpc::{Client, RpcError};
use oci::image::ChainId;
use oci::{Descriptor, Digest};

use crate::read::{from_wire, to_wire};
use crate::work::hold;
use crate::{ImageError, Images, ResolvedImage};

/// One mount of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotMount {
    /// `overlay`, `bind`.
    pub kind: String,
    /// What is mounted.
    pub source: String,
    /// Where below the root; empty for the root itself.
    pub target: String,
    /// The options, as for mount(8).
    pub options: Vec<String>,
}

impl From<types::Mount> for SnapshotMount {
    fn from(m: types::Mount) -> Self {
        Self { kind: m.r#type, source: m.source, target: m.target, options: m.options }
    }
}

impl Images {
    /// Makes the writable snapshot `key` over an image, under `lease`. The
    /// image is unpacked first where it isn't.
    ///
    /// # Errors
    /// The store's.
    pub async fn prepare(
        &self,
        key: &str,
        image: &ResolvedImage,
        lease: &str,
    ) -> Result<Vec<SnapshotMount>, ImageError> {
        let client = self.0.client.with_lease(lease)?;
        let parent = image.chain_id.map(|chain| chain.to_string()).unwrap_or_default();
        let request = PrepareSnapshotRequest {
            snapshotter: self.snapshotter().into(),
            key: key.into(),
            parent,
            labels: HashMap::new(),
        };
        let mut prepared = client.snapshots().prepare(request.clone()).await;
        if let Err(status) = prepared {
            let error = RpcError::from(status);
            if !error.is_not_found() || image.chain_id.is_none() {
                return Err(error.into());
            }
            self.unpack(&client, image).await?;
            prepared = client.snapshots().prepare(request).await;
        }
        let mounts = prepared.map_err(RpcError::from)?.into_inner().mounts;
        Ok(mounts.into_iter().map(SnapshotMount::from).collect())
    }

    /// Unpacks an image's layers that are not unpacked yet, lowest first.
    pub(crate) async fn unpack(
        &self,
        client: &Client,
        image: &ResolvedImage,
    ) -> Result<(), ImageError> {
        let mut parent: Option<ChainId> = None;
        for (layer, diff_id) in image.layers.iter().zip(&image.diff_ids) {
            let chain = parent.map_or(ChainId::base(*diff_id), |below| below.push(*diff_id));
            if !self.holds_snapshot(client, &chain).await? {
                let applied = self.apply(client, layer, parent, Some(*diff_id)).await?;
                self.commit(client, &applied.key, &chain).await?;
            }
            parent = Some(chain);
        }
        if let Some(chain) = parent {
            self.link_snapshot(client, &image.id, &chain).await?;
        }
        self.forget(&image.target.digest).await;
        Ok(())
    }

    /// Whether a layer is unpacked; if so it stays for as long as the client's lease. Without that
    /// whoever else holds it may let it go, and it is collected before anything stands on it.
    pub(crate) async fn holds_snapshot(
        &self,
        client: &Client,
        chain: &ChainId,
    ) -> Result<bool, ImageError> {
        hold(client, &format!("snapshots/{}", self.snapshotter()), chain).await?;
        self.has_snapshot(client, chain).await
    }

    pub(crate) async fn has_snapshot(
        &self,
        client: &Client,
        chain: &ChainId,
    ) -> Result<bool, ImageError> {
        let request =
            StatSnapshotRequest { snapshotter: self.snapshotter().into(), key: chain.to_string() };
        match client.snapshots().stat(request).await.map_err(RpcError::from) {
            Ok(_) => Ok(true),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Unpacks one layer into a private snapshot over `parent`; checks the
    /// uncompressed digest where it is known.
    pub(crate) async fn apply(
        &self,
        client: &Client,
        layer: &Descriptor,
        parent: Option<ChainId>,
        expected: Option<Digest>,
    ) -> Result<Applied, ImageError> {
        let key = format!("extract-{}-{}", unique(), layer.digest.short());
        let request = PrepareSnapshotRequest {
            snapshotter: self.snapshotter().into(),
            key: key.clone(),
            parent: parent.map(|chain| chain.to_string()).unwrap_or_default(),
            labels: HashMap::new(),
        };
        let prepared = client.snapshots().prepare(request).await.map_err(RpcError::from)?;
        let request = ApplyRequest {
            diff: Some(to_wire(layer)),
            mounts: prepared.into_inner().mounts,
            ..ApplyRequest::default()
        };
        let applied = client.diff().apply(request).await.map_err(RpcError::from);
        let diff_id = match applied {
            Ok(answer) => answer.into_inner().applied.as_ref().and_then(from_wire),
            Err(e) => {
                self.discard(client, &key).await;
                return Err(e.into());
            }
        };
        let diff_id = diff_id.map(|d| d.digest).ok_or_else(|| {
            ImageError::content(layer.digest, "the store did not say what was unpacked")
        });
        let wrong = |found: &Digest| expected.is_some_and(|want| want != *found);
        match diff_id {
            Ok(found) if !wrong(&found) => Ok(Applied { key, diff_id: found }),
            Ok(found) => {
                self.discard(client, &key).await;
                let problem = format!("unpacks to {found}, which the configuration denies");
                Err(ImageError::content(layer.digest, problem))
            }
            Err(e) => {
                self.discard(client, &key).await;
                Err(e)
            }
        }
    }

    /// Commits what `apply` made under its chain id.
    pub(crate) async fn commit(
        &self,
        client: &Client,
        key: &str,
        chain: &ChainId,
    ) -> Result<(), ImageError> {
        let request = CommitSnapshotRequest {
            snapshotter: self.snapshotter().into(),
            name: chain.to_string(),
            key: key.into(),
            ..CommitSnapshotRequest::default()
        };
        match client.snapshots().commit(request).await.map_err(RpcError::from) {
            Ok(_) => Ok(()),
            // Somebody else was first with the same layer.
            Err(e) if e.is_already_exists() => {
                self.discard(client, key).await;
                Ok(())
            }
            Err(e) => {
                self.discard(client, key).await;
                Err(e.into())
            }
        }
    }

    async fn discard(&self, client: &Client, key: &str) {
        let request =
            RemoveSnapshotRequest { snapshotter: self.snapshotter().into(), key: key.into() };
        if let Err(status) = client.snapshots().remove(request).await {
            tracing::debug!("removing snapshot {key}: {}", status.message());
        }
    }

    /// Lets an image's configuration keep its snapshots from collection.
    pub(crate) async fn link_snapshot(
        &self,
        client: &Client,
        config: &Digest,
        chain: &ChainId,
    ) -> Result<(), ImageError> {
        let label = format!("containerd.io/gc.ref.snapshot.{}", self.snapshotter());
        let info = Info {
            digest: config.to_string(),
            labels: HashMap::from([(label.clone(), chain.to_string())]),
            ..Info::default()
        };
        let mask = FieldMask { paths: vec![format!("labels.{label}")] };
        let request = UpdateRequest { info: Some(info), update_mask: Some(mask) };
        client.content().update(request).await.map_err(RpcError::from)?;
        Ok(())
    }
}

/// A layer that was unpacked and is not committed yet.
#[derive(Debug)]
pub(crate) struct Applied {
    pub key: String,
    pub diff_id: Digest,
}

/// A word that no other operation of this process, or of one before, uses.
pub(crate) fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let now = jiff::Timestamp::now().as_nanosecond();
    format!("{:x}-{now:x}-{count:x}", std::process::id())
}
