//! Which hierarchies this machine has, where they are mounted, and where a container's folder in
//! each of them is. Reads two small files; makes nothing.

use crate::{Cgroup, Error, file};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";
const CGROUP2_MAGIC: u64 = 0x6367_7270;
const CGROUP1_MAGIC: u64 = 0x0027_e0eb;

/// One hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// Name of its folder: `memory`, `cpu,cpuacct`, `systemd`; empty for v2.
    pub name: String,
    /// Its controllers; `name=systemd` for a named one; empty for v2.
    pub controllers: Vec<String>,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Our own cgroup in it, beginning with a slash.
    pub own: String,
}

/// The hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// v1 hierarchies; none on a pure v2 machine.
    pub v1: Vec<Hierarchy>,
    /// The v2 hierarchy, on pure v2 and hybrid machines.
    pub v2: Option<Hierarchy>,
}

impl Host {
    /// Looks at this machine.
    ///
    /// # Errors
    /// When `/proc/self/cgroup` can't be read, or no hierarchy is mounted at all.
    pub fn detect() -> Result<Self, Error> {
        let own = file::read(Path::new("/proc/self"), "cgroup")?;
        let mut host = Self { v1: Vec::new(), v2: None };
        let root = Path::new(ROOT);
        let unified = magic(root) == CGROUP2_MAGIC;
        for line in own.lines() {
            let mut parts = line.splitn(3, ':');
            let (Some(_), Some(names), Some(path)) = (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let path = path.to_owned();
            if names.is_empty() {
                let mount = if unified { root.to_owned() } else { root.join("unified") };
                if unified || magic(&mount) == CGROUP2_MAGIC {
                    let (name, controllers) = (String::new(), Vec::new());
                    host.v2 = Some(Hierarchy { name, controllers, mount, own: path });
                }
            } else if let Some((name, mount)) = find_v1(names) {
                let controllers = names.split(',').map(str::to_owned).collect();
                host.v1.push(Hierarchy { name, controllers, mount, own: path });
            }
        }
        host.v1.reverse();
        if host.v1.is_empty() && host.v2.is_none() {
            return Err(Error::Invalid("no cgroup mount found in mountinfo".into()));
        }
        Ok(host)
    }

    /// The v2 folder that a process is in now, wherever it was moved since its start.
    pub fn v2_of(&self, pid: i32) -> Option<PathBuf> {
        let text = file::read(&Path::new("/proc").join(pid.to_string()), "cgroup").ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        Some(self.v2.as_ref()?.mount.join(path.trim_start_matches('/')))
    }

    /// Whether v2 alone is in use.
    pub fn is_unified(&self) -> bool {
        self.v1.is_empty()
    }

    /// The container's folders for `linux.cgroupsPath` (absolute: below each mount; else below our
    /// own cgroup, on v2 beside it; empty: named by the id). `..` can't lead out.
    pub fn cgroup(&self, path: &str, id: &str) -> Cgroup {
        let wanted = if path.is_empty() { id } else { path };
        let absolute = wanted.starts_with('/');
        let clean: PathBuf =
            Path::new(wanted).components().fold(PathBuf::new(), |mut clean, part| {
                match part {
                    Component::Normal(name) => clean.push(name),
                    Component::ParentDir => {
                        clean.pop();
                    }
                    _ => {}
                }
                clean
            });
        let folder = |h: &Hierarchy| {
            let own = Path::new(h.own.trim_start_matches('/'));
            let base = match (absolute, self.is_unified()) {
                (true, _) => Path::new(""),
                // Ours holds processes, so it can't hand controllers down: beside it, not below.
                (false, true) => own.parent().unwrap_or(own),
                (false, false) => own,
            };
            h.mount.join(base).join(&clean)
        };
        let mut paths: BTreeMap<String, PathBuf> =
            self.v1.iter().map(|h| (h.name.clone(), folder(h))).collect();
        if let Some(v2) = &self.v2 {
            paths.insert(String::new(), folder(v2));
        }
        Cgroup { paths }
    }
}

fn magic(path: &Path) -> u64 {
    rustix::fs::statfs(path).map_or(0, |fs| fs.f_type as u64)
}

/// Folder name and mount point of a v1 hierarchy, first where every distribution has it, then by
/// the mount table.
fn find_v1(names: &str) -> Option<(String, PathBuf)> {
    let name = names.strip_prefix("name=").unwrap_or(names);
    let usual = Path::new(ROOT).join(name);
    if magic(&usual) == CGROUP1_MAGIC {
        return Some((name.to_owned(), usual));
    }
    let table = file::read(Path::new("/proc/self"), "mountinfo").ok()?;
    table.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let all = || names.split(',').all(|n| options.split(',').any(|o| o == n));
        if kind != "cgroup" || !all() {
            return None;
        }
        let mount = PathBuf::from(left.split(' ').nth(4)?);
        let folder = mount.file_name()?.to_str()?.to_owned();
        Some((folder, mount))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Host {
        let h = |name: &str, own: &str| Hierarchy {
            name: name.into(),
            controllers: vec![name.into()],
            mount: Path::new(ROOT).join(name),
            own: own.into(),
        };
        Host { v1: vec![h("memory", "/mine"), h("pids", "/")], v2: None }
    }

    #[test]
    fn an_absolute_path_is_below_each_mount() {
        let group = host().cgroup("/docker/x", "id");
        assert_eq!(group.paths["memory"], Path::new("/sys/fs/cgroup/memory/docker/x"));
    }

    #[test]
    fn a_relative_path_is_below_our_own_group() {
        let group = host().cgroup("a/b", "id");
        assert_eq!(group.paths["memory"], Path::new("/sys/fs/cgroup/memory/mine/a/b"));
        assert_eq!(host().cgroup("", "id").paths["pids"], Path::new("/sys/fs/cgroup/pids/id"));
    }

    #[test]
    fn dots_do_not_lead_out_of_the_hierarchy() {
        let group = host().cgroup("/../../etc", "id");
        assert_eq!(group.paths["memory"], Path::new("/sys/fs/cgroup/memory/etc"));
    }
}
