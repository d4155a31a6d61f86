//! Being told when a cgroup runs out of memory: an event descriptor of v1, an inotify watch of v2.
//! Both can be polled; who polls is the caller.

use crate::{Cgroup, Error, file};
use rustix::event::EventfdFlags;
use rustix::fs::inotify;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

/// A watch on the out-of-memory events of one cgroup.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    /// The v1 file that is gone when the event only tells of the cgroup's removal.
    control: Option<PathBuf>,
    group: Cgroup,
    seen: u64,
}

impl OomWatch {
    /// Begins to watch; `None` where no hierarchy counts memory.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn begin(group: &Cgroup) -> Result<Option<Self>, Error> {
        let seen = group.oom_kills();
        if let Some(folder) = group.controller("memory") {
            let io = |what: &'static str| {
                let path = folder.to_owned();
                move |errno: rustix::io::Errno| Error::Io { what, path, source: errno.into() }
            };
            let fd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
                .map_err(io("watch"))?;
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let target = rustix::fs::open(folder.join("memory.oom_control"), flags, Mode::empty())
                .map_err(io("open memory.oom_control of"))?;
            let line = format!("{} {}", fd.as_raw_fd(), target.as_raw_fd());
            file::write(folder, "cgroup.event_control", &line)?;
            let control = Some(folder.join("cgroup.event_control"));
            return Ok(Some(Self { fd, control, group: group.clone(), seen }));
        }
        let Some(events) = group.v2().map(|folder| folder.join("memory.events")) else {
            return Ok(None);
        };
        let failed = |errno: rustix::io::Errno| Error::Io {
            what: "watch",
            path: events.clone(),
            source: errno.into(),
        };
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let fd = inotify::init(flags).map_err(failed)?;
        match inotify::add_watch(&fd, &events, inotify::WatchFlags::MODIFY) {
            Ok(_) => Ok(Some(Self { fd, control: None, group: group.clone(), seen })),
            // The controller is not enabled here.
            Err(rustix::io::Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed(errno)),
        }
    }

    /// What to poll for reading.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Takes what the descriptor has to say; true when memory ran out since the last time.
    pub fn happened(&mut self) -> bool {
        let mut buffer = [0u8; 4096];
        let told = rustix::io::read(&self.fd, &mut buffer[..]).is_ok_and(|got| got > 0);
        if let Some(control) = &self.control {
            return told && rustix::fs::access(control, rustix::fs::Access::EXISTS).is_ok();
        }
        let now = self.group.oom_kills();
        let more = now > self.seen;
        self.seen = self.seen.max(now);
        more
    }
}
