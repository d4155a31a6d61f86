//! The mounts of config.json. Bind sources are cloned by the parent, which sees the host with the
//! host's rights; everything is attached by the child, through descriptors below the new root.

use crate::error::{At, Error, Result};
use crate::launch::{Launch, MountPlan};
use crate::options::{Options, propagation};
use crate::tree::{self, Root};
use cgroup::Cgroup;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::mount::{attr, set_attributes};
use sys::ns::flag;

const PROC_MAGIC: u64 = 0x9fa0;

/// Files below `/proc` that a bind mount may cover, as LXCFS and runtimes do.
const PROC_FILES: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/net/dev",
    "/proc/sys/crypto/fips_enabled",
];

/// Detached trees: the root file system and the source of each bind mount.
#[derive(Debug)]
pub(crate) struct Sources {
    /// The root file system.
    pub root: OwnedFd,
    /// By index of the mount; `None` for what is no bind mount.
    pub binds: Vec<Option<OwnedFd>>,
}

impl Sources {
    /// Clones them from the caller's mount namespace, with their attributes set.
    ///
    /// # Errors
    /// When a source does not exist or an option can't be had.
    pub(crate) fn open(
        launch: &Launch,
        idmap: &dyn Fn(&MountPlan) -> Result<OwnedFd>,
    ) -> Result<Self> {
        let rootfs = launch.rootfs.to_string_lossy();
        let root = tree::copy_path(&rootfs, true).at(|| format!("open_tree {rootfs}"))?;
        set_attributes(root.as_fd(), true, 0, 0, root_propagation(launch), None)
            .at(|| format!("set propagation of {rootfs}"))?;
        let mut binds = Vec::with_capacity(launch.mounts.len());
        for mount in &launch.mounts {
            binds.push(if mount.options.bind && !mount.options.remount {
                Some(open_bind(mount, launch, idmap)?)
            } else {
                None
            });
        }
        Ok(Self { root, binds })
    }
}

/// While the root is set up it is at most a receiver; `shared` is set once the container is in it.
fn root_propagation(launch: &Launch) -> u64 {
    match launch.propagation.0 {
        propagation::PRIVATE | propagation::UNBINDABLE => propagation::PRIVATE,
        _ => propagation::SLAVE,
    }
}

fn open_bind(
    mount: &MountPlan,
    launch: &Launch,
    idmap: &dyn Fn(&MountPlan) -> Result<OwnedFd>,
) -> Result<OwnedFd> {
    let options = &mount.options;
    let what = || format!("error mounting {:?} to rootfs at {:?}", mount.source, mount.destination);
    let tree = tree::copy_path(&mount.source, options.recursive)
        .at(|| format!("{}: bind source {:?}", what(), mount.source))?;
    if let Some(recursive) = options.idmap {
        let users = idmap(mount)?;
        set_attributes(tree.as_fd(), recursive, 0, 0, 0, Some(users.as_fd()))
            .at(|| format!("{}: map ids", what()))?;
    }
    set_options(tree.as_fd(), options).at(what)?;
    if options.propagation.is_empty() && launch.propagation.0 != propagation::SHARED {
        let bit = root_propagation(launch);
        set_attributes(tree.as_fd(), true, 0, 0, bit, None).at(what)?;
    }
    Ok(tree)
}

/// Sets attributes and propagation; a word and its opposite for the tree were sorted out before.
fn set_options(mount: BorrowedFd<'_>, options: &Options) -> std::io::Result<()> {
    if options.set_all | options.clear_all != 0 {
        set_attributes(mount, true, options.set_all, options.clear_all, 0, None)?;
    }
    if options.set | options.clear != 0 {
        set_attributes(mount, false, options.set, options.clear, 0, None)?;
    }
    for (bit, recursive) in &options.propagation {
        set_attributes(mount, *recursive, 0, 0, *bit, None)?;
    }
    Ok(())
}

/// A new instance of a file system, detached.
pub(crate) fn new_instance(
    kind: &str,
    source: &str,
    options: &Options,
) -> rustix::io::Result<OwnedFd> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if !source.is_empty() {
        rustix::mount::fsconfig_set_string(&context, c"source", source)?;
    }
    for name in &options.fs_flags {
        rustix::mount::fsconfig_set_flag(&context, *name)?;
    }
    for word in &options.data {
        match word.split_once('=') {
            Some((key, value)) => rustix::mount::fsconfig_set_string(&context, key, value)?,
            None => rustix::mount::fsconfig_set_flag(&context, word.as_str())?,
        }
    }
    rustix::mount::fsconfig_create(&context)?;
    let attributes = MountAttrFlags::from_bits_retain(options.set as u32);
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// How many mounts come before the first that shows cgroups.
pub(crate) fn before_cgroups(launch: &Launch) -> usize {
    launch.mounts.iter().position(MountPlan::is_of_cgroups).unwrap_or(launch.mounts.len())
}

