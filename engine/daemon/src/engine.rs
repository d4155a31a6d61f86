//! The engine: everything that handlers and containers share. It finds containers and
//! programs; what a container does is in `lifecycle`, what a request means in `routes`.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use containerd_api::prost_types::Any;
use containerd_api::runc_options::Options;
use containerd_rpc::Client;
use images::{Images, Remote};
use metastore::Store;
use network::files::{HostResolv, Overrides, ResolvMode, STUB_TARGET, resolv_conf, uses_stub};
use network::{Reader, thread::Handle};
use plan::HostFacts;
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use crate::config::Settings;
use crate::events::Bus;
use crate::exec::ExecTable;
use crate::lifecycle::Container;
use crate::limits::Limits;
use crate::registry::{NameError, Registry};

/// The lease that holds containers' snapshots against collection.
pub const LEASE: &str = "ferryd-containers";

type Containers = imbl::OrdMap<String, Arc<Container>>;

/// Everything that is shared.
pub struct Engine {
    /// The configuration that the daemon started with.
    pub settings: Arc<Settings>,
    /// The same with what was reloaded since.
    pub current: ArcSwap<Settings>,
    /// containerd.
    pub client: Client,
    /// Records.
    pub store: Store,
    /// The network's thread.
    pub network: Handle,
    /// The network's published view.
    pub networks: Reader,
    /// Images.
    pub images: Images,
    /// How registries are reached.
    pub remote: ArcSwap<Remote>,
    /// Events.
    pub events: Bus,
    /// Names.
    pub registry: Registry,
    /// The machine.
    pub facts: HostFacts,
    /// What its cgroups can limit.
    pub limits: Limits,
    /// The kernel's boot.
    pub boot: String,
    /// Our shim.
    pub shim: PathBuf,
    /// Execs of all containers.
    pub execs: ExecTable,
    /// Something was torn down.
    pub settled: Notify,
    /// Starts and tear-downs under way.
    pub chores: TaskTracker,
    /// Held by a removal of volumes, and by a create from where it makes its volumes to where
    /// others see that it has them.
    pub volumes: tokio::sync::Mutex<()>,
    containers: ArcSwap<Containers>,
    /// Orders changes of the map.
    changing: Mutex<()>,
}

/// What an engine is made from.
pub struct Parts {
    /// The configuration.
    pub settings: Arc<Settings>,
    /// containerd.
    pub client: Client,
    /// Records.
    pub store: Store,
    /// The network's thread.
    pub network: Handle,
    /// The network's published view.
    pub networks: Reader,
    /// Images.
    pub images: Images,
    /// How registries are reached.
    pub remote: Remote,
    /// The machine.
    pub facts: HostFacts,
    /// The kernel's boot.
    pub boot: String,
    /// Our shim.
    pub shim: PathBuf,
}

/// Which runtime a container runs under.
#[derive(Debug, Clone)]
pub struct RuntimeChoice {
    /// What containerd is told.
    pub name: String,
    /// The shim's options.
    pub options: Option<Any>,
    /// The shim is not ours: it needs a detached sink.
    pub is_foreign: bool,
}

impl Engine {
    /// An engine without containers.
    pub fn new(parts: Parts) -> Self {
        Self {
            current: ArcSwap::new(Arc::clone(&parts.settings)),
            settings: parts.settings,
            client: parts.client,
            store: parts.store,
            network: parts.network,
            networks: parts.networks,
            images: parts.images,
            remote: ArcSwap::from_pointee(parts.remote),
            events: Bus::default(),
            registry: Registry::default(),
            facts: parts.facts,
            limits: Limits::of(Path::new("/sys/fs/cgroup")),
            boot: parts.boot,
            shim: parts.shim,
            execs: ExecTable::default(),
            settled: Notify::new(),
            chores: TaskTracker::new(),
            volumes: tokio::sync::Mutex::default(),
            containers: ArcSwap::default(),
            changing: Mutex::default(),
        }
    }

