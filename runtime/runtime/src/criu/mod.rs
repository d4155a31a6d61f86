//! Checkpoint and restore through CRIU, which does the work: here is what it must be told of a
//! container, and what becomes of the container's record.

mod dump;
mod restore;
mod service;
mod wire;

pub use dump::checkpoint;
pub use restore::restore;

use crate::error::{At, Error, Result};
use crate::launch::{Launch, MountPlan, clean};
use cgroup::Cgroup;
use oci::runtime::{Linux, NamespaceType};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use wire::Message;

/// What both directions are asked for.
#[derive(Debug, Clone, Default)]
pub struct Criu {
    /// Folder of the images.
    pub images: PathBuf,
    /// Folder of logs; the images' when absent.
    pub work: Option<PathBuf>,
    /// Folder of an earlier pre-dump's images, relative to the images'.
    pub parent: Option<PathBuf>,
    /// The container goes on.
    pub leave_running: bool,
    /// Open TCP connections are kept.
    pub tcp_established: bool,
    /// TCP connections that are just being made are left out.
    pub tcp_skip_in_flight: bool,
    /// Unlinked files get a name again.
    pub link_remap: bool,
    /// Unix sockets may be connected to outside.
    pub ext_unix_sk: bool,
    /// The terminal may be one from outside.
    pub shell_job: bool,
    /// Memory is fetched when it is used.
    pub lazy_pages: bool,
    /// Told when the pages are ready to be fetched.
    pub status_fd: Option<i32>,
    /// Where memory is sent: address, port.
    pub page_server: Option<(String, u16)>,
    /// File locks are kept.
    pub file_locks: bool,
    /// Memory alone.
    pub pre_dump: bool,
    /// `soft`, `full`, `strict` or `ignore`.
    pub cgroups_mode: String,
    /// Pages that a later image holds are dropped from earlier ones.
    pub auto_dedup: bool,
    /// Security label of the restored processes, `TYPE:NAME`.
    pub lsm_profile: Option<String>,
    /// Security label of the restored mounts.
    pub lsm_mount_context: Option<String>,
}

/// What of the standard streams came from outside, by name; beside the images, as runc has it.
const DESCRIPTORS: &str = "descriptors.json";
/// Oldest CRIU that is asked for anything.
const OLDEST: u64 = 30_000;
/// Fields of CRIU's options, by their numbers in its schema.
mod field {
    pub(super) const IMAGES: u64 = 1;
    pub(super) const PID: u64 = 2;
    pub(super) const LEAVE_RUNNING: u64 = 3;
    pub(super) const EXT_UNIX_SK: u64 = 4;
    pub(super) const TCP_ESTABLISHED: u64 = 5;
    pub(super) const EVASIVE_DEVICES: u64 = 6;
    pub(super) const SHELL_JOB: u64 = 7;
    pub(super) const FILE_LOCKS: u64 = 8;
    pub(super) const LOG_LEVEL: u64 = 9;
    pub(super) const LOG_FILE: u64 = 10;
    pub(super) const PAGE_SERVER: u64 = 11;
    pub(super) const NOTIFY: u64 = 12;
    pub(super) const ROOT: u64 = 13;
    pub(super) const PARENT: u64 = 14;
    pub(super) const TRACK_MEMORY: u64 = 15;
    pub(super) const AUTO_DEDUP: u64 = 16;
    pub(super) const WORK: u64 = 17;
    pub(super) const LINK_REMAP: u64 = 18;
    pub(super) const EXT_MOUNT: u64 = 23;
    pub(super) const MANAGE_CGROUPS: u64 = 24;
    pub(super) const CGROUP_ROOT: u64 = 25;
    pub(super) const SIBLING: u64 = 26;
    pub(super) const INHERIT_FD: u64 = 27;
    pub(super) const CGROUPS_MODE: u64 = 34;
    pub(super) const EXTERNAL: u64 = 37;
    pub(super) const EMPTY_NS: u64 = 38;
    pub(super) const JOIN_NS: u64 = 39;
    pub(super) const FREEZE_CGROUP: u64 = 44;
    pub(super) const TCP_SKIP: u64 = 46;
    pub(super) const LAZY_PAGES: u64 = 48;
    pub(super) const ORPHAN_PTS: u64 = 50;
    pub(super) const CONFIG_FILE: u64 = 51;
    pub(super) const LSM_PROFILE: u64 = 53;
    pub(super) const LSM_MOUNT_CONTEXT: u64 = 63;
}

/// What of CRIU's is meant by our words for the cgroups' mode.
fn cgroups_mode(word: &str) -> Result<u64> {
    Ok(match word {
        "ignore" => 0,
        "soft" => 3,
        "full" => 4,
        "strict" => 5,
        "" => 6,
        _ => return Err(Error::Refused("invalid manage-cgroups-mode value".into())),
    })
}

fn open_folder(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).at(|| format!("open {}", path.display()))
}

/// Makes a folder for one more dump, or another's logs.
fn make_folder(path: &Path) -> Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o700)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
        Err(errno) => Err(errno).at(|| format!("mkdir {}", path.display())),
    }
}

