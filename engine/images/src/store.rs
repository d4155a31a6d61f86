//! The handle that others hold: the store's client, the published index, and
//! what keeps it true.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use containerd_api::services::events::v1::SubscribeRequest;
use containerd_api::services::images::v1::{Image, ListImagesRequest};
use containerd_rpc::{Client, RpcError, archive_stream};
use oci::{Descriptor, Digest, Platform};
use tokio::sync::{Mutex, OnceCell};
use tracing::{debug, warn};

use crate::index::{Index, Record};
use crate::read::{from_wire, resolve_target};
use crate::{ImageError, ResolvedImage, Sizes};

/// How long to wait before events are asked for again.
const RECONNECT: Duration = Duration::from_millis(200);

/// What images need to know.
#[derive(Debug, Clone)]
pub struct ImagesConfig {
    /// The snapshotter that images are unpacked for.
    pub snapshotter: String,
    /// The platform that manifests are chosen for.
    pub platform: Platform,
    /// How layers are counted; without it a layer takes what the store says.
    pub sizes: Option<Sizes>,
}

impl Default for ImagesConfig {
    fn default() -> Self {
        Self { snapshotter: "overlayfs".into(), platform: Platform::host(), sizes: None }
    }
}

pub(crate) struct Inner {
    pub(crate) client: Client,
    pub(crate) config: ImagesConfig,
    index: ArcSwap<Index>,
    /// What targets were understood as; also orders refreshes.
    targets: Mutex<BTreeMap<Digest, Arc<ResolvedImage>>>,
    /// Held while names change, so that none is lost between look and write.
    pub(crate) naming: Mutex<()>,
    /// Whether the store pulls by itself and tells of it as we need.
    transfers: OnceCell<bool>,
    /// Blobs that are being fetched: who comes second waits for the first.
    pub(crate) fetching: std::sync::Mutex<BTreeMap<Digest, std::sync::Weak<Mutex<()>>>>,
}

/// The images of one containerd namespace. Cheap to clone.
#[derive(Clone)]
pub struct Images(pub(crate) Arc<Inner>);

impl std::fmt::Debug for Images {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Images({})", self.0.client.namespace())
    }
}

impl Images {
    /// A handle with an empty index; `refresh` fills it.
    pub fn new(client: Client, config: ImagesConfig) -> Self {
        Self(Arc::new(Inner {
            client,
            config,
            index: ArcSwap::default(),
            targets: Mutex::default(),
            naming: Mutex::default(),
            transfers: OnceCell::new(),
            fetching: std::sync::Mutex::default(),
        }))
    }

    /// The snapshotter that images are unpacked for.
    pub fn snapshotter(&self) -> &str {
        &self.0.config.snapshotter
    }

    /// How many images there are.
    pub fn count(&self) -> usize {
        self.index().len()
    }

    pub(crate) fn index(&self) -> Arc<Index> {
        self.0.index.load_full()
    }

    /// The image with this name, id or beginning of an id.
    ///
    /// # Errors
    /// Not found, ambiguous, or no name at all.
    pub fn resolve(&self, name_or_id: &str) -> Result<Arc<ResolvedImage>, ImageError> {
        self.index().find(name_or_id)
    }

    /// All images.
    pub fn all(&self) -> Vec<Arc<ResolvedImage>> {
        self.index().all().cloned().collect()
    }

    /// Reads the store's names and rebuilds the index; only targets that were
    /// never seen are read.
    ///
    /// # Errors
    /// The store can't be asked. A target that can't be understood (another
    /// platform's image, an artifact) is left out.
    pub async fn refresh(&self) -> Result<(), ImageError> {
        let mut targets = self.0.targets.lock().await;
        let records = self.records(Vec::new()).await?;
        let mut seen = BTreeMap::new();
        let mut out = Vec::with_capacity(records.len());
        for record in records {
            let Some(target) = record.target.as_ref().and_then(from_wire) else { continue };
            let known = seen.get(&target.digest).or_else(|| targets.get(&target.digest));
            let image = match known.cloned() {
                Some(image) => image,
                None => match self.understand(&record.name, target).await? {
                    Some(image) => image,
                    None => continue,
                },
            };
            seen.insert(image.target.digest, Arc::clone(&image));
            let tagged_at = record.updated_at.as_ref().map_or(0, containerd_api::time::to_nanos);
            let tagged_at =
                jiff::Timestamp::from_nanosecond(i128::from(tagged_at)).unwrap_or_default();
            out.push(Record { name: record.name, tagged_at, image });
        }
        *targets = seen;
        self.0.index.store(Arc::new(Index::new(out)));
        Ok(())
    }

    async fn understand(
        &self,
        name: &str,
        target: Descriptor,
    ) -> Result<Option<Arc<ResolvedImage>>, ImageError> {
        match resolve_target(&self.0.client, &self.0.config, target).await {
            Ok(image) => Ok(Some(Arc::new(image))),
            // That says nothing about the image: it must not disappear meanwhile.
            Err(ImageError::Rpc(gone)) if gone.is_unknown_outcome() => Err(gone.into()),
            Err(e) => {
                debug!("image {name} is left out: {e}");
                Ok(None)
            }
        }
    }

    /// Whether the store pulls by itself in one pass, and has docker's words for what goes wrong:
    /// ferry-containerd does. Others are given content and layers piece by piece.
    pub(crate) async fn transfers(&self) -> Result<bool, RpcError> {
        let ask = || async {
            Ok::<_, RpcError>(archive_stream::raw_address(&self.0.client).await?.is_some())
        };
        self.0.transfers.get_or_try_init(ask).await.copied()
    }

    /// Forgets what a target was understood as (its layers were unpacked).
    pub(crate) async fn forget(&self, target: &Digest) {
        self.0.targets.lock().await.remove(target);
    }

    /// The store's records that pass `filters`.
    pub(crate) async fn records(&self, filters: Vec<String>) -> Result<Vec<Image>, RpcError> {
        let request = ListImagesRequest { filters };
        Ok(self.0.client.images().list(request).await?.into_inner().images)
    }

    /// Follows the store's events for as long as it is polled: after each, and
    /// after each break, the index is rebuilt. Spawn it once.
    pub async fn follow(self) {
        loop {
            if let Err(e) = self.follow_once().await {
                debug!("events of images: {e}");
            }
            tokio::time::sleep(RECONNECT).await;
        }
    }

    async fn follow_once(&self) -> Result<(), ImageError> {
        let namespace = self.0.client.namespace();
        let filters = vec![format!("namespace=={namespace},topic~=\"^/images/\"")];
        let request = SubscribeRequest { filters };
        let answer = self.0.client.events().subscribe(request).await;
        let mut events = answer.map_err(RpcError::from)?.into_inner();
        self.refresh().await?;
        while events.message().await.map_err(RpcError::from)?.is_some() {
            if let Err(e) = self.refresh().await {
                warn!("the index of images is behind: {e}");
                return Err(e);
            }
        }
        Ok(())
    }
}
