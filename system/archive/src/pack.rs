//! A folder as a tar stream: exports, `docker cp` out of a container, and the node writer that the
//! diffs share. Sockets are skipped: no archive can hold them.

use crate::diff::Diffed;
use crate::join::mtime;
use crate::root::{Root, clean, split};
use crate::tree::{MAX_DEPTH, file_type, is_overlay_xattr, names, stat, subdir, xattrs};
use crate::{ArchiveError, Header, Kind, Writer};
use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Write};
use std::os::fd::{AsFd as _, BorrowedFd};

/// How a tree is packed.
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// The name that the packed object gets; empty packs the children of a folder themselves.
    pub rename: Vec<u8>,
    /// Whether sub-second times are kept.
    pub nanos: bool,
}

/// Packs `path` below `root`, resolved inside it (a link at its end is packed as a link).
pub fn pack<W: Write>(
    root: &Root,
    path: &[u8],
    options: &PackOptions,
    out: W,
) -> Result<(W, Diffed), ArchiveError> {
    let path = clean(path);
    let failed = |e: Errno| ArchiveError::entry("opening", &path, e);
    let mut writer = TreeWriter::new(Writer::new(out), options.nanos);
    if path.is_empty() {
        let dir = root.dir(b"").map_err(failed)?;
        if !options.rename.is_empty() {
            let found = stat(dir.as_fd(), b".").map_err(failed)?;
            writer.node(dir.as_fd(), b".", &options.rename, &found)?;
        }
        writer.tree(dir.as_fd(), &options.rename, 0)?;
        return writer.finish();
    }
    let (parent, last) = split(&path);
    let dir = root.dir(parent).map_err(failed)?;
    let found = stat(dir.as_fd(), last).map_err(failed)?;
    if !options.rename.is_empty() {
        writer.node(dir.as_fd(), last, &options.rename, &found)?;
    }
    if file_type(&found) == FileType::Directory {
        let sub = subdir(dir.as_fd(), last).map_err(failed)?;
        writer.tree(sub.as_fd(), &options.rename, 0)?;
    }
    writer.finish()
}

/// Writes file system objects as entries, hardlinks as links to the first name seen.
pub(crate) struct TreeWriter<W: Write> {
    out: Writer<W>,
    nanos: bool,
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Unchanged folders above the present position, written when something below them is.
    parents: Vec<Header>,
    done: Diffed,
}

impl<W: Write> TreeWriter<W> {
    pub(crate) fn new(out: Writer<W>, nanos: bool) -> Self {
        Self { out, nanos, links: HashMap::new(), parents: Vec::new(), done: Diffed::default() }
    }

    pub(crate) fn finish(self) -> Result<(W, Diffed), ArchiveError> {
        Ok((self.out.finish()?, self.done))
    }

    pub(crate) fn remember_parent(&mut self, header: Header) {
        self.parents.push(header);
    }

    pub(crate) fn forget_parent(&mut self, path: &[u8]) {
        self.parents.retain(|parent| parent.path != path);
    }

    /// Writes an entry without data.
    pub(crate) fn put(&mut self, header: &Header) -> Result<(), ArchiveError> {
        for mut parent in std::mem::take(&mut self.parents) {
            self.trim(&mut parent);
            self.done.entries += 1;
            self.out.start(&parent)?;
        }
        self.done.entries += 1;
        self.out.start(header)
    }

