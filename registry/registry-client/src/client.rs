//! The client: what all sessions share. Cheap to make, cheap to keep: nothing is read,
//! resolved or connected before it is needed, and idle connections are closed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use oci::Reference;

use crate::credentials::{CredentialSource, Credentials};
use crate::hosts::{Host, Hosts};
use crate::net::{Proxies, Shared, SystemRoots, Transport};
use crate::remote::Remote;
use crate::repository::Repository;
use crate::retry::Retry;
use crate::session::Session;
use crate::token::TokenCache;

/// Endpoints whose connections are kept; beyond it the longest unused one goes.
const MAX_REMOTES: usize = 64;

/// How long things may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A connection, unless the host says otherwise.
    pub dial: Duration,
    /// A TLS handshake.
    pub handshake: Duration,
    /// The first answer of a registry.
    pub contact: Duration,
    /// The head of an answer, after the last byte of the request was taken.
    pub answer: Duration,
    /// The same after a blob was sent: the registry may have to hash and move it.
    pub commit: Duration,
    /// Silence within a body.
    pub body: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            dial: seconds(30),
            handshake: seconds(10),
            contact: seconds(15),
            answer: seconds(60),
            commit: seconds(600),
            body: seconds(60),
        }
    }
}

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where registries are.
    pub hosts: Hosts,
    /// Proxies.
    pub proxies: Proxies,
    /// `User-Agent` of requests, unless the session has its own.
    pub user_agent: String,
    /// Time limits.
    pub timeouts: Timeouts,
    /// How failures that may pass are met.
    pub retry: Retry,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            hosts: Hosts::default(),
            proxies: Proxies::default(),
            user_agent: concat!("ferry/", env!("CARGO_PKG_VERSION")).into(),
            timeouts: Timeouts::default(),
            retry: Retry::default(),
        }
    }
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) tokens: TokenCache,
    shared: Arc<Shared>,
    /// The most recently used last.
    remotes: Mutex<Vec<Arc<Remote>>>,
}

impl Inner {
    /// The connections to a host, shared by all sessions that have the same one.
    pub(crate) fn remote(&self, host: Host) -> Arc<Remote> {
        let mut remotes = self.remotes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = remotes.iter().position(|remote| remote.host == host) {
            let found = remotes.remove(at);
            remotes.push(found.clone());
            return found;
        }
        let timeouts = &self.config.timeouts;
        let dial = host.dial_timeout.unwrap_or(timeouts.dial);
        let files = host.tls.clone();
        let transport = Transport::new(self.shared.clone(), files, dial, timeouts.body);
        let fresh = Arc::new(Remote::new(host, transport));
        if remotes.len() == MAX_REMOTES {
            remotes.remove(0);
        }
        remotes.push(fresh.clone());
        fresh
    }
}

/// A client of OCI registries. Clones share everything.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

impl Client {
    /// A client; nothing is read or connected yet.
    pub fn new(config: Config) -> Self {
        let shared = Arc::new(Shared {
            roots: SystemRoots::default(),
            proxies: config.proxies.clone(),
            handshake_timeout: config.timeouts.handshake,
            user_agent: config.user_agent.clone(),
        });
        let inner =
            Inner { config, tokens: TokenCache::default(), shared, remotes: Mutex::default() };
        Self { inner: Arc::new(inner) }
    }

    /// The repository of a reference, with fixed credentials.
    pub fn repository(&self, reference: &Reference, credentials: Credentials) -> Repository {
        self.repository_as(reference, Arc::new(credentials))
    }

    /// The repository of a reference, with credentials from a source.
    pub fn repository_as(
        &self,
        reference: &Reference,
        credentials: Arc<dyn CredentialSource>,
    ) -> Repository {
        Repository::new(self.session(reference.domain(), credentials), reference.path())
    }

    pub(crate) fn session(
        &self,
        registry: &str,
        credentials: Arc<dyn CredentialSource>,
    ) -> Session {
        Session::new(self.inner.clone(), registry, credentials)
    }
}
