//! Choosing images: filters, order, what the list shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine_api::ImageSummary;
use engine_api::filters::{FilterError, Filters};
use engine_api::moment::moment;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use oci::Digest;

use crate::pattern::reference_matches;
use crate::remove::ImageUse;
use crate::{ImageError, Images, ResolvedImage};

/// How the list is shown.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Which images.
    pub filters: Filters,
    /// Also images without a name that others were committed from.
    pub all: bool,
    /// Whether to tell how much of an image others share.
    pub shared_size: bool,
}

impl From<FilterError> for ImageError {
    fn from(e: FilterError) -> Self {
        Self::Invalid(e.to_string())
    }
}

impl Images {
    /// The list, newest first. `uses` says which containers use which image.
    ///
    /// # Errors
    /// A filter's value is wrong.
    pub fn list(
        &self,
        options: &ListOptions,
        uses: &[ImageUse],
    ) -> Result<Vec<ImageSummary>, ImageError> {
        let mut images = self.matching(&options.filters)?;
        let only_dangling = options.filters.boolean("dangling")? == Some(true);
        if only_dangling || !options.all {
            let index = self.index();
            images.retain(|image| !image.is_dangling() || !index.has_children(&image.id));
        }
        images.sort_by_key(|image| std::cmp::Reverse(image.created()));
        let shared = options.shared_size.then(|| self.layer_users());
        let patterns: Vec<&str> = options.filters.get("reference").collect();
        let mut out = Vec::with_capacity(images.len());
        for image in images {
            let containers = uses.iter().filter(|u| u.image == image.id).count() as i64;
            let mut summary = summary(&image, containers);
            if let Some(users) = &shared {
                summary.shared_size = shared_size(&image, users);
            }
            if !patterns.is_empty() {
                summary.repo_tags = Some(matching_names(&image, &patterns)?);
            }
            out.push(summary);
        }
        Ok(out)
    }

    /// The images that pass `filters` (`before`, `since`, `until`, `dangling`,
    /// `label`, `label!`, `reference`).
    pub(crate) fn matching(
        &self,
        filters: &Filters,
    ) -> Result<Vec<Arc<ResolvedImage>>, ImageError> {
        let dangling = filters.boolean("dangling")?;
        // An image that does not say when it was made bounds nothing, and lies in no bounds.
        let mut older_than: Option<i64> = None;
        let mut newer_than: Option<i64> = None;
        let made = |name: &str| Ok::<_, ImageError>(self.resolve(name)?.created_at().map(nanos));
        for name in filters.get("before") {
            older_than = older_than.into_iter().chain(made(name)?).min();
        }
        for text in filters.get("until") {
            let limit = moment(text, Timestamp::now(), &TimeZone::system());
            let limit = limit.map_err(ImageError::Archive)?;
            older_than = older_than.into_iter().chain([limit]).min();
        }
        for name in filters.get("since") {
            newer_than = newer_than.into_iter().chain(made(name)?).max();
        }
        let patterns: Vec<&str> = filters.get("reference").collect();
        let empty = BTreeMap::new();
        let mut out = Vec::new();
        for image in self.all() {
            let created = image.created_at().map(nanos);
            let labels = image.config.config.labels.as_ref().unwrap_or(&empty);
            let fits = dangling
                .is_none_or(|want| if want { !image.has_tags() } else { !image.is_dangling() })
                && older_than.is_none_or(|limit| created.is_some_and(|at| at < limit))
                && newer_than.is_none_or(|limit| created.is_some_and(|at| at > limit))
                && filters.labels("label", labels)
                && filters.without_labels(labels);
            if !fits || (!patterns.is_empty() && matching_names(&image, &patterns)?.is_empty()) {
                continue;
            }
            out.push(image);
        }
        Ok(out)
    }

    /// What all layers take, each counted once.
    pub fn layers_size(&self) -> u64 {
        let mut sizes = BTreeMap::new();
        for image in self.all() {
            let chains = oci::image::ChainId::all(&image.diff_ids).into_iter();
            sizes.extend(chains.map(|chain| chain.0).zip(image.layer_sizes.iter().copied()));
        }
        sizes.values().sum()
    }

    /// How many images have each layer (by chain).
    fn layer_users(&self) -> BTreeMap<Digest, usize> {
        let mut users = BTreeMap::new();
        for image in self.all() {
            for chain in oci::image::ChainId::all(&image.diff_ids) {
                *users.entry(chain.0).or_insert(0) += 1;
            }
        }
        users
    }
}

fn nanos(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

fn matching_names(image: &ResolvedImage, patterns: &[&str]) -> Result<Vec<String>, ImageError> {
    let mut out = Vec::new();
    for name in &image.names {
        for pattern in patterns {
            let found = reference_matches(pattern, &name.reference);
            if found.map_err(|e| ImageError::Archive(e.to_string()))? {
                out.push(name.reference.familiar());
                break;
            }
        }
    }
    Ok(out)
}

fn shared_size(image: &ResolvedImage, users: &BTreeMap<Digest, usize>) -> i64 {
    let chains = oci::image::ChainId::all(&image.diff_ids);
    let shared = chains.iter().zip(&image.layer_sizes);
    let shared = shared.filter(|(chain, _)| users.get(&chain.0).is_some_and(|n| *n > 1));
    shared.map(|(_, size)| *size as i64).sum()
}

fn summary(image: &ResolvedImage, containers: i64) -> ImageSummary {
    let (tags, digests) = crate::view::names(image);
    ImageSummary {
        containers,
        created: image.created(),
        id: image.id.to_string(),
        labels: image.config.config.labels.clone(),
        parent_id: image.parent.map(|id| id.to_string()).unwrap_or_default(),
        repo_digests: Some(digests),
        repo_tags: Some(tags),
        shared_size: -1,
        size: image.size() as i64,
        virtual_size: image.size() as i64,
        ..ImageSummary::default()
    }
}
