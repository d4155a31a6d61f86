//! A pull-through cache: what another registry has, kept here when it was asked for once.
//!
//! Blobs and manifests by digest never change, so what is here is served without asking. What a
//! tag points to is asked each time; if the other registry cannot be reached, what was known is
//! served, with a warning. Nothing can be pushed or deleted.

mod failure;
mod fetch;
mod tail;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use oci::{Descriptor, Digest, Reference};
use registry_client::{
    Client, Config, Credentials, DOCKER_IO, Error, Hosts, Insecure, Proxies, Retry, Which,
};

pub(crate) use failure::Failure;
pub(crate) use fetch::{Fetch, Opened, Reader};
pub(crate) use tail::tail;

use crate::config::Upstream;
use crate::name::{Repository, Tag, TagOrDigest};
use crate::store::{Store, StoreError};

/// For how long a registry that could not be reached is not asked about what is known.
const DOWN: Duration = Duration::from_secs(10);
/// Most tags of a list.
const MAX_TAGS: usize = 100_000;
/// Where certificates for the other registry may be.
const CERTIFICATES: [&str; 2] = ["/etc/ferry/certs.d", "/etc/docker/certs.d"];

/// Blobs on their way here.
type Fetches = Mutex<HashMap<(Repository, Digest), Arc<Fetch>>>;

/// The other registry, and what is being fetched from it.
pub(crate) struct Proxy {
    store: Arc<Store>,
    client: Client,
    registry: String,
    credentials: Credentials,
    fetches: Arc<Fetches>,
    down: Mutex<Option<Instant>>,
}

/// A manifest that is here now.
pub(crate) struct Manifest {
    /// Its digest.
    pub(crate) digest: Digest,
    /// Whether the other registry could not be asked.
    pub(crate) is_stale: bool,
}

/// A blob that is here, or comes.
pub(crate) enum Blob {
    /// It is here.
    Here,
    /// It comes.
    Coming(Arc<Fetch>),
}

/// Why a cache cannot be set up.
#[derive(Debug, thiserror::Error)]
#[error("pull-through cache: {0}")]
pub struct InvalidProxy(String);

