//! Which servers answer for a registry's name, in which order, and how they are reached:
//! Docker's mirrors, insecure registries and `certs.d`, and containerd's `hosts.toml`.

mod certs;
mod insecure;
mod mirror;
mod toml;
mod write;

use std::fmt;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::HeaderMap;

pub use certs::TlsFiles;
pub(crate) use certs::read_text;
pub(crate) use insecure::Network;
pub use insecure::{Insecure, InvalidInsecure};
pub use mirror::{InvalidMirror, Mirror};
pub use write::hosts_file;

use crate::error::ConfigError;
use crate::url::{Scheme, Url, split_authority};

/// The name of Docker's own registry in references.
pub const DOCKER_IO: &str = "docker.io";
/// The server that answers for it.
const DOCKER_IO_SERVER: &str = "registry-1.docker.io";

/// What a host may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Manifests by digest, and blobs.
    pub pull: bool,
    /// Manifests by tag.
    pub resolve: bool,
    /// Anything that writes.
    pub push: bool,
    /// The referrers API.
    pub referrers: bool,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// Manifests by digest, and blobs.
    Pull,
    /// Manifests by tag.
    Resolve,
    /// Anything that writes.
    Push,
    /// The referrers API.
    Referrers,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pull => "pull",
            Self::Resolve => "resolve",
            Self::Push => "push",
            Self::Referrers => "list referrers",
        })
    }
}

impl Capabilities {
    /// Whether this one is among them.
    pub const fn has(self, one: Capability) -> bool {
        match one {
            Capability::Pull => self.pull,
            Capability::Resolve => self.resolve,
            Capability::Push => self.push,
            Capability::Referrers => self.referrers,
        }
    }

    /// Everything.
    pub const ALL: Self = Self { pull: true, resolve: true, push: true, referrers: true };
    /// What a mirror does.
    pub const MIRROR: Self = Self { pull: true, resolve: true, push: false, referrers: true };
}

/// By which of http and https a host is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By this one alone.
    Only(Scheme),
    /// By https, and where that fails by http: insecure registries.
    HttpsThenHttp,
}

/// One server that answers for a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Host and port.
    pub authority: String,
    /// By http or https.
    pub reach: Reach,
    /// The root of the API, without a slash at its end: `/v2`, or what `override_path` says.
    pub path: String,
    /// What it may be used for.
    pub capabilities: Capabilities,
    /// Certificates, and whether the server's is verified.
    pub tls: TlsFiles,
    /// Headers that go with every request.
    pub headers: HeaderMap,
    /// How long a connection may take; else the client's own limit.
    pub dial_timeout: Option<Duration>,
    /// The registry's name, sent as `?ns=` to hosts that answer for several.
    pub namespace: Option<String>,
    /// Whether this is the registry itself: only there do its credentials go.
    pub upstream: bool,
}

impl Host {
    /// The registry itself at `authority`, verified, by https.
    pub fn upstream(authority: &str) -> Self {
        Self {
            authority: authority.into(),
            reach: Reach::Only(Scheme::Https),
            path: "/v2".into(),
            capabilities: Capabilities::ALL,
            tls: TlsFiles::default(),
            headers: HeaderMap::new(),
            dial_timeout: None,
            namespace: None,
            upstream: true,
        }
    }

    /// The root URL by `scheme`.
    pub(crate) fn base(&self, scheme: Scheme) -> Result<Url, ConfigError> {
        Url::new(scheme, &self.authority, &self.path).map_err(|why| {
            ConfigError::Value(format!("registry host {}{}: {why}", self.authority, self.path))
        })
    }
}

/// Everything that says where registries are.
#[derive(Clone, Debug, Default)]
pub struct Hosts {
    /// Mirrors of docker.io, tried first.
    pub mirrors: Vec<Mirror>,
    /// Registries that need not be verified.
    pub insecure: Insecure,
    /// Folders laid out as `certs.d`: the first that holds something for a host decides.
    pub folders: Vec<PathBuf>,
    /// The scheme of hosts that nothing else is said about (`ctr --plain-http`).
    pub default_scheme: Option<Scheme>,
}

