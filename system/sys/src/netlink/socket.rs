//! The netlink socket: send a batch, await every acknowledgement, bound everything. What the
//! messages mean is not known here.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::message::{
    Attributes, Batch, F_ACK, F_DUMP, F_DUMP_INTR, Header, MSG_DONE, MSG_ERROR, MSG_OVERRUN,
    Messages,
};

/// The kernel's answers to one request fit in this; a dump comes in datagrams of at most 32 KiB.
const BUFFER: usize = 64 * 1024;
/// No answer of the kernel takes this long, unless RTNL is held by a mass removal.
const ANSWER: Duration = Duration::from_secs(20);
/// A dump that is interrupted this often is given up.
const DUMP_TRIES: usize = 16;
/// No dump has more datagrams (some four million links).
const DUMP_DATAGRAMS: usize = 1 << 17;

const NETLINK_EXT_ACK: libc::c_int = 11;
const NETLINK_CAP_ACK: libc::c_int = 10;
const NLMSGERR_ATTR_MSG: u16 = 1;
const F_CAPPED: u16 = 0x100;
const F_ACK_TLVS: u16 = 0x200;

/// Which part of the kernel a socket speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nf_tables and conntrack.
    Netfilter,
}

/// A request that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused one message.
    #[error("{about}: {}{}", io::Error::from_raw_os_error(*.errno), .detail.as_deref().map(|d| format!(" ({d})")).unwrap_or_default())]
    Refused {
        /// The object and what was attempted.
        about: String,
        /// The kernel's errno.
        errno: i32,
        /// The kernel's own words, when it has some.
        detail: Option<String>,
    },
    /// The socket failed.
    #[error("{about}: netlink: {source}")]
    Io {
        /// The object and what was attempted.
        about: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel's answer makes no sense.
    #[error("{about}: unexpected netlink answer: {what}")]
    Protocol {
        /// The object and what was attempted.
        about: String,
        /// What was wrong with it.
        what: &'static str,
    },
}

impl Error {
    /// The kernel's errno, when it refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Io { source, .. } => source.raw_os_error(),
            Self::Protocol { .. } => None,
        }
    }

    fn io(about: &str, source: io::Error) -> Self {
        Self::Io { about: about.to_owned(), source }
    }
}

