//! What layers take, as Docker counts it: the sizes of their files, whatever the disk makes
//! of them. Counted once a layer, since a layer never changes, and written down.

use std::collections::HashMap;
use std::fmt;

use containerd_api::services::snapshots::v1::{
    RemoveSnapshotRequest, UsageRequest, ViewSnapshotRequest,
};
use containerd_rpc::{Client, RpcError};
use metastore::{Batch, Class, Store, Table};
use oci::image::ChainId;
use oci::{Descriptor, Digest};

use crate::snapshot::{SnapshotMount, unique};
use crate::{ImageError, ImagesConfig};

/// Sizes of layers, in decimal digits, by chain id.
const SIZES: Table = Table::new("image.layer-size");

/// Counts the files of an image's layers, lowest first, from the mounts of a view of it and the
/// number of its layers; `None` where it can't.
pub type Measure = fn(&[SnapshotMount], usize) -> Option<Vec<u64>>;

/// How layers are counted, and where the counts are kept.
#[derive(Clone)]
pub struct Sizes {
    /// Keeps the counts.
    pub store: Store,
    /// Counts. It may take a while.
    pub measure: Measure,
}

impl fmt::Debug for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sizes")
    }
}

/// What each layer takes: its files where it is unpacked, else its blob.
pub(crate) async fn of_layers(
    client: &Client,
    config: &ImagesConfig,
    diff_ids: &[Digest],
    layers: &[Descriptor],
) -> Vec<u64> {
    let chains = ChainId::all(diff_ids);
    if let Some(sizes) = &config.sizes {
        if let Some(known) = known(&sizes.store, &chains) {
            return known;
        }
        if let Some(counted) = count(client, config, sizes, &chains).await {
            keep(&sizes.store, &chains, &counted);
            return counted;
        }
    }
    let mut out = Vec::with_capacity(chains.len());
    for (at, chain) in chains.iter().enumerate() {
        let request =
            UsageRequest { snapshotter: config.snapshotter.clone(), key: chain.to_string() };
        out.push(match client.snapshots().usage(request).await {
            Ok(usage) => usage.into_inner().size.max(0) as u64,
            Err(_) => layers.get(at).map_or(0, |layer| layer.size),
        });
    }
    out
}

/// Drops what is known of layers that are gone.
pub(crate) fn forget(config: &ImagesConfig, chains: &[ChainId]) {
    let Some(sizes) = &config.sizes else { return };
    let batch = chains
        .iter()
        .fold(Batch::default(), |batch, chain| batch.delete(SIZES, chain.to_string().as_bytes()));
    if let Err(e) = sizes.store.commit(Class::Crash, batch) {
        tracing::warn!("dropping the sizes of layers: {e}");
    }
}

fn known(store: &Store, chains: &[ChainId]) -> Option<Vec<u64>> {
    let read = |chain: &ChainId| {
        let bytes = store.get(SIZES, chain.to_string().as_bytes()).ok()??;
        std::str::from_utf8(&bytes).ok()?.parse().ok()
    };
    chains.iter().map(read).collect()
}

fn keep(store: &Store, chains: &[ChainId], sizes: &[u64]) {
    let batch = chains.iter().zip(sizes).fold(Batch::default(), |batch, (chain, size)| {
        batch.put(SIZES, chain.to_string().as_bytes(), size.to_string())
    });
    if let Err(e) = store.commit(Class::Crash, batch) {
        tracing::warn!("writing the sizes of layers: {e}");
    }
}

async fn count(
    client: &Client,
    config: &ImagesConfig,
    sizes: &Sizes,
    chains: &[ChainId],
) -> Option<Vec<u64>> {
    let top = chains.last()?;
    let key = format!("size-{}", unique());
    let view = ViewSnapshotRequest {
        snapshotter: config.snapshotter.clone(),
        key: key.clone(),
        parent: top.to_string(),
        labels: HashMap::new(),
    };
    // Not unpacked: its blobs are what there is.
    let mounts = client.snapshots().view(view).await.ok()?.into_inner().mounts;
    let mounts: Vec<SnapshotMount> = mounts.into_iter().map(SnapshotMount::from).collect();
    let (measure, layers) = (sizes.measure, chains.len());
    let counted = tokio::task::spawn_blocking(move || measure(&mounts, layers)).await;
    if let Err(e) = remove(client, config, key).await {
        tracing::debug!("removing the view of an image: {e}");
    }
    counted.ok().flatten()
}

async fn remove(client: &Client, config: &ImagesConfig, key: String) -> Result<(), ImageError> {
    let request = RemoveSnapshotRequest { snapshotter: config.snapshotter.clone(), key };
    client.snapshots().remove(request).await.map_err(RpcError::from)?;
    Ok(())
}
