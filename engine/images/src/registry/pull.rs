//! Pulls: what a reference means in its registry becomes an image of the store.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use containerd_rpc::Client;
use engine_api::{AuthConfig, JsonMessage};
use http::HeaderMap;
use oci::image::{ChainId, ImageConfig, Index, Manifest};
use oci::{Descriptor, Platform, Reference, media_type};
use registry_client::{Asked, MAX_CONFIG, Parsed, RawManifest, Repository, Told, Which};

use super::{Progress, Remote, credentials, failed, fetch, source_of, told};
use crate::import::write_blob;
use crate::work::Lease;
use crate::{ImageError, Images, ResolvedImage};

/// What to pull.
#[derive(Debug, Clone)]
pub struct PullRequest {
    /// An image; all tags of the repository when there is neither tag nor digest.
    pub reference: Reference,
    /// For which platform; this host's without.
    pub platform: Option<Platform>,
    /// Who asks.
    pub auth: AuthConfig,
    /// Headers of the client that go along.
    pub headers: HeaderMap,
}

/// One pull under way.
pub(super) struct Pull<'a> {
    pub(super) images: &'a Images,
    pub(super) remote: &'a Remote,
    pub(super) repository: Repository,
    pub(super) reference: Reference,
    pub(super) platform: &'a Platform,
    pub(super) request: &'a PullRequest,
    pub(super) progress: &'a Progress,
}

/// The manifest to fetch, with the index that names it.
pub(super) struct Chosen {
    index: Option<(RawManifest, Box<Index>)>,
    manifest: RawManifest,
    pub(super) parsed: Box<Manifest>,
}

impl Chosen {
    /// What the image's name will point at.
    pub(super) fn target(&self) -> &Descriptor {
        self.index.as_ref().map_or(&self.manifest.descriptor, |(raw, _)| &raw.descriptor)
    }
}

impl Images {
    /// Pulls. Returns the references that there are now, as they were asked for.
    ///
    /// # Errors
    /// The registry's, in dockerd's words, or the store's.
    pub async fn pull(
        &self,
        remote: &Remote,
        request: &PullRequest,
        progress: &Progress,
    ) -> Result<Vec<Reference>, ImageError> {
        let asked = &request.reference;
        let watch = Arc::new(progress.clone());
        let repository = remote.client.repository(asked, credentials(&request.auth));
        let repository = repository.with_headers(request.headers.clone()).with_watch(watch);
        let mut references = vec![asked.clone()];
        if asked.is_name_only() {
            let tags = repository.tags(None, usize::MAX).await;
            let tags = tags.map_err(|e| told(&e, asked))?;
            references = tags.iter().filter_map(|tag| asked.with_tag(tag).ok()).collect();
        }
        let platform = request.platform.as_ref().unwrap_or(&self.0.config.platform);
        let mut changed = false;
        for reference in &references {
            let pull = Pull {
                images: self,
                remote,
                repository: repository.clone(),
                reference: reference.clone(),
                platform,
                request,
                progress,
            };
            changed |= pull.run().await?;
        }
        let what = if changed { "Downloaded newer image" } else { "Image is up to date" };
        let name = asked.familiar();
        progress.tell(JsonMessage::status(format!("Status: {what} for {name}")));
        if let Some(platform) = &request.platform {
            self.warn_of_platform(asked, platform, progress);
        }
        Ok(references)
    }

    /// Says when what was pulled is for another platform than asked: its registry has one only.
    fn warn_of_platform(&self, asked: &Reference, wanted: &Platform, progress: &Progress) {
        let Ok(image) = self.resolve(&asked.to_string()) else { return };
        let actual = image.config.platform();
        if media_type::is_index(&image.target.media_type) || wanted.rank(&actual).is_some() {
            return;
        }
        progress.tell(JsonMessage::status(format!(
            "WARNING: image with reference {} was found but its platform ({actual}) does not \
             match the specified platform ({wanted})",
            asked.familiar()
        )));
    }
}

