//! Pulls and pushes by the store itself: ferry-containerd moves, verifies, unpacks and compresses.
//! Here is how it is told where registries are and who asks; what it tells becomes docker's
//! messages in `pull` and `push`.

mod pull;
mod push;

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use containerd_api::RegistrySettings;
use containerd_api::transfer_types::{AuthResponse, AuthType, Progress, RegistryResolver};
use containerd_rpc::registry_stream::{Registry, TransferError};
use engine_api::AuthConfig;
use http::HeaderMap;
use oci::Reference;
use registry_client::{Host, hosts_file};
use tokio::sync::mpsc;

use super::{Remote, failed};
use crate::ImageError;
use crate::snapshot::unique;

/// What the store may tell before it is read.
const TOLD: usize = 64;

/// Which way a transfer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Down,
    Up,
}

/// The registry of `reference` as a side of a transfer, and a folder that must stay as long as it
/// is used.
async fn registry(
    remote: &Remote,
    way: Way,
    reference: &Reference,
    auth: &AuthConfig,
    headers: &HeaderMap,
) -> Result<(Registry<impl Fn(&str) -> AuthResponse + Send + 'static>, Folder), ImageError> {
    let (from, domain) = (remote.clone(), reference.domain().to_owned());
    let written = tokio::task::spawn_blocking(move || write_hosts(&from, &domain)).await;
    let (hosts, folder) = written.map_err(|e| failed(500, e.to_string()))??;
    let headers = headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let resolver = RegistryResolver {
        headers: headers.collect(),
        host_dir: folder.0.display().to_string(),
        ..RegistryResolver::default()
    };
    let limits = &remote.limits;
    let (at_once, attempts) = match way {
        Way::Down => (limits.downloads, Some(limits.attempts)),
        Way::Up => (limits.uploads, None),
    };
    let settings = RegistrySettings {
        at_once: u32::try_from(at_once).ok(),
        attempts,
        proxies: Some(limits.proxies.clone()),
    };
    let auth = auth.clone();
    let upstream = hosts.last().map(|host| host.authority.clone()).unwrap_or_default();
    let answer = move |host: &str| answer(&auth, host == upstream);
    Ok((Registry { reference: reference.to_string(), resolver, settings, answer }, folder))
}

/// Waits for a transfer, and has `hear` listen to what the store tells meanwhile.
async fn listened(
    transfer: impl Future<Output = Result<(), TransferError>>,
    mut events: mpsc::Receiver<Progress>,
    mut hear: impl FnMut(&Progress),
) -> Result<(), ImageError> {
    let listening = async {
        while let Some(event) = events.recv().await {
            hear(&event);
        }
    };
    let (done, ()) = tokio::join!(transfer, listening);
    done.map_err(told)
}

/// The store's error, in docker's words where they are known.
fn told(error: TransferError) -> ImageError {
    match error.told {
        Some((status, message)) => {
            // Docker's words leave out what the store's name: which blob, and both of its digests.
            tracing::warn!("a transfer failed: {}", error.error.message);
            failed(status, message)
        }
        None => error.error.into(),
    }
}

/// A folder that goes with this value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn write_hosts(remote: &Remote, domain: &str) -> Result<(Vec<Host>, Folder), ImageError> {
    let hosts = remote.hosts.of(domain).map_err(|e| failed(500, e.to_string()))?;
    let folder = Folder(remote.folder.join(unique()));
    let wrong = |path: &Path, e: std::io::Error| failed(500, format!("{}: {e}", path.display()));
    // Headers of a host may be credentials.
    let own = folder.0.join(domain);
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&own);
    made.map_err(|e| wrong(&own, e))?;
    let file = own.join("hosts.toml");
    fs::write(&file, hosts_file(&hosts)).map_err(|e| wrong(&file, e))?;
    Ok((hosts, folder))
}

/// The credentials for a host: the registry's own, and nobody's for its mirrors.
fn answer(auth: &AuthConfig, is_upstream: bool) -> AuthResponse {
    let of = |kind: AuthType, username: &str, secret: &str| AuthResponse {
        auth_type: kind.into(),
        username: username.into(),
        secret: secret.into(),
        ..AuthResponse::default()
    };
    match auth {
        _ if !is_upstream => of(AuthType::None, "", ""),
        AuthConfig { registrytoken, .. } if !registrytoken.is_empty() => {
            of(AuthType::Header, "", &format!("Bearer {registrytoken}"))
        }
        AuthConfig { identitytoken, .. } if !identitytoken.is_empty() => {
            of(AuthType::Refresh, "", identitytoken)
        }
        AuthConfig { username, password, .. } if !username.is_empty() => {
            of(AuthType::Credentials, username, password)
        }
        _ => of(AuthType::None, "", ""),
    }
}
