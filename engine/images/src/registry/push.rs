//! Pushes: layers, configuration, manifest and index of local images, exactly as they are stored.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use containerd_api::services::content::v1::ReadContentRequest;
use containerd_rpc::Client;
use engine_api::{AuthConfig, JsonMessage, Value};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, TryStreamExt, stream};
use http::HeaderMap;
use oci::image::{Index, Manifest};
use oci::{Descriptor, Digest, Platform, Reference, media_type};
use registry_client::{
    Asked, BlobSource, Chunks, Error, Object, PushOptions, Pushed, Repository, Which,
};

use super::progress::{Meter, Progress};
use super::{Remote, SOURCE, credentials, failed, fetch, host_of, source_of};
use crate::read::read_blob;
use crate::{ImageError, Images, ResolvedImage};

/// What to push.
#[derive(Debug, Clone)]
pub struct PushRequest {
    /// An image by its tag; all tags of the repository without.
    pub reference: Reference,
    /// This platform's manifest alone.
    pub platform: Option<Platform>,
    /// Who asks.
    pub auth: AuthConfig,
    /// Headers of the client that go along.
    pub headers: HeaderMap,
}

struct Push<'a> {
    images: &'a Images,
    remote: &'a Remote,
    repository: Repository,
    reference: Reference,
    progress: &'a Progress,
}

/// One layer to send.
struct Layer {
    descriptor: Descriptor,
    /// The short digest of its content, under which docker tells of it.
    id: String,
}

impl Images {
    /// Pushes. Returns what was pushed.
    ///
    /// # Errors
    /// Nothing of that name, the registry's, in dockerd's words, or the store's.
    pub async fn push(
        &self,
        remote: &Remote,
        request: &PushRequest,
        progress: &Progress,
    ) -> Result<Vec<Reference>, ImageError> {
        let asked = &request.reference;
        let text = format!("The push refers to repository [{}]", asked.name());
        progress.tell(JsonMessage::status(text));
        let references = self.to_push(asked)?;
        let watch = Arc::new(progress.clone());
        let repository = remote.client.repository(asked, credentials(&request.auth));
        let repository = repository.with_headers(request.headers.clone()).with_watch(watch);
        let mut pushed = Vec::new();
        for (reference, image) in references {
            let push = Push {
                images: self,
                remote,
                repository: repository.clone(),
                reference: reference.clone(),
                progress,
            };
            push.run(&image, request.platform.as_ref()).await?;
            pushed.push(reference);
        }
        Ok(pushed)
    }

    /// The tags that a reference means, with their images.
    fn to_push(
        &self,
        asked: &Reference,
    ) -> Result<Vec<(Reference, Arc<ResolvedImage>)>, ImageError> {
        let index = self.index();
        let mut found = Vec::new();
        for image in index.all() {
            let own = image.names.iter().map(|name| &name.reference);
            let own = own.filter(|name| name.name() == asked.name() && name.tag().is_some());
            found.extend(own.map(|name| (name.clone(), Arc::clone(image))));
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        if found.is_empty() {
            let name = asked.familiar_name();
            let text = format!("An image does not exist locally with the tag: {name}");
            return Err(failed(404, text));
        }
        if !asked.is_name_only() {
            found.retain(|(name, _)| name == asked);
            if found.is_empty() {
                return Err(failed(404, format!("tag does not exist: {}", asked.familiar())));
            }
        }
        Ok(found)
    }
}

fn told(error: &Error) -> ImageError {
    ImageError::Registry(error.told(Asked::Push))
}

impl Push<'_> {
    fn client(&self) -> &Client {
        &self.images.0.client
    }

