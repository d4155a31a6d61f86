//! Removing names and images by dockerd's rules, and prune.

use std::collections::BTreeSet;
use std::sync::Arc;

use containerd_api::services::images::v1::DeleteImageRequest;
use containerd_rpc::RpcError;
use engine_api::ImageDeleteItem;
use engine_api::filters::Filters;
use oci::image::ChainId;
use oci::{Digest, Reference};

use crate::index::is_id_prefix;
use crate::{DANGLING, ImageError, Images, ResolvedImage, size};

/// A container that uses an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUse {
    /// The image's id.
    pub image: Digest,
    /// The container's id.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
}

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct RemoveOptions {
    /// Also what stopped containers use, and what several repositories name.
    pub force: bool,
}

/// What a removal did.
#[derive(Debug, Clone, Default)]
pub struct Removed {
    /// The reply's items, in order.
    pub items: Vec<ImageDeleteItem>,
    /// Ids of images that lost a name, one for each name.
    pub untagged: Vec<Digest>,
    /// Ids of images that are gone.
    pub deleted: Vec<Digest>,
    /// Bytes that became free.
    pub freed: u64,
}

impl Images {
    /// Removes a name, or an image with all its names.
    ///
    /// # Errors
    /// No such image; a conflict, in dockerd's words.
    pub async fn remove(
        &self,
        text: &str,
        options: RemoveOptions,
        uses: &[ImageUse],
    ) -> Result<Removed, ImageError> {
        let _naming = self.0.naming.lock().await;
        let image = self.resolve(text)?;
        let users: Vec<&ImageUse> = uses.iter().filter(|u| u.image == image.id).collect();
        let mut removed = Removed::default();
        let all = references(&image);
        if is_id_prefix(&image.id, text) {
            check(&image, &users, options.force, !single_repository(&all))?;
            for name in &all {
                untag(&mut removed, &image, name);
            }
        } else {
            let reference = Reference::parse(text)?.tagged();
            let is_single = single_repository(&all) && tags(&all).count() <= 1;
            if let (false, true, Some(user)) = (options.force, is_single, users.first()) {
                return Err(ImageError::Conflict(format!(
                    "conflict: unable to remove repository reference {text:?} (must force) - \
                     container {} is using its referenced image {}",
                    short(&user.container),
                    image.id.short()
                )));
            }
            let (goes, stays) = split(&all, &reference);
            // Forced off an image in use: the image stays, without a name.
            if stays.is_empty() && users.iter().any(|user| user.running) {
                check(&image, &users, options.force, false)?;
            }
            for name in &goes {
                untag(&mut removed, &image, name);
            }
            if !stays.is_empty() {
                self.forget_names(&goes).await?;
                return Ok(removed);
            }
        }
        self.delete_image(&image, &mut removed).await?;
        self.refresh().await?;
        Ok(removed)
    }

    /// Takes names off an image that has others. A digest that is a name only since its
    /// repository is known to have it is forgotten with that knowledge.
    async fn forget_names(&self, goes: &[Reference]) -> Result<(), ImageError> {
        for name in goes {
            self.delete_record(&name.to_string(), true).await?;
        }
        if let [name] = goes
            && let Some(target) = name.digest()
        {
            crate::registry::forget_source(&self.0.client, &target, name).await?;
            self.forget(&target).await;
        }
        self.refresh().await
    }

    /// Removes all records of an image, and tells which layers went with it.
    async fn delete_image(
        &self,
        image: &ResolvedImage,
        removed: &mut Removed,
    ) -> Result<(), ImageError> {
        let index = self.index();
        let records = index.records(&image.id).to_vec();
        let kept: BTreeSet<ChainId> = index
            .all()
            .filter(|other| other.id != image.id)
            .flat_map(|other| ChainId::all(&other.diff_ids))
            .collect();
        let (last, others) = match records.split_last() {
            Some((last, others)) => (Some(last), others),
            None => (None, &[][..]),
        };
        for record in others {
            self.delete_record(record, false).await?;
        }
        if let Some(record) = last {
            // The reply comes after the store has dropped the content.
            self.delete_record(record, true).await?;
        }
        removed.deleted.push(image.id);
        let item = |deleted: String| ImageDeleteItem { deleted, ..ImageDeleteItem::default() };
        removed.items.push(item(image.id.to_string()));
        let mut gone = Vec::new();
        for (chain, size) in ChainId::all(&image.diff_ids).into_iter().zip(&image.layer_sizes).rev()
        {
            if !kept.contains(&chain) {
                removed.items.push(item(chain.to_string()));
                removed.freed += size;
                gone.push(chain);
            }
        }
        size::forget(&self.0.config, &gone);
        Ok(())
    }

