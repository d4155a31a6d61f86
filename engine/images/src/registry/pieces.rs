//! A push in pieces, for containerds that do not move images as we need: blobs read through the
//! content service and sent as they are stored, plain layers too.

use std::collections::HashMap;
use std::sync::Arc;

use containerd_api::services::content::v1::ReadContentRequest;
use containerd_rpc::Client;
use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use oci::{Descriptor, Digest};
use registry_client::{BlobSource, Chunks, Files, PushOptions, Pushed, Which};

use super::progress::{Meter, Progress};
use super::push::{Document, Layer, Push, told};
use super::{SOURCE, failed, fetch, host_of, source_of};
use crate::ImageError;

impl Push<'_> {
    /// Sends layers, several at once, then configurations and documents; `target` gets the tag.
    pub(super) async fn pieces(
        &self,
        target: &Descriptor,
        documents: &[Document],
        layers: &[Layer],
    ) -> Result<(), ImageError> {
        let mut waiting = Vec::new();
        for layer in layers {
            let slot = Arc::clone(&self.remote.uploads).try_acquire_owned().ok();
            if slot.is_none() {
                self.progress.action(&layer.id, "Waiting");
            }
            waiting.push(async move {
                let _slot = match slot {
                    Some(slot) => slot,
                    None => Arc::clone(&self.remote.uploads)
                        .acquire_owned()
                        .await
                        .map_err(|e| failed(500, e.to_string()))?,
                };
                self.layer(layer).await
            });
        }
        try_join_all(waiting).await?;
        // What a manifest names must be there before it.
        for (descriptor, bytes, manifest) in documents.iter().rev() {
            if let Some(manifest) = manifest {
                self.blob(&manifest.config, None).await?;
            }
            let is_target = descriptor.digest == target.digest;
            let which = match self.reference.tag() {
                Some(tag) if is_target => Which::Tag(tag.to_owned()),
                _ => Which::Digest(descriptor.digest),
            };
            let sent =
                self.repository.push_manifest(&which, &descriptor.media_type, bytes.clone()).await;
            sent.map_err(|e| told(&e))?;
            self.remember(&descriptor.digest).await?;
        }
        Ok(())
    }

    async fn layer(&self, layer: &Layer) -> Result<(), ImageError> {
        let text = match self.blob(&layer.descriptor, Some(&layer.id)).await? {
            Pushed::Existed => "Layer already exists".to_owned(),
            Pushed::Mounted(from) => format!("Mounted from {from}"),
            Pushed::Uploaded => "Pushed".to_owned(),
        };
        self.progress.action(&layer.id, &text);
        Ok(())
    }

    async fn blob(&self, descriptor: &Descriptor, id: Option<&str>) -> Result<Pushed, ImageError> {
        let labels = fetch::labels(self.client(), &descriptor.digest).await?;
        let key = format!("{SOURCE}{}", host_of(&self.reference));
        let known = labels.get(&key).map_or("", String::as_str);
        let others =
            known.split(',').filter(|one| !one.is_empty() && *one != self.reference.path());
        let options = PushOptions {
            mount_from: others.map(str::to_owned).collect(),
            ..PushOptions::default()
        };
        let source = Arc::new(Stored {
            client: self.client().clone(),
            descriptor: descriptor.clone(),
            told: id.map(|id| (self.progress.clone(), id.to_owned())),
        });
        let pushed = self.repository.push_blob(descriptor, source, &options).await;
        let pushed = pushed.map_err(|e| told(&e))?;
        self.remember(&descriptor.digest).await?;
        Ok(pushed)
    }

    /// Notes that the registry has it now.
    async fn remember(&self, digest: &Digest) -> Result<(), ImageError> {
        let (key, value) = source_of(&self.reference);
        fetch::label(self.client(), digest, HashMap::from([(key, value)])).await
    }
}

/// A blob of the store, read as the registry takes it.
struct Stored {
    client: Client,
    descriptor: Descriptor,
    told: Option<(Progress, String)>,
}

impl BlobSource for Stored {
    fn read(&self, offset: u64, length: u64, _: Option<Files>) -> Chunks {
        let client = self.client.clone();
        let request = ReadContentRequest {
            digest: self.descriptor.digest.to_string(),
            offset: i64::try_from(offset).unwrap_or(i64::MAX),
            size: i64::try_from(length).unwrap_or(i64::MAX),
        };
        let parts = stream::once(async move {
            client.content().read(request).await.map(tonic::Response::into_inner)
        });
        let parts = parts.try_flatten().map_ok(|part| part.data);
        let parts = parts.map_err(|status| std::io::Error::other(status.message().to_owned()));
        let Some((progress, id)) = self.told.clone() else { return Box::pin(parts) };
        let total = self.descriptor.size;
        let mut meter = Meter::new(progress, id, "Pushing", total);
        let mut at = offset;
        Box::pin(parts.map(move |part| {
            if let Ok(bytes) = &part {
                at += bytes.len() as u64;
                meter.at(at);
            }
            part
        }))
    }
}
