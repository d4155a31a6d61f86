//! Snapshots' folders: made, copied, measured, removed behind, synced behind.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metastore::{Batch, Class, fault};
use rustix::fs::{CWD, FileType, IFlags, Mode, OFlags};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::{EXTRACTION, Kind, SNAPSHOTS, Snapshot, Snapshotter};
use crate::state::make_folder;
use crate::{Error, State};

/// What files take on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes of blocks.
    pub size: u64,
    /// Files, folders, links; a hard link counts once.
    pub inodes: u64,
}

/// The folders of all snapshots.
#[derive(Debug)]
pub(crate) struct Folders {
    root: PathBuf,
    removing: PathBuf,
    next: AtomicU64,
    /// Something was renamed into `removing/`.
    pub removal: Notify,
    /// Something was committed that no syncfs covered.
    pub unsynced: Notify,
}

/// Makes the folders, drops what no record names, and what did not survive a power cut.
pub(crate) fn prepare_root(
    root: &Path,
    store: &metastore::Store,
    boot_id: &str,
) -> Result<Folders, Error> {
    let (snapshots, removing) = (root.join("snapshots"), root.join("removing"));
    make_folder(&snapshots, 0o700)?;
    make_folder(&removing, 0o700)?;
    spread_folders(&snapshots);
    drop_cut_extractions(store)?;
    drop_unsynced(store, boot_id)?;
    let mut known = HashSet::new();
    for (_, snapshot) in store.scan_json::<Snapshot>(SNAPSHOTS, b"")? {
        known.insert(snapshot.seq);
    }
    let folders = Folders {
        root: snapshots,
        removing,
        next: AtomicU64::new(0),
        removal: Notify::new(),
        unsynced: Notify::new(),
    };
    let mut last = known.iter().copied().max().unwrap_or(0);
    let what = || format!("listing {}", folders.root.display());
    for entry in folders.root.read_dir().map_err(Error::io(what()))? {
        let name = entry.map_err(Error::io(what()))?.file_name();
        let Some(seq) = name.to_str().and_then(|s| s.parse::<u64>().ok()) else { continue };
        last = last.max(seq);
        if !known.contains(&seq) {
            folders.remove(seq);
        }
    }
    for entry in folders.removing.read_dir().map_err(Error::io(what()))?.flatten() {
        let seq = entry.file_name().to_str().and_then(|s| s.parse().ok()).unwrap_or(0);
        last = last.max(seq);
    }
    folders.next.store(last + 1, Ordering::Relaxed);
    folders.removal.notify_one();
    folders.unsynced.notify_one();
    Ok(folders)
}

// ext4 rescans inodes freed in the last minutes; with this flag each folder lands in another
// block group. Other file systems refuse the flag and don't need it.
fn spread_folders(path: &Path) {
    let set = || -> rustix::io::Result<()> {
        let folder = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        let flags = rustix::fs::ioctl_getflags(&folder)?;
        rustix::fs::ioctl_setflags(&folder, flags | IFlags::TOPDIR)
    };
    if let Err(error) = set() {
        tracing::debug!(%error, path = %path.display(), "no FS_TOPDIR_FL here");
    }
}

// Layers that were being unpacked when the process ended: nobody goes on with them.
fn drop_cut_extractions(store: &metastore::Store) -> Result<(), Error> {
    let all = store.scan_json::<Snapshot>(SNAPSHOTS, b"")?.into_iter();
    let named = |key: &[u8]| key.rsplit(|b| *b == 0).next().map(<[u8]>::to_vec);
    let cut = |key: &[u8]| named(key).is_some_and(|n| n.starts_with(EXTRACTION.as_bytes()));
    let keys = all.filter(|(key, s)| s.kind == Kind::Active && cut(key)).map(|(key, _)| key);
    let batch = keys.fold(Batch::default(), |batch, key| batch.delete(SNAPSHOTS, key));
    Ok(store.commit(Class::Crash, batch)?)
}

// Committed layers of an earlier boot that no syncfs covered may hold zero-byte files: they go,
// with all that is built on them, and are unpacked again from blobs.
fn drop_unsynced(store: &metastore::Store, boot_id: &str) -> Result<(), Error> {
    let all = store.scan_json::<Snapshot>(SNAPSHOTS, b"")?;
    let torn = |s: &Snapshot| s.kind == Kind::Committed && !s.synced && s.boot_id != boot_id;
    let mut dropped: HashSet<Vec<u8>> =
        all.iter().filter(|(_, s)| torn(s)).map(|(key, _)| key.clone()).collect();
    if dropped.is_empty() {
        return Ok(());
    }
    loop {
        let before = dropped.len();
        for (key, snapshot) in &all {
            // Containers' snapshots wait for what they stand on to be unpacked again.
            if snapshot.kind == Kind::Committed
                && !snapshot.parent.is_empty()
                && dropped.contains(&parent_key(key, &snapshot.parent))
            {
                dropped.insert(key.clone());
            }
        }
        if dropped.len() == before {
            break;
        }
    }
    tracing::warn!(count = dropped.len(), "dropping snapshots that a power cut may have torn");
    let batch = dropped.into_iter().fold(Batch::default(), |b, key| b.delete(SNAPSHOTS, key));
    Ok(store.commit(Class::Power, batch)?)
}