/// The options that both directions have, and the folders that CRIU finds through us.
struct Options {
    message: Message,
    #[allow(dead_code, reason = "CRIU opens them through our descriptor table")]
    folders: Vec<OwnedFd>,
    log: PathBuf,
}

impl Options {
    fn new(request: &Criu, annotations: &BTreeMap<String, String>, log: &str) -> Result<Self> {
        let mode = cgroups_mode(&request.cgroups_mode)?;
        let images = open_folder(&request.images)?;
        let mut message = Message::default();
        message.number(field::IMAGES, images.as_raw_fd() as u64);
        message.number(field::LOG_LEVEL, 4).text(field::LOG_FILE, log);
        message.number(field::NOTIFY, 1).number(field::ORPHAN_PTS, 1);
        message.number(field::MANAGE_CGROUPS, 1).number(field::CGROUPS_MODE, mode);
        message.flag(field::SHELL_JOB, request.shell_job);
        message.flag(field::EXT_UNIX_SK, request.ext_unix_sk);
        message.flag(field::TCP_ESTABLISHED, request.tcp_established);
        message.flag(field::FILE_LOCKS, request.file_locks);
        message.flag(field::AUTO_DEDUP, request.auto_dedup);
        message.flag(field::LAZY_PAGES, request.lazy_pages);
        // Whoever made the network namespace knows how to fill it; CRIU never does here.
        message.number(field::EMPTY_NS, sys::ns::flag::NET);
        let mut folders = vec![images];
        let mut log = request.images.join(log);
        if let Some(work) = &request.work {
            make_folder(work)?;
            let folder = open_folder(work)?;
            message.number(field::WORK, folder.as_raw_fd() as u64);
            folders.push(folder);
            log = work.join(log.file_name().unwrap_or_default());
        }
        match annotations.get("org.criu.config").map(String::as_str) {
            Some("") => {}
            file => drop(message.text(field::CONFIG_FILE, file.unwrap_or("/etc/criu/runc.conf"))),
        }
        Ok(Self { message, folders, log })
    }

    /// A mount that comes from outside: what CRIU calls it when it saves, or where it takes it from
    /// when it restores.
    fn external_mount(&mut self, key: &str, value: &str) {
        let mut pair = Message::default();
        pair.text(1, key).text(2, value);
        self.message.message(field::EXT_MOUNT, &pair);
    }
}

/// Mounts that come from outside: where they are inside, as CRIU sees it, and where they come from.
/// Without a cgroup namespace that is so of the cgroup's own folders, too.
fn outer_mounts(mounts: &[MountPlan], linux: &Linux, group: &Cgroup) -> Vec<(String, String)> {
    let own_cgroup = linux.namespaces.iter().any(|n| n.kind == NamespaceType::Cgroup);
    let mut all = Vec::new();
    for mount in mounts {
        let inside = clean(&mount.destination);
        match mount.kind.as_str() {
            "bind" => all.push((inside, mount.source.clone())),
            "cgroup" | "cgroup2" if !own_cgroup => {
                let source = |path: &Path| path.to_string_lossy().into_owned();
                if group.is_unified() {
                    all.extend(group.v2().map(|path| (inside, source(path))));
                } else {
                    let each = |(name, path)| (format!("{inside}/{name}"), source(path));
                    all.extend(group.v1().map(each));
                }
            }
            _ => {}
        }
    }
    all
}

/// Namespaces that the container joined: CRIU's word and name for each, and the path.
fn joined(linux: &Linux) -> Vec<(&'static str, &'static str, &str)> {
    let named = linux.namespaces.iter().filter(|namespace| !namespace.path.is_empty());
    named
        .map(|namespace| {
            let (word, name) = match namespace.kind {
                NamespaceType::Network => ("net", "extRootNetNS"),
                NamespaceType::Pid => ("pid", "extRootPidNS"),
                NamespaceType::Mount => ("mnt", ""),
                NamespaceType::Uts => ("uts", ""),
                NamespaceType::Ipc => ("ipc", ""),
                NamespaceType::User => ("user", ""),
                NamespaceType::Cgroup => ("cgroup", ""),
                NamespaceType::Time => ("time", ""),
            };
            (word, name, namespace.path.as_str())
        })
        .collect()
}

/// A configuration that CRIU can't bring back.
fn refuse(launch: &Launch) -> Result<()> {
    match joined(&launch.linux).iter().find(|(word, _, _)| matches!(*word, "cgroup" | "time")) {
        Some((word, _, path)) => Err(Error::Refused(format!(
            "restore into the existing {word} namespace {path} is not supported by CRIU"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_as_the_mount_table_has_them() {
        assert_eq!(clean("//a/./b/../c/"), "/a/c");
        assert_eq!(clean("/../.."), "/");
    }

    #[test]
    fn an_unknown_mode_of_cgroups_is_refused() {
        assert_eq!(cgroups_mode("soft").unwrap(), 3);
        assert!(cgroups_mode("hard").is_err());
    }
}
