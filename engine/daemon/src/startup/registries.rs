//! How registries are reached, from the daemon's options.

use std::path::PathBuf;
use std::sync::Arc;

use images::Remote;
use registry_client::{Client, Config, Hosts, Insecure, Mirror, Proxies};
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
    let proxies = Proxies::from_environment().map_err(|e| e.to_string())?;
    let folder = settings.exec_root.join("registries");
    let config = Config { hosts: hosts.clone(), proxies, ..Config::default() };
    Ok(Remote {
        client: Client::new(config),
        hosts,
        folder,
        downloads: Arc::new(Semaphore::new(3)),
        uploads: Arc::new(Semaphore::new(5)),
    })
}
