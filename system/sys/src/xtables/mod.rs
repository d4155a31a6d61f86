//! Legacy iptables: its tables live outside nftables, are read and replaced as a whole through
//! socket options, and tell nobody of changes. Who else may change one at the same moment is the
//! caller's business (iptables' own programs hold a lock file); which rules there are, too.

mod table;

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

pub use table::{Rule, Table};

/// The table that filters packets.
pub const FILTER: &str = "filter";
/// The hook of forwarded packets.
pub const FORWARD: usize = 2;

const GET_INFO: i32 = 64;
const GET_ENTRIES: i32 = 65;
const SET_REPLACE: i32 = 64;
const ADD_COUNTERS: i32 = 65;

const NAME_LEN: usize = 32;
const INFO_LEN: usize = 84;
/// What precedes the entries in the answer to GET_ENTRIES.
const ENTRIES_HEAD: usize = 40;
/// What precedes them in SET_REPLACE, the address of the old counters being its last field.
const REPLACE_HEAD: usize = 96;
const COUNTERS_HEAD: usize = 40;
/// Packets and bytes.
pub(crate) const COUNTER_LEN: usize = 16;
/// No table that people write is longer; the kernel would take 512 MiB.
const MOST: usize = 64 << 20;
/// A table that changes this often while it is read is given up.
const TRIES: usize = 8;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    fn level(self) -> i32 {
        match self {
            Self::V4 => libc::SOL_IP,
            Self::V6 => libc::SOL_IPV6,
        }
    }

    fn domain(self) -> i32 {
        match self {
            Self::V4 => libc::AF_INET,
            Self::V6 => libc::AF_INET6,
        }
    }

    /// Whether the table is there in the calling thread's network namespace. Asking for one by the
    /// socket would make it.
    pub fn has(self, table: &str) -> bool {
        let path = match self {
            Self::V4 => "/proc/thread-self/net/ip_tables_names",
            Self::V6 => "/proc/thread-self/net/ip6_tables_names",
        };
        // A kernel without legacy iptables has no such file.
        std::fs::read_to_string(path).is_ok_and(|names| names.lines().any(|name| name == table))
    }
}

/// The tables of one family in one network namespace.
#[derive(Debug)]
pub struct Control {
    socket: OwnedFd,
    family: Family,
}

impl Control {
    /// Opens the calling thread's network namespace.
    pub fn open(family: Family) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: no pointers; the descriptor is checked before it is owned.
        let raw = unsafe { libc::socket(family.domain(), kind, libc::IPPROTO_RAW) };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was just returned by socket(2) and nobody else has it.
        Ok(Self { socket: unsafe { OwnedFd::from_raw_fd(raw) }, family })
    }

    /// Reads a table, which must exist (or it is made, empty).
    pub fn read(&self, name: &str) -> io::Result<Table> {
        let mut last = io::Error::from_raw_os_error(libc::EAGAIN);
        for _ in 0..TRIES {
            let mut info = vec![0; INFO_LEN];
            put_name(&mut info, name);
            self.get(GET_INFO, &mut info)?;
            let size = word(&info, INFO_LEN - 4) as usize;
            if size > MOST {
                return Err(io::Error::other(format!("iptables' table {name} is too long")));
            }
            let mut entries = vec![0; ENTRIES_HEAD + size];
            put_name(&mut entries, name);
            entries[NAME_LEN..NAME_LEN + 4].copy_from_slice(&(size as u32).to_ne_bytes());
            match self.get(GET_ENTRIES, &mut entries) {
                Ok(()) => {
                    entries.drain(..ENTRIES_HEAD);
                    return Table::parse(self.family, name, &info, entries).ok_or_else(|| {
                        io::Error::other(format!("iptables' table {name}: not as expected"))
                    });
                }
                // It has another size by now.
                Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => last = e,
                Err(e) => return Err(e),
            }
        }
        Err(last)
    }

    /// Puts `new` in the place of `old`, from which it was made; the counters of rules that stay
    /// are kept. EAGAIN: the table has another number of rules by now, and nothing was changed.
    pub fn replace(&self, old: &Table, new: &Table) -> io::Result<()> {
        let mut counters = vec![0u8; old.len() * COUNTER_LEN];
        let mut message = Vec::with_capacity(REPLACE_HEAD + new.bytes().len());
        new.write_head(&mut message, old.len() as u32);
        message.extend_from_slice(&(counters.as_mut_ptr() as usize).to_ne_bytes());
        debug_assert_eq!(message.len(), REPLACE_HEAD);
        message.extend_from_slice(new.bytes());
        // The kernel writes old.len() counters through the address in the message: `counters` is
        // of that length and lives until after the call, and the kernel refuses (EAGAIN) when the
        // table has another number of entries.
        self.set(SET_REPLACE, &message)?;
        let kept = new.counters_from(&counters);
        let mut message = vec![0; NAME_LEN];
        put_name(&mut message, new.name());
        message.extend_from_slice(&(new.len() as u32).to_ne_bytes());
        message.resize(COUNTERS_HEAD, 0);
        message.extend_from_slice(&kept);
        // Packets counted meanwhile are in the new table already; these are added.
        self.set(ADD_COUNTERS, &message)
    }

    fn get(&self, option: i32, buffer: &mut [u8]) -> io::Result<()> {
        let mut len = buffer.len() as libc::socklen_t;
        // SAFETY: `buffer` is live and its true length is passed.
        let got = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                self.family.level(),
                option,
                buffer.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        if got < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn set(&self, option: i32, message: &[u8]) -> io::Result<()> {
        // SAFETY: `message` is live and its true length is passed. The one address inside a
        // message is that of a buffer of the length the message states, live and not otherwise
        // borrowed during the call (see `replace`).
        let done = unsafe {
            libc::setsockopt(
                self.socket.as_raw_fd(),
                self.family.level(),
                option,
                message.as_ptr().cast(),
                message.len() as libc::socklen_t,
            )
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn put_name(into: &mut [u8], name: &str) {
    for (to, from) in into[..NAME_LEN - 1].iter_mut().zip(name.bytes()) {
        *to = from;
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    match bytes.get(at..at + 4) {
        Some(&[a, b, c, d]) => u32::from_ne_bytes([a, b, c, d]),
        _ => 0,
    }
}
