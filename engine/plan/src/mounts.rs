//! The mounts of a container in the order the runtime makes them: kernel file
//! systems, then the user's, shallow paths first.

use oci::runtime::Mount;

use crate::PlanError;

/// A folder or file of the host, mounted into the container.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostMount {
    /// The path in the container.
    pub destination: String,
    /// The path on the host.
    pub source: String,
    /// Read-only.
    pub read_only: bool,
    /// Read-only without the mounts below it.
    pub read_only_non_recursive: bool,
    /// Without the mounts below it.
    pub non_recursive: bool,
    /// The propagation's name; empty: the runtime's default for volumes.
    pub propagation: String,
}

/// A tmpfs of the user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TmpfsMount {
    /// The path in the container.
    pub destination: String,
    /// All options, in order.
    pub options: Vec<String>,
}

const TMPFS_DEFAULTS: [&str; 4] = ["noexec", "nosuid", "nodev", "rprivate"];
/// Pairs of options of which the later one wins.
const OPPOSITES: [(&str, &str); 10] = [
    ("noexec", "exec"),
    ("nosuid", "suid"),
    ("nodev", "dev"),
    ("ro", "rw"),
    ("noatime", "atime"),
    ("nodiratime", "diratime"),
    ("norelatime", "relatime"),
    ("nostrictatime", "strictatime"),
    ("async", "sync"),
    ("nomand", "mand"),
];
const TMPFS_KEYS: [&str; 7] = ["size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol"];
const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];

/// The options of `--tmpfs PATH:options` merged over the defaults.
pub fn tmpfs_options(text: &str) -> Result<Vec<String>, PlanError> {
    let mut out: Vec<String> = TMPFS_DEFAULTS.iter().map(|o| (*o).to_owned()).collect();
    for option in text.split(',').filter(|o| !o.is_empty()) {
        let key = option.split_once('=').map(|(key, _)| key);
        let opposite = OPPOSITES.iter().find_map(|(a, b)| match option {
            o if o == *a => Some(*b),
            o if o == *b => Some(*a),
            _ => None,
        });
        match (key, opposite) {
            (Some(key), _) if TMPFS_KEYS.contains(&key) => {
                out.retain(|o| o.split_once('=').map(|(k, _)| k) != Some(key));
            }
            (None, Some(other)) => out.retain(|o| o != other && o != option),
            (None, None) if PROPAGATIONS.contains(&option) => {
                out.retain(|o| !PROPAGATIONS.contains(&o.as_str()));
            }
            _ => return Err(PlanError::Tmpfs(option.to_owned())),
        }
        out.push(option.to_owned());
    }
    Ok(out)
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.iter().map(|o| (*o).to_owned()).collect(),
        ..Mount::default()
    }
}

/// The kernel's file systems of every container.
pub(crate) fn kernel(writable_sys: bool, writable_cgroups: bool) -> Vec<Mount> {
    let sys: &[&str] = if writable_sys {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["nosuid", "noexec", "nodev", "ro"]
    };
    let cgroup: &[&str] = if writable_cgroups {
        &["nosuid", "noexec", "nodev"]
    } else {
        &["ro", "nosuid", "noexec", "nodev"]
    };
    vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", sys),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", cgroup),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ]
}

/// `/dev/shm` of the container's own.
pub(crate) fn shm(size: i64) -> Mount {
    mount(
        "/dev/shm",
        "tmpfs",
        "shm",
        &["nosuid", "noexec", "nodev", "mode=1777", &format!("size={size}")],
    )
}

/// `/dev/shm` of somebody else.
pub(crate) fn shared_shm(source: &str) -> Mount {
    mount("/dev/shm", "bind", source, &["rbind", "rprivate"])
}

/// The init program.
pub(crate) fn init(source: &str) -> Mount {
    mount("/sbin/docker-init", "bind", source, &["bind", "ro"])
}

impl From<&HostMount> for Mount {
    fn from(from: &HostMount) -> Self {
        let mut options = vec![if from.non_recursive { "bind" } else { "rbind" }];
        if from.read_only {
            options.push(if from.read_only_non_recursive || from.non_recursive {
                "ro"
            } else {
                "rro"
            });
        }
        if !from.propagation.is_empty() {
            options.push(&from.propagation);
        }
        mount(&from.destination, "bind", &from.source, &options)
    }
}

impl From<&TmpfsMount> for Mount {
    fn from(from: &TmpfsMount) -> Self {
        let options: Vec<&str> = from.options.iter().map(String::as_str).collect();
        mount(&from.destination, "tmpfs", "tmpfs", &options)
    }
}

/// All mounts: a user's mount replaces the kernel's at the same place, and deeper
/// paths come after shallower ones, the given order kept among equals.
pub(crate) fn ordered(kernel: Vec<Mount>, users: Vec<Mount>) -> Vec<Mount> {
    let depth = |m: &Mount| m.destination.split('/').filter(|part| !part.is_empty()).count();
    let is_replaced =
        |m: &Mount| users.iter().any(|u| u.destination.trim_end_matches('/') == m.destination);
    let mut out: Vec<Mount> = kernel.into_iter().filter(|m| !is_replaced(m)).collect();
    let mut users = users;
    users.sort_by_key(depth);
    out.extend(users);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tmpfs_options_override_the_defaults() {
        assert_eq!(tmpfs_options("").unwrap(), TMPFS_DEFAULTS);
        assert_eq!(
            tmpfs_options("size=64k,exec").unwrap(),
            ["nosuid", "nodev", "rprivate", "size=64k", "exec"]
        );
        assert!(tmpfs_options("nope").is_err());
    }

    #[test]
    fn a_users_mount_replaces_the_kernels_and_deep_ones_come_last() {
        let users = vec![
            mount("/a/b/c", "bind", "/x", &[]),
            mount("/a", "bind", "/y", &[]),
            mount("/dev/mqueue", "bind", "/z", &[]),
        ];
        let all = ordered(kernel(false, false), users);
        let places: Vec<_> = all.iter().map(|m| m.destination.as_str()).collect();
        assert_eq!(
            places,
            ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/a", "/dev/mqueue", "/a/b/c"]
        );
    }
}
