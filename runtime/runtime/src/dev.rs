//! What lies in `/dev`, and the paths that a container must not see or change.

use crate::error::{At, Error, Result};
use crate::launch::Launch;
use crate::mounts;
use crate::options::Options;
use crate::tree::{self, Root};
use oci::runtime::{Device, DeviceRule};
use rustix::fs::{FileType, Gid, Mode, Uid};
use std::os::fd::{AsFd, OwnedFd};
use sys::mount::{attr, set_attributes};

/// Nodes that every container has.
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
];

const LINKS: [(&str, &str); 5] = [
    ("pts/ptmx", "ptmx"),
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// Device rules that hold for every container, after those of the configuration: the nodes above,
/// terminals, and making any node (which opening does not follow from).
pub(crate) fn default_rules() -> Vec<DeviceRule> {
    let rule = |kind: &str, major: Option<i64>, minor: Option<i64>, access: &str| DeviceRule {
        allow: true,
        kind: kind.into(),
        major,
        minor,
        access: access.into(),
    };
    let mut rules = vec![
        rule("c", None, None, "m"),
        rule("b", None, None, "m"),
        rule("c", Some(136), None, "rwm"),
        rule("c", Some(5), Some(2), "rwm"),
        rule("c", Some(10), Some(200), "rwm"),
    ];
    for (_, major, minor) in NODES {
        rules.push(rule("c", Some(i64::from(major)), Some(i64::from(minor)), "rwm"));
    }
    rules
}

/// Whether `/dev` is ours to fill: not when the configuration binds a folder there.
pub(crate) fn is_ours(launch: &Launch) -> bool {
    !launch.mounts.iter().any(|m| m.options.bind && m.destination.trim_end_matches('/') == "/dev")
}

/// Makes the nodes and links.
///
/// # Errors
/// When one can't be made.
pub(crate) fn fill(launch: &Launch, root: &Root) -> Result<()> {
    let dev = root.folder("/dev")?;
    for (path, major, minor) in NODES {
        if launch.linux.devices.iter().any(|d| d.path == path) {
            continue;
        }
        let device = Device {
            path: path.into(),
            kind: "c".into(),
            major: i64::from(major),
            minor: i64::from(minor),
            file_mode: Some(0o666),
            ..Device::default()
        };
        make_node(launch, root, Some(&dev), &device)?;
    }
    for device in &launch.linux.devices {
        make_node(launch, root, None, device)?;
    }
    for (target, name) in LINKS {
        link(&dev, target, name)?;
    }
    if rustix::fs::access("/proc/kcore", rustix::fs::Access::EXISTS).is_ok() {
        link(&dev, "/proc/kcore", "core")?;
    }
    Ok(())
}

fn link(dev: &OwnedFd, target: &str, name: &str) -> Result<()> {
    match rustix::fs::symlinkat(target, dev, name) {
        Ok(()) => Ok(()),
        // What an image or a mount brings along stays; only ptmx must be the container's own.
        Err(rustix::io::Errno::EXIST) if name != "ptmx" => Ok(()),
        Err(rustix::io::Errno::EXIST) => {
            rustix::fs::unlinkat(dev, name, rustix::fs::AtFlags::empty())
                .and_then(|()| rustix::fs::symlinkat(target, dev, name))
                .at(|| format!("symlink /dev/{name}"))
        }
        Err(e) => Err(e).at(|| format!("symlink /dev/{name}")),
    }
}

fn make_node(launch: &Launch, root: &Root, dev: Option<&OwnedFd>, device: &Device) -> Result<()> {
    let what = || format!("error creating device nodes: mknod {}", device.path);
    if device.path.trim_matches('/') == "dev/ptmx" {
        // A link to the container's own devpts.
        return Ok(());
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => FileType::CharacterDevice,
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        other => return Err(Error::Spec(format!("invalid device type {other:?}"))),
    };
    let own;
    let (parent, name) = if let Some(dev) = dev {
        (dev, device.path.trim_start_matches("/dev/").to_owned())
    } else {
        let (folder, name) = root.folder_of(&device.path)?;
        own = folder;
        (&own, name)
    };
    if launch.in_user_namespace() {
        return bind_node(root, device);
    }
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o7777);
    let number = rustix::fs::makedev(device.major as u32, device.minor as u32);
    match rustix::fs::mknodat(parent, &name, kind, mode, number) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => {
            let stat = rustix::fs::statat(parent, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                .at(what)?;
            let same = FileType::from_raw_mode(stat.st_mode) == kind
                && (kind == FileType::Fifo || stat.st_rdev == number);
            if !same {
                return Err(Error::Refused(format!(
                    "{} exists and is not that device",
                    device.path
                )));
            }
        }
        Err(rustix::io::Errno::PERM) => return bind_node(root, device),
        Err(e) => return Err(e).at(what),
    }
    let (uid, gid) = (device.uid.unwrap_or(0), device.gid.unwrap_or(0));
    if uid != 0 || gid != 0 {
        let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        rustix::fs::chownat(parent, &name, uid, gid, flags).at(what)?;
    }
    Ok(())
}

