//! Layers out of folders: what an overlay's upper changed, or where two trees differ. Sorted by
//! name, times in whole seconds, so that equal changes give equal bytes.

use crate::pack::{TreeWriter, check_depth, header};
use crate::tree::{
    child, file_type, get_xattr, is_opaque, is_overlay_xattr, names, open, stat, subdir, xattrs,
};
use crate::{ArchiveError, Header, Writer};
use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// What was written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Diffed {
    /// Number of entries, whiteouts included.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
}

/// Writes the layer that an overlay mount collected in `upper` over `lowers` (topmost first).
pub fn diff_overlay<W: Write>(
    upper: &Path,
    lowers: &[&Path],
    out: W,
) -> Result<(W, Diffed), ArchiveError> {
    let top = open(upper)?;
    let lowers = lowers.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut walk = Overlay { out: TreeWriter::new(Writer::new(out), false) };
    walk.dir(top.as_fd(), &lowers, b"", 0)?;
    walk.out.finish()
}

/// Writes the layer that turns the tree `old` (absent: nothing) into the tree `new`.
pub fn diff_trees<W: Write>(
    old: Option<&Path>,
    new: &Path,
    out: W,
) -> Result<(W, Diffed), ArchiveError> {
    let new = open(new)?;
    let old = old.map(open).transpose()?;
    let mut walk = Trees { out: TreeWriter::new(Writer::new(out), false) };
    walk.dir(old.as_ref().map(|fd| fd.as_fd()), new.as_fd(), b"", 0)?;
    walk.out.finish()
}

fn whiteout(path: &[u8], name: &[u8]) -> Header {
    let mode = 0;
    Header { mode, ..Header::file(child(path, &[b".wh.", name].concat()), 0) }
}

struct Overlay<W: Write> {
    out: TreeWriter<W>,
}

impl<W: Write> Overlay<W> {
    fn dir(
        &mut self,
        dir: BorrowedFd<'_>,
        lowers: &[OwnedFd],
        path: &[u8],
        depth: u32,
    ) -> Result<(), ArchiveError> {
        check_depth(path, depth)?;
        for name in names(dir).map_err(|e| ArchiveError::entry("listing", path, e))? {
            let full = child(path, &name);
            let failed = |e: Errno| ArchiveError::entry("reading", &full, e);
            let found = stat(dir, &name).map_err(failed)?;
            if file_type(&found) == FileType::CharacterDevice && found.st_rdev == 0 {
                let below = lowers.is_empty()
                    || lowers.iter().any(|lower| stat(lower.as_fd(), &name).is_ok());
                if below {
                    self.out.put(&whiteout(path, &name))?;
                }
                continue;
            }
            for key in [&b"trusted.overlay.redirect"[..], b"trusted.overlay.metacopy"] {
                if get_xattr(dir, &name, key).map_err(failed)?.is_some() {
                    return Err(ArchiveError::refused(
                        &full,
                        "it was written by overlayfs with redirect_dir or metacopy",
                    ));
                }
            }
            self.out.node(dir, &name, &full, &found)?;
            if file_type(&found) != FileType::Directory {
                continue;
            }
            let sub = subdir(dir, &name).map_err(failed)?;
            let opaque = is_opaque(dir, &name).map_err(failed)?;
            let mut below: Vec<OwnedFd> = Vec::new();
            if opaque {
                self.out.put(&whiteout(&full, b".wh..opq"))?;
            } else {
                for lower in lowers {
                    match subdir(lower.as_fd(), &name) {
                        Ok(fd) => below.push(fd),
                        Err(Errno::NOENT) => {}
                        // Something else stands there and hides what lies deeper.
                        Err(_) => break,
                    }
                }
            }
            self.dir(sub.as_fd(), &below, &full, depth + 1)?;
        }
        Ok(())
    }
}

struct Trees<W: Write> {
    out: TreeWriter<W>,
}

