//! Mounting a container's root as its supervisor says (containerd's mounts: type, source, target,
//! options), and unmounting it. No policy: options mean what mount(8) says.

use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MountPropagationFlags, MoveMountFlags,
    UnmountFlags,
};
use shim_api::task::Mount;
use std::ffi::CString;
use std::io;
use std::path::{Component, Path, PathBuf};

/// The kernel takes at most a page of options, its final NUL included.
const PAGE: usize = 4096;

/// A mount that failed.
#[derive(Debug, thiserror::Error)]
#[error("mount {kind} {source_path:?} at {target}: {source}")]
pub(crate) struct MountError {
    kind: String,
    source_path: String,
    target: String,
    source: io::Error,
}

/// Options as the kernel wants them.
#[derive(Debug, Default, PartialEq)]
struct Options {
    set: u32,
    propagation: Option<u32>,
    data: Vec<String>,
}

/// Name, bit, whether the name sets it.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("dirsync", MountFlags::DIRSYNC, true),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("norelatime", MountFlags::RELATIME, false),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("nostrictatime", MountFlags::STRICTATIME, false),
    ("bind", MountFlags::BIND, true),
];

fn parse(options: &[String]) -> io::Result<Options> {
    let mut parsed = Options::default();
    let rec = MountPropagationFlags::REC.bits();
    for option in options {
        if let Some((_, bit, set)) = FLAGS.iter().find(|(name, ..)| name == option) {
            parsed.set = if *set { parsed.set | bit.bits() } else { parsed.set & !bit.bits() };
            continue;
        }
        let shared = MountPropagationFlags::SHARED.bits();
        let slave = MountPropagationFlags::DOWNSTREAM.bits();
        let private = MountPropagationFlags::PRIVATE.bits();
        let unbindable = MountPropagationFlags::UNBINDABLE.bits();
        match option.as_str() {
            "defaults" => {}
            "rbind" => parsed.set |= (MountFlags::BIND | MountFlags::REC).bits(),
            "shared" => parsed.propagation = Some(shared),
            "rshared" => parsed.propagation = Some(shared | rec),
            "slave" => parsed.propagation = Some(slave),
            "rslave" => parsed.propagation = Some(slave | rec),
            "private" => parsed.propagation = Some(private),
            "rprivate" => parsed.propagation = Some(private | rec),
            "unbindable" => parsed.propagation = Some(unbindable),
            "runbindable" => parsed.propagation = Some(unbindable | rec),
            "loop" => return Err(io::Error::other("option loop is not supported")),
            data => parsed.data.push(data.to_owned()),
        }
    }
    Ok(parsed)
}

/// Mounts a list, in order, at a root. Errors: what was mounted is unmounted again.
pub(crate) fn mount_all(mounts: &[Mount], root: &Path) -> Result<(), MountError> {
    for (done, mount) in mounts.iter().enumerate() {
        let result = target(root, &mount.target).and_then(|target| mount_one(mount, &target));
        if let Err(source) = result {
            for _ in 0..done {
                let _ = rustix::mount::unmount(root, UnmountFlags::DETACH);
            }
            return Err(MountError {
                kind: mount.r#type.clone(),
                source_path: mount.source.clone(),
                target: root.join(&mount.target).display().to_string(),
                source,
            });
        }
    }
    Ok(())
}

/// A target below the root; `..` and links in it are refused.
fn target(root: &Path, relative: &str) -> io::Result<PathBuf> {
    let mut path = root.to_owned();
    for part in Path::new(relative).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => continue,
            _ => return Err(io::Error::other(format!("target {relative:?} leaves the root"))),
        }
        if path.symlink_metadata()?.is_symlink() {
            return Err(io::Error::other(format!("target {relative:?} goes through a link")));
        }
    }
    Ok(path)
}

fn mount_one(mount: &Mount, target: &Path) -> io::Result<()> {
    let options = parse(&mount.options)?;
    let flags = MountFlags::from_bits_retain(options.set);
    let bind = flags.contains(MountFlags::BIND) || mount.r#type == "bind";
    if bind {
        let rec = flags & MountFlags::REC;
        if rec.is_empty() {
            rustix::mount::mount_bind(&mount.source, target)?;
        } else {
            rustix::mount::mount_bind_recursive(&mount.source, target)?;
        }
        let rest = flags - (MountFlags::BIND | MountFlags::REC);
        if !rest.is_empty() {
            rustix::mount::mount_remount(target, rest | MountFlags::BIND, c"")?;
        }
    } else {
        let data = options.data.join(",");
        if data.len() < PAGE {
            let data = CString::new(data)?;
            let kind = mount.r#type.as_str();
            rustix::mount::mount(
                mount.source.as_str(),
                target,
                kind,
                flags,
                Some(data.as_c_str()),
            )?;
        } else {
            mount_long(mount, &options, target)?;
        }
    }
    if let Some(propagation) = options.propagation {
        let flags = MountPropagationFlags::from_bits_retain(propagation);
        rustix::mount::mount_change(target, flags)?;
    }
    Ok(())
}

/// More options than a page holds: one by one, overlay's lower layers each for itself (kernel 6.7).
fn mount_long(mount: &Mount, options: &Options, target: &Path) -> io::Result<()> {
    let fs = rustix::mount::fsopen(mount.r#type.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&fs, "source", mount.source.as_str())?;
    for option in &options.data {
        match option.split_once('=') {
            Some(("lowerdir", layers)) => {
                for layer in layers.split(':') {
                    rustix::mount::fsconfig_set_string(&fs, "lowerdir+", layer)?;
                }
            }
            Some((key, value)) => rustix::mount::fsconfig_set_string(&fs, key, value)?,
            None => rustix::mount::fsconfig_set_flag(&fs, option.as_str())?,
        }
    }
    let flags = MountFlags::from_bits_retain(options.set);
    let mut attributes = MountAttrFlags::empty();
    for (flag, attribute) in [
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (MountFlags::NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
    ] {
        attributes.set(attribute, flags.contains(flag));
    }
    rustix::mount::fsconfig_create(&fs)?;
    let made = rustix::mount::fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    let empty = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(rustix::mount::move_mount(&made, "", rustix::fs::CWD, target, empty)?)
}

/// Unmounts everything stacked at a path. May take as long as dirty pages need.
pub(crate) fn unmount_all(target: &Path) -> io::Result<()> {
    use rustix::io::Errno;
    // Bounded: nobody stacks more.
    for _ in 0..64 {
        match rustix::mount::unmount(target, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            // Not a mount point (any more), or never there.
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => {
                rustix::mount::unmount(target, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_flags_propagation_or_data() {
        let words: Vec<String> = ["ro", "nosuid", "rslave", "lowerdir=/a:/b", "userxattr", "rw"]
            .map(String::from)
            .into();
        let parsed = parse(&words).unwrap();
        assert_eq!(parsed.set, MountFlags::NOSUID.bits());
        assert_eq!(parsed.data, ["lowerdir=/a:/b", "userxattr"]);
        assert!(parsed.propagation.is_some());
        let error = parse(&["loop".to_owned()]).unwrap_err();
        assert_eq!(error.to_string(), "option loop is not supported");
    }

    #[test]
    fn a_target_can_not_leave_the_root() {
        assert!(target(Path::new("/nowhere"), "../etc").is_err());
        assert_eq!(target(Path::new("/nowhere"), "/").unwrap(), Path::new("/nowhere"));
    }
}
