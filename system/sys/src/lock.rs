//! A folder that one living process has to itself: a locked file in it, with a note of whose it
//! is. The kernel lets go of the lock when the process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::FlockOperation;

/// The longest note that is read.
const NOTE: u64 = 8 << 10;

/// Held while the value lives.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code, reason = "an open file is all that a lock is")] File);

/// Why there is no lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody else has it: what they noted.
    #[error("it is in use by {0}")]
    Held(String),
    /// The file could not be made, locked or written.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// Takes the lock at `path` at once and writes `note` into it, for whoever comes second. The file
/// stays when the lock goes.
pub fn take(path: &Path, note: &str) -> Result<Lock, LockError> {
    let mut file = open(path)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut bytes = Vec::new();
            file.take(NOTE).read_to_end(&mut bytes)?;
            let holder = String::from_utf8_lossy(&bytes).trim().to_owned();
            // Between its lock and its note a holder has no name.
            let holder = if holder.is_empty() { "another process".into() } else { holder };
            return Err(LockError::Held(holder));
        }
        Err(error) => return Err(io::Error::from(error).into()),
    }
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(note.as_bytes())?;
    Ok(Lock(file))
}

/// Takes the lock at `path` once whoever has it lets go.
pub fn wait(path: &Path) -> io::Result<Lock> {
    let file = open(path)?;
    loop {
        match rustix::fs::flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(Lock(file)),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_was_first_until_that_one_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = take(&path, "the first, with a long name").unwrap();
        let told = take(&path, "the second").unwrap_err();
        assert_eq!(told.to_string(), "it is in use by the first, with a long name");
        drop(first);
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || wait(&path).map(drop)
        });
        waiting.join().unwrap().unwrap();
        let _second = take(&path, "the second").unwrap();
        let told = take(&path, "the third").unwrap_err();
        assert_eq!(told.to_string(), "it is in use by the second");
    }
}
