//! Unix sockets, descriptors over them, and FIFOs; all non-blocking where they live in a poll
//! loop, all close-on-exec. Bytes only: no protocols.

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Longest path that the kernel takes as a socket's address, its final NUL apart.
pub const MAX_PATH: usize = 107;

/// An address for a path of any length: a long one goes through a descriptor of its folder, which
/// must stay open while the address is used.
fn address(path: &Path) -> io::Result<(SocketAddrUnix, Option<OwnedFd>)> {
    if path.as_os_str().len() <= MAX_PATH {
        return Ok((SocketAddrUnix::new(path)?, None));
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    Ok((SocketAddrUnix::new(&short)?, Some(folder)))
}

fn socket(nonblocking: bool) -> io::Result<OwnedFd> {
    let more = if nonblocking { SocketFlags::NONBLOCK } else { SocketFlags::empty() };
    let flags = SocketFlags::CLOEXEC | more;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// A listening stream socket at a path, non-blocking, with these permissions (by the mask of the
/// process while it binds, so there is no moment of wider ones). A stale file must be removed by
/// the caller first, who knows whether it is stale.
pub fn listen(path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let listener = socket(true)?;
    let (address, _folder) = address(path)?;
    let old = rustix::process::umask(Mode::from_raw_mode(!mode & 0o777));
    let bound = rustix::net::bind(&listener, &address);
    rustix::process::umask(old);
    bound?;
    rustix::net::listen(&listener, 128)?;
    Ok(listener)
}

/// Makes this process the one that [`peer`] tells of to whoever connects: until then it is the one
/// that began to listen, also after a fork.
pub fn claim(listener: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::listen(listener, 128)?)
}

/// Takes a connection, non-blocking; `None`: nobody waits.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    use rustix::io::Errno;
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match rustix::net::accept_with(listener, flags) {
            Ok(socket) => return Ok(Some(socket)),
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connects to a stream socket; `nonblocking` applies to the connection and to what follows.
/// Errors: as connect(2); EAGAIN when the listener's queue is full.
pub fn connect(path: &Path, nonblocking: bool) -> io::Result<OwnedFd> {
    let stream = socket(nonblocking)?;
    let (address, _folder) = address(path)?;
    rustix::net::connect(&stream, &address)?;
    Ok(stream)
}

/// A connected pair of stream sockets, blocking.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process.
    pub pid: i32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// The credentials of a connected socket's peer, at the time it connected.
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<Peer> {
    let cred = rustix::net::sockopt::socket_peercred(socket)?;
    Ok(Peer {
        pid: cred.pid.as_raw_nonzero().get(),
        uid: cred.uid.as_raw(),
        gid: cred.gid.as_raw(),
    })
}

/// Sends bytes (at least one) with descriptors (at most 8). Returns the bytes sent.
pub fn send_fds(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let flags = SendFlags::NOSIGNAL;
    Ok(rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
}

/// Receives bytes and descriptors (at most 8, close-on-exec).
pub fn recv_fds(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(into)], &mut control, flags)?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            fds.extend(list);
        }
    }
    Ok((got.bytes, fds))
}

/// Makes a FIFO. Errors: EEXIST too.
pub fn make_fifo(path: &Path, mode: u32) -> io::Result<()> {
    let mode = Mode::from_raw_mode(mode);
    Ok(rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0)?)
}

/// How to open a FIFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FifoEnd {
    /// Both ends: never blocks, never sees end of file, and a dead reader means "full".
    Both,
    /// The read end: sees end of file once no writer is left.
    Read,
    /// The write end. Errors: ENXIO without a reader.
    Write,
}

/// Opens a FIFO, non-blocking. Errors: also when the path is no FIFO.
pub fn open_fifo(path: &Path, end: FifoEnd) -> io::Result<OwnedFd> {
    let access = match end {
        FifoEnd::Both => OFlags::RDWR,
        FifoEnd::Read => OFlags::RDONLY,
        FifoEnd::Write => OFlags::WRONLY,
    };
    let flags = access | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty())?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    if kind == rustix::fs::FileType::Fifo {
        Ok(fd)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "not a FIFO"))
    }
}

/// Whether the write end of a pipe or FIFO has no reader left.
pub fn has_no_reader(write_end: BorrowedFd<'_>) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut list = [PollFd::from_borrowed_fd(write_end, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut list, Some(&now)), Ok(n) if n > 0)
        && list[0].revents().contains(PollFlags::ERR)
}

/// Makes reads and writes of a descriptor return at once, for every holder of the same open file.
pub fn set_nonblocking(fd: BorrowedFd<'_>, yes: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(fd)?;
    flags.set(OFlags::NONBLOCK, yes);
    Ok(rustix::fs::fcntl_setfl(fd, flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_long_path_serves_and_passes_descriptors() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let path = deep.join("socket");
        let listener = listen(&path, 0o600).unwrap();
        assert!(accept(listener.as_fd()).unwrap().is_none());
        let client = connect(&path, false).unwrap();
        let server = accept(listener.as_fd()).unwrap().unwrap();
        assert_eq!(peer(server.as_fd()).unwrap().pid as u32, std::process::id());
        let zero = std::fs::File::open("/dev/zero").unwrap();
        send_fds(client.as_fd(), b"x", &[zero.as_fd()]).unwrap();
        let (n, fds) = recv_fds(server.as_fd(), &mut [0; 8]).unwrap();
        assert_eq!((n, fds.len()), (1, 1));
        let mode = rustix::fs::stat(&path).unwrap().st_mode & 0o777;
        assert_eq!(mode, 0o600);
    }

    #[test]
    fn a_fifo_tells_whether_someone_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        make_fifo(&path, 0o600).unwrap();
        assert!(open_fifo(&path, FifoEnd::Write).is_err());
        let both = open_fifo(&path, FifoEnd::Both).unwrap();
        let write = open_fifo(&path, FifoEnd::Write).unwrap();
        assert!(!has_no_reader(write.as_fd()));
        drop(both);
        assert!(has_no_reader(write.as_fd()));
        let _reader = open_fifo(&path, FifoEnd::Read).unwrap();
        assert!(!has_no_reader(write.as_fd()));
    }
}