/// In a user namespace nodes can't be made: the host's is bound instead.
fn bind_node(root: &Root, device: &Device) -> Result<()> {
    let what = || format!("error creating device nodes: bind {}", device.path);
    let node = tree::copy_path(&device.path, false).at(what)?;
    let stat = rustix::fs::fstat(&node).at(what)?;
    let number = rustix::fs::makedev(device.major as u32, device.minor as u32);
    if device.kind != "p" && stat.st_rdev != number {
        return Err(Error::Refused(format!("{} of the host is another device", device.path)));
    }
    let target = root.file(&device.path)?;
    tree::attach(node.as_fd(), target.as_fd()).at(what)
}

/// Hides paths: a folder under an empty, read-only tmpfs, a file under `/dev/null`. Both are taken
/// from the host's view, where the container can't have replaced them (CVE-2025-31133).
///
/// # Errors
/// When something that exists can't be hidden.
pub(crate) fn mask(paths: &[String], root: &Root) -> Result<()> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let what = || format!("can't mask path {path:?}");
        let Some(target) = root.find(path)? else { continue };
        if tree::kind(target.as_fd())? == tree::DIRECTORY {
            // One file system serves all folders; the first mount of it is copied for the others.
            let cover = if let Some(first) = &empty {
                tree::copy(first.as_fd(), false).at(what)?
            } else {
                let options = Options {
                    set: attr::RDONLY,
                    fs_flags: vec!["ro"],
                    data: vec!["size=4k".into(), "nr_inodes=1".into()],
                    ..Options::default()
                };
                mounts::new_instance("tmpfs", "tmpfs", &options).at(what)?
            };
            tree::attach(cover.as_fd(), target.as_fd()).at(what)?;
            if empty.is_none() {
                empty = Some(cover);
            }
        } else {
            let null = tree::copy_path("/dev/null", false).at(what)?;
            let stat = rustix::fs::fstat(&null).at(what)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice
                || stat.st_rdev != rustix::fs::makedev(1, 3)
            {
                return Err(Error::Refused("/dev/null of the host is not the null device".into()));
            }
            tree::attach(null.as_fd(), target.as_fd()).at(what)?;
        }
    }
    Ok(())
}

/// Makes paths read-only, with what is mounted below them.
///
/// # Errors
/// When something that exists can't be changed.
pub(crate) fn make_read_only(paths: &[String], root: &Root) -> Result<()> {
    for path in paths {
        let what = || format!("can't make {path:?} read-only");
        let Some(target) = root.find(path)? else { continue };
        let copy = tree::copy(target.as_fd(), true).at(what)?;
        set_attributes(copy.as_fd(), true, attr::RDONLY, 0, 0, None).at(what)?;
        tree::attach(copy.as_fd(), target.as_fd()).at(what)?;
    }
    Ok(())
}
