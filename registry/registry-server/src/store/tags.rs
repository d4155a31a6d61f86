//! Tags: a name's current manifest, in one small file that is replaced as a whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use oci::Digest;

use super::error::optional;
use super::layout::LINK;
use super::{Store, StoreError};
use crate::name::{Repository, Tag};

impl Store {
    /// The manifest that a tag points to, if both are there.
    pub fn tag_target(&self, name: &Repository, tag: &Tag) -> Result<Option<Digest>, StoreError> {
        let path = self.link_of_tag(name, tag);
        let text = optional(fs::read(&path)).map_err(StoreError::at("reading", &path))?;
        let Some(text) = text else { return Ok(None) };
        let digest = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        Ok(digest.filter(|digest| self.has_manifest(name, digest)))
    }

    pub(super) fn set_tag(
        &self,
        name: &Repository,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        if self.tag_target(name, tag)? == Some(*digest) {
            return Ok(());
        }
        self.durable.write(&self.link_of_tag(name, tag), digest.to_string().as_bytes())
    }

    /// Removes a tag; its manifest stays.
    ///
    /// # Errors
    /// [`StoreError::ManifestUnknown`], [`StoreError::NameUnknown`].
    pub fn delete_tag(&self, name: &Repository, tag: &Tag) -> Result<(), StoreError> {
        self.known(name)?;
        let _changing = self.changing(name);
        let _pin = self.pin([]);
        let there = self.tag_target(name, tag)?.is_some();
        self.durable.remove(&self.layout.tag(name, tag))?;
        if there { Ok(()) } else { Err(StoreError::ManifestUnknown(tag.to_string())) }
    }

    /// The first `limit` tags after `last` in ASCII order, and whether there are more.
    ///
    /// # Errors
    /// [`StoreError::NameUnknown`].
    pub fn tags(
        &self,
        name: &Repository,
        last: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Tag>, bool), StoreError> {
        self.known(name)?;
        let mut first = BTreeSet::new();
        let mut more = false;
        for tag in self.tag_names(name)? {
            if last.is_some_and(|last| tag.as_str() <= last) {
                continue;
            }
            if first.len() == limit && first.last().is_none_or(|worst| *worst <= tag) {
                more = more || self.tag_target(name, &tag)?.is_some();
                continue;
            }
            if self.tag_target(name, &tag)?.is_some() {
                first.insert(tag);
            }
            if first.len() > limit {
                first.pop_last();
                more = true;
            }
        }
        Ok((first.into_iter().collect(), more))
    }

    /// The tags that point to a manifest.
    pub(super) fn tags_of(
        &self,
        name: &Repository,
        digest: &Digest,
    ) -> Result<Vec<Tag>, StoreError> {
        let mut found = Vec::new();
        for tag in self.tag_names(name)? {
            if self.tag_target(name, &tag)? == Some(*digest) {
                found.push(tag);
            }
        }
        Ok(found)
    }

    /// Every tag that has a folder.
    pub(super) fn tag_names(
        &self,
        name: &Repository,
    ) -> Result<impl Iterator<Item = Tag>, StoreError> {
        let folder = self.layout.tags(name);
        let entries =
            optional(fs::read_dir(&folder)).map_err(StoreError::at("reading", &folder))?;
        let names = entries.into_iter().flatten().flatten();
        Ok(names.filter_map(|entry| entry.file_name().to_str().and_then(|s| s.parse().ok())))
    }

    fn link_of_tag(&self, name: &Repository, tag: &Tag) -> PathBuf {
        self.layout.tag(name, tag).join("current").join(LINK)
    }
}
