//! rtnetlink: the requests that networks of containers need (links, addresses, routes,
//! neighbours) and what its dumps say. Which link hangs where is the network crate's business.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::message::{
    Attributes, Batch, F_ACK, F_CREATE, F_DUMP, F_EXCL, F_REPLACE, Header, MessageBuilder,
};
use super::socket::{Error, Socket};

/// A link appeared or changed.
pub const RTM_NEWLINK: u16 = 16;
/// A link is gone.
pub const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;

/// The multicast group that tells of links.
pub const GROUP_LINK: u32 = 1;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_IFALIAS: u16 = 20;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_BRPORT_ISOLATED: u16 = 33;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_F_NODAD: u32 = 0x02;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_TABLE: u16 = 15;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;

/// The kernel's limit for a link's name, without the terminating zero.
pub const MAX_LINK_NAME: usize = 15;

/// Names a link in a request.
#[derive(Clone, Copy, Debug)]
pub enum LinkRef<'a> {
    /// By number.
    Index(u32),
    /// By name.
    Name(&'a str),
}

/// A veth pair to make.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// The name of the end in the socket's namespace.
    pub name: &'a str,
    /// The bridge (or other master) of that end, by number.
    pub master: Option<u32>,
    /// The name of the other end.
    pub peer_name: &'a str,
    /// The other end's address.
    pub peer_mac: [u8; 6],
    /// The namespace in which the other end is made at once: moving it there later costs 30 ms.
    pub peer_netns: BorrowedFd<'a>,
    /// MTU of both ends in bytes; absent: the kernel's.
    pub mtu: Option<u32>,
}

/// What to change of a link.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkChange<'a> {
    /// Administratively up or down.
    pub up: Option<bool>,
    /// The free text that `ip link` shows.
    pub alias: Option<&'a str>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Address.
    pub mac: Option<[u8; 6]>,
    /// The bridge it becomes a port of, by number.
    pub master: Option<u32>,
    /// Bridge port: may not talk to other isolated ports.
    pub isolated: Option<bool>,
    /// Bridge port: may send back where a packet came from.
    pub hairpin: Option<bool>,
    /// A new name; with `LinkRef::Index` only.
    pub rename: Option<&'a str>,
    /// The namespace it moves to.
    pub netns: Option<BorrowedFd<'a>>,
}

/// A route to make.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// Where to: a network address and its length; `None` is the default route.
    pub to: Option<(IpAddr, u8)>,
    /// Through whom.
    pub via: Option<IpAddr>,
    /// On which link, by number.
    pub link: u32,
    /// The address family when neither `to` nor `via` tells.
    pub v4: bool,
}

/// A link as the kernel tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its free text.
    pub alias: String,
    /// Its kind: `bridge`, `veth`; empty for others.
    pub kind: String,
    /// Its address, when it has a MAC.
    pub mac: Option<[u8; 6]>,
    /// Its master's number.
    pub master: Option<u32>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
}

/// An address as the kernel tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The link's number.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
    /// The subnet's length.
    pub len: u8,
}

fn ifinfo(family: u8, index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut out = [0; 16];
    out[0] = family;
    out[4..8].copy_from_slice(&index.to_ne_bytes());
    out[8..12].copy_from_slice(&flags.to_ne_bytes());
    out[12..16].copy_from_slice(&change.to_ne_bytes());
    out
}

/// Adds a request for a new bridge.
pub fn add_bridge(batch: &mut Batch, name: &str, mac: [u8; 6], mtu: Option<u32>) {
    let mut message = batch
        .message(RTM_NEWLINK, F_ACK | F_CREATE | F_EXCL, format!("create bridge {name}"))
        .fixed(&ifinfo(0, 0, 0, 0))
        .text(IFLA_IFNAME, name)
        .attr(IFLA_ADDRESS, &mac);
    if let Some(mtu) = mtu {
        message = message.u32(IFLA_MTU, mtu);
    }
    message.nest(IFLA_LINKINFO, |n| {
        n.text(IFLA_INFO_KIND, "bridge");
    });
}

/// Adds a request for a new veth pair. Neither end is up: an end that is brought up at creation
/// has no peer yet, and is refused.
pub fn add_veth(batch: &mut Batch, veth: &Veth<'_>) {
    let mut message = batch
        .message(RTM_NEWLINK, F_ACK | F_CREATE | F_EXCL, format!("create veth {}", veth.name))
        .fixed(&ifinfo(0, 0, 0, 0))
        .text(IFLA_IFNAME, veth.name);
    if let Some(mtu) = veth.mtu {
        message = message.u32(IFLA_MTU, mtu);
    }
    if let Some(master) = veth.master {
        message = message.u32(IFLA_MASTER, master);
    }
    message.nest(IFLA_LINKINFO, |info| {
        info.text(IFLA_INFO_KIND, "veth").nest(IFLA_INFO_DATA, |data| {
            data.nest(VETH_INFO_PEER, |peer| {
                peer.fixed(&ifinfo(0, 0, 0, 0))
                    .text(IFLA_IFNAME, veth.peer_name)
                    .attr(IFLA_ADDRESS, &veth.peer_mac)
                    .u32(IFLA_NET_NS_FD, veth.peer_netns.as_raw_fd() as u32);
                if let Some(mtu) = veth.mtu {
                    peer.u32(IFLA_MTU, mtu);
                }
            });
        });
    });
}

