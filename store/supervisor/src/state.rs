//! What all services share: folders, metadata store, event exchange, identity.

use std::fmt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use metastore::{Batch, Class, Format, Store, Table};
use sys::lock::{Lock, LockError};

use crate::content::{OpenRefs, PendingBlobs};
use crate::events::Exchange;
use crate::gc::Collector;
use crate::snapshots::{Folders, prepare_root};
use crate::{Config, Error};

/// The record format that this program writes, and who may read it.
const FORMAT: Format = Format { version: 1, min_reader: 1 };
const SERVER: Table = Table::new("server");

/// The supervisor's state. Services hold it in an `Arc`.
pub struct State {
    /// What survives a reboot: content, snapshots, metadata.
    pub root: PathBuf,
    /// What does not: bundles, sockets.
    pub run: PathBuf,
    /// The gRPC socket.
    pub address: PathBuf,
    /// The records.
    pub store: Store,
    /// Events.
    pub events: Exchange,
    /// Stable identity of this store.
    pub uuid: String,
    /// Identity of the running kernel, which records of running things name.
    pub boot_id: String,
    /// The garbage collector.
    pub gc: Collector,
    /// When memory is given back.
    pub activity: crate::idle::Activity,
    pub(crate) folders: Folders,
    pub(crate) open_refs: OpenRefs,
    pub(crate) pending_blobs: PendingBlobs,
    pub(crate) flights: crate::transfer::Flights,
    pub(crate) places: crate::transfer::Places,
    writing: Mutex<()>,
    /// The root is ours alone.
    _lock: Lock,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State({})", self.root.display())
    }
}

/// Proof that this caller alone reads and then writes records. Never held across an await.
#[derive(Debug)]
pub struct Writing<'a>(#[allow(dead_code)] MutexGuard<'a, ()>);

impl State {
    /// Opens the state in the folders that `config` names, making them where absent.
    pub fn open(config: &Config) -> Result<Self, Error> {
        make_folder(&config.root, 0o711)?;
        make_folder(&config.state, 0o711)?;
        let lock = lock(config)?;
        let store = Store::open(&config.root.join("meta.redb"), FORMAT)?;
        let uuid = uuid(&store)?;
        let boot_id = sys::boot::id().map_err(Error::io("reading the boot id"))?;
        crate::content::drop_own_ingests(&store)?;
        crate::leases::drop_own_leases(&store)?;
        let folders = prepare_root(&config.root, &store, &boot_id)?;
        Ok(Self {
            gc: Collector::default(),
            activity: crate::idle::Activity::default(),
            folders,
            open_refs: OpenRefs::default(),
            pending_blobs: PendingBlobs::default(),
            flights: crate::transfer::Flights::default(),
            places: crate::transfer::Places::default(),
            root: config.root.clone(),
            run: config.state.clone(),
            address: config.address.clone(),
            store,
            events: Exchange::default(),
            uuid,
            boot_id,
            writing: Mutex::new(()),
            _lock: lock,
        })
    }

    /// Takes the lock under which records are read and then written.
    pub fn write(&self) -> Writing<'_> {
        // The lock guards no data of its own: a panic under it left the store whole.
        Writing(self.writing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Makes sure that no other process works in this root; it would be named.
fn lock(config: &Config) -> Result<Lock, Error> {
    let note = format!("process {} (state {})", std::process::id(), config.state.display());
    let root = config.root.display();
    sys::lock::take(&config.root.join("ferry-containerd.lock"), &note).map_err(|e| match e {
        held @ LockError::Held(_) => Error::Unavailable(format!("root {root}: {held}")),
        LockError::File(e) => Error::io(format!("locking root {root}"))(e),
    })
}

/// Makes `path` with its parents; an existing one keeps its mode.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    let what = || format!("creating folder {}", path.display());
    if path.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(Error::io(what()))?;
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).map_err(Error::io(what()))
}

fn uuid(store: &Store) -> Result<String, Error> {
    if let Some(known) = store.get(SERVER, b"uuid")? {
        return Ok(String::from_utf8_lossy(&known).into_owned());
    }
    let new = random_uuid()?;
    store.commit(Class::Power, Batch::default().put(SERVER, "uuid", new.as_str()))?;
    Ok(new)
}

/// A random identifier in the form of a UUID, version 4.
pub fn random_uuid() -> Result<String, Error> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|e| Error::Other(format!("no random bytes: {e}")))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = u128::from_be_bytes(bytes);
    let hex = format!("{hex:032x}");
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}