impl<W: Write> Trees<W> {
    fn dir(
        &mut self,
        old: Option<BorrowedFd<'_>>,
        new: BorrowedFd<'_>,
        path: &[u8],
        depth: u32,
    ) -> Result<(), ArchiveError> {
        check_depth(path, depth)?;
        let list = |dir| names(dir).map_err(|e| ArchiveError::entry("listing", path, e));
        let mut all: Vec<(Vec<u8>, bool)> =
            list(new)?.into_iter().map(|name| (name, true)).collect();
        if let Some(old) = old {
            let gone: Vec<_> = list(old)?
                .into_iter()
                .filter(|name| all.binary_search_by(|(n, _)| n.cmp(name)).is_err())
                .collect();
            all.extend(gone.into_iter().map(|name| (name, false)));
            all.sort_unstable();
        }
        for (name, exists) in all {
            if exists {
                self.both(old, new, path, &name, depth)?;
            } else {
                self.out.put(&whiteout(path, &name))?;
            }
        }
        Ok(())
    }

    fn both(
        &mut self,
        old: Option<BorrowedFd<'_>>,
        new: BorrowedFd<'_>,
        path: &[u8],
        name: &[u8],
        depth: u32,
    ) -> Result<(), ArchiveError> {
        let full = child(path, name);
        let failed = |e: std::io::Error| ArchiveError::entry("reading", &full, e);
        let now = stat(new, name).map_err(|e| failed(e.into()))?;
        let before = old.and_then(|old| stat(old, name).ok().map(|found| (old, found)));
        let is_dir = file_type(&now) == FileType::Directory;
        let changed = match &before {
            Some((old, was)) => differs(*old, was, new, &now, name).map_err(failed)?,
            None => true,
        };
        if !is_dir {
            return if changed { self.out.node(new, name, &full, &now) } else { Ok(()) };
        }
        if changed {
            self.out.node(new, name, &full, &now)?;
        } else {
            self.out.remember_parent(header(new, name, &full, &now).map_err(|e| failed(e.into()))?);
        }
        let sub = subdir(new, name).map_err(|e| failed(e.into()))?;
        let was_dir = before.filter(|(_, was)| file_type(was) == FileType::Directory);
        let old_sub =
            was_dir.map(|(old, _)| subdir(old, name)).transpose().map_err(|e| failed(e.into()))?;
        self.dir(old_sub.as_ref().map(|fd| fd.as_fd()), sub.as_fd(), &full, depth + 1)?;
        self.out.forget_parent(&full);
        Ok(())
    }
}

/// Whether a name means something else in the new tree. Content is compared only where a whole-second
/// time stamp can't tell.
fn differs(
    old: BorrowedFd<'_>,
    was: &Stat,
    new: BorrowedFd<'_>,
    now: &Stat,
    name: &[u8],
) -> std::io::Result<bool> {
    if (was.st_mode, was.st_uid, was.st_gid, was.st_rdev)
        != (now.st_mode, now.st_uid, now.st_gid, now.st_rdev)
    {
        return Ok(true);
    }
    let own = |dir| -> Result<Vec<_>, Errno> {
        Ok(xattrs(dir, name)?.into_iter().filter(|(key, _)| !is_overlay_xattr(key)).collect())
    };
    if own(old)? != own(new)? {
        return Ok(true);
    }
    match file_type(now) {
        FileType::Directory => Ok(false),
        FileType::Symlink => {
            Ok(fs::readlinkat(old, name, Vec::new())? != fs::readlinkat(new, name, Vec::new())?)
        }
        FileType::RegularFile => {
            let time = |s: &Stat| (s.st_mtime, s.st_mtime_nsec);
            if was.st_size != now.st_size || was.st_mtime != now.st_mtime {
                return Ok(true);
            }
            let coarse = was.st_mtime_nsec == 0 || now.st_mtime_nsec == 0;
            if coarse { contents_differ(old, new, name) } else { Ok(time(was) != time(now)) }
        }
        _ => Ok(false),
    }
}

fn contents_differ(old: BorrowedFd<'_>, new: BorrowedFd<'_>, name: &[u8]) -> std::io::Result<bool> {
    let open = |dir| {
        fs::openat(dir, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
            .map(File::from)
    };
    let (mut old, mut new) = (open(old)?, open(new)?);
    let (mut left, mut right) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        let n = old.read(&mut left)?;
        if n == 0 {
            return Ok(new.read(&mut right)? != 0);
        }
        if new.read_exact(&mut right[..n]).is_err() || left[..n] != right[..n] {
            return Ok(true);
        }
    }
}
