//! systemd's notification socket for a container: a socket of our own inside it, of whose messages
//! only "ready" is passed on to the one that `NOTIFY_SOCKET` names, with the container's main
//! process. What a container says must not reach the host's service manager unfiltered.

use crate::error::{At, Result};
use crate::launch::{Launch, MountPlan};
use crate::options::Options;
use crate::record::Home;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the container finds its socket.
const INSIDE: &str = "/run/notify";
const NAME: &str = "notify.sock";
/// Longest message that is read.
const LIMIT: usize = 4096;

/// The host's socket, when there is one.
fn host() -> Option<String> {
    std::env::var("NOTIFY_SOCKET").ok().filter(|path| !path.is_empty())
}

/// Whether the caller wants to be told when the container is ready.
pub(crate) fn is_asked_for() -> bool {
    host().is_some()
}

/// Gives the container a folder for its socket and the variable that names it. The socket itself is
/// made by who will listen: `run`, or else `start`.
///
/// # Errors
/// As mkdir(2).
pub(crate) fn prepare(home: &Home, launch: &mut Launch) -> Result<()> {
    if host().is_none() {
        return Ok(());
    }
    let folder = home.notify();
    rustix::fs::mkdir(&folder, Mode::from_raw_mode(0o755))
        .at(|| format!("mkdir {}", folder.display()))?;
    let absolute = std::path::absolute(&folder).at(|| "absolute path".into())?;
    launch.mounts.push(MountPlan {
        destination: INSIDE.into(),
        kind: "bind".into(),
        source: absolute.to_string_lossy().into_owned(),
        options: Options::parse(&["bind", "nosuid", "noexec", "nodev", "ro"].map(str::to_owned)),
        uid_mappings: Vec::new(),
        gid_mappings: Vec::new(),
    });
    launch.process.env.push(format!("NOTIFY_SOCKET={INSIDE}/{NAME}"));
    Ok(())
}

/// A container's socket, listened to.
#[derive(Debug)]
pub(crate) struct Notify {
    socket: UnixDatagram,
    host: String,
}

impl Notify {
    /// Makes the socket of a container that was prepared for one; `None` for others.
    ///
    /// # Errors
    /// As bind(2).
    pub(crate) fn bind(home: &Home) -> Result<Option<Self>> {
        let Some(host) = host() else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(folder) = rustix::fs::open(home.notify(), flags, Mode::empty()) else {
            return Ok(None);
        };
        // Through the descriptor: a long state folder does not fit a socket's address.
        let path = format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd());
        let socket = UnixDatagram::bind(&path).at(|| "bind notify socket".into())?;
        rustix::fs::chmod(&path, Mode::from_raw_mode(0o777)).at(|| "chmod notify socket".into())?;
        Ok(Some(Self { socket, host }))
    }

    /// What to poll.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reads one message and passes readiness on; true once it was.
    pub(crate) fn pass_on(&self) -> bool {
        self.ready().is_some_and(|line| self.tell(&line))
    }

    fn ready(&self) -> Option<String> {
        let mut buffer = [0u8; LIMIT];
        let got = self.socket.recv(&mut buffer).ok()?;
        let text = String::from_utf8_lossy(&buffer[..got]).into_owned();
        text.lines().find(|line| line.starts_with("READY=")).map(str::to_owned)
    }

    fn tell(&self, line: &str) -> bool {
        let address = match self.host.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&self.host),
        };
        let sent = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to_addr(format!("{line}\n").as_bytes(), &address?));
        // A service manager that is gone must not end the container.
        let _ = sent;
        true
    }

    /// Waits until the container is ready or has ended, and tells the host; from then on the
    /// container's process, and not this program, is the service's main one.
    ///
    /// # Errors
    /// As poll(2).
    pub(crate) fn wait(&self, pid: i32, pidfd: &OwnedFd) -> Result<()> {
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(self.fd(), PollFlags::IN),
                PollFd::new(pidfd, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                other => other.at(|| "poll notify socket".into())?,
            };
            if !fds[0].revents().is_empty() {
                if self.pass_on() {
                    self.tell(&format!("MAINPID={pid}"));
                    return Ok(());
                }
            } else if !fds[1].revents().is_empty() {
                return Ok(());
            }
        }
    }
}