/// Makes the mounts of a range, in order. Cgroups are shown as `group` has them.
///
/// # Errors
/// When one fails; the error names its destination.
pub(crate) fn mount_all(
    launch: &Launch,
    sources: &Sources,
    range: Range<usize>,
    root: &Root,
    group: &Cgroup,
) -> Result<()> {
    let mounts = launch.mounts[range.clone()].iter();
    for (mount, source) in mounts.zip(&sources.binds[range]) {
        mount_one(launch, mount, source.as_ref(), root, group).map_err(|error| {
            Error::Start(format!(
                "error during container init: error mounting {:?} to rootfs at {:?}: {error}",
                mount.source, mount.destination
            ))
        })?;
    }
    Ok(())
}

fn mount_one(
    launch: &Launch,
    mount: &MountPlan,
    source: Option<&OwnedFd>,
    root: &Root,
    group: &Cgroup,
) -> Result<()> {
    let destination = mount.destination.as_str();
    if mount.options.remount {
        let target = root.find(destination)?.ok_or(Error::NotFound)?;
        return set_options(target.as_fd(), &mount.options).at(|| "remount".into());
    }
    if let Some(tree) = source {
        let is_folder = tree::kind(tree.as_fd())? == tree::DIRECTORY;
        let target = if is_folder { root.folder(destination)? } else { root.file(destination)? };
        refuse_procfs(target.as_fd(), destination)?;
        return tree::attach(tree.as_fd(), target.as_fd()).at(|| "move_mount".into());
    }
    match mount.kind.as_str() {
        "proc" | "sysfs" => mount_kernel(mount, root),
        "cgroup" | "cgroup2" => mount_cgroup(launch, mount, root, group),
        "" => Err(Error::Spec("the mount has no type".into())),
        _ => mount_file_system(mount, root),
    }
}

/// Nothing but a procfs itself is mounted in procfs, or a lie about a process could be planted
/// there (CVE-2019-16884, CVE-2023-28642).
fn refuse_procfs(target: BorrowedFd<'_>, destination: &str) -> Result<()> {
    let kind = rustix::fs::fstatfs(target).at(|| "statfs".into())?.f_type as u64;
    if kind != PROC_MAGIC || PROC_FILES.contains(&destination) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "check proc-safety of {destination} mount: {destination:?} cannot be mounted because it is inside /proc"
    )))
}

/// procfs and sysfs go on real folders only: through a link they could end up anywhere
/// (CVE-2019-19921, CVE-2023-27561).
fn mount_kernel(mount: &MountPlan, root: &Root) -> Result<()> {
    let destination = mount.destination.as_str();
    let target = match root.find_itself(destination) {
        Ok(itself) if tree::kind(itself.as_fd())? == tree::DIRECTORY => itself,
        Ok(_) => {
            return Err(Error::Refused(format!(
                "filesystem {:?} must be mounted on ordinary directory",
                mount.kind
            )));
        }
        Err(_) => root.folder(destination)?,
    };
    let fs = new_instance(&mount.kind, &mount.source, &mount.options).at(|| "mount".into())?;
    tree::attach(fs.as_fd(), target.as_fd()).at(|| "move_mount".into())
}

