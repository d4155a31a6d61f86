//! A push by the store itself: ferry-containerd sends what it has, and compresses what is stored
//! plain on its way.

use std::collections::HashMap;

use containerd_api::transfer_types::{ImageStore, Progress as Told};
use containerd_api::{PUSH_COMPRESSION_LABEL, PUSH_FOREIGN_LABEL};
use containerd_rpc::{Client, registry_stream};
use engine_api::JsonMessage;
use oci::{Descriptor, Platform, media_type};
use tokio::sync::mpsc;

use super::{TOLD, Way, listened, registry};
use crate::read::from_wire;
use crate::registry::progress::{Progress, retrying};
use crate::registry::push::{Layer, Push};
use crate::registry::{Compression, source_of};
use crate::transfer::wire_platform;
use crate::work::Lease;
use crate::{ImageError, ResolvedImage};

impl Push<'_> {
    /// Sends the image; returns what the registry has under its name then.
    pub(in crate::registry) async fn transfer(
        &self,
        image: &ResolvedImage,
        platform: Option<&Platform>,
        layers: &[Layer],
    ) -> Result<Descriptor, ImageError> {
        let lease = Lease::new(self.client()).await?;
        let client = lease.client()?;
        let sent = self.transfer_leased(&client, image, platform, layers).await;
        lease.end().await;
        sent
    }

    async fn transfer_leased(
        &self,
        client: &Client,
        image: &ResolvedImage,
        platform: Option<&Platform>,
        layers: &[Layer],
    ) -> Result<Descriptor, ImageError> {
        let mut telling = Telling::new(self, layers);
        telling.wait(self.remote.limits.uploads);
        let (auth, headers) = (&self.request.auth, &self.request.headers);
        let (to, _folder) = registry(self.remote, Way::Up, &self.reference, auth, headers).await?;
        // A manifest goes as it is, whatever was asked for.
        let platform = platform.filter(|_| media_type::is_index(&image.target.media_type));
        let store = self.source(platform);
        let (sender, events) = mpsc::channel(TOLD);
        let pushing = registry_stream::push(client, &store, to, sender);
        listened(pushing, events, |event| telling.event(event)).await?;
        telling.end();
        let root = telling.root.take().unwrap_or_else(|| image.target.clone());
        self.follow(image, &root).await?;
        Ok(root)
    }

    fn source(&self, platform: Option<&Platform>) -> ImageStore {
        let form = match self.remote.compression {
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
            Compression::None => None,
        };
        let label = |form: &str| (PUSH_COMPRESSION_LABEL.to_owned(), form.to_owned());
        let foreign = (PUSH_FOREIGN_LABEL.to_owned(), "true".to_owned());
        ImageStore {
            name: self.reference.to_string(),
            labels: form.map(label).into_iter().chain([foreign]).collect(),
            platforms: platform.map(wire_platform).into_iter().collect(),
            ..ImageStore::default()
        }
    }

    /// Where layers went compressed the registry has other documents than the image was loaded
    /// with: the name that was pushed stands for those from now on, and so do its digests.
    async fn follow(&self, image: &ResolvedImage, root: &Descriptor) -> Result<(), ImageError> {
        let is_index = |of: &Descriptor| media_type::is_index(&of.media_type);
        // One manifest that went in place of its index is not what the name means.
        if root.digest == image.target.digest || is_index(root) != is_index(&image.target) {
            return Ok(());
        }
        let _naming = self.images.0.naming.lock().await;
        let name = self.reference.to_string();
        let now = self.images.targets_by_name().await?;
        // It may have been given away meanwhile.
        if now.get(&name).is_some_and(|target| target.digest == image.target.digest) {
            let root = Descriptor::new(root.media_type.clone(), root.digest, root.size);
            self.images.write_name(&name, &root).await?;
        }
        Ok(())
    }
}

/// Turns what the store tells into docker's messages.
struct Telling<'a> {
    progress: &'a Progress,
    /// Layers by digest: docker's id, and whether its end was told.
    layers: HashMap<String, (&'a str, bool)>,
    /// In the order in which they were told of.
    ids: Vec<&'a str>,
    /// The label that names the repository that a layer was mounted from.
    source: String,
    /// What was pushed.
    root: Option<Descriptor>,
}

impl<'a> Telling<'a> {
    fn new(push: &'a Push<'_>, layers: &'a [Layer]) -> Self {
        let by_digest = layers.iter().map(|layer| {
            let digest = layer.descriptor.digest.to_string();
            (digest, (layer.id.as_str(), false))
        });
        Self {
            progress: push.progress,
            layers: by_digest.collect(),
            ids: layers.iter().map(|layer| layer.id.as_str()).collect(),
            source: source_of(&push.reference).0,
            root: None,
        }
    }

    /// All layers but the first few wait for a place.
    fn wait(&self, places: usize) {
        self.ids.iter().skip(places).for_each(|id| self.progress.action(id, "Waiting"));
    }

    fn event(&mut self, event: &Told) {
        let Some(desc) = &event.desc else { return };
        if event.event == "pushed content" {
            self.root = from_wire(desc);
            return;
        }
        let Some((id, is_done)) = self.layers.get_mut(&desc.digest) else { return };
        let current = u64::try_from(event.progress).unwrap_or_default();
        let total = u64::try_from(event.total).unwrap_or_default();
        let end = match event.event.as_str() {
            "uploading" => {
                self.progress.tell(JsonMessage::progress(*id, "Pushing", current, total));
                return;
            }
            "retrying" => return self.progress.action(id, &retrying(current)),
            "complete" => "Pushed".to_owned(),
            "skipped" => "Skipped foreign layer".to_owned(),
            "already exists" => match desc.annotations.get(&self.source) {
                Some(from) => format!("Mounted from {from}"),
                None => "Layer already exists".to_owned(),
            },
            _ => return,
        };
        self.progress.action(id, &end);
        *is_done = true;
    }

    /// Everything is there, whatever was told of it.
    fn end(&self) {
        for (id, _) in self.layers.values().filter(|(_, is_done)| !is_done) {
            self.progress.action(id, "Pushed");
        }
    }
}