fn link_message<'a>(
    batch: &'a mut Batch,
    kind: u16,
    link: LinkRef<'_>,
    flags: (u32, u32),
    verb: &str,
) -> MessageBuilder<'a> {
    match link {
        LinkRef::Index(index) => batch
            .message(kind, F_ACK, format!("{verb} link {index}"))
            .fixed(&ifinfo(0, index, flags.0, flags.1)),
        LinkRef::Name(name) => batch
            .message(kind, F_ACK, format!("{verb} link {name}"))
            .fixed(&ifinfo(0, 0, flags.0, flags.1))
            .text(IFLA_IFNAME, name),
    }
}

/// Adds a request that changes a link.
pub fn set_link(batch: &mut Batch, link: LinkRef<'_>, change: &LinkChange<'_>) {
    let up = libc::IFF_UP as u32;
    let flags = match change.up {
        Some(true) => (up, up),
        Some(false) => (0, up),
        None => (0, 0),
    };
    let mut message = link_message(batch, RTM_NEWLINK, link, flags, "configure");
    if let Some(mtu) = change.mtu {
        message = message.u32(IFLA_MTU, mtu);
    }
    if let Some(mac) = change.mac {
        message = message.attr(IFLA_ADDRESS, &mac);
    }
    if let Some(name) = change.rename {
        message = message.text(IFLA_IFNAME, name);
    }
    if let Some(netns) = change.netns {
        message = message.u32(IFLA_NET_NS_FD, netns.as_raw_fd() as u32);
    }
    if let Some(master) = change.master {
        message = message.u32(IFLA_MASTER, master);
    }
    if let Some(alias) = change.alias {
        message = message.attr(IFLA_IFALIAS, alias.as_bytes());
    }
    if change.isolated.is_some() || change.hairpin.is_some() {
        message.nest(IFLA_LINKINFO, |info| {
            info.text(IFLA_INFO_SLAVE_KIND, "bridge").nest(IFLA_INFO_SLAVE_DATA, |data| {
                if let Some(on) = change.isolated {
                    data.attr(IFLA_BRPORT_ISOLATED, &[u8::from(on)]);
                }
                if let Some(on) = change.hairpin {
                    data.attr(IFLA_BRPORT_MODE, &[u8::from(on)]);
                }
            });
        });
    }
}

/// Adds a request that removes a link.
pub fn delete_link(batch: &mut Batch, link: LinkRef<'_>) {
    link_message(batch, RTM_DELLINK, link, (0, 0), "delete");
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }
}

/// Adds a request that puts an address on the link with number `link`. IPv6 addresses skip
/// duplicate detection: who hands them out knows that they are unique.
pub fn add_address(batch: &mut Batch, link: u32, address: IpAddr, len: u8) {
    address_message(batch, RTM_NEWADDR, F_CREATE | F_REPLACE, link, address, len, "add");
}

/// Adds a request that takes an address from the link with number `link`.
pub fn delete_address(batch: &mut Batch, link: u32, address: IpAddr, len: u8) {
    address_message(batch, RTM_DELADDR, 0, link, address, len, "delete");
}

fn address_message(
    batch: &mut Batch,
    kind: u16,
    flags: u16,
    link: u32,
    address: IpAddr,
    len: u8,
    verb: &str,
) {
    let mut fixed = [family(address), len, 0, 0, 0, 0, 0, 0];
    fixed[4..8].copy_from_slice(&link.to_ne_bytes());
    let bytes = octets(address);
    let mut message = batch
        .message(kind, flags | F_ACK, format!("{verb} address {address}/{len}"))
        .fixed(&fixed)
        .attr(IFA_LOCAL, &bytes)
        .attr(IFA_ADDRESS, &bytes);
    match address {
        IpAddr::V4(four) if len < 31 => {
            let broadcast = four.to_bits() | (u32::MAX >> len);
            message = message.attr(IFA_BROADCAST, &broadcast.to_be_bytes());
        }
        IpAddr::V4(_) => {}
        IpAddr::V6(_) => message = message.u32(IFA_FLAGS, IFA_F_NODAD),
    }
    let _ = message;
}

