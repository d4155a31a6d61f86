//! Cache and memory bandwidth: a container's group in the resctrl file system (Intel RDT, and what
//! other processors have of the kind). Works on whatever folder it is given as the root of that file
//! system; no machine of ours has the hardware, so the tests give it one of files.

mod stats;

pub use stats::RdtStats;

use crate::{Error, file};
use oci::runtime::IntelRdt;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::{Path, PathBuf};

const USUAL: &str = "/sys/fs/resctrl";
const MAGIC: u64 = 0x0765_5821;

/// The mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resctrl {
    root: PathBuf,
}

/// A container's group.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RdtGroup {
    /// Root of the file system it is in.
    root: PathBuf,
    /// Its folder.
    path: PathBuf,
    /// Its monitoring group.
    monitoring: Option<PathBuf>,
    /// Whether it is removed with the container: nobody else named it or made it.
    ours: bool,
}

impl Resctrl {
    /// Where it is mounted; `None` where it is not, or the machine has none.
    pub fn find() -> Option<Self> {
        let usual = rustix::fs::statfs(USUAL).ok()?;
        if usual.f_type as u64 == MAGIC {
            return Some(Self { root: USUAL.into() });
        }
        let table = file::read(Path::new("/proc/self"), "mountinfo").ok()?;
        let line = table.lines().find(|line| line.contains(" - resctrl "))?;
        Some(Self { root: line.split(' ').nth(4)?.into() })
    }

    /// Takes a folder for the file system's root.
    #[cfg(test)]
    fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    fn has(&self, info: &str) -> bool {
        file::exists(&self.root.join("info"), info)
    }

    /// Whether caches can be divided here.
    pub fn has_cache(&self) -> bool {
        self.has("L3")
    }

    /// Whether memory bandwidth can be divided here.
    pub fn has_bandwidth(&self) -> bool {
        self.has("MB")
    }

    /// What can be refused before anything is done.
    ///
    /// # Errors
    /// When a name or a schema can't be had here.
    pub fn check(&self, rdt: &IntelRdt) -> Result<(), Error> {
        let invalid = |text: &str| Err(Error::Invalid(text.into()));
        let clos = rdt.clos_id.as_str();
        if matches!(clos, "." | "..") || (clos.len() > 1 && clos.contains('/')) {
            return Err(Error::Invalid(format!("invalid intelRdt.ClosID {clos:?}")));
        }
        if !rdt.l3_cache_schema.is_empty() && !self.has_cache() {
            return invalid(
                "intelRdt.l3CacheSchema is specified in config, but Intel RDT/CAT is not enabled",
            );
        }
        if !rdt.mem_bw_schema.is_empty() && !self.has_bandwidth() {
            return invalid(
                "intelRdt.memBwSchema is specified in config, but Intel RDT/MBA is not enabled",
            );
        }
        Ok(())
    }

    /// The group that a container is to have. Nothing is made yet, so that it can be recorded before.
    ///
    /// # Errors
    /// When it must exist, having no schema of its own, and does not.
    pub fn plan(&self, rdt: &IntelRdt, id: &str) -> Result<RdtGroup, Error> {
        // "/" is the root's own group.
        let name = if rdt.clos_id.is_empty() { id } else { rdt.clos_id.trim_matches('/') };
        let path = self.root.join(name);
        let exists = rustix::fs::access(&path, rustix::fs::Access::EXISTS).is_ok();
        if !rdt.clos_id.is_empty() && schemata(rdt).is_empty() && !exists {
            return Err(Error::Io {
                what: "clos dir not accessible (must be pre-created when schemata, l3CacheSchema and memBwSchema are empty): stat",
                path,
                source: Errno::NOENT.into(),
            });
        }
        let monitoring = rdt.enable_monitoring.then(|| path.join("mon_groups").join(id));
        Ok(RdtGroup {
            root: self.root.clone(),
            path,
            monitoring,
            ours: rdt.clos_id.is_empty() && !exists,
        })
    }
}

/// What is written to `schemata`: a line each.
fn schemata(rdt: &IntelRdt) -> String {
    let named = [&rdt.l3_cache_schema, &rdt.mem_bw_schema];
    let lines = named.into_iter().chain(&rdt.schemata).filter(|line| !line.is_empty());
    lines.map(|line| format!("{line}\n")).collect()
}

impl RdtGroup {
    /// Makes the group and puts a process into it.
    ///
    /// # Errors
    /// With what the kernel says of its last refusal.
    pub fn create(&self, pid: i32) -> Result<(), Error> {
        self.make(&self.path)?;
        if let Some(monitoring) = &self.monitoring {
            self.make(monitoring)?;
        }
        self.join(pid)
    }

