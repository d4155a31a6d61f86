//! Changes that are on the disk when they return, and whole whenever one looks: files and folders
//! are made aside and renamed into place; what goes is renamed away first.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::error::{StoreError, optional};
use super::layout::Layout;
use crate::name::random_uuid;

/// When a removal is to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before it returns.
    Now,
    /// After many of them, by [`Durable::sync_removals`].
    Later,
}

/// Something in the trash; dropping it deletes it. What a crash leaves goes at the next start.
#[derive(Debug)]
pub(crate) struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        discard(&self.0);
    }
}

/// Makes durable changes below one root.
#[derive(Debug)]
pub(crate) struct Durable {
    tmp: PathBuf,
    trash: PathBuf,
    // Held while folders are made: who sees a folder must be able to rely on it.
    making: Mutex<()>,
    // Folders from which something was removed.
    unsynced: Mutex<BTreeSet<PathBuf>>,
}

impl Durable {
    pub(crate) fn new(layout: &Layout) -> Self {
        Self {
            tmp: layout.tmp(),
            trash: layout.trash(),
            making: Mutex::new(()),
            unsynced: Mutex::default(),
        }
    }

    /// Makes a folder and those above it.
    pub(crate) fn make_folder(&self, path: &Path) -> Result<(), StoreError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        make(path).map_err(StoreError::at("making", path))
    }

    /// Writes a small file, replacing an old one in one step. Its folder is made if need be.
    pub(crate) fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let folder = parent(path);
        self.make_folder(folder)?;
        let written = (|| {
            let fresh = self.tmp.join(random_uuid()?);
            write_synced(&fresh, bytes)?;
            fs::rename(&fresh, path)?;
            sync_folder(folder)
        })();
        written.map_err(StoreError::at("writing", path))
    }

    /// Makes a folder of small files in one step. `false`: it was there already.
    pub(crate) fn write_folder(
        &self,
        path: &Path,
        files: &[(&str, &[u8])],
    ) -> Result<bool, StoreError> {
        let made = (|| {
            let fresh = self.tmp.join(random_uuid()?);
            fs::create_dir(&fresh)?;
            for (name, bytes) in files {
                write_synced(&fresh.join(name), bytes)?;
            }
            Ok(fresh)
        })();
        let fresh = made.map_err(StoreError::at("making", path))?;
        let published = self.publish(&fresh, path);
        if !matches!(published, Ok(true)) {
            fs::remove_dir_all(&fresh).ok();
        }
        published
    }

    /// Renames a folder, whose files are on the disk, into its place. `false`: the place is taken.
    pub(crate) fn publish(&self, fresh: &Path, path: &Path) -> Result<bool, StoreError> {
        let folder = parent(path);
        self.make_folder(folder)?;
        let renamed = (|| {
            sync_folder(fresh)?;
            match fs::rename(fresh, path) {
                Ok(()) => {}
                Err(e) if is_taken(&e) => return Ok(false),
                Err(e) => return Err(e),
            }
            sync_folder(folder)?;
            Ok(true)
        })();
        renamed.map_err(StoreError::at("making", path))
    }

    /// Takes a file or folder away in one step. `false`: it was not there.
    pub(crate) fn remove(&self, path: &Path) -> Result<bool, StoreError> {
        Ok(self.take_away(path, When::Now)?.is_some())
    }

    /// The same; what was there is deleted only when the answer is dropped, which may take long.
    pub(crate) fn take_away(&self, path: &Path, synced: When) -> Result<Option<Aside>, StoreError> {
        let removed = (|| {
            let gone = self.trash.join(random_uuid()?);
            if optional(fs::rename(path, &gone))?.is_none() {
                return Ok(None);
            }
            let gone = Aside(gone);
            match synced {
                When::Now => sync_folder(parent(path))?,
                When::Later => drop(self.unsynced().insert(parent(path).to_owned())),
            }
            Ok(Some(gone))
        })();
        removed.map_err(StoreError::at("removing", path))
    }

    /// Removes a folder if it is empty. `false`: it is not, or not there.
    pub(crate) fn remove_if_empty(path: &Path) -> bool {
        fs::remove_dir(path).is_ok()
    }

    /// Brings all removals so far onto the disk.
    pub(crate) fn sync_removals(&self) -> Result<(), StoreError> {
        let folders = std::mem::take(&mut *self.unsynced());
        for folder in folders {
            // One that went itself took its removals with it.
            optional(sync_folder(&folder)).map_err(StoreError::at("syncing", &folder))?;
        }
        Ok(())
    }

    fn unsynced(&self) -> MutexGuard<'_, BTreeSet<PathBuf>> {
        self.unsynced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empties the folders of what was being made and of what was being removed.
    pub(crate) fn clear(&self) -> Result<(), StoreError> {
        for folder in [&self.tmp, &self.trash] {
            let entries = fs::read_dir(folder).map_err(StoreError::at("reading", folder))?;
            for entry in entries.flatten() {
                discard(&entry.path());
            }
        }
        Ok(())
    }
}

fn discard(path: &Path) {
    if fs::remove_dir_all(path).is_err() {
        fs::remove_file(path).ok();
    }
}

fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = parent(path);
    make(above)?;
    match fs::create_dir(path) {
        Ok(()) => sync_folder(above),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(e) => Err(e),
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Brings a folder's entries onto the disk.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}