/// Adds a request for a route in the main table.
pub fn add_route(batch: &mut Batch, route: &Route) {
    let v4 = route.to.map(|t| t.0).or(route.via).map_or(route.v4, |a| a.is_ipv4());
    let len = route.to.map_or(0, |t| t.1);
    let scope = if route.via.is_some() { 0u8 } else { 253 };
    let fam = if v4 { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 };
    // family, destination length, source length, tos, table main, protocol boot, scope, unicast
    let fixed = [fam, len, 0, 0, 254, 3, scope, 1, 0, 0, 0, 0];
    let about = match (route.to, route.via) {
        (Some((to, len)), _) => format!("add route to {to}/{len}"),
        (None, Some(via)) => format!("add default route via {via}"),
        (None, None) => "add default route".to_owned(),
    };
    let mut message =
        batch.message(RTM_NEWROUTE, F_ACK | F_CREATE | F_REPLACE, about).fixed(&fixed);
    if let Some((to, _)) = route.to {
        message = message.attr(RTA_DST, &octets(to));
    }
    if let Some(via) = route.via {
        message = message.attr(RTA_GATEWAY, &octets(via));
    }
    message.u32(RTA_OIF, route.link);
}

/// Adds a request for a permanent neighbour.
pub fn add_neighbour(batch: &mut Batch, link: u32, address: IpAddr, mac: [u8; 6]) {
    let mut fixed = [0u8; 12];
    fixed[0] = family(address);
    fixed[4..8].copy_from_slice(&link.to_ne_bytes());
    fixed[8..10].copy_from_slice(&NUD_PERMANENT.to_ne_bytes());
    batch
        .message(RTM_NEWNEIGH, F_ACK | F_CREATE | F_REPLACE, format!("add neighbour {address}"))
        .fixed(&fixed)
        .attr(NDA_DST, &octets(address))
        .attr(NDA_LLADDR, &mac);
}

/// Reads a link from the body of RTM_NEWLINK or RTM_DELLINK; `None` for other families' messages
/// (a bridge tells of its ports in the same type).
pub fn parse_link(body: &[u8]) -> Option<Link> {
    if *body.first()? != 0 {
        return None;
    }
    let word = |at: usize| Some(u32::from_ne_bytes(body.get(at..at + 4)?.try_into().ok()?));
    let attrs = Attributes::new(body.get(16..)?);
    Some(Link {
        index: word(4)?,
        name: attrs.text(IFLA_IFNAME)?.to_owned(),
        alias: attrs.text(IFLA_IFALIAS).unwrap_or_default().to_owned(),
        kind: attrs
            .nested(IFLA_LINKINFO)
            .and_then(|i| i.text(IFLA_INFO_KIND))
            .unwrap_or_default()
            .to_owned(),
        mac: attrs.get(IFLA_ADDRESS).and_then(|b| b.try_into().ok()),
        master: attrs.u32(IFLA_MASTER),
        mtu: attrs.u32(IFLA_MTU).unwrap_or(0),
        up: word(8)? & libc::IFF_UP as u32 != 0,
    })
}

/// All links of the socket's namespace.
pub fn links(socket: &mut Socket) -> Result<Vec<Link>, Error> {
    socket.dump(
        |batch| {
            batch.message(RTM_GETLINK, F_DUMP, "dump of links").fixed(&ifinfo(0, 0, 0, 0));
        },
        |found: &mut Vec<Link>, header: Header, body| {
            if header.kind == RTM_NEWLINK {
                found.extend(parse_link(body));
            }
        },
    )
}

/// The link of this name, if there is one.
pub fn link_by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let mut batch = Batch::default();
    batch
        .message(RTM_GETLINK, F_ACK, format!("find link {name}"))
        .fixed(&ifinfo(0, 0, 0, 0))
        .text(IFLA_IFNAME, name);
    let mut found = None;
    match socket.get(batch, |_, body| found = parse_link(body)) {
        Ok(()) => Ok(found),
        Err(e) if e.errno() == Some(libc::ENODEV) => Ok(None),
        Err(e) => Err(e),
    }
}

fn parse_ip(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    Some(IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?))
}

/// All addresses of the socket's namespace.
pub fn addresses(socket: &mut Socket) -> Result<Vec<Address>, Error> {
    socket.dump(
        |batch| {
            batch.message(RTM_GETADDR, F_DUMP, "dump of addresses").fixed(&[0; 8]);
        },
        |found: &mut Vec<Address>, _, body| {
            let Some(head) = body.get(..8) else { return };
            let attrs = Attributes::new(&body[8..]);
            let bytes = attrs.get(IFA_LOCAL).or_else(|| attrs.get(IFA_ADDRESS));
            if let Some(address) = bytes.and_then(parse_ip) {
                let link = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
                found.push(Address { link, address, len: head[1] });
            }
        },
    )
}

/// The destinations of all unicast routes in the main table, the default routes left out.
pub fn route_destinations(socket: &mut Socket) -> Result<Vec<(IpAddr, u8)>, Error> {
    socket.dump(
        |batch| {
            batch.message(RTM_GETROUTE, F_DUMP, "dump of routes").fixed(&[0; 12]);
        },
        |found: &mut Vec<(IpAddr, u8)>, _, body| {
            let Some(head) = body.get(..12) else { return };
            let attrs = Attributes::new(&body[12..]);
            let table = attrs.u32(RTA_TABLE).unwrap_or(u32::from(head[4]));
            if table != 254 || head[7] != 1 {
                return;
            }
            if let Some(to) = attrs.get(RTA_DST).and_then(parse_ip) {
                found.push((to, head[1]));
            }
        },
    )
}