/// Drops what stands on a snapshot that is gone: nothing can be mounted from it any more.
pub(crate) fn drop_rootless(state: &State) -> Result<(), Error> {
    let _writing = state.write();
    let all = state.store.scan_json::<Snapshot>(SNAPSHOTS, b"")?;
    let known: HashSet<&[u8]> = all.iter().map(|(key, _)| key.as_slice()).collect();
    let rootless = all.iter().filter(|(key, snapshot)| {
        let parent = parent_key(key, &snapshot.parent);
        !snapshot.parent.is_empty() && !known.contains(parent.as_slice())
    });
    let mut batch = Batch::default();
    for (key, snapshot) in rootless {
        let name = String::from_utf8_lossy(key).replace('\0', "/");
        tracing::warn!("dropping snapshot {name}: its parent {} is lost", snapshot.parent);
        batch = batch.delete(SNAPSHOTS, key.clone());
        state.folders.remove(snapshot.seq);
    }
    Ok(state.store.commit(Class::Power, batch)?)
}

// The key of a parent, which has its child's namespace and snapshotter.
fn parent_key(child: &[u8], parent: &str) -> Vec<u8> {
    let second = child.iter().enumerate().filter(|(_, b)| **b == 0).nth(1);
    let end = second.map_or(0, |(at, _)| at + 1);
    [&child[..end], parent.as_bytes()].concat()
}

impl Folders {
    /// A number that no folder ever had.
    pub(super) fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The layer of snapshot `seq`.
    pub(super) fn fs(&self, seq: u64) -> PathBuf {
        self.folder(seq).join("fs")
    }

    /// The scratch folder of snapshot `seq`.
    pub(super) fn work(&self, seq: u64) -> PathBuf {
        self.folder(seq).join("work")
    }

    fn folder(&self, seq: u64) -> PathBuf {
        self.root.join(seq.to_string())
    }

    /// Makes the folder of a new snapshot over `stack` (nearest first).
    pub(super) fn create(
        &self,
        snapshotter: Snapshotter,
        kind: Kind,
        seq: u64,
        stack: &[u64],
    ) -> Result<(), Error> {
        let made = self.create_inner(snapshotter, kind, seq, stack);
        if made.is_err() {
            self.remove(seq);
        }
        made
    }

    fn create_inner(
        &self,
        snapshotter: Snapshotter,
        kind: Kind,
        seq: u64,
        stack: &[u64],
    ) -> Result<(), Error> {
        let folder = self.folder(seq);
        let what = || format!("creating snapshot folder {}", folder.display());
        let make = |path: &Path, mode: u32| {
            std::fs::DirBuilder::new().mode(mode).create(path).map_err(Error::io(what()))
        };
        make(&folder, 0o700)?;
        fault::point("snapshot-made");
        let fs = self.fs(seq);
        make(&fs, 0o755)?;
        if let Some(&parent) = stack.first() {
            // The top layer's root decides what the joined root looks like.
            let meta = std::fs::metadata(self.fs(parent)).map_err(Error::io(what()))?;
            std::os::unix::fs::chown(&fs, Some(meta.uid()), Some(meta.gid()))
                .map_err(Error::io(what()))?;
            let mode = std::fs::Permissions::from_mode(meta.mode() & 0o7777);
            std::fs::set_permissions(&fs, mode).map_err(Error::io(what()))?;
            if snapshotter == Snapshotter::Native && kind == Kind::Active {
                copy_tree(&self.fs(parent), &fs).map_err(Error::io(what()))?;
            }
        }
        if snapshotter == Snapshotter::Overlayfs && kind == Kind::Active {
            make(&self.work(seq), 0o711)?;
        }
        Ok(())
    }

    /// Moves a folder out of the way; its files are unlinked behind.
    pub(crate) fn remove(&self, seq: u64) {
        fault::point("snapshot-removing");
        let target = self.removing.join(seq.to_string());
        match std::fs::rename(self.folder(seq), &target) {
            Ok(()) => self.removal.notify_one(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, seq, "removing a snapshot's folder failed"),
        }
    }