    async fn run(
        &self,
        image: &ResolvedImage,
        platform: Option<&Platform>,
    ) -> Result<(), ImageError> {
        let (target, missing) = self.target(image, platform).await?;
        let mut manifests = Vec::new();
        self.collect(&target, &missing, &mut manifests).await?;
        let layers = layers_of(&manifests, image);
        self.check_contact(&layers).await?;
        for layer in &layers {
            self.progress.action(&layer.id, "Preparing");
        }
        let mut waiting = Vec::new();
        for layer in &layers {
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
        for (descriptor, bytes, manifest) in manifests.iter().rev() {
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
        self.images.forget(&image.target.digest).await;
        self.images.refresh().await?;
        self.done(image, &target);
        Ok(())
    }

    /// What to push of an image: all of it, or the manifest that is here when others of its index
    /// are neither here nor in the registry. With the manifests that only the registry has.
    async fn target(
        &self,
        image: &ResolvedImage,
        platform: Option<&Platform>,
    ) -> Result<(Descriptor, Vec<Digest>), ImageError> {
        if !media_type::is_index(&image.target.media_type) {
            return Ok((image.target.clone(), Vec::new()));
        }
        let bytes = read_blob(self.client(), &image.target).await?;
        let index: Index = serde_json::from_slice(&bytes)
            .map_err(|e| ImageError::content(image.target.digest, e))?;
        if let Some(platform) = platform {
            let ranked = index
                .manifests
                .into_iter()
                .filter_map(|entry| Some((platform.rank(entry.platform.as_ref()?)?, entry)));
            let best = ranked.min_by_key(|(rank, _)| *rank);
            let missing = || {
                let name = self.reference.familiar();
                failed(
                    404,
                    format!(
                        "image with reference {name} was found but does not match the specified platform: wanted {platform}"
                    ),
                )
            };
            return best.map(|(_, entry)| (entry, Vec::new())).ok_or_else(missing);
        }
        let mut missing = Vec::new();
        for entry in &index.manifests {
            if fetch::has_blob(self.client(), &entry.digest).await? {
                continue;
            }
            match self.repository.resolve(&Which::Digest(entry.digest)).await {
                Ok(_) => missing.push(entry.digest),
                Err(e) if e.is_not_found() => return Ok((image.manifest.clone(), Vec::new())),
                Err(e) => return Err(told(&e)),
            }
        }
        Ok((image.target.clone(), missing))
    }

    /// A manifest, or an index and all below it that is here; the outermost first.
    async fn collect(
        &self,
        target: &Descriptor,
        missing: &[Digest],
        out: &mut Vec<(Descriptor, Bytes, Option<Manifest>)>,
    ) -> Result<(), ImageError> {
        let mut open = vec![target.clone()];
        while let Some(at) = open.pop() {
            let bytes = Bytes::from(read_blob(self.client(), &at).await?);
            let wrong = |e| ImageError::content(at.digest, e);
            if media_type::is_index(&at.media_type) {
                let index: Index = serde_json::from_slice(&bytes).map_err(wrong)?;
                out.push((at, bytes, None));
                open.extend(index.manifests.into_iter().filter(|m| !missing.contains(&m.digest)));
            } else {
                let manifest: Manifest = serde_json::from_slice(&bytes).map_err(wrong)?;
                out.push((at, bytes, Some(manifest)));
            }
        }
        Ok(())
    }

    /// Whether the registry answers at all, before anything is told of layers.
    async fn check_contact(&self, layers: &[Layer]) -> Result<(), ImageError> {
        let Some(first) = layers.first() else { return Ok(()) };
        match self.repository.blob_size(&first.descriptor.digest).await {
            Err(e) if e.at().is_some_and(|at| at.object == Object::Registry) => Err(told(&e)),
            _ => Ok(()),
        }
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

    fn done(&self, image: &ResolvedImage, target: &Descriptor) {
        let tag = self.reference.tag().unwrap_or_default();
        let Descriptor { digest, size, .. } = target;
        self.progress.tell(JsonMessage::status(format!("{tag}: digest: {digest} size: {size}")));
        let text = |text: String| Value::String(text);
        let members = [
            ("Tag", text(tag.to_owned())),
            ("Digest", text(digest.to_string())),
            ("Size", Value::Number((*size).into())),
        ];
        let members = members.map(|(name, value)| (name.to_owned(), value));
        self.progress.tell(JsonMessage::aux(Value::Object(members.to_vec())));
        if media_type::is_index(&image.target.media_type) && *digest != image.target.digest {
            self.progress.tell(JsonMessage::aux(instead(&image.target, target)));
        }
    }
}

/// What says that one manifest was pushed in place of its index.
fn instead(index: &Descriptor, manifest: &Descriptor) -> Value {
    let shown = |descriptor: &Descriptor| {
        let json = serde_json::to_vec(descriptor).unwrap_or_default();
        engine_api::json::parse(&json).unwrap_or_default()
    };
    Value::Object(vec![
        ("manifestPushedInsteadOfIndex".to_owned(), Value::Bool(true)),
        ("originalIndex".to_owned(), shown(index)),
        ("selectedManifest".to_owned(), shown(manifest)),
    ])
}

/// The layers of all manifests, each once, the uppermost first as docker tells of them.
fn layers_of(
    manifests: &[(Descriptor, Bytes, Option<Manifest>)],
    image: &ResolvedImage,
) -> Vec<Layer> {
    let mut out: Vec<Layer> = Vec::new();
    for manifest in manifests.iter().filter_map(|(_, _, manifest)| manifest.as_ref()) {
        let own = image.layers == manifest.layers;
        for (at, descriptor) in manifest.layers.iter().enumerate().rev() {
            let content = image.diff_ids.get(at).filter(|_| own).unwrap_or(&descriptor.digest);
            let is_known = out.iter().any(|layer| layer.descriptor.digest == descriptor.digest);
            if !is_known {
                out.push(Layer { descriptor: descriptor.clone(), id: content.short() });
            }
        }
    }
    out
}

/// A blob of the store, read as the registry takes it.
struct Stored {
    client: Client,
    descriptor: Descriptor,
    told: Option<(Progress, String)>,
}

impl BlobSource for Stored {
    fn read(&self, offset: u64, length: u64) -> Chunks {
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
