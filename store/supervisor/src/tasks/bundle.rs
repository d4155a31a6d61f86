//! The bundle: the folder from which a shim and its runtime work, `<state>/<namespace>/<id>`.
//! Written whole before the shim is started, read back after a restart, removed with the task.
//! What a container should be is not decided here.

use super::TaskError;
use shim_api::bootstrap::Bootstrap;
use std::fs;
use std::io;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A task's folder.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The containerd namespace.
    pub namespace: String,
    /// The container's id.
    pub id: String,
    path: PathBuf,
}

/// Where a shim's program is pinned, so that an upgrade meanwhile changes nothing for it.
const SHIM: &str = "shim-binary-path";
/// The bootstrap answer, for the next supervisor.
const BOOTSTRAP: &str = "bootstrap.json";
/// Shims write their plain address themselves; containerd 1.6 reads it back.
const ADDRESS: &str = "address";

impl Bundle {
    /// Names a bundle without touching the disk. Errors: names that are no single path component.
    pub fn named(state: &Path, namespace: &str, id: &str) -> Result<Self, TaskError> {
        for (what, name) in [("namespace", namespace), ("container id", id)] {
            if name.is_empty() || name.contains(['/', '\0']) || matches!(name, "." | "..") {
                return Err(TaskError::Invalid(format!("invalid {what} {name:?}")));
            }
        }
        let path = state.join(namespace).join(id);
        Ok(Self { namespace: namespace.into(), id: id.into(), path })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder with `config.json` and an empty `rootfs`, for the shim program `shim`.
    pub fn create(&self, spec: &[u8], shim: &Path) -> Result<(), TaskError> {
        let failed = |e| self.failed("creating", e);
        // Traversable, since a user namespace's root must reach rootfs; not listable.
        let make = || fs::DirBuilder::new().mode(0o711).create(&self.path);
        let made = match (make(), self.path.parent()) {
            (Err(e), Some(namespace)) if e.kind() == io::ErrorKind::NotFound => {
                let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(namespace);
                made.and_then(|()| make())
            }
            (made, _) => made,
        };
        match made {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(TaskError::Exists(format!("task {} already exists", self.id)));
            }
            other => other.map_err(failed)?,
        }
        let filled = self.fill(spec, shim);
        if filled.is_err() {
            // The folder is ours alone and holds no mount yet.
            let _ = fs::remove_dir_all(&self.path);
        }
        filled.map_err(failed)
    }

    fn fill(&self, spec: &[u8], shim: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o711).create(self.path.join("rootfs"))?;
        let config = self.path.join("config.json");
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(config)?;
        file.write_all(spec)?;
        fs::write(self.path.join(SHIM), shim.as_os_str().as_encoded_bytes())
    }

    /// The pinned shim program.
    pub fn shim(&self) -> Option<PathBuf> {
        fs::read_to_string(self.path.join(SHIM)).ok().map(PathBuf::from)
    }

    /// Keeps the shim's answer for after a restart.
    pub fn save_bootstrap(&self, bootstrap: &Bootstrap) -> Result<(), TaskError> {
        let temporary = self.path.join(".bootstrap.json");
        fs::write(&temporary, bootstrap.to_json())
            .and_then(|()| fs::rename(&temporary, self.path.join(BOOTSTRAP)))
            .map_err(|e| self.failed("recording the shim's address in", e))
    }

    /// The kept answer, or the address that the shim wrote.
    pub fn bootstrap(&self) -> Option<Bootstrap> {
        [BOOTSTRAP, ADDRESS].into_iter().find_map(|name| {
            let text = fs::read_to_string(self.path.join(name)).ok()?;
            Bootstrap::parse(&text).ok()
        })
    }

    /// Removes the folder; a rootfs that is still mounted is unmounted first.
    pub fn remove(&self) -> Result<(), TaskError> {
        let rootfs = self.path.join("rootfs");
        // A snapshot's content must never be removed through its mount.
        while rustix::mount::unmount(
            &rootfs,
            rustix::mount::UnmountFlags::DETACH | rustix::mount::UnmountFlags::NOFOLLOW,
        )
        .is_ok()
        {}
        let removed = match fs::remove_dir(&rootfs) {
            // Plain files in rootfs: a runtime without mounts left mount points behind.
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => fs::remove_dir_all(&rootfs),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        removed.map_err(|e| self.failed("removing the rootfs of", e))?;
        match fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.failed("removing", e)),
            _ => Ok(()),
        }
    }

    /// All bundles below `state`.
    pub fn all(state: &Path) -> Vec<Self> {
        let mut found = Vec::new();
        for namespace in folders(state) {
            for id in folders(&state.join(&namespace)) {
                found.extend(Self::named(state, &namespace, &id));
            }
        }
        found
    }

    fn failed(&self, action: &'static str, source: io::Error) -> TaskError {
        TaskError::Io { what: format!("{action} the bundle {}", self.path.display()), source }
    }
}

fn folders(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let folder = |entry: fs::DirEntry| entry.file_type().is_ok_and(|t| t.is_dir()).then_some(entry);
    entries
        .filter_map(|entry| folder(entry.ok()?))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| !name.starts_with('.'))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_written_read_back_and_removed() {
        let state = tempfile::tempdir().unwrap();
        let bundle = Bundle::named(state.path(), "ns", "c1").unwrap();
        bundle.create(b"{}", Path::new("/bin/shim")).unwrap();
        assert!(matches!(bundle.create(b"{}", Path::new("/x")), Err(TaskError::Exists(_))));
        assert_eq!(bundle.shim().unwrap(), Path::new("/bin/shim"));
        fs::write(bundle.path().join(ADDRESS), "unix:///run/s\n").unwrap();
        assert_eq!(bundle.bootstrap().unwrap().socket_path(), "/run/s");
        assert_eq!(Bundle::all(state.path()).len(), 1);
        bundle.remove().unwrap();
        assert!(Bundle::all(state.path()).is_empty());
    }

    #[test]
    fn names_that_leave_the_state_folder_are_refused() {
        for (namespace, id) in [("..", "c"), ("ns", "../x"), ("ns", ""), ("a/b", "c")] {
            assert!(Bundle::named(Path::new("/s"), namespace, id).is_err());
        }
    }
}
