//! Pushes: what a name stands for goes to its registry, by the store or in pieces.

use std::sync::Arc;

use bytes::Bytes;
use containerd_rpc::Client;
use engine_api::{AuthConfig, JsonMessage, Value};
use http::HeaderMap;
use oci::image::{Index, Manifest};
use oci::{Descriptor, Digest, Platform, Reference, media_type};
use registry_client::{Asked, Error, Object, Repository, Which};

use super::progress::Progress;
use super::{Remote, credentials, failed, fetch};
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

/// One push under way.
pub(super) struct Push<'a> {
    pub(super) images: &'a Images,
    pub(super) remote: &'a Remote,
    pub(super) repository: Repository,
    pub(super) reference: Reference,
    pub(super) request: &'a PushRequest,
    pub(super) progress: &'a Progress,
}

/// One layer to send.
pub(super) struct Layer {
    pub(super) descriptor: Descriptor,
    /// The short digest of its content, under which docker tells of it.
    pub(super) id: String,
}

/// A manifest, or an index, to send.
pub(super) type Document = (Descriptor, Bytes, Option<Manifest>);

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
        // What is wrong with certificates and hosts is told before anything else, as dockerd does.
        remote.check(asked).await?;
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
                request,
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
            let names = image.names.iter().map(|name| &name.reference);
            let names = names.filter(|name| name.name() == asked.name() && name.tag().is_some());
            found.extend(names.filter_map(|name| Some((name.clone(), index.own(name)?.clone()))));
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

pub(super) fn told(error: &Error) -> ImageError {
    ImageError::Registry(error.told(Asked::Push))
}

impl Push<'_> {
    pub(super) fn client(&self) -> &Client {
        &self.images.0.client
    }

    async fn run(
        &self,
        image: &ResolvedImage,
        platform: Option<&Platform>,
    ) -> Result<(), ImageError> {
        let by_store = self.images.transfers().await?;
        let (target, missing) = self.target(image, platform, by_store).await?;
        let mut manifests = Vec::new();
        self.collect(&target, &missing, &mut manifests).await?;
        let layers = layers_of(&manifests, image);
        self.check_contact(&layers).await?;
        for layer in &layers {
            self.progress.action(&layer.id, "Preparing");
        }
        let root = if by_store {
            self.transfer(image, platform, &layers).await?
        } else {
            self.pieces(&target, &manifests, &layers).await?;
            target
        };
        for changed in [&image.target.digest, &root.digest] {
            self.images.forget(changed).await;
        }
        self.images.refresh().await?;
        self.done(image, &root);
        Ok(())
    }

    /// What to push of an image: all of it, or the manifest that is here when others of its index
    /// are neither here nor in the registry. With the manifests that are not here; where the store
    /// pushes, it looks for them.
    async fn target(
        &self,
        image: &ResolvedImage,
        platform: Option<&Platform>,
        by_store: bool,
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
            if by_store {
                missing.push(entry.digest);
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
        out: &mut Vec<Document>,
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
fn layers_of(manifests: &[Document], image: &ResolvedImage) -> Vec<Layer> {
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
