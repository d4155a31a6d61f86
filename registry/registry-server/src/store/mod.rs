//! The store on the file system: blobs shared by all repositories, and links that say which
//! repository has what. Everything here blocks.
//!
//! Every change is one rename, made durable before it is reported: whatever moment a crash
//! picks, a link leads to bytes that are there. The opposite, bytes without a link, is what
//! collection is for. What must be absent: requests, answers, tokio's executor.

mod blobs;
mod catalog;
mod durable;
mod error;
pub mod gc;
mod layout;
mod legacy;
mod manifests;
mod referrers;
mod tags;
mod uploads;

use std::collections::HashSet;
use std::fs::{self, File};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime};

use oci::Digest;
use rustix::fs::FlockOperation;

pub use blobs::Blob;
use durable::Durable;
pub use error::StoreError;
use error::{is_absent, optional};
use layout::Layout;
pub(crate) use layout::control_socket;
pub use manifests::{Condition, Put, Stored};
pub use referrers::Page;
use uploads::Uploads;
pub use uploads::{Claim, Session};

use crate::name::Repository;

/// How old a link may look before somebody who asks for it makes it look young again. Collection
/// spares young ones, so that a client may rely on what it was told for a while.
pub const REFRESH: Duration = Duration::from_secs(3600);
/// Locks that repositories share.
const SHARDS: usize = 64;

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most uploads that may be open.
    pub max_uploads: usize,
    /// When links are made to look young.
    pub refresh: Refresh,
    /// How old a link must look for that.
    pub refresh_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let (refresh, refresh_after) = (Refresh::WhenAsked, REFRESH);
        Self { max_uploads: 1024, refresh, refresh_after }
    }
}

/// When links are made to look young, so that they are spared for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Never: nothing may change.
    Never,
    /// When somebody asks whether they are there, and goes on to rely on it.
    WhenAsked,
    /// Whenever they are used: in a cache, age is disuse.
    WhenUsed,
}

/// A registry's data below one root, which no other process uses meanwhile.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    layout: Layout,
    durable: Durable,
    uploads: Uploads,
    options: Options,
    // Read by whoever links something, written by collection for each removal.
    gate: RwLock<()>,
    // What was linked since collection began to look, while one runs.
    pinned: Mutex<Option<HashSet<Digest>>>,
    // Changes of one repository's manifests and tags come one after the other.
    shards: Vec<Mutex<()>>,
    _lock: File,
}

/// While this lives, collection removes nothing.
struct Pin<'a>(#[allow(dead_code, reason = "held, not read")] RwLockReadGuard<'a, ()>);

impl Store {
    /// Opens the store below `root`, which is made if need be, and clears what a crash left.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process has it.
    pub fn open(root: &Path, options: Options) -> Result<Self, StoreError> {
        let layout = Layout::new(root);
        let durable = Durable::new(&layout);
        for folder in layout.folders() {
            durable.make_folder(&folder)?;
        }
        let lock = lock(root, &layout)?;
        durable.clear()?;
        let uploads = Uploads::new(options.max_uploads);
        let store = Self {
            root: root.to_owned(),
            layout,
            durable,
            uploads,
            options,
            gate: RwLock::new(()),
            pinned: Mutex::new(None),
            shards: (0..SHARDS).map(|_| Mutex::new(())).collect(),
            _lock: lock,
        };
        store.load_uploads()?;
        store.adopt_before_first_use()?;
        Ok(store)
    }

    /// The folder that all is below.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the root can still be read, for health checks.
    pub fn is_there(&self) -> bool {
        fs::metadata(self.layout.own("lock")).is_ok()
    }

    /// Whether anybody ever stored something in this repository.
    pub fn has_repository(&self, name: &Repository) -> bool {
        self.layout.manifests(name).is_dir() || self.layout.layers(name).is_dir()
    }

    fn known(&self, name: &Repository) -> Result<(), StoreError> {
        if self.has_repository(name) {
            return Ok(());
        }
        Err(StoreError::NameUnknown(name.clone()))
    }

    /// Keeps collection from removing anything now, and these until it is done.
    fn pin<'d>(&self, digests: impl IntoIterator<Item = &'d Digest>) -> Pin<'_> {
        let guard = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pinned) = self.pinned.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            pinned.extend(digests);
        }
        Pin(guard)
    }

    /// Lets one at a time change a repository's manifests and tags.
    fn changing(&self, name: &Repository) -> MutexGuard<'_, ()> {
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let shard = hasher.hash_one(name) as usize % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this link is there; then it looks young.
    fn rely_on(&self, link: &Path, digest: &Digest) -> Result<bool, StoreError> {
        let failed = StoreError::at("reading", link);
        let Some(meta) = optional(fs::metadata(link)).map_err(failed)? else { return Ok(false) };
        let age = meta.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if self.options.refresh == Refresh::Never
            || age.is_none_or(|age| age < self.options.refresh_after)
        {
            return Ok(true);
        }
        let _pin = self.pin([digest]);
        set_time(link, SystemTime::now())
    }
}

/// Sets a link's time. `false`: it is not there.
fn set_time(link: &Path, time: SystemTime) -> Result<bool, StoreError> {
    let set = File::options().write(true).open(link).and_then(|file| file.set_modified(time));
    match set {
        Ok(()) => Ok(true),
        Err(e) if is_absent(&e) => Ok(false),
        Err(source) => Err(StoreError::at("setting the time of", link)(source)),
    }
}

/// Makes this process the only one on the root.
fn lock(root: &Path, layout: &Layout) -> Result<File, StoreError> {
    let path = layout.own("lock");
    let opened = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(StoreError::at("opening", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut owner = String::new();
            file.take(20).read_to_string(&mut owner).ok();
            return Err(StoreError::InUse { root: root.to_owned(), owner: owner.trim().into() });
        }
        Err(e) => return Err(StoreError::at("locking", &path)(e.into())),
    }
    let owner = format!("{}\n", std::process::id());
    let noted = file.set_len(0).and_then(|()| file.rewind());
    noted
        .and_then(|()| file.write_all(owner.as_bytes()))
        .map_err(StoreError::at("writing", &path))?;
    Ok(file)
}
