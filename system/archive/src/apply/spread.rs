//! Where ext4 puts new inodes. A file's comes from the block group of its folder; in a group where
//! thousands were freed in the last minutes, each new file passes over every one of them again,
//! which costs a hundred times the rest of its creation. A folder made below one that carries
//! FS_TOPDIR_FL gets another group: so when files take long to make, the next folder is made so.

use rustix::fs::{self, IFlags, Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

/// Files whose creation is looked at together.
const WINDOW: u32 = 32;
/// What one of them may take: ten times what it takes in a group at rest.
const LIMIT: Duration = Duration::from_micros(100);

/// How long files take to make.
#[derive(Default)]
pub(super) struct Pace {
    count: u32,
    spent: Duration,
    is_slow: bool,
}

impl Pace {
    /// A file was made within `took`.
    pub(super) fn file(&mut self, took: Duration) {
        self.count += 1;
        self.spent += took;
        if self.count == WINDOW {
            *self = Self { is_slow: self.spent > LIMIT * WINDOW, ..Self::default() };
        }
    }

    /// Makes a folder, in another group when files took long.
    pub(super) fn make_dir(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
        let make = || fs::mkdirat(parent, name, Mode::from_raw_mode(0o700));
        if !std::mem::take(&mut self.is_slow) {
            return make();
        }
        // Other file systems have no such flag, and go on as they are.
        let marked = Marked::new(parent).ok();
        let made = make();
        drop(marked);
        made
    }
}

/// A folder with FS_TOPDIR_FL for as long as this lives.
struct Marked {
    folder: OwnedFd,
    before: IFlags,
}

impl Marked {
    fn new(folder: BorrowedFd<'_>) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = fs::openat(folder, ".", flags, Mode::empty())?;
        let before = fs::ioctl_getflags(&folder)?;
        fs::ioctl_setflags(&folder, before | IFlags::TOPDIR)?;
        Ok(Self { folder, before })
    }
}

impl Drop for Marked {
    fn drop(&mut self) {
        // It was set a moment ago; left behind it would only spread what is made later.
        let _ = fs::ioctl_setflags(&self.folder, self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_slow_group_is_left_with_the_next_folder() {
        let mut pace = Pace::default();
        let mut files = |took| (0..WINDOW).for_each(|_| pace.file(took));
        files(LIMIT / 2);
        files(LIMIT * 2);
        assert!(pace.is_slow);
        let folder = tempfile::tempdir().unwrap();
        let parent = std::fs::File::open(folder.path()).unwrap();
        pace.make_dir(parent.as_fd(), b"next").unwrap();
        assert!(folder.path().join("next").is_dir() && !pace.is_slow);
        let flags = fs::ioctl_getflags(&parent);
        assert!(!flags.is_ok_and(|flags| flags.contains(IFlags::TOPDIR)));
    }
}
