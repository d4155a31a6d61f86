//! nf_tables by netlink, synchronous: transactions of tables, chains, sets, elements and rules,
//! and the dumps that the network crate needs of foreign tables. Which rules there are is not
//! known here.

use crate::netlink::{Attributes, Header};

mod dump;
mod expr;
mod transaction;

pub use dump::{BaseChain, End, Rule, Table, base_chains, rules, table};
pub use expr::{Expr, Verdict, meta};
pub use transaction::{Chain, Element, Hook, Set, Transaction};

/// The multicast group that tells of every change of tables, chains, rules and sets.
pub const GROUP_NFTABLES: u32 = 7;

/// Which packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 and IPv6.
    Inet,
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
}

impl Family {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Inet),
            2 => Some(Self::Ip),
            10 => Some(Self::Ip6),
            _ => None,
        }
    }

    /// The name in nft's language.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
        }
    }
}

/// The table belongs to its maker's socket: nobody else changes it (kernel 5.12).
pub const TABLE_OWNER: u32 = 2;
/// An owned table outlives its owner's socket (kernel 6.9).
pub const TABLE_PERSIST: u32 = 4;

pub(crate) const SUBSYS: u16 = 10 << 8;
pub(crate) const NEWTABLE: u16 = SUBSYS;
pub(crate) const GETTABLE: u16 = SUBSYS | 1;
pub(crate) const DELTABLE: u16 = SUBSYS | 2;
pub(crate) const NEWCHAIN: u16 = SUBSYS | 3;
pub(crate) const GETCHAIN: u16 = SUBSYS | 4;
pub(crate) const NEWRULE: u16 = SUBSYS | 6;
pub(crate) const GETRULE: u16 = SUBSYS | 7;
pub(crate) const DELRULE: u16 = SUBSYS | 8;
pub(crate) const NEWSET: u16 = SUBSYS | 9;
pub(crate) const NEWSETELEM: u16 = SUBSYS | 0xc;
pub(crate) const DELSETELEM: u16 = SUBSYS | 0xe;
const NEWGEN: u16 = SUBSYS | 0xf;

/// The name of the table that an event of [`GROUP_NFTABLES`] is about; `None` for the one that
/// ends each change.
pub fn event_table(header: Header, body: &[u8]) -> Option<&str> {
    if header.kind == NEWGEN {
        return None;
    }
    // Tables, chains, rules, sets and elements alike name it in their first attribute.
    Attributes::new(body.get(4..)?).text(1)
}

pub(crate) fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// nft's numbers of data types, and how a set's key is put together from them.
pub mod types {
    /// An IPv4 address, 4 bytes.
    pub const IPV4: u32 = 7;
    /// An IPv6 address, 16 bytes.
    pub const IPV6: u32 = 8;
    /// An IP protocol, 1 byte.
    pub const PROTOCOL: u32 = 12;
    /// A port, 2 bytes.
    pub const SERVICE: u32 = 13;
    /// A link's name, 16 bytes.
    pub const IFNAME: u32 = 41;

    /// The length in bytes of one value of a type.
    pub fn length(kind: u32) -> usize {
        match kind {
            IPV6 | IFNAME => 16,
            SERVICE => 2,
            PROTOCOL => 1,
            _ => 4,
        }
    }

    /// The number of a concatenation of types.
    pub fn concat(kinds: &[u32]) -> u32 {
        kinds.iter().fold(0, |all, kind| (all << 6) | kind)
    }

    /// The key's length in bytes: within a concatenation each field fills whole words.
    pub fn key_length(kinds: &[u32]) -> usize {
        match kinds {
            [one] => length(*one),
            many => many.iter().map(|k| length(*k).next_multiple_of(4)).sum(),
        }
    }

    /// Puts the fields of a key (or of a map's value) together, each filling whole words when
    /// there is more than one.
    pub fn join(fields: &[&[u8]]) -> Vec<u8> {
        if let [one] = fields {
            return one.to_vec();
        }
        let mut out = Vec::new();
        for field in fields {
            out.extend_from_slice(field);
            while out.len() % 4 != 0 {
                out.push(0);
            }
        }
        out
    }

    /// A link's name as a key: 16 bytes, zeros after the name.
    pub fn ifname(name: &str) -> [u8; 16] {
        let mut out = [0; 16];
        for (to, from) in out[..15].iter_mut().zip(name.bytes()) {
            *to = from;
        }
        out
    }
}