impl Pull<'_> {
    /// Pulls one reference; whether anything changed.
    async fn run(&self) -> Result<bool, ImageError> {
        let told = |e: registry_client::Error| told(&e, &self.reference);
        let mut which = Which::of(&self.reference);
        if let Which::Tag(_) = which {
            which = Which::Digest(self.repository.resolve(&which).await.map_err(told)?.digest);
        }
        let top = self.repository.manifest(&which).await.map_err(told)?;
        let id = match (self.reference.digest(), self.reference.tag()) {
            (None, Some(tag)) => tag.to_owned(),
            _ => self.reference.familiar(),
        };
        let from = format!("Pulling from {}", self.reference.path());
        self.progress.tell(JsonMessage::status_of(id, from));
        let chosen = self.choose(top).await?;
        let changed = if let Some(image) = self.here(&chosen).await? {
            self.rename(&image, chosen.target()).await?
        } else {
            let lease = Lease::new(&self.images.0.client).await?;
            let client = lease.client()?;
            let fetched = self.fetch(&client, &chosen).await;
            lease.end().await;
            fetched?;
            true
        };
        let digest = chosen.target().digest;
        self.progress.tell(JsonMessage::status(format!("Digest: {digest}")));
        Ok(changed)
    }

    /// Follows an index to the manifest for the platform.
    async fn choose(&self, top: RawManifest) -> Result<Chosen, ImageError> {
        match parse(&top)? {
            Parsed::Manifest(parsed) => Ok(Chosen { index: None, manifest: top, parsed }),
            Parsed::Index(index) => {
                let entry = self.entry(&index)?;
                let which = Which::Digest(entry.digest);
                let manifest = self.repository.manifest(&which).await;
                let manifest = manifest.map_err(|e| told(&e, &self.reference))?;
                match parse(&manifest)? {
                    Parsed::Manifest(parsed) => {
                        Ok(Chosen { index: Some((top, index)), manifest, parsed })
                    }
                    _ => Err(failed(400, "unsupported manifest format")),
                }
            }
            Parsed::Other(kind) => Err(failed(400, format!("unsupported manifest type {kind:?}"))),
        }
    }

    fn entry(&self, index: &Index) -> Result<Descriptor, ImageError> {
        let ranked = index.manifests.iter().filter_map(|entry| {
            let rank = match &entry.platform {
                Some(platform) => self.platform.rank(platform)?,
                None => usize::MAX,
            };
            Some((rank, entry))
        });
        let best = ranked.min_by_key(|(rank, _)| *rank);
        best.map(|(_, entry)| entry.clone()).ok_or_else(|| {
            let platform = self.platform;
            failed(404, format!("no matching manifest for {platform} in the manifest list entries"))
        })
    }

    /// The image that was chosen, if all of it is here under whatever name.
    async fn here(&self, chosen: &Chosen) -> Result<Option<Arc<ResolvedImage>>, ImageError> {
        let (target, manifest) = (chosen.target().digest, chosen.manifest.descriptor.digest);
        let index = self.images.index();
        let found = index.understood(&target).filter(|own| own.manifest.digest == manifest);
        let Some(image) = found.and_then(|_| index.by_target(&target)).cloned() else {
            return Ok(None);
        };
        let is_unpacked = match &image.chain_id {
            Some(chain) => self.images.has_snapshot(&self.images.0.client, chain).await?,
            None => true,
        };
        Ok(is_unpacked.then_some(image))
    }

    /// Gives an image that is here the name that was asked for; whether it is new to it. A digest
    /// is known by each of its repository's tags already.
    async fn rename(&self, image: &ResolvedImage, target: &Descriptor) -> Result<bool, ImageError> {
        let asked = self.reference.to_string();
        if image.names.iter().any(|name| name.reference.to_string() == asked) {
            return Ok(false);
        }
        let (_, digests) = crate::view::names(image);
        if digests.contains(&self.reference.familiar()) {
            return Ok(false);
        }
        let (source, name) = source_of(&self.reference);
        let labels = HashMap::from([(source, name)]);
        fetch::label(&self.images.0.client, &target.digest, labels).await?;
        self.images.forget(&target.digest).await;
        self.images.name(&self.reference, target).await?;
        Ok(true)
    }

    async fn fetch(&self, client: &Client, chosen: &Chosen) -> Result<(), ImageError> {
        let config = self.config(&chosen.parsed).await?;
        let parsed: ImageConfig = serde_json::from_slice(&config)
            .map_err(|e| failed(500, format!("invalid image configuration: {e}")))?;
        let diff_ids = &parsed.rootfs.diff_ids;
        if diff_ids.len() != chosen.parsed.layers.len() {
            return Err(failed(500, "layers from manifest don't match image configuration"));
        }
        if self.images.transfers().await? {
            self.transfer(client, chosen, diff_ids).await?;
        } else {
            self.layers(client, &chosen.parsed.layers, diff_ids).await?;
            self.documents(client, chosen, config, ChainId::of(diff_ids)).await?;
        }
        self.images.name(&self.reference, chosen.target()).await
    }

    async fn config(&self, manifest: &Manifest) -> Result<Bytes, ImageError> {
        let kind = &manifest.config.media_type;
        if !media_type::is_config(kind) && manifest.layers.iter().all(|l| !is_layer(l)) {
            return Err(failed(400, format!("unsupported media type {kind}")));
        }
        let bytes = self.repository.blob_bytes(&manifest.config, MAX_CONFIG).await;
        bytes.map_err(|e| self.no_config(&e))
    }

    /// Docker's words for a configuration that can't be had; the log has ours.
    fn no_config(&self, error: &registry_client::Error) -> ImageError {
        tracing::warn!("{error}");
        let Told { status, mut message } = error.told(Asked::Push);
        // Of several errors docker tells the first.
        if let Some(first) = error.answer().and_then(|answer| answer.errors.first())
            && !error.is_not_found()
        {
            message = first.to_string();
        }
        let what = "error pulling image configuration";
        let is_wrong = matches!(
            error,
            registry_client::Error::DigestMismatch { .. }
                | registry_client::Error::SizeMismatch { .. }
        );
        if is_wrong {
            return failed(status, format!("{what}: {message}"));
        }
        let attempts = if error.is_transient() { self.remote.limits.attempts } else { 1 };
        failed(status, format!("{what}: download failed after attempts={attempts}: {message}"))
    }

    /// Stores configuration, manifest and index, each holding what it names.
    async fn documents(
        &self,
        client: &Client,
        chosen: &Chosen,
        config: Bytes,
        chain: Option<ChainId>,
    ) -> Result<(), ImageError> {
        let (source, name) = source_of(&self.reference);
        let own = || HashMap::from([(source.clone(), name.clone())]);
        let mut labels = own();
        if let Some(chain) = chain {
            let snapshotter = self.images.snapshotter();
            labels
                .insert(format!("containerd.io/gc.ref.snapshot.{snapshotter}"), chain.to_string());
        }
        let manifest = &chosen.parsed;
        self.document(client, &manifest.config, config, labels).await?;
        let mut labels = own();
        labels.insert(
            "containerd.io/gc.ref.content.config".into(),
            manifest.config.digest.to_string(),
        );
        for (at, layer) in manifest.layers.iter().enumerate() {
            let label = format!("containerd.io/gc.ref.content.l.{at}");
            labels.insert(label, layer.digest.to_string());
        }
        let raw = &chosen.manifest;
        self.document(client, &raw.descriptor, raw.bytes.clone(), labels).await?;
        let Some((raw, index)) = &chosen.index else { return Ok(()) };
        let mut labels = own();
        for (at, entry) in index.manifests.iter().enumerate() {
            let label = format!("containerd.io/gc.ref.content.m.{at}");
            labels.insert(label, entry.digest.to_string());
        }
        self.document(client, &raw.descriptor, raw.bytes.clone(), labels).await
    }

    async fn document(
        &self,
        client: &Client,
        descriptor: &Descriptor,
        bytes: Bytes,
        labels: HashMap<String, String>,
    ) -> Result<(), ImageError> {
        write_blob(client, descriptor, bytes.to_vec(), labels.clone()).await?;
        fetch::label(client, &descriptor.digest, labels).await
    }
}

fn is_layer(layer: &Descriptor) -> bool {
    media_type::is_layer(&layer.media_type)
}

fn parse(raw: &RawManifest) -> Result<Parsed, ImageError> {
    raw.parse().map_err(|e| failed(500, e))
}
