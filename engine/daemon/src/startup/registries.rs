//! How registries are reached, from the daemon's options.

use std::path::PathBuf;
use std::sync::Arc;

use images::Remote;
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
    let Settings { http_proxy, https_proxy, no_proxy, .. } = settings;
    let proxies = Proxies::new(http_proxy, https_proxy, no_proxy).map_err(|e| e.to_string())?;
    let retry = Retry { attempts: settings.max_download_attempts, ..Retry::default() };
    let folder = settings.exec_root.join("registries");
    let config = Config { hosts: hosts.clone(), proxies, retry, ..Config::default() };
    Ok(Remote {
        client: Client::new(config),
        hosts,
        by_store: settings.registries_are_plain,
        folder,
        downloads: Arc::new(Semaphore::new(settings.max_concurrent_downloads)),
        uploads: Arc::new(Semaphore::new(settings.max_concurrent_uploads)),
    })
}
