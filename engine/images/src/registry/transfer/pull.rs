//! A pull by the store itself: ferry-containerd fetches, verifies and unpacks in one pass.

use std::collections::HashMap;

use containerd_api::transfer_types::{ImageStore, Progress as Told, UnpackConfiguration};
use containerd_rpc::{Client, registry_stream};
use engine_api::JsonMessage;
use oci::image::ChainId;
use oci::{Descriptor, Digest};
use tokio::sync::mpsc;

use super::{TOLD, Way, listened, registry};
use crate::ImageError;
use crate::registry::fetch::has_blob;
use crate::registry::progress::{Progress, retrying};
use crate::registry::pull::{Chosen, Pull};
use crate::transfer::wire_platform;

impl Pull<'_> {
    /// Brings the image that was chosen, under the client's lease.
    pub(in crate::registry) async fn transfer(
        &self,
        client: &Client,
        chosen: &Chosen,
        diff_ids: &[Digest],
    ) -> Result<(), ImageError> {
        let layers = &chosen.parsed.layers;
        let mut telling = Telling::new(self.progress, layers);
        for (at, chain) in ChainId::all(diff_ids).iter().enumerate() {
            let is_here = self.images.has_snapshot(client, chain).await?
                && has_blob(client, &layers[at].digest).await?;
            telling.begin(at, is_here);
        }
        telling.wait(self.remote.limits.downloads);
        let reference = self.reference.without_tag().with_digest(chosen.target().digest);
        let (auth, headers) = (&self.request.auth, &self.request.headers);
        let (from, _folder) = registry(self.remote, Way::Down, &reference, auth, headers).await?;
        let store = self.destination();
        let (sender, events) = mpsc::channel(TOLD);
        let pulling = registry_stream::pull(client, from, &store, sender);
        listened(pulling, events, |event| telling.event(event)).await?;
        telling.end();
        Ok(())
    }

    fn destination(&self) -> ImageStore {
        let platform = wire_platform(self.platform);
        ImageStore {
            platforms: vec![platform.clone()],
            unpacks: vec![UnpackConfiguration {
                platform: Some(platform),
                snapshotter: self.images.snapshotter().into(),
            }],
            ..ImageStore::default()
        }
    }
}

/// How far a layer was told to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Waiting,
    Downloading,
    Downloaded,
    Unpacked,
    Told,
}

struct Layer {
    id: String,
    size: u64,
    stage: Stage,
}

/// Turns what the store tells into docker's messages.
struct Telling<'a> {
    progress: &'a Progress,
    layers: Vec<Layer>,
    by_digest: HashMap<String, usize>,
}

impl<'a> Telling<'a> {
    fn new(progress: &'a Progress, layers: &[Descriptor]) -> Self {
        let by_digest = layers.iter().enumerate().map(|(at, l)| (l.digest.to_string(), at));
        let layers = layers.iter().map(|layer| Layer {
            id: layer.digest.short(),
            size: layer.size,
            stage: Stage::Waiting,
        });
        Self { progress, by_digest: by_digest.collect(), layers: layers.collect() }
    }

    fn begin(&mut self, at: usize, is_here: bool) {
        let layer = &mut self.layers[at];
        let text = if is_here { "Already exists" } else { "Pulling fs layer" };
        if is_here {
            layer.stage = Stage::Told;
        }
        self.progress.action(&layer.id, text);
    }

    /// All layers but the first few wait for a place.
    fn wait(&self, places: usize) {
        let waiting = self.layers.iter().filter(|layer| layer.stage == Stage::Waiting).skip(places);
        waiting.for_each(|layer| self.progress.action(&layer.id, "Waiting"));
    }

    fn event(&mut self, event: &Told) {
        let Some(desc) = &event.desc else { return };
        let Some(&at) = self.by_digest.get(&desc.digest) else { return };
        let current = u64::try_from(event.progress).unwrap_or_default();
        let layer = &mut self.layers[at];
        if layer.stage >= Stage::Unpacked {
            return;
        }
        match event.event.as_str() {
            "downloading" => {
                layer.stage = Stage::Downloading;
                let (id, size) = (&layer.id, layer.size);
                self.progress.tell(JsonMessage::progress(id, "Downloading", current, size));
            }
            "extracting" => {
                downloaded(self.progress, layer);
                let (id, size) = (&layer.id, layer.size);
                self.progress.tell(JsonMessage::progress(id, "Extracting", current, size));
            }
            "retrying" => self.progress.action(&layer.id, &retrying(current)),
            "complete" | "already exists" => {
                downloaded(self.progress, layer);
                layer.stage = Stage::Unpacked;
                self.complete();
            }
            _ => {}
        }
    }

    /// Tells of layers that are unpacked and have nothing unfinished below them, as docker does.
    fn complete(&mut self) {
        for layer in self.layers.iter_mut().take_while(|layer| layer.stage >= Stage::Unpacked) {
            if layer.stage == Stage::Unpacked {
                layer.stage = Stage::Told;
                let (id, size) = (&layer.id, layer.size);
                self.progress.tell(JsonMessage::progress(id, "Extracting", size, size));
                self.progress.action(id, "Pull complete");
            }
        }
    }

    /// Everything is there, whatever was told of it.
    fn end(&mut self) {
        for layer in self.layers.iter_mut().filter(|layer| layer.stage < Stage::Unpacked) {
            downloaded(self.progress, layer);
            layer.stage = Stage::Unpacked;
        }
        self.complete();
    }
}

fn downloaded(progress: &Progress, layer: &mut Layer) {
    if layer.stage < Stage::Downloaded {
        layer.stage = Stage::Downloaded;
        progress.action(&layer.id, "Verifying Checksum");
        progress.action(&layer.id, "Download complete");
    }
}
