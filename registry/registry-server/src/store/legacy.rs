//! Manifests that another program stored here: docker-registry records neither their types nor
//! what they are about. Both are read from them once.

use oci::Digest;

use super::layout::MEDIA_TYPE;
use super::referrers::digests_below;
use super::{Store, StoreError};
use crate::manifest::{Manifest, sniff};
use crate::name::Repository;

/// The mark of a store that has been gone through.
const ADOPTED: &str = "adopted";

impl Store {
    /// Goes through a store before it is served for the first time.
    pub(super) fn adopt_before_first_use(&self) -> Result<(), StoreError> {
        let mark = self.layout.own(ADOPTED);
        if mark.exists() {
            return Ok(());
        }
        self.adopt()?;
        self.durable.write(&mark, b"")
    }

    /// Records what is missing about manifests that came in another way than through here.
    /// Returns their number.
    pub fn adopt(&self) -> Result<usize, StoreError> {
        let mut count = 0;
        self.each_repository(None, &mut |name| {
            for (digest, folder) in digests_below(&self.layout.revisions(&name))? {
                if !folder.join(MEDIA_TYPE).exists() && self.adopt_manifest(&name, &digest)? {
                    count += 1;
                }
            }
            Ok(true)
        })?;
        Ok(count)
    }

    fn adopt_manifest(&self, name: &Repository, digest: &Digest) -> Result<bool, StoreError> {
        let _changing = self.changing(name);
        let _pin = self.pin([digest]);
        let bytes = match self.manifest_bytes(digest) {
            Ok(bytes) if self.has_manifest(name, digest) => bytes,
            Ok(_) | Err(StoreError::BlobUnknown(_)) => return Ok(false),
            Err(StoreError::Damaged(_)) => {
                tracing::warn!(repository = %name, manifest = %digest, "damaged");
                return Ok(false);
            }
            Err(other) => return Err(other),
        };
        let media_type = sniff(&bytes);
        if let Ok(manifest) = Manifest::parse(media_type, &bytes)
            && let Some(subject) = manifest.subject()
        {
            let shown = manifest.descriptor(*digest, bytes.len() as u64);
            self.link_referrer(name, &subject, &shown)?;
        }
        let path = self.layout.revision(name, digest).join(MEDIA_TYPE);
        self.durable.write(&path, media_type.as_bytes())?;
        Ok(true)
    }
}
