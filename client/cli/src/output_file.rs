//! The file that a command's `--output` names: nobody else's to read, and in its place only when it
//! is whole and on the disk.

use crate::error::{CliError, Result, path_error};
use engine_client::{Body, Piece};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use sys::file::Writeback;
use sys::pipe::{self, move_bytes};

/// A file on its way to its place; dropped before [`OutputFile::finish`] it is gone.
pub(crate) struct OutputFile {
    file: File,
    place: String,
    /// Where it is until then.
    partial: PathBuf,
    written: u64,
    writeback: Writeback,
    /// By which the kernel moves bytes into the file: where they come out, and where they go in.
    pipe: (OwnedFd, OwnedFd),
}

impl OutputFile {
    /// Whether `place` can be a file's, in docker's words. `what` is what the command does.
    pub(crate) fn check(place: &str, what: &str) -> Result<()> {
        if let Ok(found) = std::fs::symlink_metadata(place) {
            let wrong = match found.file_type() {
                kind if kind.is_dir() => Some("directory"),
                kind if kind.is_symlink() => Some("symbolic link directly"),
                kind if kind.is_char_device() => Some("character device file"),
                kind if kind.is_block_device() => Some("block device file"),
                _ => None,
            };
            if let Some(kind) = wrong {
                return Err(CliError::new(format!("failed to {what}: cannot write to a {kind}")));
            }
        }
        let folder = folder_of(place);
        std::fs::metadata(folder).map(drop).map_err(|e| {
            let why = crate::error::go_io_error(&e);
            CliError::new(format!("failed to {what}: invalid output path: stat {folder}: {why}"))
        })
    }

    /// Begins the file that will be at `place`.
    pub(crate) fn create(place: &str) -> Result<Self> {
        let name = place.rsplit('/').next().unwrap_or(place);
        let partial = format!(".tmp-{name}-{}", std::process::id());
        let partial = Path::new(folder_of(place)).join(partial);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
        let file = file.map_err(|e| path_error("open", &partial.display().to_string(), &e))?;
        let pipe = pipe::wide().map_err(|e| path_error("pipe", place, &e))?;
        Ok(Self {
            pipe,
            file,
            place: place.to_owned(),
            partial,
            written: 0,
            writeback: Writeback::default(),
        })
    }

    /// Writes what comes, the most of it without a copy here.
    pub(crate) async fn write_body(&mut self, body: &mut Body) -> Result<()> {
        while let Some(piece) = body.piece(self.pipe.1.as_fd()).await? {
            match piece {
                Piece::Read(bytes) => self.write_all(&bytes),
                Piece::Moved(count) => self.take(count),
            }
            .map_err(|e| path_error("write", &self.place, &e))?;
        }
        Ok(())
    }

    /// Writes so many bytes that are in the pipe.
    fn take(&mut self, mut count: usize) -> io::Result<()> {
        while count > 0 {
            count -= match move_bytes(&self.pipe.0, &self.file, count) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(moved) => {
                    self.grew(moved);
                    moved
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                // A file system that can't: by way of a buffer.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    let mut bytes = vec![0; count.min(64 << 10)];
                    let read = rustix::io::read(&self.pipe.0, &mut bytes)?;
                    self.write_all(&bytes[..read])?;
                    read
                }
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    fn grew(&mut self, by: usize) {
        self.written += by as u64;
        self.writeback.at(self.file.as_fd(), self.written);
    }

    /// Has it on the disk, then in its place.
    pub(crate) fn finish(self) -> Result<()> {
        let said = |verb, e| path_error(verb, &self.place, &e);
        self.file.sync_all().map_err(|e| said("sync", e))?;
        std::fs::rename(&self.partial, &self.place).map_err(|e| said("rename", e))
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.grew(count);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        // It is not there any more once it is in its place.
        let _ = std::fs::remove_file(&self.partial);
    }
}

fn folder_of(place: &str) -> &str {
    match place.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => ".",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// More than what begins its way to the disk at once.
    const MUCH: usize = (8 << 20) + 1;

    #[test]
    fn a_file_is_in_its_place_when_it_is_whole_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("saved.tar");
        let name = place.to_str().unwrap();
        std::fs::write(&place, "before").unwrap();
        let mut cut_short = OutputFile::create(name).unwrap();
        cut_short.write_all(b"half").unwrap();
        drop(cut_short);
        assert_eq!(std::fs::read(&place).unwrap(), b"before");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        let mut whole = OutputFile::create(name).unwrap();
        whole.write_all(&vec![7; MUCH]).unwrap();
        whole.finish().unwrap();
        let found = std::fs::metadata(&place).unwrap();
        assert_eq!((found.len(), found.permissions().mode() & 0o777), (MUCH as u64, 0o600));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
    }

    #[test]
    fn what_can_not_be_a_file_is_refused_in_dockers_words() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::os::unix::fs::symlink("elsewhere", folder.path().join("link")).unwrap();
        let said = |place: &str| OutputFile::check(place, "save image").unwrap_err().to_string();
        assert_eq!(
            said(&at("link")),
            "failed to save image: cannot write to a symbolic link directly"
        );
        assert_eq!(said(&at("")), "failed to save image: cannot write to a directory");
        let none = at("none");
        assert_eq!(
            said(&at("none/x")),
            format!(
                "failed to save image: invalid output path: stat {none}: no such file or directory"
            )
        );
        assert!(OutputFile::check(&at("x"), "save image").is_ok());
    }
}
