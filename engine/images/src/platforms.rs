//! The platforms of an image: what of each is here, the image for one of them, and the removal of
//! one from an image that has several.

use std::collections::BTreeSet;
use std::sync::Arc;

use containerd_api::services::content::v1::DeleteContentRequest;
use containerd_rpc::RpcError;
use engine_api::{
    AttestationData, ImageDeleteItem, ImageManifest, ImageManifestData, ImageManifestSize,
    OciPlatform, UnpackedSize,
};
use oci::image::{ChainId, ImageConfig, Index, Manifest};
use oci::{Descriptor, Digest, Platform, media_type};

use crate::read::{MAX_DEPTH, document, is_attestation, resolve_target};
use crate::registry::blob_size;
use crate::remove::{ImageUse, Removed, check, conflict};
use crate::view::api_descriptor;
use crate::{ImageError, Images, ResolvedImage, size};

/// A manifest below an image's target, as far as it is here.
struct Found {
    descriptor: Descriptor,
    manifest: Option<Manifest>,
    config: Option<ImageConfig>,
}

impl Found {
    /// What it runs on: as the index says, else as the configuration does.
    fn platform(&self) -> Option<Platform> {
        let said = self.descriptor.platform.clone();
        Some(said.or_else(|| Some(self.config.as_ref()?.platform()))?.normalized())
    }

    /// The blobs that it is made of, itself included.
    fn blobs(&self) -> Vec<&Descriptor> {
        let parts = self.manifest.iter().flat_map(|m| std::iter::once(&m.config).chain(&m.layers));
        std::iter::once(&self.descriptor).chain(parts).collect()
    }

    fn is_image(&self) -> bool {
        match &self.manifest {
            Some(manifest) => manifest.layers.iter().any(|l| media_type::is_layer(&l.media_type)),
            None => self.descriptor.platform.is_some(),
        }
    }
}

impl Images {
    /// The image for `wanted`; `name` is what the client called it.
    ///
    /// # Errors
    /// It has nothing for that platform, or the store's.
    pub async fn for_platform(
        &self,
        image: &Arc<ResolvedImage>,
        name: &str,
        wanted: &Platform,
    ) -> Result<Arc<ResolvedImage>, ImageError> {
        match check_platform(image, name, wanted) {
            Err(_) if image.target.digest != image.manifest.digest => {}
            checked => return checked.map(|()| Arc::clone(image)),
        }
        let mut config = self.0.config.clone();
        config.platform = wanted.clone();
        match resolve_target(&self.0.client, &config, image.target.clone()).await {
            Ok(found) if wanted.rank(&found.config.platform()).is_some() => {
                Ok(Arc::new(ResolvedImage { names: image.names.clone(), ..found }))
            }
            Ok(_) | Err(ImageError::Content { .. }) => Err(ImageError::Platform(format!(
                "image with reference {name} was found but does not provide the specified platform ({wanted})"
            ))),
            Err(e) => Err(e),
        }
    }

    /// What the image's target lists, and what of it is here.
    ///
    /// # Errors
    /// The store's.
    pub async fn manifests(
        &self,
        image: &ResolvedImage,
        uses: &[ImageUse],
    ) -> Result<Vec<ImageManifest>, ImageError> {
        let mut out = Vec::new();
        for found in self.found(&image.target).await? {
            out.push(self.describe(&found, uses).await?);
        }
        Ok(out)
    }

    async fn describe(
        &self,
        found: &Found,
        uses: &[ImageUse],
    ) -> Result<ImageManifest, ImageError> {
        let (mut content, mut whole) = (0, true);
        for blob in found.blobs() {
            match blob_size(&self.0.client, &blob.digest).await? {
                Some(size) => content += size,
                None => whole = false,
            }
        }
        let mut out = ImageManifest {
            id: found.descriptor.digest.to_string(),
            descriptor: api_descriptor(&found.descriptor),
            available: whole && found.manifest.is_some(),
            size: ImageManifestSize { content, total: content },
            kind: "unknown".into(),
            ..ImageManifest::default()
        };
        if is_attestation(&found.descriptor) {
            let about = found.descriptor.annotations.get("vnd.docker.reference.digest");
            out.kind = "attestation".into();
            out.attestation_data =
                Some(AttestationData { about: about.cloned().unwrap_or_default() });
        } else if found.is_image() {
            let unpacked = self.unpacked(found).await?;
            let id = found.manifest.as_ref().map(|manifest| manifest.config.digest);
            let users = uses.iter().filter(|user| Some(user.image) == id);
            let users: Vec<String> = users.map(|user| user.container.clone()).collect();
            out.kind = "image".into();
            out.size.total += unpacked;
            out.image_data = Some(ImageManifestData {
                platform: found.platform().as_ref().map(OciPlatform::from).unwrap_or_default(),
                size: UnpackedSize { unpacked },
                containers: Some(users).filter(|users| !users.is_empty()),
            });
        }
        Ok(out)
    }

