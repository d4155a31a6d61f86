//! The expressions that rules are made of, and their encoding (linux/netfilter/nf_tables.h). Each
//! reads and writes registers as the `nft` program assigns them: 1 to 4 hold 16 bytes, 8 to 23 the
//! same space in words. No rule is composed here.

use crate::netlink::message::Nest;

use super::types;

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on.
    Accept,
    /// Is gone.
    Drop,
    /// Continues in that chain, then here.
    Jump(&'static str),
    /// Continues in that chain.
    Goto(&'static str),
}

/// One expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Loads a property of the packet: `key` of `NFT_META_*`.
    Meta {
        /// `NFT_META_*`.
        key: u32,
        /// Where to.
        reg: u32,
    },
    /// Sets the packet's mark from a register.
    SetMark {
        /// Where from.
        reg: u32,
    },
    /// Loads bytes: base 1 is the network header, 2 the transport header.
    Payload {
        /// Which header.
        base: u32,
        /// Bytes from its start.
        offset: u32,
        /// How many.
        len: u32,
        /// Where to.
        reg: u32,
    },
    /// Goes on when the register's first bytes are (not) these.
    Compare {
        /// Which register.
        reg: u32,
        /// Equal or not equal.
        equal: bool,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// `reg = (reg & mask) ^ xor`, 4 bytes in the machine's order.
    Bitwise {
        /// Which register.
        reg: u32,
        /// The mask.
        mask: u32,
        /// The exclusive or.
        xor: u32,
    },
    /// Goes on when the key is (not) in the set; with `to`, loads what the map says.
    Lookup {
        /// The set's name.
        set: &'static str,
        /// Where the key begins.
        reg: u32,
        /// Where the map's value goes.
        to: Option<u32>,
        /// Goes on when the key is absent.
        absent: bool,
    },
    /// Loads a property of the connection: 0 state, 2 status.
    Conntrack {
        /// `NFT_CT_*`.
        key: u32,
        /// Where to.
        reg: u32,
    },
    /// Loads what kind of address the destination is (2 is local).
    DestinationType {
        /// Where to.
        reg: u32,
    },
    /// Loads constant bytes.
    Load {
        /// Where to.
        reg: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Ends the rule.
    Verdict(Verdict),
    /// Translates the destination to the address in `address`, port in `port`.
    DestinationNat {
        /// IPv6.
        v6: bool,
        /// The address's register.
        address: u32,
        /// The port's register.
        port: u32,
    },
    /// Translates the source to the outgoing link's address.
    Masquerade,
    /// Sends a copy to the address in one register by the link whose number is in the other.
    Duplicate {
        /// The address's register.
        address: u32,
        /// The link's register.
        link: u32,
    },
    /// Counts packets, as iptables expects of every rule.
    Counter,
}

/// Meta keys used here.
pub mod meta {
    /// The packet's mark.
    pub const MARK: u32 = 3;
    /// The incoming link's name.
    pub const IIFNAME: u32 = 6;
    /// The outgoing link's name.
    pub const OIFNAME: u32 = 7;
    /// The incoming link's kind: `veth`, `bridge`; empty for a device.
    pub const IIFKIND: u32 = 26;
    /// The transport protocol.
    pub const L4PROTO: u32 = 16;
}

impl Expr {
    /// Goes on when the incoming link has (not) this name.
    pub fn iifname(name: &str, equal: bool) -> [Self; 2] {
        Self::link(meta::IIFNAME, types::ifname(name).to_vec(), equal)
    }

    /// Goes on when the name of the incoming (else outgoing) link begins with these bytes; with a
    /// final zero the whole name must be so.
    pub fn link_bytes(incoming: bool, bytes: &[u8]) -> [Self; 2] {
        Self::link(if incoming { meta::IIFNAME } else { meta::OIFNAME }, bytes.to_vec(), true)
    }

    fn link(key: u32, bytes: Vec<u8>, equal: bool) -> [Self; 2] {
        [Self::Meta { key, reg: 1 }, Self::Compare { reg: 1, equal, bytes }]
    }

    /// Writes the expression as one list element.
    pub(crate) fn encode(&self, list: &mut Nest<'_>) {
        list.nest(1, |element| {
            element.text(1, self.name());
            element.nest(2, |data| self.encode_data(data));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta { .. } | Self::SetMark { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::Compare { .. } => "cmp",
            Self::Bitwise { .. } => "bitwise",
            Self::Lookup { .. } => "lookup",
            Self::Conntrack { .. } => "ct",
            Self::DestinationType { .. } => "fib",
            Self::Load { .. } | Self::Verdict(_) => "immediate",
            Self::DestinationNat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Duplicate { .. } => "dup",
            Self::Counter => "counter",
        }
    }

    fn encode_data(&self, data: &mut Nest<'_>) {
        match self {
            Self::Meta { key, reg } => {
                data.be32(1, *reg).be32(2, *key);
            }
            Self::SetMark { reg } => {
                data.be32(2, meta::MARK).be32(3, *reg);
            }
            Self::Payload { base, offset, len, reg } => {
                data.be32(1, *reg).be32(2, *base).be32(3, *offset).be32(4, *len);
            }
            Self::Compare { reg, equal, bytes } => {
                data.be32(1, *reg).be32(2, u32::from(!equal)).nest(3, |d| value(d, bytes));
            }
            Self::Bitwise { reg, mask, xor } => {
                data.be32(1, *reg).be32(2, *reg).be32(3, 4);
                data.nest(4, |d| value(d, &mask.to_ne_bytes()));
                data.nest(5, |d| value(d, &xor.to_ne_bytes()));
            }
            Self::Lookup { set, reg, to, absent } => {
                data.text(1, set).be32(2, *reg);
                if let Some(to) = to {
                    data.be32(3, *to);
                }
                if *absent {
                    data.be32(5, 1);
                }
            }
            Self::Conntrack { key, reg } => {
                data.be32(1, *reg).be32(2, *key);
            }
            // Result 3: the address's type; flag 2: of the destination.
            Self::DestinationType { reg } => {
                data.be32(1, *reg).be32(2, 3).be32(3, 2);
            }
            Self::Load { reg, bytes } => {
                data.be32(1, *reg).nest(2, |d| value(d, bytes));
            }
            Self::Verdict(verdict) => {
                data.be32(1, 0).nest(2, |d| encode_verdict(*verdict, d));
            }
            Self::DestinationNat { v6, address, port } => {
                let family = if *v6 { libc::AF_INET6 } else { libc::AF_INET };
                data.be32(1, 1).be32(2, family as u32).be32(3, *address).be32(5, *port);
            }
            Self::Masquerade | Self::Counter => {}
            Self::Duplicate { address, link } => {
                data.be32(1, *address).be32(2, *link);
            }
        }
    }
}

fn value(nest: &mut Nest<'_>, bytes: &[u8]) {
    nest.attr(1, bytes);
}

fn encode_verdict(verdict: Verdict, nest: &mut Nest<'_>) {
    let (code, chain) = match verdict {
        Verdict::Drop => (0i32, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
    };
    nest.nest(2, |v| {
        v.be32(1, code as u32);
        if let Some(chain) = chain {
            v.text(2, chain);
        }
    });
}
