//! Knowing that a log grew or rotated: inotify on its folder.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Watches a log's folder.
pub(super) struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    /// Begins to watch; what happened before is not told.
    pub(super) fn new(log: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let folder = log.parent().unwrap_or(Path::new("/"));
        inotify::add_watch(
            &fd,
            folder,
            WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO,
        )?;
        Ok(Self(AsyncFd::with_interest(fd, Interest::READABLE)?))
    }

    /// Returns when something happened since the last time.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        let mut guard = self.0.readable().await?;
        let mut buffer = [0; 4096];
        // What it was does not matter: the files tell.
        loop {
            match rustix::io::read(guard.get_inner(), &mut buffer) {
                Ok(n) if n == buffer.len() => {}
                Ok(_) | Err(_) => break,
            }
        }
        guard.clear_ready();
        Ok(())
    }
}
