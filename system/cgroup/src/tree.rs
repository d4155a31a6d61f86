//! A container's folders in the hierarchies: made, joined, counted, frozen, emptied, removed.

use crate::{Error, Stats, file, stats, v1, v2};
use oci::runtime::{DeviceRule, Resources};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the freezer may take.
const FREEZE_LIMIT: Duration = Duration::from_secs(2);
/// How long a folder may stay busy after its last task has ended.
const REMOVE_LIMIT: Duration = Duration::from_secs(2);

/// The cgroup of one container: a folder in each hierarchy, by name; the empty name is v2.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Cgroup {
    /// Folder by hierarchy.
    pub paths: BTreeMap<String, PathBuf>,
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(Errno) -> Error {
    let path = path.to_owned();
    move |errno| Error::Io { what, path, source: errno.into() }
}

impl Cgroup {
    /// The v2 folder.
    pub fn v2(&self) -> Option<&Path> {
        self.paths.get("").map(PathBuf::as_path)
    }

    /// The v1 folders with their names.
    pub fn v1(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.paths.iter().filter(|(n, _)| !n.is_empty()).map(|(n, p)| (n.as_str(), p.as_path()))
    }

    /// Whether v2 alone is in use.
    pub fn is_unified(&self) -> bool {
        self.v1().next().is_none()
    }

    /// The v1 folder of a controller.
    pub fn controller(&self, name: &str) -> Option<&Path> {
        self.v1().find(|(folder, _)| folder.split(',').any(|part| part == name)).map(|(_, p)| p)
    }

    /// Makes the folders, with their parents, fills `cpuset` and, on pure v2, enables the
    /// controllers on the way down.
    ///
    /// # Errors
    /// When a folder can't be made.
    pub fn create(&self) -> Result<(), Error> {
        for (name, path) in self.v1() {
            let is_new = make(path)?;
            if name.split(',').any(|part| part == "cpuset") {
                v1::inherit_cpuset(path, is_new)?;
            }
        }
        self.create_v2()
    }

