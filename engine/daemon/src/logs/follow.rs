//! Knowing that a log grew or rotated: inotify on its folder.

use std::io;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

/// Watches a log's folder.
pub(super) struct Watch(Receiver);

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
        // No pipe, but polled and read like one.
        Ok(Self(Receiver::from_owned_fd_unchecked(fd)?))
    }

    /// Returns when something happened since the last time.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        // What it was does not matter: the files tell.
        self.0.read(&mut buffer).await.map(drop)
    }
}