/// A netlink socket. It belongs to the network namespace its opener was in, and keeps it alive.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    seq: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open(protocol: Protocol) -> io::Result<Self> {
        Self::open_in_groups(protocol, &[])
    }

    /// Opens a socket that also hears the multicast groups with these numbers.
    pub fn open_in_groups(protocol: Protocol, groups: &[u32]) -> io::Result<Self> {
        let family = match protocol {
            Protocol::Route => libc::NETLINK_ROUTE,
            Protocol::Netfilter => libc::NETLINK_NETFILTER,
        };
        // SAFETY: no pointers; the descriptor is checked before it is owned.
        let raw =
            unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, family) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was just returned by socket(2) and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: all-zero is a valid sockaddr_nl.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        // SAFETY: `address` is a live sockaddr_nl of the length given.
        let bound = unsafe {
            libc::bind(
                raw,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_nl>() as libc::socklen_t,
            )
        };
        if bound < 0 {
            return Err(io::Error::last_os_error());
        }
        // Both only make error messages better or shorter; old kernels lack them.
        let _ = set_option(raw, libc::SOL_NETLINK, NETLINK_EXT_ACK, &1i32);
        let _ = set_option(raw, libc::SOL_NETLINK, NETLINK_CAP_ACK, &1i32);
        let wait = libc::timeval { tv_sec: ANSWER.as_secs() as _, tv_usec: 0 };
        set_option(raw, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &wait)?;
        // A batch's acknowledgements all queue before the first is read.
        let _ = set_option(raw, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(1i32 << 22));
        let _ = set_option(raw, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &(1i32 << 22));
        for group in groups {
            set_option(raw, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)?;
        }
        Ok(Self { fd, seq: 1, buffer: Vec::new() })
    }

    /// Sends the batch and awaits the acknowledgement of every message; the first refusal is the
    /// error. rtnetlink goes on after a refused message: the caller undoes what was done.
    pub fn request(&mut self, mut batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        for index in 0..batch.len() {
            debug_assert!(batch.flags(index) & F_ACK != 0, "{} lacks F_ACK", batch.about(index));
        }
        let first = self.send(&mut batch)?;
        self.await_acks(&batch, first, batch.len(), |_| true)
    }

    /// Sends one nf_tables transaction: only messages that ask for it are acknowledged, and the
    /// kernel answers refusals of any of them. The last message but the end must ask.
    pub(crate) fn transaction(&mut self, mut batch: Batch) -> Result<(), Error> {
        let wanted: Vec<bool> = (0..batch.len()).map(|i| batch.flags(i) & F_ACK != 0).collect();
        let first = self.send(&mut batch)?;
        let count = wanted.iter().filter(|w| **w).count();
        self.await_acks(&batch, first, count, |i| wanted.get(i).copied().unwrap_or(false))
    }

    /// Sends one request that asks for an object (no dump) and hands every answer to `each`.
    pub fn get(
        &mut self,
        mut batch: Batch,
        mut each: impl FnMut(Header, &[u8]),
    ) -> Result<(), Error> {
        let first = self.send(&mut batch)?;
        self.answers(batch.about(0), first, &mut each).map(|_| ())
    }

    /// Sends the dump request that `make` builds and hands every answer to `each`; starts again
    /// (after `restart`) when the kernel says that the state changed meanwhile.
    pub fn dump<T: Default>(
        &mut self,
        make: impl Fn(&mut Batch),
        mut each: impl FnMut(&mut T, Header, &[u8]),
    ) -> Result<T, Error> {
        for _ in 0..DUMP_TRIES {
            let mut batch = Batch::default();
            make(&mut batch);
            debug_assert!(batch.flags(0) & F_DUMP == F_DUMP);
            let first = self.send(&mut batch)?;
            let mut found = T::default();
            let mut each = |header: Header, body: &[u8]| each(&mut found, header, body);
            if !self.answers(batch.about(0), first, &mut each)? {
                return Ok(found);
            }
        }
        Err(Error::Protocol { about: "dump".into(), what: "interrupted too often" })
    }

    /// Reads what is queued on a socket with groups, without waiting; `false` when the kernel
    /// dropped messages, so that the caller must look at the state itself.
    pub fn drain(&mut self, mut each: impl FnMut(Header, &[u8])) -> io::Result<bool> {
        let mut complete = true;
        for _ in 0..DUMP_DATAGRAMS {
            match self.receive(libc::MSG_DONTWAIT) {
                Ok(len) => {
                    for (header, body) in Messages::new(&self.buffer[..len]) {
                        each(header, body);
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(complete),
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => complete = false,
                Err(e) => return Err(e),
            }
        }
        Ok(false)
    }

    /// The socket's own number: events carry that of who caused them.
    pub fn port(&self) -> io::Result<u32> {
        // SAFETY: all-zero is a valid sockaddr_nl.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        let mut len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        // SAFETY: the address is live and its true length is passed.
        let got = unsafe {
            libc::getsockname(self.fd.as_raw_fd(), (&raw mut address).cast(), &raw mut len)
        };
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok(address.nl_pid) }
    }

    /// Gives the receive buffer back; the next answer makes a new one. For sockets that wait.
    pub fn trim(&mut self) {
        self.buffer = Vec::new();
    }

    fn send(&mut self, batch: &mut Batch) -> Result<u32, Error> {
        let first = self.seq;
        self.seq = self.seq.wrapping_add(batch.len() as u32);
        let about = batch.about(0).to_owned();
        let bytes = batch.seal(first);
        // SAFETY: `bytes` is live for the call and its length is passed.
        let sent =
            unsafe { libc::send(self.fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
        if sent < 0 {
            return Err(Error::io(&about, io::Error::last_os_error()));
        }
        if sent as usize != bytes.len() {
            return Err(Error::Protocol { about, what: "short send" });
        }
        Ok(first)
    }

    fn await_acks(
        &mut self,
        batch: &Batch,
        first: u32,
        count: usize,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<(), Error> {
        let mut left = count;
        let mut failed = None;
        while left > 0 {
            let len = match self.receive(0) {
                Ok(len) => len,
                // What was not acknowledged in time after a refusal will not be (a transaction
                // that failed acknowledges only its failures).
                Err(e) => return Err(failed.unwrap_or_else(|| Error::io(batch.about(0), e))),
            };
            for (header, body) in Messages::new(&self.buffer[..len]) {
                let index = header.seq.wrapping_sub(first) as usize;
                if header.kind != MSG_ERROR || index >= batch.len() {
                    continue;
                }
                let errno = errno_of(body);
                left -= usize::from(wanted(index) && left > 0);
                if errno != 0 {
                    failed.get_or_insert_with(|| refused(batch.about(index), errno, header, body));
                    if !wanted(index) {
                        // The transaction as a whole was refused: nothing more is answered.
                        left = 0;
                    }
                }
            }
        }
        if failed.is_some() {
            // Late refusals of the same batch would otherwise answer the next request's numbers.
            let _ = self.drain(|_, _| ());
        }
        failed.map_or(Ok(()), Err)
    }

    // Reads answers to one request until its end; true when a dump was inconsistent.
    fn answers(
        &mut self,
        about: &str,
        seq: u32,
        each: &mut dyn FnMut(Header, &[u8]),
    ) -> Result<bool, Error> {
        let mut interrupted = false;
        for _ in 0..DUMP_DATAGRAMS {
            let len = self.receive(0).map_err(|e| Error::io(about, e))?;
            for (header, body) in Messages::new(&self.buffer[..len]) {
                if header.seq != seq {
                    continue;
                }
                interrupted |= header.flags & F_DUMP_INTR != 0;
                match header.kind {
                    MSG_ERROR => {
                        let errno = errno_of(body);
                        if errno != 0 {
                            return Err(refused(about, errno, header, body));
                        }
                        return Ok(interrupted);
                    }
                    MSG_DONE => return Ok(interrupted),
                    MSG_OVERRUN => {
                        return Err(Error::Protocol { about: about.into(), what: "overrun" });
                    }
                    _ => each(header, body),
                }
            }
        }
        Err(Error::Protocol { about: about.into(), what: "endless dump" })
    }

    fn receive(&mut self, flags: libc::c_int) -> io::Result<usize> {
        self.buffer.resize(BUFFER, 0);
        loop {
            // SAFETY: all-zero is a valid sockaddr_nl.
            let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
            let mut from_len = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            // SAFETY: buffer and address are live and their true lengths are passed.
            let got = unsafe {
                libc::recvfrom(
                    self.fd.as_raw_fd(),
                    self.buffer.as_mut_ptr().cast(),
                    self.buffer.len(),
                    flags | libc::MSG_TRUNC,
                    (&raw mut from).cast(),
                    &raw mut from_len,
                )
            };
            if got < 0 {
                let error = io::Error::last_os_error();
                if error.kind() == io::ErrorKind::Interrupted {
                    continue;
                }
                return Err(error);
            }
            // Any process may send to a netlink port: only the kernel is port 0.
            if from.nl_pid != 0 {
                continue;
            }
            if got as usize > self.buffer.len() {
                return Err(io::Error::other("a netlink datagram exceeds the buffer"));
            }
            return Ok(got as usize);
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set_option<T>(fd: i32, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: `value` is live and its true size is passed.
    let done = unsafe {
        libc::setsockopt(
            fd,
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn errno_of(body: &[u8]) -> i32 {
    match body.get(..4) {
        Some(&[a, b, c, d]) => i32::from_ne_bytes([a, b, c, d]).wrapping_neg(),
        _ => libc::EPROTO,
    }
}

fn refused(about: &str, errno: i32, header: Header, body: &[u8]) -> Error {
    // The error is followed by the request's header, its whole body unless capped, then by
    // attributes.
    let detail = (header.flags & F_ACK_TLVS != 0)
        .then(|| {
            let inner = body.get(4..8)?;
            let inner = u32::from_ne_bytes(inner.try_into().ok()?) as usize;
            let skip = if header.flags & F_CAPPED != 0 { 16 } else { inner.next_multiple_of(4) };
            let attrs = Attributes::new(body.get(4 + skip..)?);
            attrs.text(NLMSGERR_ATTR_MSG).map(str::to_owned)
        })
        .flatten();
    Error::Refused { about: about.to_owned(), errno, detail }
}
