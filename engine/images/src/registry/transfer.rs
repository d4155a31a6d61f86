//! A pull by the store itself: ferry-containerd fetches, verifies and unpacks in one pass. What it
//! tells becomes docker's messages here.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use containerd_api::transfer_types::{
    AuthResponse, AuthType, ImageStore, Progress as Told, RegistryResolver, UnpackConfiguration,
};
use containerd_rpc::{Client, registry_stream};
use engine_api::{AuthConfig, JsonMessage};
use oci::image::ChainId;
use oci::{Descriptor, Digest};
use registry_client::{Host, hosts_file};
use tokio::sync::mpsc;

use super::fetch::has_blob;
use super::progress::Progress;
use super::pull::{Chosen, Pull};
use super::{Remote, failed};
use crate::ImageError;
use crate::snapshot::unique;
use crate::transfer::wire_platform;

/// What the store may tell before it is read.
const TOLD: usize = 64;

impl Pull<'_> {
    /// Brings the image that was chosen, under the client's lease.
    pub(super) async fn transfer(
        &self,
        client: &Client,
        chosen: &Chosen,
        diff_ids: &[Digest],
    ) -> Result<(), ImageError> {
        let layers = &chosen.parsed.layers;
        let mut telling = Telling::new(self.progress, layers);
        for (at, chain) in ChainId::all(diff_ids).iter().enumerate() {
            let is_here = self.images.has_snapshot(client, chain).await?
                && has_blob(client, &layers[at].digest).await?;
            telling.begin(at, is_here);
        }
        telling.wait(self.remote.downloads.available_permits());
        let (hosts, folder) = self.hosts().await?;
        let headers = self.request.headers.iter().filter_map(|(name, value)| {
            Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
        });
        let resolver = RegistryResolver {
            headers: headers.collect(),
            host_dir: folder.0.display().to_string(),
            ..RegistryResolver::default()
        };
        let reference = self.reference.without_tag().with_digest(chosen.target().digest);
        let store = self.destination();
        let auth = self.request.auth.clone();
        let upstream = hosts.last().map(|host| host.authority.clone()).unwrap_or_default();
        let answer = move |host: &str| answer(&auth, host == upstream);
        let (sender, mut told) = mpsc::channel(TOLD);
        let pulling =
            registry_stream::pull(client, reference.to_string(), resolver, &store, answer, sender);
        let listening = async {
            while let Some(event) = told.recv().await {
                telling.event(&event);
            }
        };
        let (done, ()) = tokio::join!(pulling, listening);
        match done {
            Ok(()) => {
                telling.end();
                Ok(())
            }
            Err(e) => Err(match e.told {
                Some((status, message)) => failed(status, message),
                None => e.error.into(),
            }),
        }
    }

    fn destination(&self) -> ImageStore {
        let platform = wire_platform(self.platform);
        ImageStore {
            platforms: vec![platform.clone()],
            unpacks: vec![UnpackConfiguration {
                platform: Some(platform),
                snapshotter: self.images.snapshotter().into(),
            }],
            ..ImageStore::default()
        }
    }

    /// The registry's hosts, and a folder that tells the store of them.
    async fn hosts(&self) -> Result<(Vec<Host>, Folder), ImageError> {
        let (remote, domain) = (self.remote.clone(), self.reference.domain().to_owned());
        let written = tokio::task::spawn_blocking(move || write_hosts(&remote, &domain)).await;
        written.map_err(|e| failed(500, e.to_string()))?
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

/// How far a layer was told to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Waiting,
    Downloading,
    Downloaded,
    Unpacked,
    Told,
}

struct Layer {
    id: String,
    size: u64,
    stage: Stage,
}

/// Turns what the store tells into docker's messages.
struct Telling<'a> {
    progress: &'a Progress,
    layers: Vec<Layer>,
    by_digest: HashMap<String, usize>,
}

impl<'a> Telling<'a> {
    fn new(progress: &'a Progress, layers: &[Descriptor]) -> Self {
        let by_digest = layers.iter().enumerate().map(|(at, l)| (l.digest.to_string(), at));
        let layers = layers.iter().map(|layer| Layer {
            id: layer.digest.short(),
            size: layer.size,
            stage: Stage::Waiting,
        });
        Self { progress, by_digest: by_digest.collect(), layers: layers.collect() }
    }

    fn begin(&mut self, at: usize, is_here: bool) {
        let layer = &mut self.layers[at];
        let text = if is_here { "Already exists" } else { "Pulling fs layer" };
        if is_here {
            layer.stage = Stage::Told;
        }
        self.progress.action(&layer.id, text);
    }

    /// All layers but the first few wait for a place.
    fn wait(&self, places: usize) {
        let waiting = self.layers.iter().filter(|layer| layer.stage == Stage::Waiting).skip(places);
        waiting.for_each(|layer| self.progress.action(&layer.id, "Waiting"));
    }

    fn event(&mut self, event: &Told) {
        let Some(desc) = &event.desc else { return };
        let Some(&at) = self.by_digest.get(&desc.digest) else { return };
        let current = u64::try_from(event.progress).unwrap_or_default();
        let layer = &mut self.layers[at];
        if layer.stage >= Stage::Unpacked {
            return;
        }
        match event.event.as_str() {
            "downloading" => {
                layer.stage = Stage::Downloading;
                let (id, size) = (&layer.id, layer.size);
                self.progress.tell(JsonMessage::progress(id, "Downloading", current, size));
            }
            "extracting" => {
                downloaded(self.progress, layer);
                let (id, size) = (&layer.id, layer.size);
                self.progress.tell(JsonMessage::progress(id, "Extracting", current, size));
            }
            "complete" | "already exists" => {
                downloaded(self.progress, layer);
                layer.stage = Stage::Unpacked;
                self.complete();
            }
            _ => {}
        }
    }

    /// Tells of layers that are unpacked and have nothing unfinished below them, as docker does.
    fn complete(&mut self) {
        for layer in self.layers.iter_mut().take_while(|layer| layer.stage >= Stage::Unpacked) {
            if layer.stage == Stage::Unpacked {
                layer.stage = Stage::Told;
                let (id, size) = (&layer.id, layer.size);
                self.progress.tell(JsonMessage::progress(id, "Extracting", size, size));
                self.progress.action(id, "Pull complete");
            }
        }
    }

    /// Everything is there, whatever was told of it.
    fn end(&mut self) {
        for layer in self.layers.iter_mut().filter(|layer| layer.stage < Stage::Unpacked) {
            downloaded(self.progress, layer);
            layer.stage = Stage::Unpacked;
        }
        self.complete();
    }
}

fn downloaded(progress: &Progress, layer: &mut Layer) {
    if layer.stage < Stage::Downloaded {
        layer.stage = Stage::Downloaded;
        progress.action(&layer.id, "Verifying Checksum");
        progress.action(&layer.id, "Download complete");
    }
}
