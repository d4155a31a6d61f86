//! Reading a container's cgroups: where they are, who is in them, what they count, and the
//! kernel's word when memory runs out. Never changes one: that is the runtime's.

mod stats;

use rustix::event::{EventfdFlags, eventfd};
use std::fs::{File, read_to_string};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

const MOUNT: &str = "/sys/fs/cgroup";

/// The cgroups of a container, as its first process was in them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cgroups {
    /// Controllers (comma-separated) and folder, of v1.
    v1: Vec<(String, PathBuf)>,
    /// The folder in the unified hierarchy.
    v2: Option<PathBuf>,
}

impl Cgroups {
    /// Reads them from a live process.
    pub(crate) fn of(pid: i32) -> io::Result<Self> {
        Ok(Self::parse(&read_to_string(format!("/proc/{pid}/cgroup"))?))
    }

    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(controllers), Some(path)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let path = path.trim_start_matches('/');
            if controllers.is_empty() {
                let hybrid = Path::new(MOUNT).join("unified");
                let mount = if hybrid.is_dir() { hybrid } else { PathBuf::from(MOUNT) };
                found.v2 = Some(mount.join(path));
            } else {
                let name = controllers.trim_start_matches("name=");
                let folder = Path::new(MOUNT).join(name).join(path);
                found.v1.push((controllers.to_owned(), folder));
            }
        }
        found
    }

    /// A v1 controller's folder.
    fn controller(&self, name: &str) -> Option<&Path> {
        let has = |list: &str| list.split(',').any(|c| c == name);
        self.v1.iter().find(|(list, _)| has(list)).map(|(_, path)| path.as_path())
    }

    /// Whether resources are counted by v1 controllers (plain v1 or hybrid).
    fn is_v1(&self) -> bool {
        self.controller("memory").is_some() || self.controller("pids").is_some()
    }

    /// All processes, those of cgroups below included.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let of_v1 = || self.controller("pids").or_else(|| self.controller("devices"));
        let folder = if self.is_v1() { of_v1() } else { self.v2.as_deref() };
        let mut pids = Vec::new();
        if let Some(folder) = folder {
            collect(folder, &mut pids, 16);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// containerd's metrics message, packed.
    pub(crate) fn stats(&self) -> shim_api::Any {
        if self.is_v1() { stats::v1(self) } else { stats::v2(self) }
    }

    /// How often the kernel has killed something here for lack of memory.
    pub(crate) fn oom_kills(&self) -> u64 {
        match (self.controller("memory"), &self.v2) {
            (Some(folder), _) => stats::keyed(folder, "memory.oom_control", "oom_kill"),
            (None, Some(folder)) => stats::keyed(folder, "memory.events", "oom_kill"),
            (None, None) => 0,
        }
    }

    /// Asks the kernel to tell when memory runs out.
    pub(crate) fn watch_oom(&self) -> io::Result<OomWatch> {
        match (self.controller("memory"), &self.v2) {
            (Some(folder), _) => {
                let notice = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
                let control = File::open(folder.join("memory.oom_control"))?;
                let words = format!("{} {}", notice.as_raw_fd(), control.as_raw_fd());
                std::fs::write(folder.join("cgroup.event_control"), words)?;
                Ok(OomWatch { fd: notice, folder: folder.to_owned(), v2: None })
            }
            (None, Some(folder)) => {
                use rustix::fs::inotify;
                let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
                let fd = inotify::init(flags)?;
                let file = folder.join("memory.events");
                inotify::add_watch(&fd, &file, inotify::WatchFlags::MODIFY)?;
                Ok(OomWatch { fd, folder: folder.clone(), v2: Some(0) })
            }
            (None, None) => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }
}

fn collect(folder: &Path, pids: &mut Vec<u32>, depth: usize) {
    if let Ok(text) = read_to_string(folder.join("cgroup.procs")) {
        pids.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()));
    }
    if depth == 0 {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            collect(&entry.path(), pids, depth - 1);
        }
    }
}

/// The kernel's notice of memory running out.
#[derive(Debug)]
pub(crate) struct OomWatch {
    fd: OwnedFd,
    folder: PathBuf,
    /// The count seen last; v1 needs none.
    v2: Option<u64>,
}

impl OomWatch {
    /// Readable when something happened.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether what happened is that memory ran out; `None`: the cgroup is gone.
    pub(crate) fn check(&mut self) -> Option<bool> {
        let _ = rustix::io::read(&self.fd, &mut [0u8; 256]);
        if !self.folder.is_dir() {
            return None;
        }
        let Some(seen) = &mut self.v2 else { return Some(true) };
        let now = stats::keyed(&self.folder, "memory.events", "oom_kill");
        Some(std::mem::replace(seen, now) < now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hybrid_lines_are_told_apart() {
        let text = "4:memory:/a/b\n3:cpu,cpuacct:/a\n1:name=systemd:/x\n0::/u\n";
        let found = Cgroups::parse(text);
        assert_eq!(found.controller("memory"), Some(Path::new("/sys/fs/cgroup/memory/a/b")));
        assert_eq!(found.controller("cpuacct"), Some(Path::new("/sys/fs/cgroup/cpu,cpuacct/a")));
        assert!(found.is_v1());
        assert!(found.v2.is_some_and(|p| p.ends_with("u")));
        assert!(!Cgroups::parse("0::/only").is_v1());
    }
}
