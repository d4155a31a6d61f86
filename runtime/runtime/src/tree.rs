//! Paths inside a container's root: resolved, made, mounted on. Every step goes through a
//! descriptor of the root, so that no link in an image leads out of it (CVE-2021-30465).

use crate::error::{At, Error, Result};
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MoveMountFlags, OpenTreeFlags};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const PATH: OFlags = OFlags::PATH;
/// As many links to nowhere are followed as the kernel would follow links.
const LINKS: usize = 40;

/// The root of a container's file system while it is set up.
#[derive(Debug)]
pub(crate) struct Root {
    /// Its mount's root folder.
    pub dir: OwnedFd,
}

/// What `path` is, of the file types.
pub(crate) fn kind(fd: BorrowedFd<'_>) -> Result<u32> {
    Ok(rustix::fs::fstat(fd).at(|| "stat".into())?.st_mode & 0o170_000)
}

/// File type of a folder.
pub(crate) const DIRECTORY: u32 = 0o040_000;

impl Root {
    /// Opens a path for mounting on it; `None` when nothing is there.
    ///
    /// # Errors
    /// As openat2(2).
    pub(crate) fn find(&self, path: &str) -> Result<Option<OwnedFd>> {
        match sys::mount::open_in_root(self.dir.as_fd(), path, PATH, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(e) if matches!(e.raw_os_error(), Some(2 | 20)) => Ok(None),
            Err(e) => Err(e).at(|| format!("open {path}")),
        }
    }

    /// Opens a path without following a link at its end.
    pub(crate) fn find_itself(&self, path: &str) -> io::Result<OwnedFd> {
        sys::mount::open_in_root(self.dir.as_fd(), path, PATH | OFlags::NOFOLLOW, Mode::empty())
    }

    /// Opens a folder, making it and its parents where they are missing.
    ///
    /// # Errors
    /// As openat2(2) and mkdirat(2).
    pub(crate) fn folder(&self, path: &str) -> Result<OwnedFd> {
        let open = |part: &str| {
            sys::mount::open_in_root(
                self.dir.as_fd(),
                part,
                PATH | OFlags::DIRECTORY,
                Mode::empty(),
            )
        };
        match open(path) {
            Ok(fd) => return Ok(fd),
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).at(|| format!("mkdir {path}"));
            }
            Err(_) => {}
        }
        let mut so_far = String::new();
        let mut parent = open("/").at(|| "open root".into())?;
        for name in path.split('/').filter(|n| !n.is_empty() && *n != ".") {
            so_far.push('/');
            so_far.push_str(name);
            parent = match open(&so_far) {
                Ok(fd) => fd,
                Err(e) if e.kind() == io::ErrorKind::NotFound && name != ".." => {
                    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
                        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                        Err(e) => return Err(e).at(|| format!("mkdir {so_far}")),
                    }
                    open(&so_far).at(|| format!("open {so_far}"))?
                }
                Err(e) => return Err(e).at(|| format!("mkdir {so_far}")),
            };
        }
        Ok(parent)
    }

    /// Opens a file, making it, empty, and its parents where they are missing. A link that leads
    /// nowhere is followed, inside the root, and its target made.
    ///
    /// # Errors
    /// As openat2(2).
    pub(crate) fn file(&self, path: &str) -> Result<OwnedFd> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            if let Some(fd) = self.find(&path)? {
                return Ok(fd);
            }
            let parent = path.trim_end_matches('/').rsplit_once('/').map_or("", |(p, _)| p);
            self.folder(if parent.is_empty() { "/" } else { parent })?;
            let Ok(itself) = self.find_itself(&path) else { break };
            let Ok(target) = rustix::fs::readlinkat(&itself, c"", Vec::new()) else { break };
            let target = target.to_string_lossy();
            path = if target.starts_with('/') {
                target.into_owned()
            } else {
                format!("{parent}/{target}")
            };
        }
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        sys::mount::open_in_root(self.dir.as_fd(), &path, flags, Mode::from_raw_mode(0o755))
            .at(|| format!("create {path}"))?;
        self.find(&path)?.ok_or_else(|| Error::Refused(format!("{path} vanished")))
    }

    /// Opens the folder of a file that is to be made, and gives the file's name.
    ///
    /// # Errors
    /// As openat2(2).
    pub(crate) fn folder_of(&self, path: &str) -> Result<(OwnedFd, String)> {
        let path = path.trim_end_matches('/');
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name.is_empty() || name == "." || name == ".." {
            return Err(Error::Refused(format!("{path:?} names no file")));
        }
        Ok((self.folder(if parent.is_empty() { "/" } else { parent })?, name.to_owned()))
    }
}

/// Attaches a detached mount where `target` is opened on.
///
/// # Errors
/// As move_mount(2).
pub(crate) fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    rustix::mount::move_mount(mount, c"", target, c"", flags)
}

/// A detached copy of the mount at an open file.
///
/// # Errors
/// As open_tree(2).
pub(crate) fn copy(at: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    rustix::mount::open_tree(at, c"", copy_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
}

/// A detached copy of the mount at a path of our own view.
///
/// # Errors
/// As open_tree(2).
pub(crate) fn copy_path(path: &str, recursive: bool) -> rustix::io::Result<OwnedFd> {
    rustix::mount::open_tree(rustix::fs::CWD, path, copy_flags(recursive))
}

fn copy_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Copies what a folder holds into another, owners and modes included; used for `tmpcopyup`.
///
/// # Errors
/// When something can't be read or made, or folders nest deeper than 64.
pub(crate) fn copy_contents(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    depth: usize,
) -> io::Result<()> {
    if depth > 64 {
        return Err(io::Error::other("folders nest too deep"));
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let from = rustix::fs::openat(from, ".", flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = rustix::fs::statat(&from, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        match stat.st_mode & 0o170_000 {
            DIRECTORY => {
                rustix::fs::mkdirat(to, name, mode)?;
                let child = rustix::fs::openat(&from, name, flags, Mode::empty())?;
                let made = rustix::fs::openat(to, name, flags, Mode::empty())?;
                copy_contents(child.as_fd(), made.as_fd(), depth + 1)?;
            }
            0o120_000 => {
                let link = rustix::fs::readlinkat(&from, name, Vec::new())?;
                rustix::fs::symlinkat(&*link, to, name)?;
            }
            0o100_000 => {
                let open = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let source = rustix::fs::openat(&from, name, open, Mode::empty())?;
                let make = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let made = rustix::fs::openat(to, name, make, mode)?;
                while rustix::fs::sendfile(&made, &source, None, 1 << 20)? > 0 {}
            }
            kind => {
                let kind = rustix::fs::FileType::from_raw_mode(kind);
                rustix::fs::mknodat(to, name, kind, mode, stat.st_rdev)?;
            }
        }
        let owner = Some(rustix::fs::Uid::from_raw(stat.st_uid));
        let group = Some(rustix::fs::Gid::from_raw(stat.st_gid));
        rustix::fs::chownat(to, name, owner, group, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        if stat.st_mode & 0o170_000 != 0o120_000 {
            rustix::fs::chmodat(to, name, mode, rustix::fs::AtFlags::empty())?;
        }
    }
    Ok(())
}