    /// Makes the v2 folder alone, into which a process can be born.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create_v2(&self) -> Result<(), Error> {
        match self.v2() {
            None => Ok(()),
            Some(path) if self.is_unified() => v2::create_enabled(path),
            Some(path) => make(path).map(drop),
        }
    }

    /// The same where the caller may, for one without rights: what it got. A `named` place is to be
    /// had whole.
    ///
    /// # Errors
    /// When a folder can't be made, for another reason unless named.
    pub fn create_where_allowed(&self, named: bool) -> Result<Self, Error> {
        let mut got = Self::default();
        for (name, path) in &self.paths {
            let one = Self { paths: BTreeMap::from([(name.clone(), path.clone())]) };
            match one.create() {
                Ok(()) => drop(got.paths.insert(name.clone(), path.clone())),
                Err(error) if error.is_denied() && !named => {}
                Err(error) => return Err(error),
            }
        }
        Ok(got)
    }

    /// The quota and period in force, for a change that names only one of them: v2 and systemd take
    /// both at once.
    pub fn cpu_quota(&self) -> (Option<i64>, Option<u64>) {
        if let Some(folder) = self.v2().filter(|_| self.is_unified()) {
            let text = file::read(folder, "cpu.max").unwrap_or_default();
            let mut words = text.split_whitespace();
            let quota = words.next().map(|quota| quota.parse().unwrap_or(-1));
            return (quota, words.next().and_then(|period| period.parse().ok()));
        }
        let Some(folder) = self.controller("cpu") else { return (None, None) };
        let quota = file::read(folder, "cpu.cfs_quota_us").ok();
        let quota = quota.and_then(|text| text.trim().parse().ok());
        (quota, file::number(folder, "cpu.cfs_period_us"))
    }

    /// Gives the v2 folder to a user, with the files that the kernel lists for it.
    ///
    /// # Errors
    /// As chown(2).
    pub fn give_to(&self, uid: u32) -> Result<(), Error> {
        let Some(folder) = self.v2().filter(|_| self.is_unified()) else { return Ok(()) };
        let usual = "cgroup.procs\ncgroup.subtree_control\ncgroup.threads\n".to_owned();
        let list = file::read(Path::new("/sys/kernel/cgroup"), "delegate").unwrap_or(usual);
        let uid = Some(rustix::fs::Uid::from_raw(uid));
        rustix::fs::chown(folder, uid, None).map_err(io_error("chown", folder))?;
        for name in list.lines() {
            let path = folder.join(name);
            match rustix::fs::chown(&path, uid, None) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(io_error("chown", &path)(errno)),
            }
        }
        Ok(())
    }

    /// Sets limits, all but the device rules.
    ///
    /// # Errors
    /// When the kernel refuses one.
    pub fn apply(&self, resources: &Resources) -> Result<(), Error> {
        match self.v2() {
            Some(path) if self.is_unified() => v2::apply(path, resources),
            v2 => v1::apply(self, v2, resources),
        }
    }

    /// Sets the device rules.
    ///
    /// # Errors
    /// When the kernel refuses, or v1 can't express them.
    pub fn apply_devices(&self, rules: &[DeviceRule]) -> Result<(), Error> {
        match (self.v2(), self.controller("devices")) {
            (Some(path), _) if self.is_unified() => v2::apply_devices(path, rules),
            (v2, Some(folder)) => v1::apply_devices(folder, v2, rules),
            (_, None) => Ok(()),
        }
    }

    /// Opens the v2 folder for `CLONE_INTO_CGROUP`.
    ///
    /// # Errors
    /// As open(2).
    pub fn open_v2(&self) -> Result<Option<OwnedFd>, Error> {
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty()).map_err(io_error("open", path))
        };
        self.v2().map(open).transpose()
    }

    /// Moves the calling, single-threaded process into the v1 folders (through `tasks`, which
    /// needs no grace period), the freezer last.
    ///
    /// # Errors
    /// When one refuses.
    pub fn join_v1(&self) -> Result<(), Error> {
        let (freezer, others): (Vec<_>, Vec<_>) =
            self.v1().partition(|(name, _)| *name == "freezer");
        others.iter().chain(&freezer).try_for_each(|(_, path)| file::write(path, "tasks", "0"))
    }

    /// Moves the calling process into the v2 folder by writing `cgroup.procs`.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join_v2(&self) -> Result<(), Error> {
        self.v2().map_or(Ok(()), |path| file::write(path, "cgroup.procs", "0"))
    }

    /// The files through which a process that is just being started enters the cgroup.
    ///
    /// # Errors
    /// As open(2).
    pub fn open_joins(&self) -> Result<Vec<OwnedFd>, Error> {
        let open = |(name, folder): (&String, &PathBuf)| {
            let path = folder.join(if name.is_empty() { "cgroup.procs" } else { "tasks" });
            let flags = OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::open(&path, flags, Mode::empty()).map_err(io_error("open", &path))
        };
        self.paths.iter().map(open).collect()
    }

    /// The same cgroup's child `name`, in the hierarchies `only` names (all when empty).
    pub fn child(&self, name: &str, only: &[String]) -> Self {
        let wanted = |folder: &str| {
            only.is_empty() || only.iter().any(|o| folder.split(',').any(|part| part == o))
        };
        let join = |path: &PathBuf| path.join(name.trim_start_matches('/'));
        let paths = self.paths.iter().map(|(folder, path)| {
            (folder.clone(), if wanted(folder) { join(path) } else { path.clone() })
        });
        Self { paths: paths.collect() }
    }

    /// Whether there is a folder for a controller, so that it can be named; v2 has one for all.
    pub fn has(&self, name: &str) -> bool {
        self.is_unified()
            || self.paths.keys().any(|folder| folder.split(',').any(|part| part == name))
    }

    /// The hierarchy whose folder says most surely which tasks the container has.
    fn census(&self) -> Option<&Path> {
        if self.is_unified() {
            self.v2()
        } else {
            ["devices", "freezer", "pids", "memory"]
                .iter()
                .find_map(|name| self.controller(name))
                .or_else(|| self.v1().next().map(|(_, path)| path))
        }
    }

    /// The processes in the cgroup and below it.
    pub fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        if let Some(path) = self.census() {
            collect_pids(path, &mut pids, 0);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// The processes in any of the hierarchies, for clean-up after a creation that broke off.
    pub fn pids_anywhere(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for path in self.paths.values() {
            collect_pids(path, &mut pids, 0);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Whether the cgroup is frozen.
    pub fn is_frozen(&self) -> bool {
        if let Some(path) = self.controller("freezer") {
            return file::read(path, "freezer.state").is_ok_and(|s| s.trim() != "THAWED");
        }
        self.v2().is_some_and(|path| file::number(path, "cgroup.freeze") == Some(1))
    }

    /// Freezes or thaws, and waits until it is so. The v1 state can't be polled by the kernel, so
    /// this is the one place that sleeps, a millisecond at a time.
    ///
    /// # Errors
    /// When there is no freezer, it refuses, or two seconds pass.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        let deadline = Instant::now() + FREEZE_LIMIT;
        let missing = Error::NoController { controller: "freezer", limit: "the frozen state" };
        if let Some(path) = self.controller("freezer") {
            let state = if frozen { "FROZEN" } else { "THAWED" };
            loop {
                file::write(path, "freezer.state", state)?;
                if file::read(path, "freezer.state")?.trim() == state {
                    return Ok(());
                }
                if Instant::now() > deadline {
                    let _ = file::write(path, "freezer.state", "THAWED");
                    return Err(Error::FreezeTimeout);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let path = self.v2().filter(|_| self.is_unified()).ok_or(missing)?;
        file::write(path, "cgroup.freeze", if frozen { "1" } else { "0" })?;
        let wanted = u64::from(frozen);
        while !file::pairs(path, "cgroup.events").iter().any(|(k, v)| k == "frozen" && *v == wanted)
        {
            if Instant::now() > deadline {
                let _ = file::write(path, "cgroup.freeze", "0");
                return Err(Error::FreezeTimeout);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Has the kernel kill everything in the cgroup (`cgroup.kill`, v2 of kernel 5.14); false when
    /// it can't and the caller must.
    pub fn kill_by_kernel(&self) -> bool {
        self.is_unified() && self.v2().is_some_and(|p| file::write(p, "cgroup.kill", "1").is_ok())
    }

    /// Usage figures.
    pub fn stats(&self) -> Stats {
        stats::read(self)
    }

    /// How many times the OOM killer has struck here.
    pub fn oom_kills(&self) -> u64 {
        let count = |path: &Path, name: &str| {
            file::pairs(path, name).iter().find(|(k, _)| k == "oom_kill").map_or(0, |(_, v)| *v)
        };
        match self.controller("memory") {
            Some(path) => count(path, "memory.oom_control"),
            None => self.v2().map_or(0, |path| count(path, "memory.events")),
        }
    }

    /// Removes the folders and those below them. Tasks must have ended; what is still busy is tried
    /// again for two seconds.
    ///
    /// # Errors
    /// When a folder stays.
    pub fn remove(&self) -> Result<(), Error> {
        let deadline = Instant::now() + REMOVE_LIMIT;
        let mut first = None;
        for path in self.paths.values() {
            if let Err(error) = remove_tree(path, deadline, 0) {
                first.get_or_insert(error);
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// Makes a folder, its parents first only when they are missing. Whether it is new: it may exist.
pub(crate) fn make(path: &Path) -> Result<bool, Error> {
    let attempt = || match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    };
    match (attempt(), path.parent()) {
        (Err(Errno::NOENT), Some(parent)) => {
            make(parent)?;
            attempt()
        }
        (other, _) => other,
    }
    .map_err(io_error("mkdir", path))
}

/// Folders below a container's cgroup, as deep as a container could sensibly nest them.
const DEPTH: usize = 32;

fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
        .map(|e| e.path())
        .collect()
}

fn collect_pids(path: &Path, into: &mut Vec<i32>, depth: usize) {
    // A threaded v2 cgroup answers EOPNOTSUPP; its processes are listed by the domain above.
    let text = file::read(path, "cgroup.procs").unwrap_or_default();
    into.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    if depth < DEPTH {
        for child in folders(path) {
            collect_pids(&child, into, depth + 1);
        }
    }
}

fn remove_tree(path: &Path, deadline: Instant, depth: usize) -> Result<(), Error> {
    let mut pause = Duration::from_millis(1);
    loop {
        match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) if Instant::now() < deadline => {}
            Err(errno) => return Err(io_error("rmdir", path)(errno)),
        }
        if depth < DEPTH {
            for child in folders(path) {
                remove_tree(&child, deadline, depth + 1)?;
            }
        }
        match rustix::fs::rmdir(path) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(_) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