    pub(crate) async fn delete_record(&self, name: &str, sync: bool) -> Result<(), ImageError> {
        let request = DeleteImageRequest { name: name.into(), sync, target: None };
        let deleted = self.0.client.images().delete(request).await;
        RpcError::absent_is_fine(deleted.map(drop).map_err(RpcError::from))?;
        Ok(())
    }

    /// Removes what nothing uses: dangling images, or with `dangling=false`
    /// all that no container uses.
    ///
    /// # Errors
    /// A filter's value is wrong, or the store's.
    pub async fn prune(&self, filters: &Filters, uses: &[ImageUse]) -> Result<Removed, ImageError> {
        let _naming = self.0.naming.lock().await;
        let only_dangling = filters.boolean("dangling")?.unwrap_or(true);
        let mut rest = Filters::default();
        for (key, values) in filters.iter().filter(|(key, _)| *key != "dangling") {
            rest = values.iter().fold(rest, |rest, value| rest.with(key, value));
        }
        let mut removed = Removed::default();
        let candidates: Vec<Arc<ResolvedImage>> = self.matching(&rest)?;
        for image in candidates {
            let used = uses.iter().any(|user| user.image == image.id);
            if used || (only_dangling && !image.is_dangling()) {
                continue;
            }
            for name in &references(&image) {
                untag(&mut removed, &image, name);
            }
            self.delete_image(&image, &mut removed).await?;
            self.refresh().await?;
        }
        Ok(removed)
    }

    /// Keeps an image that loses its last name, as a dangling one.
    pub async fn keep_dangling(&self, image: &ResolvedImage) -> Result<(), ImageError> {
        self.write_name(&format!("{DANGLING}{}", image.target.digest), &image.target).await
    }
}

/// Why an image can't be removed, if so.
fn check(
    image: &ResolvedImage,
    users: &[&ImageUse],
    force: bool,
    many: bool,
) -> Result<(), ImageError> {
    let conflict = |how: &str, why: String| {
        let id = image.id.short();
        Err(ImageError::Conflict(format!("conflict: unable to delete {id} ({how}) - {why}")))
    };
    if let Some(user) = users.iter().find(|user| user.running) {
        let id = short(&user.container);
        let why = format!("image is being used by running container {id}");
        return conflict("cannot be forced", why);
    }
    if force {
        return Ok(());
    }
    if many {
        let why = "image is referenced in multiple repositories";
        return conflict("must be forced", why.into());
    }
    if let Some(user) = users.first() {
        let id = short(&user.container);
        return conflict(
            "must be forced",
            format!("image is being used by stopped container {id}"),
        );
    }
    Ok(())
}

fn untag(removed: &mut Removed, image: &ResolvedImage, name: &Reference) {
    removed.untagged.push(image.id);
    let untagged = name.familiar();
    removed.items.push(ImageDeleteItem { untagged, ..ImageDeleteItem::default() });
}

/// All names of an image as dockerd counts them: by repository, its digests behind its tags.
fn references(image: &ResolvedImage) -> Vec<Reference> {
    let (_, digests) = crate::view::names(image);
    let tags = image.names.iter().map(|name| name.reference.clone());
    let mut all: Vec<Reference> = tags.filter(|name| name.digest().is_none()).collect();
    all.extend(digests.iter().filter_map(|text| Reference::parse(text).ok()));
    all.sort_by_cached_key(|name| (name.name(), name.digest().is_some(), name.to_string()));
    all
}

fn tags(names: &[Reference]) -> impl Iterator<Item = &Reference> {
    names.iter().filter(|name| name.digest().is_none())
}

/// What goes with a name, and what stays: a repository's digests go with its last tag.
fn split(all: &[Reference], name: &Reference) -> (Vec<Reference>, Vec<Reference>) {
    let same = |other: &&Reference| other.name() == name.name();
    let is_last = name.digest().is_none() && !tags(all).filter(same).any(|other| other != name);
    let mut goes = vec![name.clone()];
    let mut stays = Vec::new();
    for other in all.iter().filter(|other| *other != name) {
        if is_last && same(&other) { goes.push(other.clone()) } else { stays.push(other.clone()) }
    }
    (goes, stays)
}

fn single_repository(names: &[Reference]) -> bool {
    let repositories: BTreeSet<String> = names.iter().map(Reference::name).collect();
    repositories.len() <= 1
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
