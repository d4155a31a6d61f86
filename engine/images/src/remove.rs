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
    /// Parents stay, also those that nobody names or needs any more.
    pub keep_parents: bool,
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
        let has_children = self.index().has_children(&image.id);
        if is_id_prefix(&image.id, text) {
            if has_children {
                let why = "image has dependent child images".into();
                return Err(conflict(&image, "cannot be forced", why));
            }
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
            let is_needed = has_children && stays.is_empty();
            if stays.is_empty() && !is_needed && users.iter().any(|user| user.running) {
                check(&image, &users, options.force, false)?;
            }
            for name in &goes {
                untag(&mut removed, &image, name);
            }
            if is_needed {
                self.keep_nameless_parent(&image, &goes).await?;
                return Ok(removed);
            }
            if !stays.is_empty() {
                self.forget_names(&goes).await?;
                return Ok(removed);
            }
        }
        self.delete_with_parents(&image, options, uses, &mut removed).await?;
        Ok(removed)
    }

    /// Removes an image, then its parents, as long as nobody names or needs them.
    async fn delete_with_parents(
        &self,
        image: &ResolvedImage,
        options: RemoveOptions,
        uses: &[ImageUse],
        removed: &mut Removed,
    ) -> Result<(), ImageError> {
        self.delete_image(image, removed).await?;
        self.refresh().await?;
        let mut next = image.parent.filter(|_| !options.keep_parents);
        while let Some(id) = next {
            let index = self.index();
            let Some(parent) = index.by_id(&id).filter(|parent| parent.is_dangling()) else {
                break;
            };
            if index.has_children(&id) || uses.iter().any(|user| user.image == id) {
                break;
            }
            self.delete_image(parent, removed).await?;
            self.refresh().await?;
            next = parent.parent;
        }
        Ok(())
    }

    /// Takes the last names off an image that its children need: it stays without one.
    async fn keep_nameless_parent(
        &self,
        image: &ResolvedImage,
        goes: &[Reference],
    ) -> Result<(), ImageError> {
        self.write_name(&format!("{DANGLING}{}", image.target.digest), &image.target).await?;
        self.forget_names(goes).await
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
            let is_needed = image.is_dangling() && self.index().has_children(&image.id);
            // A parent may have gone with its child.
            let is_gone = self.index().by_id(&image.id).is_none();
            if used || is_needed || is_gone || (only_dangling && image.has_tags()) {
                continue;
            }
            let names = references(&image);
            for name in &names {
                untag(&mut removed, &image, name);
            }
            if self.index().has_children(&image.id) {
                // It goes with the last of them.
                self.keep_nameless_parent(&image, &names).await?;
                continue;
            }
            let options = RemoveOptions::default();
            self.delete_with_parents(&image, options, uses, &mut removed).await?;
        }
        Ok(removed)
    }
}

pub(crate) fn conflict(image: &ResolvedImage, how: &str, why: String) -> ImageError {
    let id = image.id.short();
    ImageError::Conflict(format!("conflict: unable to delete {id} ({how}) - {why}"))
}

/// Why an image can't be removed, if so.
pub(crate) fn check(
    image: &ResolvedImage,
    users: &[&ImageUse],
    force: bool,
    many: bool,
) -> Result<(), ImageError> {
    let conflict = |how: &str, why: String| Err(conflict(image, how, why));
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
