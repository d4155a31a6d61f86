//! Start-up and end of the daemon: facts, store, containerd, restore, serve, stop.

mod containerd;
mod events;
mod facts;
mod registries;
mod reload;
mod restore;
mod serve;

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use containerd_api::services::leases::v1::CreateRequest;
use containerd_api::task_types::Status;
use containerd_rpc::{Client, RpcError};
use images::{Images, ImagesConfig, Remote, Sizes};
use metastore::{Format, Store};
use network::{Config as NetworkConfig, Networks};
use oci::Platform;
use sys::lock::Lock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{self, Settings};
use crate::engine::{Engine, LEASE, Parts, program};

/// The record format that this version writes, and the oldest that reads it.
const FORMAT: Format = Format { version: 1, min_reader: 1 };

/// Why the daemon can't run.
#[derive(Debug, thiserror::Error)]
pub enum StartupError {
    /// Something on the machine failed; the text names it.
    #[error("{0}")]
    Machine(String),
    /// The network could not be set up.
    #[error("network: {0}")]
    Network(#[from] network::Error),
    /// The records could not be opened.
    #[error(transparent)]
    Store(#[from] metastore::StoreError),
    /// containerd does not answer.
    #[error("containerd at {socket}: {source}")]
    Containerd {
        /// Its socket.
        socket: String,
        /// Why.
        source: RpcError,
    },
}

fn machine(what: &str) -> impl FnOnce(std::io::Error) -> StartupError {
    let what = what.to_owned();
    move |e| StartupError::Machine(format!("{what}: {e}"))
}

/// Why these settings can't be used, as far as the machine need not be asked.
pub(crate) fn check(settings: &Settings) -> Result<(), String> {
    registries::remote(settings).map(drop)
}

/// Runs the daemon until `stop`, with the settings that `reloads` holds now and later.
pub async fn run(
    reloads: watch::Receiver<Settings>,
    stop: CancellationToken,
) -> Result<(), StartupError> {
    let settings = Arc::new(reloads.borrow().clone());
    let remote = registries::remote(&settings).map_err(StartupError::Machine)?;
    prepare_folders(&settings)?;
    let _locks = lock(&settings)?;
    let _pidfile = Pidfile::write(&settings.pidfile)?;
    let listeners = serve::listen(&settings).await?;
    let containerd = containerd::connect(&settings).await?;
    // A stop is obeyed at any moment: what is half done then, the next start goes on with.
    let engine = stop.run_until_cancelled(open(&settings, &containerd.client, remote)).await;
    let result = match engine {
        Some(Ok(engine)) => {
            info!("ferryd {} is ready", env!("CARGO_PKG_VERSION"));
            tell("READY=1");
            tokio::spawn(reload::follow(Arc::clone(&engine), reloads));
            serve::serve(&engine, listeners, stop).await;
            tell("STOPPING=1");
            restore::end(&engine).await;
            Ok(())
        }
        Some(Err(e)) => Err(e),
        None => Ok(()),
    };
    containerd.end().await;
    result
}

/// Tells whoever started this daemon.
fn tell(state: &str) {
    if let Err(e) = sys::notify::tell(state) {
        warn!("telling {state}: {e}");
    }
}

/// The engine, at one with what runs.
async fn open(
    settings: &Arc<Settings>,
    client: &Client,
    remote: Remote,
) -> Result<Arc<Engine>, StartupError> {
    let client = client.clone();
    let facts = facts::collect(settings)?;
    let store = Store::open(&settings.data_root.join("ferryd.redb"), FORMAT)?;
    let (network, reader) = open_network(settings, &store, living(&client).await?)?;
    lease(&client).await?;
    let config = ImagesConfig {
        snapshotter: settings.storage_driver.clone(),
        platform: Platform::host(),
        sizes: Some(Sizes { store: store.clone(), measure: crate::rootfs::layer_sizes }),
    };
    let images = Images::new(client.clone(), config);
    images.refresh().await.map_err(|e| StartupError::Machine(format!("images: {e}")))?;
    tokio::spawn(images.clone().follow());
    let shim = program(Path::new("containerd-shim-ferry-v2")).ok_or_else(|| {
        StartupError::Machine("containerd-shim-ferry-v2 is not installed beside ferryd".into())
    })?;
    let boot = sys::boot::id().unwrap_or_default();
    let engine = Arc::new(Engine::new(Parts {
        settings: Arc::clone(settings),
        client,
        store,
        network,
        networks: reader,
        images,
        remote,
        facts,
        boot,
        shim,
    }));
    restore::load(&engine).await?;
    events::follow_first(&engine).await?;
    restore::start_due(&engine).await;
    Ok(engine)
}

fn prepare_folders(settings: &Settings) -> Result<(), StartupError> {
    let make = |path: &Path| {
        std::fs::create_dir_all(path).map_err(machine(&format!("making {}", path.display())))
    };
    make(&settings.data_root.join("containers"))?;
    make(&settings.data_root.join("volumes"))?;
    make(&settings.exec_root.join("sink"))?;
    make(&settings.exec_root.join("exit"))
}

/// Makes both roots this process's own.
fn lock(settings: &Settings) -> Result<[Lock; 2], StartupError> {
    let (pid, data, exec) = (std::process::id(), &settings.data_root, &settings.exec_root);
    let take = |what: &str, root: &Path, note: String| {
        sys::lock::take(&root.join("ferryd.lock"), &note)
            .map_err(|e| StartupError::Machine(format!("{what} root {}: {e}", root.display())))
    };
    Ok([
        take("data", data, format!("process {pid} (exec root {})", exec.display()))?,
        take("exec", exec, format!("process {pid} (data root {})", data.display()))?,
    ])
}

/// The file that names this process; it goes with it.
struct Pidfile<'a>(&'a Path);

impl<'a> Pidfile<'a> {
    fn write(path: &'a Path) -> Result<Self, StartupError> {
        let what = format!("pid file {}", path.display());
        if let Ok(text) = std::fs::read_to_string(path) {
            let alive = text
                .trim()
                .parse::<u32>()
                .is_ok_and(|pid| pid != std::process::id() && is_ferryd(pid));
            if alive {
                let text = format!("process with PID {} is still running", text.trim());
                return Err(StartupError::Machine(format!("{what}: {text}")));
            }
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(machine(&what))?;
        }
        let mut file = std::fs::File::create(path).map_err(machine(&what))?;
        write!(file, "{}", std::process::id()).map_err(machine(&what))?;
        Ok(Self(path))
    }
}

/// Whether the process is a daemon of this name that has not ended; one that nobody has waited for
/// yet is no longer running.
fn is_ferryd(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((name, rest)) = stat.rsplit_once(") ") else { return false };
    name.ends_with("(ferryd") && !rest.starts_with(['Z', 'X'])
}

impl Drop for Pidfile<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

/// The containers whose processes exist.
async fn living(client: &Client) -> Result<HashSet<String>, StartupError> {
    let tasks = events::tasks(client).await.map_err(|source| StartupError::Containerd {
        socket: client.socket().display().to_string(),
        source,
    })?;
    Ok(tasks
        .into_iter()
        .filter(|(_, task)| task.status() != Status::Stopped)
        .map(|(id, _)| id)
        .collect())
}

fn open_network(
    settings: &Settings,
    store: &Store,
    living: HashSet<String>,
) -> Result<(network::thread::Handle, network::Reader), StartupError> {
    let config = network_config(settings)?;
    let (store, reader) = (store.clone(), std::sync::mpsc::channel());
    let (send, receive) = reader;
    let (handle, _thread) = network::thread::spawn(move || {
        let mut networks = Networks::open(config, store)?;
        let found = networks.restore(&|id| living.contains(id))?;
        info!(
            "networks: {} endpoints kept, {} made again, {} sandboxes buried",
            found.kept, found.made, found.buried
        );
        let _ = send.send(networks.reader());
        Ok(networks)
    })?;
    let reader = receive.recv().map_err(|e| StartupError::Machine(format!("network: {e}")))?;
    Ok((handle, reader))
}

fn network_config(settings: &Settings) -> Result<NetworkConfig, StartupError> {
    let mut config = NetworkConfig::new(settings.exec_root.clone());
    config.bridge = match settings.bridge.as_deref() {
        Some("none") => None,
        Some(name) => Some(name.to_owned()),
        None => config.bridge,
    };
    config.table = firewall_tables(&settings.data_root);
    config.bip.clone_from(&settings.bip);
    config.fixed_cidr.clone_from(&settings.fixed_cidr);
    config.mtu = settings.mtu;
    config.icc = settings.icc;
    config.ip_masq = settings.ip_masq;
    config.ip_forward = settings.ip_forward;
    config.ip_forward_no_drop = settings.ip_forward_no_drop;
    config.firewall = settings.iptables;
    if !settings.default_address_pools.is_empty() {
        let pools = settings.default_address_pools.iter().map(|(base, size)| {
            let base = base
                .parse()
                .map_err(|_| StartupError::Machine(format!("default-address-pools: {base}")))?;
            Ok(ipam::PoolBase { base, size: *size })
        });
        config.pools = pools.collect::<Result<_, StartupError>>()?;
    }
    Ok(config)
}

/// Our firewall tables' name: daemons that share a host and keep their data elsewhere have tables of
/// their own.
fn firewall_tables(data_root: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    if data_root == Path::new(config::DATA_ROOT) {
        return "ferry".to_owned();
    }
    // FNV-1a: the same for the same folder, in every version.
    let fold = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    let hash = data_root.as_os_str().as_bytes().iter().fold(0x811c_9dc5, fold);
    format!("ferry-{hash:08x}")
}

/// The lease that keeps containers' snapshots, which may exist from before.
async fn lease(client: &Client) -> Result<(), StartupError> {
    let request = CreateRequest { id: LEASE.to_owned(), ..CreateRequest::default() };
    let made = match client.leases().create(request).await.map_err(RpcError::from) {
        Ok(_) => Ok(()),
        Err(e) if e.is_already_exists() => Ok(()),
        Err(e) => Err(e),
    };
    made.map_err(|source| {
        let socket = client.socket().display().to_string();
        StartupError::Containerd { socket, source }
    })
}