    /// The container that `reference` means.
    pub fn find(&self, reference: &str) -> Result<Arc<Container>, NameError> {
        let id = self.registry.resolve(reference)?;
        // A name may be reserved for a container that is still being made.
        self.by_id(&id).ok_or_else(|| NameError::NotFound(reference.to_owned()))
    }

    /// The container with this full id.
    pub fn by_id(&self, id: &str) -> Option<Arc<Container>> {
        self.containers.load().get(id).cloned()
    }

    /// All containers, newest first.
    pub fn all(&self) -> Vec<Arc<Container>> {
        let mut all: Vec<_> = self.containers.load().values().cloned().collect();
        all.sort_by_cached_key(|c| std::cmp::Reverse(c.row().fixed.created));
        all
    }

    /// Publishes a container.
    pub fn add_container(&self, container: Arc<Container>) {
        self.change(|map| map.update(container.id.clone(), container));
    }

    /// Forgets a container and frees its name.
    pub fn drop_container(&self, id: &str) {
        self.change(|map| map.without(id));
        self.registry.release(id);
        self.execs.drop_container(id);
    }

    fn change(&self, change: impl FnOnce(&Containers) -> Containers) {
        let _ordered = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let next = change(&self.containers.load());
        self.containers.store(Arc::new(next));
    }

    /// A removed container's remains are gone.
    pub fn settled(&self, id: &str) {
        tracing::debug!("container {id} is settled");
        self.settled.notify_waiters();
    }

    /// The runtime of this name; empty means the default one.
    pub fn runtime(&self, name: &str) -> Result<RuntimeChoice, String> {
        let settings = self.current.load();
        let name = if name.is_empty() { &settings.default_runtime } else { name };
        if name.starts_with("io.containerd.") {
            return Ok(RuntimeChoice { name: name.to_owned(), options: None, is_foreign: true });
        }
        let own = |binary: String| RuntimeChoice {
            name: self.shim.to_string_lossy().into_owned(),
            options: Some(containerd_api::any::pack(&Options {
                binary_name: binary,
                systemd_cgroup: self.settings.systemd_cgroup,
                ..Options::default()
            })),
            is_foreign: false,
        };
        match (name, settings.runtimes.get(name)) {
            ("ferry-runc" | "runc", _) => {
                let binary = program(Path::new("ferry-runc"))
                    .ok_or("ferry-runc is not installed beside ferryd")?;
                // Unnamed, the shim takes the one beside itself: from the sealed folder that the
                // supervisor started it in, where the runtime need not protect its own binary.
                let beside = binary.parent() == self.shim.parent();
                Ok(own(if beside { String::new() } else { binary.to_string_lossy().into_owned() }))
            }
            (_, Some(runtime)) => match &runtime.runtime_type {
                Some(kind) => {
                    Ok(RuntimeChoice { name: kind.clone(), options: None, is_foreign: true })
                }
                None => Ok(own(runtime.path.clone())),
            },
            (_, None) => Err(format!("unknown or invalid runtime name: {name}")),
        }
    }

    /// A container's `/etc/resolv.conf`.
    pub fn resolv(&self, mode: ResolvMode, overrides: &Overrides) -> String {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut path = "/etc/resolv.conf";
        let mut content = read(path);
        if uses_stub(&content) && mode != ResolvMode::Host {
            path = STUB_TARGET;
            content = read(path);
        }
        resolv_conf(HostResolv { path, content: &content }, overrides, mode)
    }
}

/// The program of this name: beside this one, else on the path; absolute names as they are.
pub fn program(name: &Path) -> Option<PathBuf> {
    if name.is_absolute() {
        return name.exists().then(|| name.to_owned());
    }
    let own = std::env::current_exe().ok()?;
    let beside = own.parent()?.join(name);
    if beside.exists() {
        return Some(beside);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|p| p.exists())
}
