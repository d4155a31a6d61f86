//! How registries are reached, from the daemon's options.

use std::path::PathBuf;
use std::sync::Arc;

use images::{Limits, Remote};
use registry_client::{Client, Config, Hosts, Insecure, Mirror, Proxies, Retry};
use tokio::sync::Semaphore;

use crate::config::Settings;

/// Folders of certificates and `hosts.toml` by registry: Ferry's, then Docker's.
const FOLDERS: [&str; 2] = ["/etc/ferry/certs.d", "/etc/docker/certs.d"];

/// The client and its limits.
pub(super) fn remote(settings: &Settings) -> Result<Remote, String> {
    let mirrors = settings.registry_mirrors.iter().map(|text| text.parse::<Mirror>());
    let mirrors = mirrors.collect::<Result<_, _>>().map_err(|e| e.to_string())?;
    let insecure = Insecure::new(&settings.insecure_registries).map_err(|e| e.to_string())?;
    let hosts = Hosts {
        mirrors,
        insecure,
        folders: FOLDERS.iter().map(PathBuf::from).collect(),
        default_scheme: None,
    };
    let limits = Limits {
        downloads: settings.max_concurrent_downloads,
        uploads: settings.max_concurrent_uploads,
        attempts: settings.max_download_attempts,
        proxies: [&settings.http_proxy, &settings.https_proxy, &settings.no_proxy]
            .map(Clone::clone),
    };
    let [http, https, no] = &limits.proxies;
    let proxies = Proxies::new(http, https, no).map_err(|e| e.to_string())?;
    let retry = Retry { attempts: settings.max_download_attempts, ..Retry::default() };
    let folder = settings.exec_root.join("registries");
    let config = Config { hosts: hosts.clone(), proxies, retry, ..Config::default() };
    Ok(Remote {
        client: Client::new(config),
        hosts,
        folder,
        downloads: Arc::new(Semaphore::new(limits.downloads)),
        uploads: Arc::new(Semaphore::new(limits.uploads)),
        limits,
        compression: settings.push_compression,
    })
}