    /// What a manifest's layers take where they are unpacked.
    async fn unpacked(&self, found: &Found) -> Result<i64, ImageError> {
        let (Some(manifest), Some(config)) = (&found.manifest, &found.config) else { return Ok(0) };
        let diff_ids = &config.rootfs.diff_ids;
        let client = &self.0.client;
        match ChainId::of(diff_ids) {
            Some(top) if self.has_snapshot(client, &top).await? => {}
            _ => return Ok(0),
        }
        let sizes = size::of_layers(client, &self.0.config, diff_ids, &manifest.layers).await;
        Ok(sizes.iter().sum::<u64>() as i64)
    }

    /// All manifests below a target in the order of its indexes.
    async fn found(&self, target: &Descriptor) -> Result<Vec<Found>, ImageError> {
        let client = &self.0.client;
        let mut open = vec![(target.clone(), 0)];
        let mut out = Vec::new();
        while let Some((at, depth)) = open.pop() {
            if media_type::is_index(&at.media_type) {
                if depth == MAX_DEPTH {
                    return Err(ImageError::content(target.digest, "indexes nest too deep"));
                }
                let index: Option<Index> = absent(document(client, &at).await)?;
                let below = index.into_iter().flat_map(|index| index.manifests);
                let below: Vec<_> = below.map(|entry| (entry, depth + 1)).collect();
                open.extend(below.into_iter().rev());
                continue;
            }
            let manifest: Option<Manifest> = absent(document(client, &at).await)?;
            let config = match &manifest {
                // An attestation's configuration, or an artifact's, may be anything.
                Some(manifest) => document(client, &manifest.config).await.ok(),
                None => None,
            };
            out.push(Found { descriptor: at, manifest, config });
        }
        Ok(out)
    }

    /// Takes one platform out of an image that has several: its content goes, but for what others
    /// have too. Its entry in the index stays, so that a pull brings it back.
    ///
    /// # Errors
    /// The image has no such platform here, a container uses it, or the store's.
    pub async fn remove_platform(
        &self,
        name: &str,
        wanted: &Platform,
        force: bool,
        uses: &[ImageUse],
    ) -> Result<Removed, ImageError> {
        let _naming = self.0.naming.lock().await;
        let image = self.resolve(name)?;
        let gone = self.for_platform(&image, name, wanted).await?;
        if !force {
            return Err(ImageError::Invalid(
                "Content will be removed from all images referencing this variant. Use —-force to force delete.".into(),
            ));
        }
        let users: Vec<&ImageUse> = uses.iter().filter(|user| user.image == gone.id).collect();
        check(&gone, &users, force, false)?;
        let manifest = gone.manifest.digest;
        if self.all().iter().any(|image| image.target.digest == manifest) {
            let why = "it is an image of its own, too".into();
            return Err(conflict(&gone, "cannot be forced", why));
        }
        let mut kept = BTreeSet::new();
        for target in self.all().iter().map(|image| &image.target) {
            for found in self.found(target).await? {
                if found.descriptor.digest != manifest {
                    kept.extend(found.blobs().into_iter().map(|blob| blob.digest));
                }
            }
        }
        let parts = [manifest, gone.id].into_iter();
        let layers = gone.layers.iter().map(|layer| layer.digest);
        for digest in parts.chain(layers).filter(|digest| !kept.contains(digest)) {
            self.delete_content(&digest).await?;
        }
        self.forget(&image.target.digest).await;
        self.refresh().await?;
        let deleted = manifest.to_string();
        Ok(Removed {
            items: vec![ImageDeleteItem { deleted, ..ImageDeleteItem::default() }],
            deleted: vec![manifest],
            ..Removed::default()
        })
    }

    /// The platforms of an image that are here.
    ///
    /// # Errors
    /// The store's.
    pub async fn platforms_here(&self, image: &ResolvedImage) -> Result<Vec<Platform>, ImageError> {
        let found = self.found(&image.target).await?;
        let is_here = |found: &&Found| {
            found.manifest.is_some() && found.is_image() && !is_attestation(&found.descriptor)
        };
        Ok(found.iter().filter(is_here).filter_map(Found::platform).collect())
    }

    async fn delete_content(&self, digest: &Digest) -> Result<(), ImageError> {
        let request = DeleteContentRequest { digest: digest.to_string() };
        let deleted = self.0.client.content().delete(request).await;
        RpcError::absent_is_fine(deleted.map(drop).map_err(RpcError::from))?;
        Ok(())
    }
}

/// Whether what is here of an image runs on `wanted`; `name` is what the client called it.
///
/// # Errors
/// It does not.
pub fn check_platform(
    image: &ResolvedImage,
    name: &str,
    wanted: &Platform,
) -> Result<(), ImageError> {
    let own = image.config.platform().normalized();
    if wanted.rank(&own).is_some() {
        return Ok(());
    }
    Err(ImageError::Platform(format!(
        "image with reference {name} was found but its platform ({own}) does not match the specified platform ({wanted})"
    )))
}

/// What is not there is `None`.
fn absent<T>(read: Result<T, ImageError>) -> Result<Option<T>, ImageError> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(ImageError::Rpc(e)) if e.is_not_found() => Ok(None),
        Err(e) => Err(e),
    }
}
