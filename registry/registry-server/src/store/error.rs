//! What can go wrong in the store.

use std::io;
use std::path::PathBuf;

use oci::Digest;

use crate::name::Repository;

/// An error of the store; each names its object.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process works on this root.
    #[error("{root} is in use by process {owner}", root = root.display())]
    InUse {
        /// The root.
        root: PathBuf,
        /// Who has it.
        owner: String,
    },
    /// A collection is running already.
    #[error("a collection is running already")]
    Collecting,
    /// No such repository.
    #[error("repository {0} is not known")]
    NameUnknown(Repository),
    /// The repository does not have this blob.
    #[error("blob {0} is not known")]
    BlobUnknown(Digest),
    /// A manifest refers to what its repository does not have.
    #[error("blobs of the manifest are not known: {0:?}")]
    ManifestBlobsUnknown(Vec<Digest>),
    /// The repository does not have this manifest or tag.
    #[error("manifest {0} is not known")]
    ManifestUnknown(String),
    /// No such upload, or it is another repository's.
    #[error("upload {0} is not known")]
    UploadUnknown(String),
    /// Too many uploads are open.
    #[error("{0} uploads are open, and no more are accepted")]
    TooManyUploads(usize),
    /// An upload's bytes are not where it stands.
    #[error("the upload stands at {offset}")]
    OutOfOrder {
        /// Bytes that it has.
        offset: u64,
    },
    /// The bytes have another digest than their name.
    #[error("the bytes are {found}, not {wanted}")]
    WrongDigest {
        /// What was announced.
        wanted: Box<Digest>,
        /// What came.
        found: Box<Digest>,
    },
    /// What is stored is not what was stored.
    #[error("{0} is damaged on the disk")]
    Damaged(Digest),
    /// A condition of the request does not hold.
    #[error("the tag is at {0:?}")]
    Precondition(Option<Digest>),
    /// The file system.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl StoreError {
    /// For `map_err`: the kernel's answer to what was attempted.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The same for `path`.
    pub(crate) fn at(what: &str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        Self::io(format!("{what} {}", path.display()))
    }
}

/// Absence is an answer, other errors stay errors.
pub(crate) fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Whether the path, or a folder on the way to it, is not there.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
