//! Small helpers on open folders: sorted listing, recursive removal, extended attributes.
//! Every call works on a descriptor and one name below it, never on a path.

use crate::ArchiveError;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// Deepest nesting that is walked; beyond it a tree is taken for an attack on the stack.
pub(crate) const MAX_DEPTH: u32 = 4096;

/// Opens the folder that a walk begins in.
pub(crate) fn open(path: &Path) -> Result<OwnedFd, ArchiveError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = fs::open(path, flags, Mode::empty());
    opened.map_err(|e| {
        ArchiveError::entry("opening the folder", path.as_os_str().as_encoded_bytes(), e)
    })
}

/// The path of `name` in the folder at `path`; the root's is empty.
pub(crate) fn child(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, name].join(&b'/') }
}

/// Whether a folder of an overlay's layer hides what lies below it.
pub(crate) fn is_opaque(dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
    for key in [&b"trusted.overlay.opaque"[..], b"user.overlay.opaque"] {
        if get_xattr(dir, name, key)?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Names in a folder, sorted bytewise.
pub(crate) fn names(dir: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let fd =
        fs::openat(dir, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in Dir::new(fd)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// lstat of `name` in `dir`.
pub(crate) fn stat(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// The type in a stat.
pub(crate) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Opens the sub-folder `name` without following a link.
pub(crate) fn subdir(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    fs::openat(dir, name, flags, Mode::empty())
}

/// Removes `name` with everything below it; whatever vanishes meanwhile is fine.
pub(crate) fn remove_all(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    remove_depth(dir, name, 0)
}

fn remove_depth(dir: BorrowedFd<'_>, name: &[u8], depth: u32) -> Result<(), Errno> {
    match fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) if depth < MAX_DEPTH => {}
        Err(e) => return Err(e),
    }
    let sub = match subdir(dir, name) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    for child in names(sub.as_fd())? {
        remove_depth(sub.as_fd(), &child, depth + 1)?;
    }
    fs::unlinkat(dir, name, AtFlags::REMOVEDIR)
}

/// A path that names `name` in `dir` for calls that know no descriptors; the last component is
/// not followed by the `l` calls.
fn proc_path(dir: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_raw_fd()).into_bytes();
    path.extend_from_slice(if name.is_empty() { b"." } else { name });
    path
}

/// Sets an extended attribute, also on links and special files.
pub(crate) fn set_xattr(
    dir: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
    value: &[u8],
) -> Result<(), Errno> {
    fs::lsetxattr(proc_path(dir, name).as_slice(), key, value, fs::XattrFlags::empty())
}

/// Reads an extended attribute; `None` when it is absent or unsupported.
pub(crate) fn get_xattr(
    dir: BorrowedFd<'_>,
    name: &[u8],
    key: &[u8],
) -> Result<Option<Vec<u8>>, Errno> {
    let mut value = vec![0; 65_536];
    match fs::lgetxattr(proc_path(dir, name).as_slice(), key, value.as_mut_slice()) {
        Ok(n) => {
            value.truncate(n);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::NOTSUP) => Ok(None),
        Err(e) => Err(e),
    }
}

/// An extended attribute: name and value.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// All extended attributes, sorted by name.
pub(crate) fn xattrs(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<Xattr>, Errno> {
    let path = proc_path(dir, name);
    let empty: &mut [u8] = &mut [];
    let size = match fs::llistxattr(path.as_slice(), empty) {
        Ok(0) | Err(Errno::NOTSUP) => return Ok(Vec::new()),
        other => other?,
    };
    let mut list = vec![0_u8; size + 4096];
    let n = fs::llistxattr(path.as_slice(), list.as_mut_slice())?;
    let mut found = Vec::new();
    for key in list[..n].split(|byte| *byte == 0).filter(|key| !key.is_empty()) {
        if let Some(value) = get_xattr(dir, name, key)? {
            found.push((key.to_vec(), value));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Attributes that belong to an overlay mount and not to the file's content.
pub(crate) fn is_overlay_xattr(key: &[u8]) -> bool {
    key.starts_with(b"trusted.overlay.") || key.starts_with(b"user.overlay.")
}
