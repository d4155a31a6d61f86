//! A folder that nothing escapes: every parent of every name is opened through openat2 with
//! RESOLVE_IN_ROOT, so absolute links, `..` and links planted by an earlier entry all end inside.

use crate::ArchiveError;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

/// Most symbolic links that one path may pass, as in the kernel.
const MAX_LINKS: u32 = 40;
/// openat2 answers EAGAIN when a rename races with it; that often at most in a row.
const MAX_RETRIES: u32 = 128;

/// The folder that plays `/`, with the last parent kept open.
pub struct Root {
    fd: OwnedFd,
    last: Option<(Vec<u8>, Arc<OwnedFd>)>,
}

/// Makes `name` relative and free of `.`, `..` and empty components, as if joined to `/`.
pub fn clean(name: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// Splits a cleaned name into its parent and its last component.
pub(crate) fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (b"", name),
    }
}

impl Root {
    /// Opens the folder at `path`, which the caller trusts.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = fs::open(path, flags, Mode::empty());
        let name = path.as_os_str().as_encoded_bytes();
        Ok(Self::from_fd(fd.map_err(|e| ArchiveError::entry("opening the folder", name, e))?))
    }

    /// Uses an open folder.
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self { fd, last: None }
    }

    /// The folder itself.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens `name` (not followed when it is a link itself) below the root with `flags`.
    pub(crate) fn open_at(&self, name: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let name = if name.is_empty() { b".".as_slice() } else { name };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        for _ in 0..MAX_RETRIES {
            match fs::openat2(&self.fd, name, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Opens the folder `name`, which must exist.
    pub(crate) fn dir(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        self.open_at(name, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// The folder `name`, made with its parents where missing; each made one is passed to `made`.
    pub(crate) fn dir_or_make(
        &mut self,
        name: &[u8],
        made: &mut dyn FnMut(Vec<u8>),
    ) -> Result<Arc<OwnedFd>, Errno> {
        if let Some((last, fd)) = &self.last
            && last == name
        {
            return Ok(fd.clone());
        }
        let fd = match self.dir(name) {
            Err(Errno::NOENT) => self.make_all(name, made)?,
            other => other?,
        };
        let fd = Arc::new(fd);
        self.last = Some((name.to_vec(), fd.clone()));
        Ok(fd)
    }

    /// Must be called when a folder was removed or renamed.
    pub(crate) fn forget(&mut self) {
        self.last = None;
    }

    /// Walks component by component and makes what is missing, also behind a dangling link.
    fn make_all(&self, name: &[u8], made: &mut dyn FnMut(Vec<u8>)) -> Result<OwnedFd, Errno> {
        let step = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut todo: VecDeque<Vec<u8>> =
            name.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect();
        let mut real: Vec<Vec<u8>> = Vec::new();
        let mut at = self.dir(b"")?;
        let mut links = 0;
        while let Some(part) = todo.pop_front() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    real.pop();
                    at = self.dir(&real.join(&b'/'))?;
                    continue;
                }
                _ => {}
            }
            let next = match fs::openat(&at, part.as_slice(), step, Mode::empty()) {
                Err(Errno::NOENT) => {
                    fs::mkdirat(&at, part.as_slice(), Mode::from_raw_mode(0o755))?;
                    let fresh = fs::openat(&at, part.as_slice(), step, Mode::empty())?;
                    fs::chmodat(
                        &at,
                        part.as_slice(),
                        Mode::from_raw_mode(0o755),
                        AtFlags::empty(),
                    )?;
                    real.push(part);
                    made(real.join(&b'/'));
                    at = fresh;
                    continue;
                }
                other => other?,
            };
            match FileType::from_raw_mode(fs::fstat(&next)?.st_mode) {
                FileType::Directory => {
                    real.push(part);
                    at = next;
                }
                FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = fs::readlinkat(&next, "", Vec::new())?.into_bytes();
                    if target.starts_with(b"/") {
                        real.clear();
                        at = self.dir(b"")?;
                    }
                    for part in target.split(|byte| *byte == b'/').rev() {
                        todo.push_front(part.to_vec());
                    }
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaned_names_never_leave_the_root() {
        assert_eq!(clean(b"/a/../../b/./c//"), b"b/c");
        assert_eq!(clean(b"../../etc/passwd"), b"etc/passwd");
        assert_eq!(clean(b"./"), b"");
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"a"), (&b""[..], &b"a"[..]));
    }
}
