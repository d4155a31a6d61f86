//! The layers of an image: fetched several at once, unpacked one on the other.

use std::sync::Arc;

use containerd_rpc::Client;
use engine_api::JsonMessage;
use futures_util::future::{Either, join_all, select};
use oci::image::ChainId;
use oci::{Descriptor, Digest};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::failed;
use super::fetch::has_blob;
use super::pull::Pull;
use crate::ImageError;
use crate::work::{BLOB, hold};

/// What docker tells first of an unpacking: it reads so much at once.
const FIRST_PART: u64 = 32 << 10;

/// One layer on its way.
struct Layer<'a> {
    descriptor: &'a Descriptor,
    diff_id: Digest,
    chain: ChainId,
    parent: Option<ChainId>,
    /// Whether its folder is there.
    is_unpacked: bool,
    /// Whether nothing is left to do.
    is_here: bool,
}

type Fetched = oneshot::Receiver<Result<(), ImageError>>;

impl Pull<'_> {
    /// Brings all layers.
    pub(super) async fn layers(
        &self,
        client: &Client,
        layers: &[Descriptor],
        diff_ids: &[Digest],
    ) -> Result<(), ImageError> {
        let mut plan = Vec::with_capacity(layers.len());
        let mut parent = None;
        for ((descriptor, diff_id), chain) in
            layers.iter().zip(diff_ids).zip(ChainId::all(diff_ids))
        {
            let is_unpacked = self.images.holds_snapshot(client, &chain).await?;
            let is_here = is_unpacked && {
                // What is not here is held when it is fetched.
                hold(client, BLOB, &descriptor.digest).await?;
                has_blob(client, &descriptor.digest).await?
            };
            let what = if is_here { "Already exists" } else { "Pulling fs layer" };
            self.progress.action(&descriptor.digest.short(), what);
            plan.push(Layer { descriptor, diff_id: *diff_id, chain, parent, is_unpacked, is_here });
            parent = Some(chain);
        }
        let (mut senders, mut receivers) = (Vec::new(), Vec::new());
        for layer in &plan {
            let (sender, receiver) = oneshot::channel();
            receivers.push(receiver);
            if layer.is_here {
                let _ = sender.send(Ok(()));
            } else {
                senders.push((layer.descriptor, sender, self.slot(layer.descriptor)));
            }
        }
        let fetching = senders.into_iter().map(|(descriptor, sender, slot)| async move {
            let _ = sender.send(self.one(client, descriptor, slot).await);
        });
        let fetching = Box::pin(join_all(fetching));
        let unpacking = Box::pin(self.unpack(client, &plan, receivers));
        // An error of one layer ends the others.
        match select(unpacking, fetching).await {
            Either::Left((done, _)) => done,
            Either::Right((_, unpacking)) => unpacking.await,
        }
    }

    /// A place among the downloads, if one is free now.
    fn slot(&self, layer: &Descriptor) -> Option<OwnedSemaphorePermit> {
        let slot = Arc::clone(&self.remote.downloads).try_acquire_owned().ok();
        if slot.is_none() {
            self.progress.action(&layer.digest.short(), "Waiting");
        }
        slot
    }

    async fn one(
        &self,
        client: &Client,
        layer: &Descriptor,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Result<(), ImageError> {
        let _slot = match slot {
            Some(slot) => slot,
            None => Arc::clone(&self.remote.downloads)
                .acquire_owned()
                .await
                .map_err(|e| failed(500, e.to_string()))?,
        };
        self.blob(client, layer).await
    }

    /// Unpacks each layer once it and those below it are there.
    async fn unpack(
        &self,
        client: &Client,
        plan: &[Layer<'_>],
        fetched: Vec<Fetched>,
    ) -> Result<(), ImageError> {
        for (layer, fetched) in plan.iter().zip(fetched) {
            fetched.await.map_err(|e| failed(500, e.to_string()))??;
            if layer.is_here {
                continue;
            }
            let id = layer.descriptor.digest.short();
            let size = layer.descriptor.size;
            let at = |current| JsonMessage::progress(&id, "Extracting", current, size);
            self.progress.tell(at(FIRST_PART.min(size)));
            if !layer.is_unpacked {
                let diff_id = Some(layer.diff_id);
                let applied =
                    self.images.apply(client, layer.descriptor, layer.parent, diff_id).await?;
                self.images.commit(client, &applied.key, &layer.chain).await?;
            }
            self.progress.tell(at(size));
            self.progress.action(&id, "Pull complete");
        }
        Ok(())
    }
}
