//! The index from ids to images and names. Pure: built from what the store
//! says, asked by name, id or prefix.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use oci::image::{ChainId, ImageConfig};
use oci::{Descriptor, Digest, Reference};

use crate::registry::host_of;
use crate::{DANGLING, ImageError};

/// An image, understood as far as running it needs.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The id shown: the digest of the configuration.
    pub id: Digest,
    /// What the names point at: an index or a manifest.
    pub target: Descriptor,
    /// The manifest for this host.
    pub manifest: Descriptor,
    /// The manifest's layers, lowest first.
    pub layers: Vec<Descriptor>,
    /// The configuration.
    pub config: ImageConfig,
    /// The layers' digests, uncompressed, lowest first.
    pub diff_ids: Vec<Digest>,
    /// The stack of all layers; the parent of containers' snapshots. `None`
    /// for an image without layers.
    pub chain_id: Option<ChainId>,
    /// What each layer takes in bytes: unpacked where it is, else as stored.
    pub layer_sizes: Vec<u64>,
    /// The image that it was committed from, here.
    pub parent: Option<Digest>,
    /// The repositories that the target is known to be had from, as `host/path` without port.
    pub sources: Vec<String>,
    /// All names, sorted. Without any it is dangling.
    pub names: Vec<Name>,
}

impl ResolvedImage {
    /// The sum of all layers in bytes.
    pub fn size(&self) -> u64 {
        self.layer_sizes.iter().sum()
    }
    /// Whether no name is left.
    pub fn is_dangling(&self) -> bool {
        self.names.is_empty()
    }
    /// Whether it has a name with a tag.
    pub fn has_tags(&self) -> bool {
        self.names.iter().any(|name| name.reference.digest().is_none())
    }
    /// When it was made, in seconds; 0 when it does not say.
    pub fn created(&self) -> i64 {
        self.created_at().map_or(0, Timestamp::as_second)
    }
    /// When it was made.
    pub fn created_at(&self) -> Option<Timestamp> {
        self.config.created.as_ref()?.parse().ok()
    }
}

/// A name that points at an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The reference.
    pub reference: Reference,
    /// When it began to.
    pub tagged_at: Timestamp,
    /// What it points at. One image can have several targets: with its layers plain, as an archive
    /// brought it, and with them compressed, as a registry has it.
    pub target: Digest,
    /// Whether the name's repository is known to have the target.
    pub is_published: bool,
}

/// A record of the store, with what its target was understood as.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub name: String,
    pub tagged_at: Timestamp,
    pub image: Arc<ResolvedImage>,
}

/// Ids → images, names → targets → images; with the record names behind each image.
#[derive(Debug, Default, Clone)]
pub(crate) struct Index {
    by_id: BTreeMap<Digest, Arc<ResolvedImage>>,
    by_name: BTreeMap<String, Digest>,
    /// Targets as they were understood, without names.
    by_target: BTreeMap<Digest, Arc<ResolvedImage>>,
    records: BTreeMap<Digest, Vec<String>>,
}

