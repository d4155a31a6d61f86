//! What can go wrong with images, in dockerd's words where a user sees it.

use containerd_rpc::RpcError;
use oci::reference::InvalidReference;
use registry_client::Told;

/// A failed operation on images.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// No image of that name or id. Holds the name as users write it.
    #[error("No such image: {0}")]
    NotFound(String),
    /// More than one image begins with that id.
    #[error("{0}: multiple IDs found with provided prefix")]
    Ambiguous(String),
    /// The image has nothing for the platform that was asked for.
    #[error("{0}")]
    Platform(String),
    /// No name of an image.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// The request is wrong; the text says how.
    #[error("{0}")]
    Invalid(String),
    /// The image is in use.
    #[error("{0}")]
    Conflict(String),
    /// An archive or a stream could not be read.
    #[error("{0}")]
    Archive(String),
    /// A registry refused or failed; in dockerd's words.
    #[error("{}", .0.message)]
    Registry(Told),
    /// Content that should be there or should be well-formed is not.
    #[error("image content {what}: {problem}")]
    Content {
        /// Which content.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The store refused or is gone.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

impl ImageError {
    /// An error about the content `what`.
    pub(crate) fn content(what: impl ToString, problem: impl ToString) -> Self {
        Self::Content { what: what.to_string(), problem: problem.to_string() }
    }
}
