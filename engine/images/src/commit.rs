//! `commit`: what a container changed becomes a layer on its image.

use std::collections::{BTreeMap, HashMap};

use containerd_api::services::diff::v1::DiffRequest;
use containerd_api::services::snapshots::v1::{
    MountsRequest, RemoveSnapshotRequest, ViewSnapshotRequest,
};
use containerd_api::types::Mount;
use containerd_rpc::{Client, RpcError};
use oci::image::{ChainId, History, ImageConfig, Manifest, RunConfig};
use oci::{Descriptor, Digest, Reference, media_type};

use crate::import::write_blob;
use crate::read::{PARENT, from_wire};
use crate::snapshot::unique;
use crate::work::{Lease, abort, ingest};
use crate::{DANGLING, ImageError, Images, ResolvedImage};

/// The largest tar without any member.
const EMPTY_TAR: u64 = 10 << 10;

/// What to commit.
#[derive(Debug, Clone)]
pub struct CommitRequest {
    /// The key of the container's snapshot.
    pub key: String,
    /// The image that it stands on.
    pub image: Digest,
    /// The new image's name; dangling without.
    pub reference: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// What is to be said about it.
    pub comment: String,
    /// The command that ran.
    pub command: String,
    /// What containers of it start with.
    pub config: RunConfig,
}

impl Images {
    /// Commits. Returns the new image's id.
    ///
    /// # Errors
    /// The image is gone, or the store's.
    pub async fn commit_container(&self, request: CommitRequest) -> Result<Digest, ImageError> {
        let image = self.resolve(&request.image.to_string())?;
        let lease = Lease::new(&self.0.client).await?;
        let client = lease.client()?;
        let result = self.commit_leased(&client, &image, request).await;
        lease.end().await;
        result
    }

    async fn commit_leased(
        &self,
        client: &Client,
        image: &ResolvedImage,
        request: CommitRequest,
    ) -> Result<Digest, ImageError> {
        let layer = self.diff(client, &request.key, image.chain_id).await?;
        let is_empty = layer.size <= EMPTY_TAR
            && layer.digest == Digest::sha256(&vec![0; layer.size as usize]);
        let mut layers = image.layers.clone();
        let mut config = image.config.clone();
        let mut chain = image.chain_id;
        if !is_empty {
            let applied = self.apply(client, &layer, chain, Some(layer.digest)).await?;
            let joined = chain.map_or(ChainId::base(layer.digest), |c| c.push(layer.digest));
            self.commit(client, &applied.key, &joined).await?;
            chain = Some(joined);
            config.rootfs.diff_ids.push(layer.digest);
            layers.push(layer);
        }
        let reference = request.reference.clone();
        describe(&mut config, request, is_empty);
        let manifest = self.documents(client, &config, layers, chain, image.id).await?;
        if let Some(reference) = &reference {
            self.name(reference, &manifest.1).await?;
        } else {
            let name = format!("{DANGLING}{}", manifest.1.digest);
            self.write_name(&name, &manifest.1).await?;
            self.refresh().await?;
        }
        Ok(manifest.0)
    }

    /// The layer that a snapshot is beyond its parent, as a blob that is not compressed: its
    /// digest is its diff id.
    async fn diff(
        &self,
        client: &Client,
        key: &str,
        parent: Option<ChainId>,
    ) -> Result<Descriptor, ImageError> {
        let snapshotter = self.snapshotter().to_owned();
        let request = MountsRequest { snapshotter: snapshotter.clone(), key: key.into() };
        let right = client.snapshots().mounts(request).await.map_err(RpcError::from)?;
        let view = format!("commit-{}", unique());
        let request = ViewSnapshotRequest {
            snapshotter: snapshotter.clone(),
            key: view.clone(),
            parent: parent.map(|chain| chain.to_string()).unwrap_or_default(),
            labels: HashMap::new(),
        };
        let left = client.snapshots().view(request).await.map_err(RpcError::from)?;
        let written = write_diff(client, left.into_inner().mounts, right.into_inner().mounts).await;
        let request = RemoveSnapshotRequest { snapshotter, key: view.clone() };
        if let Err(status) = client.snapshots().remove(request).await {
            tracing::debug!("removing snapshot {view}: {}", status.message());
        }
        written
    }

    /// Stores configuration and manifest; returns the first's digest and the second.
    async fn documents(
        &self,
        client: &Client,
        config: &ImageConfig,
        layers: Vec<Descriptor>,
        chain: Option<ChainId>,
        parent: Digest,
    ) -> Result<(Digest, Descriptor), ImageError> {
        let bytes = serde_json::to_vec(config).map_err(|e| ImageError::content("config", e))?;
        let config = Descriptor::of(media_type::OCI_CONFIG, &bytes);
        let snapshot = format!("containerd.io/gc.ref.snapshot.{}", self.snapshotter());
        let chain = chain.map(|chain| (snapshot, chain.to_string())).into_iter();
        let labels = chain.chain([(PARENT.to_owned(), parent.to_string())]).collect();
        write_blob(client, &config, bytes, labels).await?;
        let mut labels = HashMap::from([(
            "containerd.io/gc.ref.content.config".to_owned(),
            config.digest.to_string(),
        )]);
        for (at, layer) in layers.iter().enumerate() {
            let label = format!("containerd.io/gc.ref.content.l.{at}");
            labels.insert(label, layer.digest.to_string());
        }
        let id = config.digest;
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST.into(),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::default(),
            other: serde_json::Map::default(),
        };
        let bytes =
            serde_json::to_vec(&manifest).map_err(|e| ImageError::content("manifest", e))?;
        let manifest = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
        write_blob(client, &manifest, bytes, labels).await?;
        Ok((id, manifest))
    }
}

async fn write_diff(
    client: &Client,
    left: Vec<Mount>,
    right: Vec<Mount>,
) -> Result<Descriptor, ImageError> {
    let name = ingest(client);
    let request = DiffRequest {
        left,
        right,
        media_type: media_type::OCI_LAYER.into(),
        r#ref: name.clone(),
        ..DiffRequest::default()
    };
    let written = match client.diff().diff(request).await.map_err(RpcError::from) {
        Ok(answer) => answer.into_inner(),
        Err(e) => {
            abort(client, &name).await;
            return Err(e.into());
        }
    };
    let descriptor = written.diff.as_ref().and_then(from_wire);
    descriptor.ok_or_else(|| ImageError::content("layer", "the store did not say what was written"))
}

/// Turns the parent's configuration into the new image's.
fn describe(config: &mut ImageConfig, request: CommitRequest, is_empty: bool) {
    let created = engine_api::Time::now().rfc3339();
    config.created = Some(created.clone());
    config.author.clone_from(&request.author);
    config.config = request.config;
    config.history.push(History {
        created: Some(created),
        created_by: request.command,
        author: request.author,
        comment: request.comment.clone(),
        empty_layer: is_empty,
        ..History::default()
    });
    // What said something of the parent only.
    for key in ["id", "parent", "container", "container_config", "moby.buildkit.buildinfo.v1"] {
        config.other.remove(key);
    }
    let comment = serde_json::Value::String(request.comment);
    match comment.as_str() {
        Some("") => drop(config.other.remove("comment")),
        _ => drop(config.other.insert("comment".into(), comment)),
    }
}
