//! Programs that this process starts (shims' `start` and `delete`), and orphans that fall to it as
//! a subreaper. Nothing else may wait for children: a status taken by the wrong party is lost.

use rustix::fs::MemfdFlags;
use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use sys::process::{self, Exit};
use sys::spawn::{Command, SpawnError};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

/// Most bytes of a program's output that are read.
const MAX_OUTPUT: u64 = 1 << 20;

/// The children of this process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Children(Arc<Inner>);

#[derive(Default)]
struct Inner {
    own: Mutex<HashSet<i32>>,
    /// An own child was reaped: what lies behind it in the kernel's list can be looked at.
    moved: Notify,
}

/// How a program ended.
#[derive(Debug)]
pub struct Output {
    /// Its status.
    pub exit: Exit,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
}

/// Why a program gave no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It was not started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It did not end in time and was killed.
    #[error("{0} did not end within {1:?}")]
    Timeout(String, Duration),
    /// Its descriptors could not be made or read.
    #[error("running {0}: {1}")]
    Io(String, io::Error),
}

/// Takes a pid off the list of own children when its status was collected, or never will be.
struct Claim<'a>(&'a Inner, i32);

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.0.own.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
        self.0.moved.notify_one();
    }
}

impl Children {
    /// Makes this process a subreaper and reaps orphans from then on.
    pub fn adopt(&self) -> io::Result<()> {
        process::become_subreaper()?;
        let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child())?;
        let children = self.clone();
        tokio::spawn(async move {
            loop {
                children.reap_orphans();
                tokio::select! {
                    _ = signals.recv() => {}
                    () = children.0.moved.notified() => {}
                }
            }
        });
        Ok(())
    }

    /// Reaps from the head of the kernel's list until an own child stands there, whose waiter
    /// wakes this again.
    fn reap_orphans(&self) {
        loop {
            // The lock keeps a program that is just being started from passing as an orphan.
            let own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
            let Ok(Some((pid, _))) = process::peek_any() else { return };
            if own.contains(&pid) || !matches!(process::reap(pid), Ok(Some(_))) {
                return;
            }
        }
    }

    /// Runs a program to its end with `stdin`, and returns what it wrote. Memory files stand for
    /// pipes: a daemon that the program leaves behind can't hold up the end of output.
    pub async fn run(
        &self,
        name: &str,
        command: Command<'_>,
        stdin: &[u8],
        limit: Duration,
    ) -> Result<Output, RunError> {
        let failed = |e: io::Error| RunError::Io(name.to_owned(), e);
        let (mut input, mut output, mut errors) =
            (memory().map_err(failed)?, memory().map_err(failed)?, memory().map_err(failed)?);
        input.write_all(stdin).and_then(|()| input.rewind()).map_err(failed)?;
        let (claim, pidfd) = {
            let (i, o, e) = (input.as_fd(), output.as_fd(), errors.as_fd());
            let command = command.fd(i, 0).fd(o, 1).fd(e, 2);
            let mut own = self.0.own.lock().unwrap_or_else(PoisonError::into_inner);
            let child = command.spawn()?;
            own.insert(child.pid());
            (Claim(&self.0, child.pid()), child.into_pidfd())
        };
        let Ok(exit) = tokio::time::timeout(limit, ended(&pidfd)).await else {
            process::signal_pidfd(pidfd.as_fd(), 9).map_err(failed)?;
            ended(&pidfd).await.map_err(failed)?;
            return Err(RunError::Timeout(name.to_owned(), limit));
        };
        let exit = exit.map_err(failed)?;
        drop(claim);
        let stdout = contents(&mut output).map_err(failed)?;
        let stderr = contents(&mut errors).map_err(failed)?;
        Ok(Output { exit, stdout, stderr: String::from_utf8_lossy(&stderr).trim().to_owned() })
    }
}

async fn ended(pidfd: &OwnedFd) -> io::Result<Exit> {
    // The safe constructor is deprecated because a descriptor might be closed while registered;
    // here it is borrowed for exactly as long.
    #[allow(deprecated)]
    let watched = AsyncFd::with_interest(pidfd.as_fd(), Interest::READABLE)?;
    loop {
        let mut ready = watched.readable().await?;
        if let Some(exit) = process::wait_pidfd(pidfd.as_fd(), false)? {
            return Ok(exit);
        }
        ready.clear_ready();
    }
}

fn memory() -> io::Result<File> {
    Ok(File::from(rustix::fs::memfd_create("output", MemfdFlags::CLOEXEC)?))
}

fn contents(file: &mut File) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    file.rewind()?;
    file.take(MAX_OUTPUT).read_to_end(&mut data)?;
    Ok(data)
}
