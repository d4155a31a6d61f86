//! Images to and from registries, told in docker's words while they go.
//!
//! `pull` walks from a reference to its layers, `push` from a name to what it stands for.
//! ferry-containerd moves the layers by itself (`transfer`); for other containerds `layers` brings
//! them several at once, `fetch` one blob, and `pieces` sends them. `progress` is what is told.
//! What is in the store already is not fetched again; what was fetched is held by a lease until
//! the image has its name.

mod fetch;
mod layers;
mod pieces;
mod progress;
mod pull;
mod push;
mod transfer;

use std::sync::Arc;

use engine_api::AuthConfig;
use oci::Reference;
use registry_client::{Asked, Credentials, Told};
use tokio::sync::Semaphore;

pub(crate) use fetch::{blob_size, forget_source, labels};
pub use progress::Progress;
pub use pull::PullRequest;
pub use push::PushRequest;

use crate::ImageError;

/// How registries are reached, and how much is asked of them at once.
#[derive(Clone)]
pub struct Remote {
    /// The client.
    pub client: registry_client::Client,
    /// Where the client finds registries, for others who are to go the same way.
    pub hosts: registry_client::Hosts,
    /// Limits and proxies, for those others too.
    pub limits: Limits,
    /// What layers that are stored plain leave as, where the store moves them.
    pub compression: Compression,
    /// A folder of this process's, for what those others read.
    pub folder: std::path::PathBuf,
    /// Blobs that are fetched at once.
    pub downloads: Arc<Semaphore>,
    /// Blobs that are sent at once.
    pub uploads: Arc<Semaphore>,
}

impl Remote {
    /// Whether what is configured for a reference's registry can be used.
    async fn check(&self, reference: &Reference) -> Result<(), ImageError> {
        let (hosts, domain) = (self.hosts.clone(), reference.domain().to_owned());
        let found = tokio::task::spawn_blocking(move || hosts.of(&domain).map(drop)).await;
        let found = found.map_err(|e| failed(500, e.to_string()))?;
        found.map_err(|e| failed(400, e.to_string()))
    }
}

/// What is asked of registries at most, and by which way.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Blobs that are fetched at once.
    pub downloads: usize,
    /// Blobs that are sent at once.
    pub uploads: usize,
    /// Attempts at a download.
    pub attempts: u32,
    /// Proxies for http and https, and the hosts that are reached without.
    pub proxies: [String; 3],
}

/// How layers that are stored plain are pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As gzip, which every client reads.
    Gzip,
    /// As zstd, in OCI's types of documents.
    Zstd,
    /// As they are.
    None,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remote")
    }
}

/// The label that remembers from which repositories of a registry content is known to be had, as
/// containerd's clients write it: without the port.
pub(crate) const SOURCE: &str = "containerd.io/distribution.source.";

/// The label of a reference's registry, and its repository there.
pub(crate) fn source_of(reference: &Reference) -> (String, String) {
    (format!("{SOURCE}{}", host_of(reference)), reference.path().to_owned())
}

/// A registry's host without its port.
pub(crate) fn host_of(reference: &Reference) -> &str {
    let domain = reference.domain();
    match domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => domain.split(':').next().unwrap_or(domain),
    }
}

/// Who an engine's client says that it is.
fn credentials(auth: &AuthConfig) -> Credentials {
    let AuthConfig { username, password, identitytoken, registrytoken, .. } = auth;
    Credentials::of(username, password, identitytoken, registrytoken)
}

fn told(error: &registry_client::Error, reference: &Reference) -> ImageError {
    ImageError::Registry(error.told(Asked::Pull(reference)))
}

/// An error that the registry did not make.
fn failed(status: u16, message: impl Into<String>) -> ImageError {
    ImageError::Registry(Told { status, message: message.into() })
}
