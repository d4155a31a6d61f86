//! One entry onto the disk: made under its parent's descriptor with O_EXCL, then owner, mode,
//! attributes and time in the order the kernel needs (chown clears set-id bits and capabilities).

use super::spread::Pace;
use super::{MissingLink, Unpacker, Whiteouts, stamps};
use crate::ArchiveError;
use crate::read::{Entry, Kind, Reader};
use crate::root::split;
use crate::tree::{file_type, is_overlay_xattr, remove_all, set_xattr, stat};
use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

impl Unpacker<'_> {
    pub(super) fn entry<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), ArchiveError> {
        let name = self.target(&entry.path);
        if name.len() > 4095 || name.contains(&0) {
            return Err(ArchiveError::refused(&entry.path, "the name is too long or holds a NUL"));
        }
        self.entries += 1;
        self.size += entry.real_size();
        if name == self.options.base {
            return self.root_entry(entry, &name);
        }
        let (parent, last) = split(&name);
        if last.len() > 255 {
            return Err(ArchiveError::refused(&entry.path, "a component of the name is too long"));
        }
        let implied = &mut self.implied;
        let made = self.root.dir_or_make(parent, &mut |path| implied.push(path));
        let dir = made.map_err(|e| ArchiveError::entry("opening the parent of", &name, e))?;
        if self.options.whiteouts != Whiteouts::Keep && last.starts_with(b".wh.") {
            return self.whiteout(dir.as_fd(), parent, last, &entry.path);
        }
        if entry.kind == Kind::HardLink {
            return self.hard_link(dir.as_fd(), &name, last, entry);
        }
        self.make(dir.as_fd(), &name, last, entry, reader)?;
        self.attributes(dir.as_fd(), last, entry)
            .map_err(|e| ArchiveError::entry("setting attributes of", &name, e))?;
        if entry.kind == Kind::Dir {
            self.times.push((name.clone(), entry.mtime));
        }
        if self.options.whiteouts == Whiteouts::Remove {
            self.made.insert(name);
        }
        Ok(())
    }

    /// `./` describes the root itself; anything else under that name is refused.
    fn root_entry(&mut self, entry: &Entry, name: &[u8]) -> Result<(), ArchiveError> {
        if entry.kind != Kind::Dir {
            return Err(ArchiveError::refused(&entry.path, "only a folder can be the root"));
        }
        let dir = self.root.dir(name).map_err(|e| ArchiveError::entry("opening", name, e))?;
        let set = self.attributes(dir.as_fd(), b"", entry);
        set.map_err(|e| ArchiveError::entry("setting attributes of", name, e))?;
        self.times.push((name.to_vec(), entry.mtime));
        Ok(())
    }

    /// Makes the object, replacing what is there; a folder that exists already stays.
    fn make<R: BufRead>(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        last: &[u8],
        entry: &Entry,
        reader: &mut Reader<R>,
    ) -> Result<(), ArchiveError> {
        match make_once(dir, last, entry, reader, &mut self.pace) {
            Err(Failure::Kernel(Errno::EXIST)) => {
                if self.clear_way(dir, name, last, entry)? {
                    let made = make_once(dir, last, entry, reader, &mut self.pace);
                    made.map_err(|e| e.naming(name))?;
                }
                Ok(())
            }
            other => other.map_err(|e| e.naming(name)),
        }
    }

    /// Removes what stands in an entry's way; false when a folder may stay.
    fn clear_way(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        last: &[u8],
        entry: &Entry,
    ) -> Result<bool, ArchiveError> {
        let failed = |e: Errno| ArchiveError::entry("replacing", name, e);
        let old = file_type(&stat(dir, last).map_err(failed)?);
        let both = (old == FileType::Directory, entry.kind == Kind::Dir);
        if both == (true, true) {
            return Ok(false);
        }
        if !self.options.replace_kind && both.0 != both.1 {
            let what = if both.0 {
                "cannot overwrite directory with non-directory"
            } else {
                "cannot overwrite non-directory with directory"
            };
            return Err(ArchiveError::refused(&entry.path, what));
        }
        let whiteout =
            old == FileType::CharacterDevice && self.is_whiteout(dir, last).map_err(failed)?;
        remove_all(dir, last).map_err(failed)?;
        if both.0 {
            self.root.forget();
            let below = [name, b"/"].concat();
            self.made.retain(|path| !path.starts_with(&below));
        }
        if whiteout && entry.kind == Kind::Dir {
            // The lower folder was removed and a new one made: nothing of the old may show.
            fs::mkdirat(dir, last, Mode::from_raw_mode(0o700)).map_err(failed)?;
            set_xattr(dir, last, b"trusted.overlay.opaque", b"y").map_err(failed)?;
            return Ok(false);
        }
        Ok(true)
    }

    fn hard_link(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        last: &[u8],
        entry: &Entry,
    ) -> Result<(), ArchiveError> {
        let failed = |e: Errno| ArchiveError::entry("linking", name, e);
        let target = self.target(&entry.link);
        if target == name {
            return Ok(());
        }
        let (from, from_last) = split(&target);
        let found = match self.root.dir(from) {
            Ok(from) => stat(from.as_fd(), from_last).map(|found| (from, found)),
            Err(e) => Err(e),
        };
        let (from, found) = match found {
            // Named by a lower layer, or not at all: `join` tells.
            Err(Errno::NOENT) if self.options.whiteouts == Whiteouts::Overlay => {
                self.links.push(MissingLink { path: name.to_vec(), target });
                return Ok(());
            }
            other => other.map_err(failed)?,
        };
        if file_type(&found) == FileType::Directory
            || (found.st_rdev == 0 && file_type(&found) == FileType::CharacterDevice)
        {
            return Err(ArchiveError::refused(&entry.path, "a hardlink to a folder or whiteout"));
        }
        let link = || fs::linkat(&from, from_last, dir, last, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) => {
                remove_all(dir, last).map_err(failed)?;
                self.root.forget();
                link().map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
        if self.options.whiteouts == Whiteouts::Remove {
            self.made.insert(name.to_vec());
        }
        Ok(())
    }

    fn attributes(&self, dir: BorrowedFd<'_>, last: &[u8], entry: &Entry) -> Result<(), Errno> {
        let at = if last.is_empty() { b".".as_slice() } else { last };
        if self.options.owners {
            // All ones means "unchanged" to the kernel, and so the caller's, as for docker.
            let uid = (entry.uid != u32::MAX).then(|| Uid::from_raw(entry.uid));
            let gid = (entry.gid != u32::MAX).then(|| Gid::from_raw(entry.gid));
            fs::chownat(dir, at, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        if entry.kind != Kind::Symlink {
            fs::chmodat(dir, at, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        }
        for (key, value) in &entry.xattrs {
            if is_overlay_xattr(key) {
                continue;
            }
            match set_xattr(dir, last, key, value) {
                // The file system keeps no such attributes, or the caller may not set them.
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(Errno::PERM) if key.starts_with(b"user.") => {}
                Err(e) => return Err(e),
            }
        }
        if entry.kind != Kind::Dir {
            fs::utimensat(dir, at, &stamps(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}

fn make_once<R: BufRead>(
    dir: BorrowedFd<'_>,
    last: &[u8],
    entry: &Entry,
    reader: &mut Reader<R>,
    pace: &mut Pace,
) -> Result<(), Failure> {
    let node = |kind, major, minor| {
        fs::mknodat(dir, last, kind, Mode::from_raw_mode(0o600), fs::makedev(major, minor))
    };
    match entry.kind {
        Kind::File => {
            let flags =
                OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let begun = Instant::now();
            let file = File::from(fs::openat(dir, last, flags, Mode::from_raw_mode(0o600))?);
            pace.file(begun.elapsed());
            write_data(&file, entry, reader).map_err(Failure::Archive)?;
        }
        Kind::Dir => pace.make_dir(dir, last)?,
        Kind::Symlink => fs::symlinkat(entry.link.as_slice(), dir, last)?,
        Kind::Char(0, 0) => {
            return Err(Failure::Archive(ArchiveError::refused(
                &entry.path,
                "device 0:0 is a whiteout of overlayfs",
            )));
        }
        Kind::Char(major, minor) => node(FileType::CharacterDevice, major, minor)?,
        Kind::Block(major, minor) => node(FileType::BlockDevice, major, minor)?,
        Kind::Fifo => node(FileType::Fifo, 0, 0)?,
        Kind::HardLink => {}
    }
    Ok(())
}

/// Either the kernel's answer, which the caller may handle, or a finished error.
enum Failure {
    Kernel(Errno),
    Archive(ArchiveError),
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

impl Failure {
    fn naming(self, name: &[u8]) -> ArchiveError {
        match self {
            Self::Kernel(errno) => ArchiveError::entry("making", name, errno),
            Self::Archive(error) => error,
        }
    }
}

fn write_data<R: BufRead>(
    file: &File,
    entry: &Entry,
    reader: &mut Reader<R>,
) -> Result<(), ArchiveError> {
    let failed = |e| ArchiveError::entry("writing", &entry.path, e);
    let Some(sparse) = &entry.sparse else {
        let mut at = 0;
        return reader.copy_data(|chunk| {
            file.write_all_at(chunk, at).map_err(failed)?;
            at += chunk.len() as u64;
            Ok(())
        });
    };
    file.set_len(sparse.real_size).map_err(failed)?;
    let mut fragments = sparse.map.iter().copied().filter(|(_, length)| *length > 0);
    let mut fragment = fragments.next();
    reader.copy_data(|mut chunk| {
        while let Some((offset, length)) = fragment
            && !chunk.is_empty()
        {
            let n = chunk.len().min(usize::try_from(length).unwrap_or(usize::MAX));
            file.write_all_at(&chunk[..n], offset).map_err(failed)?;
            chunk = &chunk[n..];
            let left = length - n as u64;
            fragment = if left > 0 { Some((offset + n as u64, left)) } else { fragments.next() };
        }
        Ok(())
    })
}
