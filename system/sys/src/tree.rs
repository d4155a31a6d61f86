//! Counting what a folder holds, through descriptors: whoever changes the tree meanwhile can
//! lead nowhere outside of it.

use std::collections::HashSet;
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// How deep folders may nest.
const MAX_DEPTH: u32 = 512;

/// The sizes of all files below `root` together, in bytes as they would be read: folders count
/// nothing, a file with several names counts once.
pub fn size(root: &Path) -> io::Result<u64> {
    let folder = open(CWD, root)?.ok_or(io::ErrorKind::NotFound)?;
    let mut count = Count::default();
    count.folder(folder.as_fd(), 0)?;
    Ok(count.bytes)
}

#[derive(Default)]
struct Count {
    bytes: u64,
    seen: HashSet<(u64, u64)>,
}

impl Count {
    fn folder(&mut self, folder: BorrowedFd<'_>, depth: u32) -> io::Result<()> {
        if depth == MAX_DEPTH {
            return Err(io::Error::other("folders nest too deep"));
        }
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_bytes() != b"." && name.to_bytes() != b".." {
                self.entry(folder, name, depth)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, folder: BorrowedFd<'_>, name: &CStr, depth: u32) -> io::Result<()> {
        let meta = match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It was removed meanwhile.
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        if FileType::from_raw_mode(meta.st_mode) == FileType::Directory {
            return match open(folder, name)? {
                Some(below) => self.folder(below.as_fd(), depth + 1),
                None => Ok(()),
            };
        }
        if meta.st_nlink <= 1 || self.seen.insert((meta.st_dev, meta.st_ino)) {
            self.bytes = self.bytes.saturating_add(u64::try_from(meta.st_size).unwrap_or(0));
        }
        Ok(())
    }
}

/// A folder by its name; `None` when it is gone, or no folder any more.
fn open<P: rustix::path::Arg>(at: BorrowedFd<'_>, name: P) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(at, name, flags, Mode::empty()) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_once_links_by_their_text_and_folders_not_at_all() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        std::fs::create_dir_all(at("d/e")).unwrap();
        std::fs::write(at("a"), [0; 10]).unwrap();
        std::fs::write(at("d/e/b"), [0; 7]).unwrap();
        std::fs::hard_link(at("a"), at("d/a")).unwrap();
        std::os::unix::fs::symlink("/usr", at("d/l")).unwrap();
        let sparse = std::fs::File::create(at("s")).unwrap();
        sparse.set_len(1 << 20).unwrap();
        assert_eq!(size(temp.path()).unwrap(), 10 + 7 + 4 + (1 << 20));
        assert!(size(&at("none")).is_err());
    }
}
