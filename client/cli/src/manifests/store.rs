//! Where lists wait: `manifests/LIST/MANIFEST` in the configuration folder, a file each, as the
//! stock client has it. A file is put in place when it is whole.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci::Reference;

use super::Entry;
use crate::error::{CliError, Result, path_error};

/// The lists of one configuration folder.
pub(crate) struct Store(PathBuf);

/// A name of a file. No reference can make another of it: neither `/` nor a leading dot is left.
fn file_name(reference: &Reference) -> String {
    reference.to_string().replace(':', "-").replace('/', "_")
}

fn failed(what: &str, path: &Path, error: &io::Error) -> CliError {
    path_error(what, &path.to_string_lossy(), error)
}

/// Nothing there is nothing.
fn present<T>(what: &str, path: &Path, found: io::Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed(what, path, &e)),
    }
}

impl Store {
    /// The store below a configuration folder.
    pub(crate) fn new(config: &Path) -> Self {
        Self(config.join("manifests"))
    }

    fn folder(&self, list: &Reference) -> PathBuf {
        self.0.join(file_name(list))
    }

    /// The manifests of a list by their files' names; `None` where there is no such list.
    pub(crate) fn list(&self, list: &Reference) -> Result<Option<Vec<Entry>>> {
        let folder = self.folder(list);
        let Some(found) = present("open", &folder, fs::read_dir(&folder))? else { return Ok(None) };
        let mut names = Vec::new();
        for file in found {
            names.push(file.map_err(|e| failed("read", &folder, &e))?.file_name());
        }
        names.sort();
        let mut entries = Vec::new();
        for name in names.iter().filter(|name| !name.as_encoded_bytes().starts_with(b".")) {
            entries.extend(read(&folder.join(name))?);
        }
        Ok(Some(entries))
    }

    /// One manifest of a list.
    pub(crate) fn get(&self, list: &Reference, manifest: &Reference) -> Result<Option<Entry>> {
        read(&self.folder(list).join(file_name(manifest)))
    }

    /// Keeps a manifest in a list.
    pub(crate) fn put(&self, list: &Reference, manifest: &Reference, entry: &Entry) -> Result<()> {
        let folder = self.folder(list);
        fs::create_dir_all(&folder).map_err(|e| failed("mkdir", &folder, &e))?;
        let path = folder.join(file_name(manifest));
        let partial = folder.join(format!(".{}.{}", file_name(manifest), std::process::id()));
        let written = fs::write(&partial, entry.value()?.to_string())
            .and_then(|()| fs::rename(&partial, &path));
        written.map_err(|e| {
            let _ = fs::remove_file(&partial);
            failed("open", &path, &e)
        })
    }

    /// Removes a list; false when there is none.
    pub(crate) fn remove(&self, list: &Reference) -> Result<bool> {
        let folder = self.folder(list);
        Ok(present("unlinkat", &folder, fs::remove_dir_all(&folder))?.is_some())
    }
}

fn read(path: &Path) -> Result<Option<Entry>> {
    let Some(bytes) = present("open", path, fs::read(path))? else { return Ok(None) };
    let entry = Entry::read(&bytes);
    entry.map(Some).map_err(|why| CliError::new(format!("{}: {why}", path.display())))
}