    /// Writes `name` in `dir` as the entry `full`.
    pub(crate) fn node(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        full: &[u8],
        found: &Stat,
    ) -> Result<(), ArchiveError> {
        if file_type(found) == FileType::Socket {
            return Ok(());
        }
        let failed = |e: std::io::Error| ArchiveError::entry("reading", full, e);
        let mut header = header(dir, name, full, found).map_err(|e| failed(e.into()))?;
        self.trim(&mut header);
        if header.kind != Kind::Dir && found.st_nlink > 1 {
            if let Some(first) = self.links.get(&(found.st_dev, found.st_ino)) {
                let (kind, link) = (Kind::HardLink, first.clone());
                return self.put(&Header { kind, link, size: 0, xattrs: Vec::new(), ..header });
            }
            self.links.insert((found.st_dev, found.st_ino), full.to_vec());
        }
        if header.kind != Kind::File {
            return self.put(&header);
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(dir, name, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
        self.put(&header)?;
        self.content(File::from(file), header.size, full)
    }

    /// Exactly `size` bytes: a file that shrinks meanwhile is filled with zeros, as tar does.
    fn content(&mut self, file: File, size: u64, full: &[u8]) -> Result<(), ArchiveError> {
        let mut buffer = vec![0; 256 * 1024];
        let (mut left, mut file) = (size, file.take(size));
        while left > 0 {
            let n = file.read(&mut buffer).map_err(|e| ArchiveError::entry("reading", full, e))?;
            let n = if n == 0 {
                buffer.fill(0);
                buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX))
            } else {
                n
            };
            self.out.data(&buffer[..n])?;
            left -= n as u64;
        }
        self.done.bytes += size;
        Ok(())
    }

    /// Writes everything below `dir` under the name `path`.
    pub(crate) fn tree(
        &mut self,
        dir: BorrowedFd<'_>,
        path: &[u8],
        depth: u32,
    ) -> Result<(), ArchiveError> {
        check_depth(path, depth)?;
        for name in names(dir).map_err(|e| ArchiveError::entry("listing", path, e))? {
            let full =
                if path.is_empty() { name.clone() } else { [path, name.as_slice()].join(&b'/') };
            let failed = |e: Errno| ArchiveError::entry("reading", &full, e);
            let found = match stat(dir, &name) {
                // A live tree changes under us.
                Err(Errno::NOENT) => continue,
                other => other.map_err(failed)?,
            };
            self.node(dir, &name, &full, &found)?;
            if file_type(&found) == FileType::Directory {
                let sub = subdir(dir, &name).map_err(failed)?;
                self.tree(sub.as_fd(), &full, depth + 1)?;
            }
        }
        Ok(())
    }

    fn trim(&self, header: &mut Header) {
        if !self.nanos {
            header.mtime.nanos = 0;
        }
    }
}

/// Refuses trees that are nested too deep.
pub(crate) fn check_depth(path: &[u8], depth: u32) -> Result<(), ArchiveError> {
    if depth > MAX_DEPTH {
        Err(ArchiveError::refused(path, "folders are nested too deep"))
    } else {
        Ok(())
    }
}

/// The header that describes `name` in `dir`.
pub(crate) fn header(
    dir: BorrowedFd<'_>,
    name: &[u8],
    full: &[u8],
    found: &Stat,
) -> Result<Header, Errno> {
    let device = (fs::major(found.st_rdev), fs::minor(found.st_rdev));
    let (mut link, mut size) = (Vec::new(), 0);
    let kind = match file_type(found) {
        FileType::Directory => Kind::Dir,
        FileType::Symlink => {
            link = fs::readlinkat(dir, name, Vec::new())?.into_bytes();
            Kind::Symlink
        }
        FileType::CharacterDevice => Kind::Char(device.0, device.1),
        FileType::BlockDevice => Kind::Block(device.0, device.1),
        FileType::Fifo => Kind::Fifo,
        _ => {
            size = u64::try_from(found.st_size).unwrap_or(0);
            Kind::File
        }
    };
    let at = if name == b"." { b"".as_slice() } else { name };
    let xattrs = xattrs(dir, at)?.into_iter().filter(|(key, _)| !is_overlay_xattr(key)).collect();
    let (uid, gid) = (found.st_uid, found.st_gid);
    Ok(Header {
        path: full.to_vec(),
        kind,
        mode: found.st_mode & 0o7777,
        uid,
        gid,
        size,
        mtime: mtime(found),
        link,
        xattrs,
    })
}
