//! Starting a daemon in the background and waiting until it serves, or for its last words.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::notify::{News, VARIABLE, Waiter};
use crate::spawn::{Child, Command, SpawnError};

/// How much of a log is looked at for last words.
const WORDS: u64 = 8 << 10;

/// Why no daemon serves.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The program can't be executed.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// Its log can't be written, or it can't be waited for.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// It ended; the last line it wrote.
    #[error("{0}")]
    Ended(String),
    /// It runs, and has not said that it serves.
    #[error("it did not serve within {} seconds", .0.as_secs())]
    Late(Duration),
}

/// Starts `program` in a session of its own, with this process's environment and its output
/// appended to `log`, and waits until it says that it serves.
pub fn launch(
    program: PathBuf,
    args: &[&std::ffi::OsStr],
    log: &Path,
    at_most: Duration,
) -> Result<Child, LaunchError> {
    let failed = |what: String| move |e| LaunchError::Io(what, e);
    let opening = || failed(format!("opening {}", log.display()));
    let file = OpenOptions::new().create(true).append(true).open(log).map_err(opening())?;
    let before = file.metadata().map_err(opening())?.len();
    let waiter = Waiter::new().map_err(failed("a socket for the daemon's word".into()))?;
    let child = Command::new(program)
        .args(args)
        .inherit_env()
        .without_env(VARIABLE)
        .env(VARIABLE, waiter.address())
        .cwd(Path::new("/"))
        .new_session()
        .fd(file.as_fd(), 1)
        .fd(file.as_fd(), 2)
        .spawn()?;
    let news = waiter.wait(child.pidfd(), at_most);
    match news.map_err(failed("waiting for the daemon".into()))? {
        News::Ready => Ok(child),
        News::Late => Err(LaunchError::Late(at_most)),
        News::Ended => {
            let _ = child.wait();
            let words = last_line(log, before).unwrap_or_else(|| "it ended without a word".into());
            Err(LaunchError::Ended(words))
        }
    }
}

/// The last line that a log got beyond a length.
fn last_line(log: &Path, before: u64) -> Option<String> {
    let mut file = File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(before.max(length.saturating_sub(WORDS)))).ok()?;
    let mut bytes = Vec::new();
    file.take(WORDS).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
    text.lines().next_back().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_ends_is_known_by_its_last_words() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        std::fs::write(&log, "of before\n").unwrap();
        let start = |script: &str, time| {
            let args = ["-c".as_ref(), script.as_ref()];
            launch("/bin/sh".into(), &args, &log, time).map(|_| ()).unwrap_err().to_string()
        };
        let long = Duration::from_mins(1);
        assert_eq!(start("exit 1", long), "it ended without a word");
        assert_eq!(start("echo one; echo the disk is full >&2; exit 1", long), "the disk is full");
        assert_eq!(start("sleep 1", Duration::ZERO), "it did not serve within 0 seconds");
        let text = std::fs::read_to_string(&log).unwrap();
        assert_eq!(text, "of before\none\nthe disk is full\n");
    }
}
