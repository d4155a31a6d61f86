//! Settling what a layer unpacked on its own could not know: implied folders take the attributes
//! of the folder below them, hardlinks to files of lower layers become copies of those files.

use crate::apply::Deferred;
use crate::root::{Root, split};
use crate::tree::{file_type, is_overlay_xattr, remove_all, set_xattr, stat, xattrs};
use crate::{ArchiveError, Time};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::Path;

/// Settles `deferred` in `layer` against `parents`, topmost first. A hardlink whose target no
/// layer holds is an error.
pub fn join(layer: &Path, parents: &[&Path], deferred: &Deferred) -> Result<(), ArchiveError> {
    if deferred.implied.is_empty() && deferred.links.is_empty() {
        return Ok(());
    }
    let mut top = Root::open(layer)?;
    let lower: Vec<Root> = parents.iter().map(|path| Root::open(path)).collect::<Result<_, _>>()?;
    for link in &deferred.links {
        copy_up(&mut top, &lower, &link.target, &link.path)?;
    }
    for name in deferred.implied.iter().rev() {
        inherit(&top, &lower, name)
            .map_err(|e| ArchiveError::entry("inheriting attributes of", name, e))?;
    }
    Ok(())
}

/// Finds `name` in the topmost layer that says anything about it.
fn find<'a>(lower: &'a [Root], name: &[u8]) -> Result<Option<(&'a Root, Stat)>, Errno> {
    let (parent, last) = split(name);
    for root in lower {
        match root.dir(parent).and_then(|dir| stat(dir.as_fd(), last)) {
            Ok(found) if file_type(&found) == FileType::CharacterDevice && found.st_rdev == 0 => {
                return Ok(None);
            }
            Ok(found) => return Ok(Some((root, found))),
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

fn inherit(top: &Root, lower: &[Root], name: &[u8]) -> Result<(), Errno> {
    let Some((root, found)) = find(lower, name)? else { return Ok(()) };
    if file_type(&found) != FileType::Directory {
        return Ok(());
    }
    let (parent, last) = split(name);
    let (from, to) = (root.dir(parent)?, top.dir(parent)?);
    match copy_attributes(from.as_fd(), last, to.as_fd(), last, &found) {
        // A later entry of the layer replaced the folder.
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

fn copy_up(top: &mut Root, lower: &[Root], target: &[u8], path: &[u8]) -> Result<(), ArchiveError> {
    let failed = |e: Errno| ArchiveError::entry("linking", path, e);
    let missing = || {
        ArchiveError::refused(
            path,
            format!("its hardlink target {:?} does not exist", String::from_utf8_lossy(target)),
        )
    };
    let (from, from_last) = split(target);
    let (to, to_last) = split(path);
    let dir = top.dir_or_make(to, &mut |_| ()).map_err(failed)?;
    remove_all(dir.as_fd(), to_last).map_err(failed)?;
    // A later entry of the same layer may have brought the target.
    if let Ok(own) = top.dir(from)
        && fs::linkat(&own, from_last, &dir, to_last, AtFlags::empty()).is_ok()
    {
        return Ok(());
    }
    let (root, found) = find(lower, target).map_err(failed)?.ok_or_else(missing)?;
    let source = root.dir(from).map_err(failed)?;
    copy_node(source.as_fd(), from_last, dir.as_fd(), to_last, &found)
        .map_err(|e| ArchiveError::entry("copying", path, e))?;
    // Both names must be one file, so the target is brought up as well.
    let own = top.dir_or_make(from, &mut |_| ()).map_err(failed)?;
    match fs::linkat(&dir, to_last, &own, from_last, AtFlags::empty()) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(e) => Err(failed(e)),
    }
}

fn copy_node(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    as_name: &[u8],
    found: &Stat,
) -> std::io::Result<()> {
    match file_type(found) {
        FileType::RegularFile => {
            let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let write =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut source = File::from(fs::openat(from, name, read, Mode::empty())?);
            let mut copy = File::from(fs::openat(to, as_name, write, Mode::from_raw_mode(0o600))?);
            std::io::copy(&mut source, &mut copy)?;
        }
        FileType::Symlink => fs::symlinkat(&fs::readlinkat(from, name, Vec::new())?, to, as_name)?,
        FileType::Directory => return Err(Errno::ISDIR.into()),
        kind => fs::mknodat(to, as_name, kind, Mode::from_raw_mode(0o600), found.st_rdev)?,
    }
    Ok(copy_attributes(from, name, to, as_name, found)?)
}

fn copy_attributes(
    from: BorrowedFd<'_>,
    name: &[u8],
    to: BorrowedFd<'_>,
    as_name: &[u8],
    found: &Stat,
) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    fs::chownat(to, as_name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if file_type(found) != FileType::Symlink {
        fs::chmodat(to, as_name, Mode::from_raw_mode(found.st_mode & 0o7777), AtFlags::empty())?;
    }
    for (key, value) in xattrs(from, name)? {
        if !is_overlay_xattr(&key) {
            set_xattr(to, as_name, &key, &value)?;
        }
    }
    let time = mtime(found);
    let stamp = Timespec { tv_sec: time.secs, tv_nsec: time.nanos.into() };
    let stamps = Timestamps { last_access: stamp, last_modification: stamp };
    fs::utimensat(to, as_name, &stamps, AtFlags::SYMLINK_NOFOLLOW)
}

/// A stat's modification time.
pub(crate) fn mtime(found: &Stat) -> Time {
    Time { secs: found.st_mtime, nanos: found.st_mtime_nsec as u32 }
}
