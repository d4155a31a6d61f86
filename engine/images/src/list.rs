//! Choosing images: filters, order, what the list shows.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine_api::ImageSummary;
use engine_api::filters::{FilterError, Filters};
use oci::Digest;

use crate::pattern::reference_matches;
use crate::remove::ImageUse;
use crate::{ImageError, Images, ResolvedImage};

/// How the list is shown.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// Which images.
    pub filters: Filters,
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
        images.sort_by_key(|image| std::cmp::Reverse(image.created()));
        let shared = options.shared_size.then(|| self.layer_users());
        let patterns: Vec<&str> = options.filters.get("reference").collect();
        let mut out = Vec::with_capacity(images.len());
        for image in images {
            let containers = if options.shared_size {
                uses.iter().filter(|u| u.image == image.id).count() as i64
            } else {
                -1
            };
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
        let now = jiff::Timestamp::now();
        let mut older_than: Option<i64> = None;
        let mut newer_than: Option<i64> = None;
        for name in filters.get("before") {
            let created = self.resolve(name)?.created();
            older_than = Some(older_than.map_or(created, |t: i64| t.min(created)));
        }
        for text in filters.get("until") {
            let limit = moment(text, now)?;
            older_than = Some(older_than.map_or(limit, |t| t.min(limit)));
        }
        for name in filters.get("since") {
            let created = self.resolve(name)?.created();
            newer_than = Some(newer_than.map_or(created, |t: i64| t.max(created)));
        }
        let patterns: Vec<&str> = filters.get("reference").collect();
        let empty = BTreeMap::new();
        let mut out = Vec::new();
        for image in self.all() {
            let created = image.created();
            let labels = image.config.config.labels.as_ref().unwrap_or(&empty);
            let fits = dangling.is_none_or(|want| image.is_dangling() == want)
                && older_than.is_none_or(|limit| created < limit)
                && newer_than.is_none_or(|limit| created > limit)
                && filters.labels("label", labels)
                && filters.without_labels(labels);
            if !fits || (!patterns.is_empty() && matching_names(&image, &patterns)?.is_empty()) {
                continue;
            }
            out.push(image);
        }
        Ok(out)
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
        repo_digests: Some(digests),
        repo_tags: Some(tags),
        shared_size: -1,
        size: image.size() as i64,
        virtual_size: image.size() as i64,
        ..ImageSummary::default()
    }
}

/// A point in time as Docker's filters give it: RFC 3339, seconds of the
/// epoch, or how long ago (`10m`, `1h30m`).
pub(crate) fn moment(text: &str, now: jiff::Timestamp) -> Result<i64, ImageError> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds);
    }
    if let Some(seconds) = go_duration(text) {
        return Ok(now.as_second() - seconds);
    }
    if let Ok(time) = text.parse::<jiff::Timestamp>() {
        return Ok(time.as_second());
    }
    let local = text.parse::<jiff::civil::DateTime>();
    if let Ok(zoned) = local.and_then(|date| date.to_zoned(jiff::tz::TimeZone::system())) {
        return Ok(zoned.timestamp().as_second());
    }
    Err(ImageError::Archive(format!("failed to parse value as time or duration: {text:?}")))
}

/// Go's durations, in whole seconds.
fn go_duration(text: &str) -> Option<i64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_durations() {
        let now = jiff::Timestamp::from_second(10_000).unwrap();
        assert_eq!(moment("1h30m", now).unwrap(), 10_000 - 5400);
        assert_eq!(moment("77", now).unwrap(), 77);
        assert_eq!(moment("1970-01-01T00:01:00Z", now).unwrap(), 60);
        let text = moment("x", now).unwrap_err().to_string();
        assert_eq!(text, "failed to parse value as time or duration: \"x\"");
    }
}