impl Hosts {
    /// The hosts of `domain`, the most wanted first. Reads files, and resolves the
    /// host's name where insecure networks are configured: may block.
    pub fn of(&self, domain: &str) -> Result<Vec<Host>, ConfigError> {
        if let Some((folder, file)) = self.hosts_file(domain)? {
            let mut hosts = toml::read(&folder, &file, domain)?;
            if let Some(last) = hosts.last_mut().filter(|last| last.authority.is_empty()) {
                let read = last.clone();
                *last = self.upstream(domain)?;
                toml::keep_root_settings(last, read);
            }
            return Ok(hosts);
        }
        let mut hosts = Vec::new();
        if domain == DOCKER_IO {
            for mirror in &self.mirrors {
                hosts.push(self.mirror(mirror)?);
            }
        }
        hosts.push(self.upstream(domain)?);
        Ok(hosts)
    }

    /// Where pushes, logins and searches go: the registry itself.
    pub fn upstream(&self, domain: &str) -> Result<Host, ConfigError> {
        let server = if domain == DOCKER_IO { DOCKER_IO_SERVER } else { domain };
        let mut host = Host::upstream(server);
        host.tls = self.certificates(server)?;
        if host.tls.is_empty() {
            host.tls = match self.folder_of(domain)? {
                Some(folder) => TlsFiles::read(&folder)?,
                None => TlsFiles::default(),
            };
        }
        if let Some(scheme) = self.default_scheme {
            host.reach = Reach::Only(scheme);
        }
        if self.is_insecure(domain) {
            host.tls.skip_verify = true;
            if self.default_scheme.is_none() {
                host.reach = Reach::HttpsThenHttp;
            }
        }
        Ok(host)
    }

    fn mirror(&self, mirror: &Mirror) -> Result<Host, ConfigError> {
        let mut host = Host::upstream(mirror.url().authority());
        host.reach = Reach::Only(mirror.url().scheme());
        host.path = format!("{}/v2", mirror.url().path().trim_end_matches('/'));
        host.capabilities = Capabilities::MIRROR;
        host.upstream = false;
        host.tls = self.certificates(&host.authority)?;
        host.tls.skip_verify = self.is_insecure(&host.authority);
        Ok(host)
    }

    /// Docker's certificates for exactly this host and port.
    fn certificates(&self, authority: &str) -> Result<TlsFiles, ConfigError> {
        for folder in &self.folders {
            let folder = folder.join(authority);
            if folder.is_dir() {
                return TlsFiles::read(&folder);
            }
        }
        Ok(TlsFiles::default())
    }

    /// The first `hosts.toml` that speaks for `domain`, with its folder.
    fn hosts_file(&self, domain: &str) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
        let Some(folder) = self.folder_of(domain)? else { return Ok(None) };
        let file = folder.join("hosts.toml");
        Ok(exists(&file)?.then_some((folder, file)))
    }

    /// The folder that speaks for `domain`: its own by any of its names, else `_default`.
    fn folder_of(&self, domain: &str) -> Result<Option<PathBuf>, ConfigError> {
        for folder in &self.folders {
            for name in folder_names(domain) {
                let path = folder.join(name);
                if exists(&path)? {
                    return Ok(Some(path));
                }
            }
        }
        Ok(None)
    }

    /// Docker's rule: named in the list, or an address of it lies in a listed network.
    fn is_insecure(&self, authority: &str) -> bool {
        if self.insecure.names(authority) {
            return true;
        }
        let (host, port) = split_authority(authority);
        if let Ok(address) = host.parse() {
            return self.insecure.contains(address);
        }
        if authority == DOCKER_IO || !self.insecure.has_networks() {
            return false;
        }
        let found = (host, port.unwrap_or(443)).to_socket_addrs();
        found.is_ok_and(|mut found| found.any(|at| self.insecure.contains(at.ip())))
    }
}

/// `host:port` may be written `host_port_`, since some file systems know no colons.
fn folder_names(domain: &str) -> Vec<String> {
    let mut names = Vec::new();
    if let Some((host, port)) = domain.rsplit_once(':').filter(|(_, port)| !port.ends_with(']')) {
        names.push(format!("{host}_{port}_"));
    }
    names.push(domain.to_owned());
    names.push("_default".to_owned());
    names
}

fn exists(path: &Path) -> Result<bool, ConfigError> {
    path.try_exists().map_err(|cause| ConfigError::Read { path: path.into(), cause })
}

#[cfg(test)]
mod tests;