impl Proxy {
    pub(crate) fn new(store: Arc<Store>, upstream: &Upstream) -> Result<Self, InvalidProxy> {
        let url = &upstream.url;
        let proxies = Proxies::from_environment().map_err(|e| InvalidProxy(e.to_string()))?;
        let hosts = Hosts {
            folders: CERTIFICATES.map(Into::into).into(),
            default_scheme: Some(url.scheme()),
            insecure: Insecure::none(),
            ..Hosts::default()
        };
        let retry =
            Retry { attempts: 3, first_wait: Duration::from_millis(200), ..Retry::default() };
        let user_agent = concat!("ferry-registry/", env!("CARGO_PKG_VERSION")).into();
        let config = Config { hosts, proxies, user_agent, retry, ..Config::default() };
        let credentials = match (&upstream.username, &upstream.password_file) {
            (Some(user), Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| InvalidProxy(format!("reading {}: {e}", path.display())))?;
                let password = text.trim_end_matches(['\r', '\n']).into();
                Credentials::Password { username: user.clone(), password }
            }
            _ => Credentials::Anonymous,
        };
        // With its port a host is one whatever its name; Docker's own is known by name.
        let registry = match url.host() {
            "docker.io" | "index.docker.io" => DOCKER_IO.to_owned(),
            host => format!("{host}:{}", url.port()),
        };
        Ok(Self {
            store,
            client: Client::new(config),
            registry,
            credentials,
            fetches: Arc::default(),
            down: Mutex::new(None),
        })
    }

    fn upstream(&self, name: &Repository) -> Result<registry_client::Repository, Failure> {
        let reference = format!("{}/{name}", self.registry);
        let reference: Reference = reference.parse().map_err(|_| Failure::unknown_name(name))?;
        Ok(self.client.repository(&reference, self.credentials.clone()))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = Arc::clone(&self.store);
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => done.map_err(Failure::from),
            Err(error) => Err(Failure::internal(&error.to_string())),
        }
    }

    /// Sees to it that a manifest is here.
    pub(crate) async fn manifest(
        &self,
        name: &Repository,
        which: &TagOrDigest,
    ) -> Result<Manifest, Failure> {
        let (own, asked) = (name.clone(), which.clone());
        let here = self.blocking(move |store| match store.manifest(&own, &asked) {
            Ok(stored) => Ok(Some(stored.digest)),
            Err(StoreError::ManifestUnknown(_)) => Ok(None),
            Err(other) => Err(other),
        });
        let here = here.await?;
        match (which, here) {
            (TagOrDigest::Digest(digest), Some(_)) => {
                Ok(Manifest { digest: *digest, is_stale: false })
            }
            (TagOrDigest::Digest(digest), None) => {
                self.fetch_manifest(name, Which::Digest(*digest), None).await
            }
            (TagOrDigest::Tag(tag), None) => {
                self.fetch_manifest(name, Which::Tag(tag.to_string()), Some(tag)).await
            }
            (TagOrDigest::Tag(tag), Some(digest)) => self.check_tag(name, tag, digest).await,
        }
    }

    /// Asks what a tag points to now, when something is known already.
    async fn check_tag(
        &self,
        name: &Repository,
        tag: &Tag,
        known: Digest,
    ) -> Result<Manifest, Failure> {
        let stale = || Manifest { digest: known, is_stale: true };
        if self.is_down() {
            return Ok(stale());
        }
        let found = self.upstream(name)?.resolve(&Which::Tag(tag.to_string())).await;
        self.note(found.as_ref().err());
        match found {
            Ok(found) if found.digest == known => Ok(Manifest { digest: known, is_stale: false }),
            Ok(found) => {
                match self.fetch_manifest(name, Which::Digest(found.digest), Some(tag)).await {
                    Err(failure) if failure.may_pass() => Ok(stale()),
                    fetched => fetched,
                }
            }
            Err(error) if Failure::from(&error).may_pass() => {
                tracing::warn!("{error}; what is known is served");
                Ok(stale())
            }
            Err(error) => {
                if error.is_not_found() {
                    let (own, gone) = (name.clone(), tag.clone());
                    self.blocking(move |store| match store.delete_tag(&own, &gone) {
                        Err(StoreError::ManifestUnknown(_)) => Ok(()),
                        done => done,
                    })
                    .await?;
                }
                Err(Failure::from(&error))
            }
        }
    }

    async fn fetch_manifest(
        &self,
        name: &Repository,
        which: Which,
        tag: Option<&Tag>,
    ) -> Result<Manifest, Failure> {
        let fetched = self.upstream(name)?.manifest(&which).await;
        self.note(fetched.as_ref().err());
        let manifest = fetched.map_err(|e| Failure::from(&e))?;
        let (name, tag) = (name.clone(), tag.cloned());
        let digest = manifest.descriptor.digest;
        let keep = move |store: &Store| {
            let media_type = &manifest.descriptor.media_type;
            store.cache_manifest(&name, &digest, media_type, &manifest.bytes, tag.as_ref())
        };
        self.blocking(keep).await?;
        Ok(Manifest { digest, is_stale: false })
    }

    /// The size of a blob that is not here.
    pub(crate) async fn blob_size(
        &self,
        name: &Repository,
        digest: &Digest,
    ) -> Result<u64, Failure> {
        let size = self.upstream(name)?.blob_size(digest).await;
        self.note(size.as_ref().err());
        match size {
            Ok(Some(size)) => Ok(size),
            Ok(None) => Err(Failure::unknown_blob(digest)),
            Err(error) => Err(Failure::from(&error)),
        }
    }

    /// Begins to fetch a blob, or joins who does.
    pub(crate) async fn blob(&self, name: &Repository, digest: &Digest) -> Result<Blob, Failure> {
        let key = (name.clone(), *digest);
        if let Some(running) = self.fetches().get(&key) {
            return Ok(Blob::Coming(Arc::clone(running)));
        }
        // Its bytes may be here for another repository, but only the other registry knows whether
        // this one has it too.
        let elsewhere = *digest;
        if self.blocking(move |store| store.has_bytes(&elsewhere)).await? {
            self.blob_size(name, digest).await?;
            let (own, digest) = (name.clone(), *digest);
            if self.blocking(move |store| store.adopt_blob(&own, &digest)).await? {
                return Ok(Blob::Here);
            }
        }
        let upstream = self.upstream(name)?;
        let mut fetches = self.fetches();
        if let Some(running) = fetches.get(&key) {
            return Ok(Blob::Coming(Arc::clone(running)));
        }
        let fetch = Fetch::begin(Arc::clone(&self.store), upstream, name.clone(), *digest, {
            let (fetches, key) = (Arc::clone(&self.fetches), key.clone());
            move || drop(fetches.lock().unwrap_or_else(PoisonError::into_inner).remove(&key))
        });
        fetches.insert(key, Arc::clone(&fetch));
        Ok(Blob::Coming(fetch))
    }

    /// The tags of a repository as the other registry has them.
    pub(crate) async fn tags(&self, name: &Repository) -> Result<Vec<String>, Failure> {
        let tags = self.upstream(name)?.tags(None, MAX_TAGS).await;
        self.note(tags.as_ref().err());
        tags.map_err(|e| Failure::from(&e))
    }

    /// Who refers to a manifest there.
    pub(crate) async fn referrers(
        &self,
        name: &Repository,
        subject: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Failure> {
        let found = self.upstream(name)?.referrers(subject, artifact_type).await;
        self.note(found.as_ref().err());
        found.map_err(|e| Failure::from(&e))
    }

    fn fetches(&self) -> std::sync::MutexGuard<'_, HashMap<(Repository, Digest), Arc<Fetch>>> {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_down(&self) -> bool {
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.is_some_and(|since| since.elapsed() < DOWN)
    }

    /// Remembers whether the other registry could be reached.
    fn note(&self, error: Option<&Error>) {
        let unreachable = matches!(error, Some(Error::Connect { .. } | Error::Timeout { .. }));
        let since = unreachable.then(Instant::now);
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// What is written at once; less, when no more has come.
const BATCH: usize = 1 << 20;

/// Bytes that came together.
pub(crate) type Batch = Vec<Bytes>;