    /// Unlinks all that waits in `removing/`. Blocks.
    pub(crate) fn empty_removing(&self) {
        let Ok(entries) = self.removing.read_dir() else { return };
        for entry in entries.flatten() {
            fault::point("snapshot-unlinking");
            match std::fs::remove_dir_all(entry.path()) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    tracing::warn!(%error, path = %entry.path().display(), "unlinking failed");
                }
                _ => {}
            }
        }
    }

    /// Measures the layer of snapshot `seq`.
    pub(super) fn usage(&self, seq: u64) -> Result<Usage, Error> {
        let path = self.fs(seq);
        let mut usage = Usage::default();
        measure(&path, &mut usage, &mut HashSet::new())
            .map_err(Error::io(format!("measuring {}", path.display())))?;
        Ok(usage)
    }

    /// One syncfs over everything here. Blocks.
    fn sync(&self) -> Result<(), Error> {
        let what = || format!("syncing {}", self.root.display());
        let folder = File::open(&self.root).map_err(Error::io(what()))?;
        rustix::fs::syncfs(&folder).map_err(Error::errno(what()))
    }
}

fn measure(path: &Path, usage: &mut Usage, seen: &mut HashSet<(u64, u64)>) -> std::io::Result<()> {
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        // A container may remove files while they are counted.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if meta.is_dir() || meta.nlink() == 1 || seen.insert((meta.dev(), meta.ino())) {
        usage.size += meta.blocks() * 512;
        usage.inodes += 1;
    }
    if meta.is_dir() {
        for entry in path.read_dir()? {
            measure(&entry?.path(), usage, seen)?;
        }
    }
    Ok(())
}

// Copies what is below `from` into `to`: kinds, owners, modes, times, attributes, hard links.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    copy_folder(from, to, &mut Links::new())
}

type Links = std::collections::HashMap<(u64, u64), PathBuf>;

fn copy_folder(from: &Path, to: &Path, links: &mut Links) -> std::io::Result<()> {
    for entry in from.read_dir()? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let meta = std::fs::symlink_metadata(&source)?;
        if !meta.is_dir() && meta.nlink() > 1 {
            if let Some(first) = links.get(&(meta.dev(), meta.ino())) {
                std::fs::hard_link(first, &target)?;
                continue;
            }
            links.insert((meta.dev(), meta.ino()), target.clone());
        }
        if meta.is_dir() {
            std::fs::create_dir(&target)?;
            copy_folder(&source, &target, links)?;
        } else if meta.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &target)?;
        } else if meta.is_file() {
            std::fs::copy(&source, &target)?;
        } else {
            let kind = FileType::from_raw_mode(meta.mode());
            let mode = Mode::from_raw_mode(meta.mode());
            rustix::fs::mknodat(CWD, &target, kind, mode, meta.rdev())?;
        }
        copy_attributes(&source, &target, &meta)?;
    }
    Ok(())
}

fn copy_attributes(from: &Path, to: &Path, meta: &std::fs::Metadata) -> std::io::Result<()> {
    use rustix::fs::{AtFlags, Timespec, Timestamps, XattrFlags};
    std::os::unix::fs::lchown(to, Some(meta.uid()), Some(meta.gid()))?;
    if !meta.is_symlink() {
        std::fs::set_permissions(to, std::fs::Permissions::from_mode(meta.mode() & 0o7777))?;
    }
    let mut names = vec![0u8; 64 << 10];
    let length = rustix::fs::llistxattr(from, &mut names).unwrap_or(0);
    for name in names[..length].split(|&b| b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0u8; 64 << 10];
        let length = rustix::fs::lgetxattr(from, name, &mut value)?;
        rustix::fs::lsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
    let times = Timestamps {
        last_access: time(meta.atime(), meta.atime_nsec()),
        last_modification: time(meta.mtime(), meta.mtime_nsec()),
    };
    Ok(rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// Syncs committed layers behind and notes it in their records. Blocks; called after a wake-up.
pub(crate) fn sync_behind(state: &Arc<State>) -> Result<(), Error> {
    let unsynced = |s: &Snapshot| s.kind == Kind::Committed && !s.synced;
    let all = state.store.scan_json::<Snapshot>(SNAPSHOTS, b"")?.into_iter();
    let due: Vec<_> = all.filter(|(_, snapshot)| unsynced(snapshot)).collect();
    if due.is_empty() {
        return Ok(());
    }
    state.folders.sync()?;
    let _writing = state.write();
    let mut batch = Batch::default();
    for (key, old) in due {
        let now: Option<Snapshot> = state.store.get_json(SNAPSHOTS, &key)?;
        if let Some(mut now) = now.filter(|now| now.seq == old.seq && unsynced(now)) {
            now.synced = true;
            batch = batch.put_json(SNAPSHOTS, key, &now)?;
        }
    }
    Ok(state.store.commit(Class::Crash, batch)?)
}
