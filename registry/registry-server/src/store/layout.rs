//! Where everything lies. Blobs and links are as docker-registry's file-system driver has them,
//! so that either program can serve what the other has stored; beside them is a folder of ours.
//!
//! ```text
//! docker/registry/v2/blobs/ALG/HH/HEX/data                       bytes
//! docker/registry/v2/repositories/NAME/
//!     _layers/ALG/HEX/link                                       the repository has this blob
//!     _manifests/revisions/ALG/HEX/{link,mediatype}              and this manifest
//!     _manifests/tags/TAG/current/link                           the tag's manifest
//!     _referrers/ALG/HEX/ALG/HEX                                 descriptor of one that refers to it
//! ferry/{lock,boot,adopted,control.sock}
//! ferry/uploads/UUID/{session.json,blob/data}
//! ferry/tmp/UUID  ferry/trash/UUID                               emptied at the start
//! ```

use std::path::{Path, PathBuf};

use oci::Digest;

use crate::name::{Repository, Tag};

/// Name of the file that makes a link.
pub(crate) const LINK: &str = "link";
/// Name of the file with a manifest's media type, which docker-registry does not have.
pub(crate) const MEDIA_TYPE: &str = "mediatype";
/// Name of a blob's file in its folder.
pub(crate) const DATA: &str = "data";

/// Paths below one root.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    shared: PathBuf,
    own: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: &Path) -> Self {
        Self { shared: root.join("docker/registry/v2"), own: root.join("ferry") }
    }

    /// Folders that must be there from the start.
    pub(crate) fn folders(&self) -> [PathBuf; 5] {
        [self.blobs(), self.repositories(), self.uploads(), self.tmp(), self.trash()]
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.shared.join("blobs")
    }

    /// The folder of a blob; its parent holds its neighbours.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs().join(digest.algorithm().as_str()).join(&hex[..2]).join(hex)
    }

    pub(crate) fn repositories(&self) -> PathBuf {
        self.shared.join("repositories")
    }

    pub(crate) fn repository(&self, name: &Repository) -> PathBuf {
        self.repositories().join(name.as_str())
    }

    pub(crate) fn layers(&self, name: &Repository) -> PathBuf {
        self.repository(name).join("_layers")
    }

    pub(crate) fn layer(&self, name: &Repository, digest: &Digest) -> PathBuf {
        below(&self.layers(name), digest)
    }

    pub(crate) fn manifests(&self, name: &Repository) -> PathBuf {
        self.repository(name).join("_manifests")
    }

    pub(crate) fn revisions(&self, name: &Repository) -> PathBuf {
        self.manifests(name).join("revisions")
    }

    pub(crate) fn revision(&self, name: &Repository, digest: &Digest) -> PathBuf {
        below(&self.revisions(name), digest)
    }

    pub(crate) fn tags(&self, name: &Repository) -> PathBuf {
        self.manifests(name).join("tags")
    }

    pub(crate) fn tag(&self, name: &Repository, tag: &Tag) -> PathBuf {
        self.tags(name).join(tag.as_str())
    }

    pub(crate) fn all_referrers(&self, name: &Repository) -> PathBuf {
        self.repository(name).join("_referrers")
    }

    /// The folder of those that refer to `subject`.
    pub(crate) fn referrers(&self, name: &Repository, subject: &Digest) -> PathBuf {
        below(&self.all_referrers(name), subject)
    }

    pub(crate) fn referrer(&self, name: &Repository, subject: &Digest, of: &Digest) -> PathBuf {
        below(&self.referrers(name, subject), of)
    }

    pub(crate) fn uploads(&self) -> PathBuf {
        self.own.join("uploads")
    }

    pub(crate) fn upload(&self, uuid: &str) -> PathBuf {
        self.uploads().join(uuid)
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.own.join("tmp")
    }

    pub(crate) fn trash(&self) -> PathBuf {
        self.own.join("trash")
    }

    /// A file of ours.
    pub(crate) fn own(&self, name: &str) -> PathBuf {
        self.own.join(name)
    }
}

fn below(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join(digest.algorithm().as_str()).join(digest.hex())
}

/// Path of the control socket of a server on `root`.
pub(crate) fn control_socket(root: &Path) -> PathBuf {
    Layout::new(root).own("control.sock")
}