fn mount_file_system(mount: &MountPlan, root: &Root) -> Result<()> {
    let target = root.folder(&mount.destination)?;
    if mount.kind != "mqueue" {
        refuse_procfs(target.as_fd(), &mount.destination)?;
    }
    let mut options = mount.options.clone();
    let late_ro = mount.kind == "tmpfs" && options.read_only();
    if mount.kind == "tmpfs" {
        if !options.data.iter().any(|word| word.starts_with("mode=")) {
            let mode = rustix::fs::fstat(&target).at(|| "stat".into())?.st_mode & 0o7777;
            options.data.push(format!("mode={mode:o}"));
        }
        options.fs_flags.retain(|f| *f != "ro");
        options.set &= !attr::RDONLY;
    }
    let fs = new_instance(&mount.kind, &mount.source, &options).at(|| "mount".into())?;
    if options.copy_up {
        tree::copy_contents(target.as_fd(), fs.as_fd(), 0).at(|| "tmpcopyup".into())?;
    }
    tree::attach(fs.as_fd(), target.as_fd()).at(|| "move_mount".into())?;
    for (bit, recursive) in &options.propagation {
        set_attributes(fs.as_fd(), *recursive, 0, 0, *bit, None).at(|| "propagation".into())?;
    }
    if options.set_all | options.clear_all != 0 {
        set_attributes(fs.as_fd(), true, options.set_all, options.clear_all, 0, None)
            .at(|| "attributes".into())?;
    }
    // `/dev` is filled before it becomes read-only, by `finish_read_only`.
    if late_ro && mount.destination != "/dev" {
        set_attributes(fs.as_fd(), false, attr::RDONLY, 0, 0, None).at(|| "read-only".into())?;
    }
    Ok(())
}

/// Makes `/dev` read-only when the configuration says so, once its nodes exist.
///
/// # Errors
/// As mount_setattr(2).
pub(crate) fn finish_read_only(launch: &Launch, root: &Root) -> Result<()> {
    let dev = |m: &&MountPlan| m.destination == "/dev" && m.kind == "tmpfs";
    if launch.mounts.iter().rfind(dev).is_some_and(|m| m.options.read_only())
        && let Some(target) = root.find("/dev")?
    {
        set_attributes(target.as_fd(), false, attr::RDONLY, 0, 0, None)
            .at(|| "make /dev read-only".into())?;
    }
    Ok(())
}

/// The container's cgroups: on v2 the cgroup itself, on v1 a tmpfs with one mount a hierarchy.
fn mount_cgroup(launch: &Launch, mount: &MountPlan, root: &Root, group: &Cgroup) -> Result<()> {
    let target = root.folder(&mount.destination)?;
    let own_namespace = launch.separates(flag::CGROUP);
    let options = &mount.options;
    if group.is_unified() {
        let path = group.v2().map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
        let fs = if own_namespace {
            let plain = Options { data: Vec::new(), ..options.clone() };
            new_instance("cgroup2", "cgroup", &Options { fs_flags: Vec::new(), ..plain })
        } else {
            tree::copy_path(&path, true)
        };
        let fs = match fs {
            // Without rights over the cgroup namespace: the host's mount, as runc does.
            Err(rustix::io::Errno::PERM | rustix::io::Errno::BUSY) => {
                tree::copy_path("/sys/fs/cgroup", true).at(|| "open_tree".into())?
            }
            other => other.at(|| "mount cgroup2".into())?,
        };
        set_options(fs.as_fd(), options).at(|| "set attributes".into())?;
        return tree::attach(fs.as_fd(), target.as_fd()).at(|| "move_mount".into());
    }
    let above = Options {
        set: options.set & !attr::RDONLY,
        data: vec!["mode=755".into()],
        ..Options::default()
    };
    let tmpfs = new_instance("tmpfs", "tmpfs", &above).at(|| "mount tmpfs".into())?;
    tree::attach(tmpfs.as_fd(), target.as_fd()).at(|| "move_mount".into())?;
    for (name, path) in group.v1() {
        let what = || format!("mount cgroup {name}");
        rustix::fs::mkdirat(&tmpfs, name, rustix::fs::Mode::from_raw_mode(0o755)).at(what)?;
        let fs = if own_namespace {
            let data = match name {
                "systemd" => vec!["none".into(), "name=systemd".into()],
                names => names.split(',').map(str::to_owned).collect(),
            };
            new_instance("cgroup", "cgroup", &Options { data, ..Options::default() }).at(what)?
        } else {
            tree::copy_path(&path.to_string_lossy(), true).at(what)?
        };
        set_attributes(fs.as_fd(), false, options.set, options.clear, 0, None).at(what)?;
        // Nobody but us has been in that tmpfs: the name is the folder.
        let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(&fs, c"", &tmpfs, name, flags).at(what)?;
        if name.contains(',') {
            for part in name.split(',') {
                rustix::fs::symlinkat(name, &tmpfs, part).at(what)?;
            }
        }
    }
    if options.read_only() {
        set_attributes(tmpfs.as_fd(), false, attr::RDONLY, 0, 0, None).at(|| "read-only".into())?;
    }
    Ok(())
}