impl Index {
    pub(crate) fn new(records: Vec<Record>) -> Self {
        let mut index = Self::default();
        let mut gathered: BTreeMap<Digest, ResolvedImage> = BTreeMap::new();
        for record in records {
            let id = record.image.id;
            let target = record.image.target.digest;
            index.by_target.entry(target).or_insert_with(|| Arc::clone(&record.image));
            let image = gathered.entry(id).or_insert_with(|| (*record.image).clone());
            index.records.entry(id).or_default().push(record.name.clone());
            if record.name.starts_with(DANGLING) {
                continue;
            }
            if let Ok(reference) = Reference::parse(&record.name) {
                index.by_name.insert(reference.to_string(), target);
                let source = format!("{}/{}", host_of(&reference), reference.path());
                let is_published = record.image.sources.contains(&source);
                let tagged_at = record.tagged_at;
                image.names.push(Name { reference, tagged_at, target, is_published });
            }
        }
        for image in gathered.values_mut() {
            image.names.sort_by(|a, b| a.reference.cmp(&b.reference));
        }
        index.by_id = gathered.into_iter().map(|(id, image)| (id, Arc::new(image))).collect();
        index
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<ResolvedImage>> {
        self.by_id.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn by_id(&self, id: &Digest) -> Option<&Arc<ResolvedImage>> {
        self.by_id.get(id)
    }

    /// Whether an image was committed from this one.
    pub(crate) fn has_children(&self, id: &Digest) -> bool {
        self.by_id.values().any(|image| image.parent.as_ref() == Some(id))
    }

    /// The store's record names of an image, dangling ones included.
    pub(crate) fn records(&self, id: &Digest) -> &[String] {
        self.records.get(id).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn by_reference(&self, reference: &Reference) -> Option<&Arc<ResolvedImage>> {
        self.own(reference).and_then(|own| self.by_id.get(&own.id))
    }

    /// What exactly a name points at, without the names of its image.
    pub(crate) fn own(&self, reference: &Reference) -> Option<&Arc<ResolvedImage>> {
        self.by_name.get(&reference.to_string()).and_then(|target| self.understood(target))
    }

    /// What exactly a target is, without the names of its image.
    pub(crate) fn understood(&self, target: &Digest) -> Option<&Arc<ResolvedImage>> {
        self.by_target.get(target)
    }

    /// The image that a target is understood as.
    pub(crate) fn by_target(&self, target: &Digest) -> Option<&Arc<ResolvedImage>> {
        self.by_target.get(target).and_then(|own| self.by_id.get(&own.id))
    }

    /// What exactly `text` means: a name's own target, else the image's.
    pub(crate) fn target_of(&self, text: &str) -> Result<Descriptor, ImageError> {
        let image = self.find(text)?;
        let named = Reference::parse(text).ok().map(Reference::tagged);
        let own = named.and_then(|reference| match reference.digest() {
            Some(digest) => self.by_target.get(&digest).cloned(),
            None => self.own(&reference).cloned(),
        });
        Ok(own
            .filter(|own| own.id == image.id)
            .map_or_else(|| image.target.clone(), |own| own.target.clone()))
    }

    /// Finds an image as dockerd does: a whole id, then a name, then the
    /// beginning of an id.
    pub(crate) fn find(&self, text: &str) -> Result<Arc<ResolvedImage>, ImageError> {
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        if let Ok(id) = text.parse().or_else(|_| format!("sha256:{text}").parse::<Digest>()) {
            let found = self.by_id.get(&id).cloned();
            return found.ok_or_else(|| ImageError::NotFound(id.to_string()));
        }
        let reference = Reference::parse(text)?.tagged();
        if let Some(found) = self.by_reference(&reference) {
            return Ok(found.clone());
        }
        if let Some(digest) = reference.digest() {
            let found = self.by_id.values().find(|image| {
                let same = |name: &Name| {
                    name.target == digest && name.reference.name() == reference.name()
                };
                image.names.iter().any(same)
            });
            return found.cloned().ok_or_else(|| ImageError::NotFound(reference.familiar()));
        }
        if !hex.is_empty() && hex.len() < 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            let mut matching = self.by_id.iter().filter(|(id, _)| id.hex().starts_with(hex));
            if let Some((_, image)) = matching.next() {
                if matching.next().is_some() {
                    return Err(ImageError::Ambiguous(text.into()));
                }
                return Ok(image.clone());
            }
        }
        Err(ImageError::NotFound(reference.familiar()))
    }
}

/// Whether `text`, which found `id`, is (the beginning of) the id and no name.
pub(crate) fn is_id_prefix(id: &Digest, text: &str) -> bool {
    let hex = id.hex();
    let bare = text.strip_prefix(id.algorithm().as_str()).and_then(|t| t.strip_prefix(':'));
    hex.starts_with(bare.unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(seed: &str) -> Arc<ResolvedImage> {
        let target = Descriptor::of("m", seed.as_bytes());
        Arc::new(ResolvedImage {
            id: Digest::sha256(seed.as_bytes()),
            manifest: target.clone(),
            target,
            layers: Vec::new(),
            config: ImageConfig::default(),
            diff_ids: Vec::new(),
            chain_id: None,
            layer_sizes: Vec::new(),
            parent: None,
            sources: Vec::new(),
            names: Vec::new(),
        })
    }

    fn record(name: &str, image: &Arc<ResolvedImage>) -> Record {
        Record { name: name.into(), tagged_at: Timestamp::UNIX_EPOCH, image: image.clone() }
    }

    #[test]
    fn an_image_is_found_by_name_id_and_prefix() {
        let (a, b) = (image("a"), image("b"));
        let index = Index::new(vec![
            record("docker.io/library/busybox:latest", &a),
            record("docker.io/x/y:z", &a),
            record(&format!("{DANGLING}{}", b.target.digest), &b),
        ]);
        assert_eq!(index.find("busybox").unwrap().id, a.id);
        assert_eq!(index.find("x/y:z").unwrap().names.len(), 2);
        assert_eq!(index.find(&b.id.hex()[..6]).unwrap().id, b.id);
        assert_eq!(index.find(&b.id.to_string()).unwrap().id, b.id);
        assert!(index.find(&b.id.hex()).unwrap().is_dangling());
        let missing = index.find("nope").unwrap_err();
        assert_eq!(missing.to_string(), "No such image: nope:latest");
        let wrong = index.find("Bad Name").unwrap_err();
        assert!(wrong.to_string().starts_with("invalid reference format"), "{wrong}");
    }
}