    fn make(&self, path: &Path) -> Result<(), Error> {
        match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(self.explain(Error::Io {
                what: "mkdir",
                path: path.to_owned(),
                source: errno.into(),
            })),
        }
    }

    /// Puts a process into the group, where the group still exists.
    ///
    /// # Errors
    /// With what the kernel says of its last refusal.
    pub fn join(&self, pid: i32) -> Result<(), Error> {
        for folder in [Some(&self.path), self.monitoring.as_ref()].into_iter().flatten() {
            self.write(folder, "tasks", &pid.to_string())?;
        }
        Ok(())
    }

    /// Sets the group's shares.
    ///
    /// # Errors
    /// With what the kernel says of its last refusal.
    pub fn set(&self, rdt: &IntelRdt) -> Result<(), Error> {
        let text = schemata(rdt);
        if text.is_empty() { Ok(()) } else { self.write(&self.path, "schemata", &text) }
    }

    fn write(&self, folder: &Path, name: &str, text: &str) -> Result<(), Error> {
        let path = folder.join(name);
        // The kernel makes the files; a folder that only looks like a group needs them made.
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let written = rustix::fs::open(&path, flags, Mode::from_raw_mode(0o600)).and_then(|file| {
            rustix::io::retry_on_intr(|| rustix::io::write(&file, text.as_bytes()))
        });
        written.map(drop).map_err(|errno| {
            self.explain(Error::Write { value: text.trim_end().into(), path, source: errno.into() })
        })
    }

    /// The kernel's own explanation beside its error number.
    fn explain(&self, error: Error) -> Error {
        match file::read(&self.root.join("info"), "last_cmd_status") {
            Ok(status) => {
                Error::Invalid(format!("{error}, last_cmd_status: {}", status.trim_end()))
            }
            Err(_) => error,
        }
    }

    /// Removes the group, or of one that others may share only what watched this container.
    ///
    /// # Errors
    /// As rmdir(2).
    pub fn remove(&self) -> Result<(), Error> {
        let path = match &self.monitoring {
            _ if self.ours => &self.path,
            Some(monitoring) => monitoring,
            None => return Ok(()),
        };
        match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => {
                Err(Error::Io { what: "rmdir", path: path.clone(), source: errno.into() })
            }
        }
    }

    /// Its figures.
    pub fn stats(&self) -> RdtStats {
        stats::read(&self.root, &self.path, self.monitoring.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with the files that the kernel would show.
    pub(super) fn fake() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("info/L3/cbm_mask", "fffff\n"),
            ("info/L3/min_cbm_bits", "1\n"),
            ("info/L3/num_closids", "16\n"),
            ("info/MB/bandwidth_gran", "10\n"),
            ("info/MB/min_bandwidth", "10\n"),
            ("info/MB/num_closids", "8\n"),
            ("info/L3_MON/mon_features", "llc_occupancy\nmbm_total_bytes\n"),
            ("info/last_cmd_status", "ok\n"),
            ("schemata", "MB:0=100\nL3:0=fffff\n"),
        ] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn text(folder: &Path, name: &str) -> String {
        std::fs::read_to_string(folder.join(name)).unwrap()
    }

    #[test]
    fn a_group_named_by_the_container_is_made_and_removed_with_it() {
        let folder = fake();
        let root = Resctrl::at(folder.path());
        let rdt = IntelRdt {
            l3_cache_schema: "L3:0=f".into(),
            schemata: vec!["MB:0=50".into()],
            ..IntelRdt::default()
        };
        root.check(&rdt).unwrap();
        let group = root.plan(&rdt, "c1").unwrap();
        assert!(!folder.path().join("c1").exists(), "planning makes nothing");
        group.create(42).unwrap();
        group.set(&rdt).unwrap();
        assert_eq!(text(folder.path(), "c1/tasks"), "42");
        assert_eq!(text(folder.path(), "c1/schemata"), "L3:0=f\nMB:0=50\n");
        // In a folder of files, files are in the way that the kernel would take along.
        for name in ["tasks", "schemata"] {
            std::fs::remove_file(folder.path().join("c1").join(name)).unwrap();
        }
        group.remove().unwrap();
        group.remove().unwrap();
        assert!(!folder.path().join("c1").exists());
    }

    #[test]
    fn a_class_that_is_only_named_must_exist_and_stays() {
        let folder = fake();
        let root = Resctrl::at(folder.path());
        let rdt =
            IntelRdt { clos_id: "gold".into(), enable_monitoring: true, ..IntelRdt::default() };
        let error = root.plan(&rdt, "c1").unwrap_err().to_string();
        assert!(error.contains("must be pre-created"), "{error}");
        std::fs::create_dir_all(folder.path().join("gold/mon_groups")).unwrap();
        let group = root.plan(&rdt, "c1").unwrap();
        group.create(7).unwrap();
        assert_eq!(text(folder.path(), "gold/mon_groups/c1/tasks"), "7");
        std::fs::remove_file(folder.path().join("gold/mon_groups/c1/tasks")).unwrap();
        group.remove().unwrap();
        assert!(!folder.path().join("gold/mon_groups/c1").exists());
        assert!(folder.path().join("gold").exists());
    }

    #[test]
    fn what_the_machine_lacks_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let root = Resctrl::at(folder.path());
        let says = |rdt: IntelRdt| root.check(&rdt).unwrap_err().to_string();
        let cache = IntelRdt { l3_cache_schema: "L3:0=f".into(), ..IntelRdt::default() };
        assert!(says(cache).contains("Intel RDT/CAT is not enabled"));
        let bandwidth = IntelRdt { mem_bw_schema: "MB:0=50".into(), ..IntelRdt::default() };
        assert!(says(bandwidth).contains("Intel RDT/MBA is not enabled"));
        for bad in [".", "..", "a/b", "../x"] {
            let rdt = IntelRdt { clos_id: bad.into(), ..IntelRdt::default() };
            assert!(says(rdt).contains("invalid intelRdt.ClosID"), "{bad}");
        }
    }

    #[test]
    fn a_refusal_carries_the_kernels_own_explanation() {
        let folder = fake();
        std::fs::write(folder.path().join("info/last_cmd_status"), "Mask out of range\n").unwrap();
        let rdt = IntelRdt { l3_cache_schema: "L3:0=f".into(), ..IntelRdt::default() };
        let group = Resctrl::at(folder.path()).plan(&rdt, "c1").unwrap();
        // The group is not there, so its file can't be written.
        let error = group.set(&rdt).unwrap_err().to_string();
        assert!(error.ends_with("last_cmd_status: Mask out of range"), "{error}");
    }
}
