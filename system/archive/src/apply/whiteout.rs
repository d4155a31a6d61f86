//! `.wh.NAME` and `.wh..wh..opq` (OCI image spec, layer.md, "Whiteouts") in their three treatments.

use super::{Unpacker, Whiteouts};
use crate::ArchiveError;
use crate::tree::{file_type, names, remove_all, set_xattr, stat, subdir};
use rustix::fs::{self, FileType, Mode};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, BorrowedFd};

const OPAQUE: &[u8] = b".wh..wh..opq";

impl Unpacker<'_> {
    /// Carries out the whiteout `last` in `dir`, whose cleaned name is `parent`.
    pub(super) fn whiteout(
        &mut self,
        dir: BorrowedFd<'_>,
        parent: &[u8],
        last: &[u8],
        entry: &[u8],
    ) -> Result<(), ArchiveError> {
        let failed = |e: Errno| ArchiveError::entry("hiding by", entry, e);
        let overlay = self.options.whiteouts == Whiteouts::Overlay;
        if last == OPAQUE {
            return if overlay {
                set_xattr(dir, b"", b"trusted.overlay.opaque", b"y").map_err(failed)
            } else {
                self.clear_below(dir, parent).map_err(failed)
            };
        }
        let hidden = &last[b".wh.".len()..];
        if hidden.starts_with(b".wh.") {
            // AUFS bookkeeping (.wh..wh.plnk and the like) means nothing here.
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(ArchiveError::refused(entry, "a whiteout without a name"));
        }
        let path = if parent.is_empty() { hidden.to_vec() } else { [parent, hidden].join(&b'/') };
        if overlay {
            return hide(dir, hidden).map_err(failed);
        }
        if self.made.contains(&path) {
            return Ok(());
        }
        if stat(dir, hidden).is_ok_and(|s| file_type(&s) == FileType::Directory) {
            self.root.forget();
        }
        remove_all(dir, hidden).map_err(failed)
    }

    pub(super) fn is_whiteout(&self, dir: BorrowedFd<'_>, name: &[u8]) -> Result<bool, Errno> {
        if self.options.whiteouts != Whiteouts::Overlay {
            return Ok(false);
        }
        let found = stat(dir, name)?;
        Ok(file_type(&found) == FileType::CharacterDevice && found.st_rdev == 0)
    }

    /// Removes everything below `dir` that this archive did not make.
    fn clear_below(&mut self, dir: BorrowedFd<'_>, parent: &[u8]) -> Result<(), Errno> {
        self.root.forget();
        for name in names(dir)? {
            let path = if parent.is_empty() {
                name.clone()
            } else {
                [parent, name.as_slice()].join(&b'/')
            };
            if !self.made.contains(&path) {
                remove_all(dir, &name)?;
            } else if file_type(&stat(dir, &name)?) == FileType::Directory {
                let sub = subdir(dir, &name)?;
                self.clear_below(sub.as_fd(), &path)?;
            }
        }
        Ok(())
    }
}

fn hide(dir: BorrowedFd<'_>, hidden: &[u8]) -> Result<(), Errno> {
    let made =
        fs::mknodat(dir, hidden, FileType::CharacterDevice, Mode::empty(), fs::makedev(0, 0));
    match made {
        Err(Errno::EXIST) => {}
        other => return other,
    }
    // The same layer made that name anew: a folder must not show what lies below it.
    if file_type(&stat(dir, hidden)?) == FileType::Directory {
        set_xattr(dir, hidden, b"trusted.overlay.opaque", b"y")?;
    }
    Ok(())
}
