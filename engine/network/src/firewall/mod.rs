//! The firewall: our own constant tables and their elements, and the rules kept in foreign chains.
//! One nftables socket, one writer; a change of elements is one transaction.

mod foreign;
pub mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use sys::netlink::{Error as NetlinkError, Protocol, Socket};
use sys::nft::{self, Element as Raw, Family, Transaction, types};

use crate::driver::Element;
use crate::{Error, Result};

pub use schema::Variant;

const FAMILIES: [Family; 2] = [Family::Ip, Family::Ip6];

/// Our tables in the kernel, and what is in them.
#[derive(Debug)]
pub struct Firewall {
    socket: Socket,
    events: Socket,
    table: String,
    variant: Variant,
    elements: BTreeSet<Element>,
    /// Whether our tables are there; before, changes are only noted.
    loaded: bool,
    /// Whether the kernel keeps others from changing our tables.
    owned: bool,
    warnings: Vec<String>,
}

impl Firewall {
    /// Opens the sockets; the kernel is not changed yet.
    pub fn open(table: &str) -> Result<Self> {
        let open = |groups: &[u32]| {
            Socket::open_in_groups(Protocol::Netfilter, groups)
                .map_err(|e| Error::kernel("open nftables socket", e))
        };
        Ok(Self {
            socket: open(&[])?,
            events: open(&[nft::GROUP_NFTABLES])?,
            table: table.to_owned(),
            variant: Variant::default(),
            elements: BTreeSet::new(),
            loaded: false,
            owned: false,
            warnings: Vec::new(),
        })
    }

    /// Loads the tables anew with exactly these elements, in one transaction, so that no packet
    /// meets a half-made table; then looks after foreign chains.
    pub fn load(&mut self, variant: Variant, elements: BTreeSet<Element>) -> Result<()> {
        self.variant = variant;
        self.elements = elements;
        let both = nft::TABLE_OWNER | nft::TABLE_PERSIST;
        self.owned = self.replace(both).is_ok();
        if !self.owned {
            // A kernel before 6.9 knows no persistence, before 5.12 no owner; and a table that an
            // older program of ours made without an owner can't get one.
            self.replace(0)?;
        }
        self.loaded = true;
        self.watch_foreign();
        Ok(())
    }

    fn replace(&mut self, flags: u32) -> Result<()> {
        let mut transaction = Transaction::default();
        for family in FAMILIES {
            // Adding first makes the deletion valid whether or not there is one, and claims an
            // owned table whose owner is gone.
            transaction.add_table(family, &self.table, flags);
            transaction.delete_table(family, &self.table);
            transaction.add_table(family, &self.table, flags);
            schema::load(&mut transaction, family, &self.table, self.variant);
        }
        schema::load_user(&mut transaction, &format!("{}-user", self.table));
        let all: Vec<Element> = self.elements.iter().cloned().collect();
        self.encode(&mut transaction, &all, true, &BTreeSet::new());
        transaction.commit(&mut self.socket)?;
        Ok(())
    }

    /// Adds elements; ones that are there already stay.
    pub fn add(&mut self, elements: &[Element]) -> Result<()> {
        let fresh: Vec<Element> =
            elements.iter().filter(|e| !self.elements.contains(e)).cloned().collect();
        if fresh.is_empty() || !self.loaded {
            self.elements.extend(fresh);
            return Ok(());
        }
        let mut transaction = Transaction::default();
        self.encode(&mut transaction, &fresh, true, &self.elements);
        transaction.commit(&mut self.socket)?;
        let links = fresh.iter().any(|e| matches!(e, Element::Bridge(_)));
        self.elements.extend(fresh);
        if links {
            self.watch_foreign();
        }
        Ok(())
    }

    /// Removes elements; ones that are not there are no error.
    pub fn remove(&mut self, elements: &[Element]) -> Result<()> {
        let gone: Vec<Element> =
            elements.iter().filter(|e| self.elements.contains(e)).cloned().collect();
        if gone.is_empty() {
            return Ok(());
        }
        for element in &gone {
            self.elements.remove(element);
        }
        if !self.loaded {
            return Ok(());
        }
        let mut transaction = Transaction::default();
        self.encode(&mut transaction, &gone, false, &self.elements);
        if transaction.commit(&mut self.socket).is_err() {
            // Somebody changed the table below us: what it should hold is known.
            return self.load(self.variant, self.elements.clone());
        }
        Ok(())
    }

    /// Hears of foreign changes and repairs what they broke; true when something had changed.
    pub fn maintain(&mut self) -> Result<bool> {
        let mut changed = false;
        let complete = self
            .events
            .drain(|_, _| changed = true)
            .map_err(|e| Error::kernel("read nftables events", e))?;
        if !changed && complete {
            return Ok(false);
        }
        for family in FAMILIES {
            if nft::table_flags(&mut self.socket, family, &self.table)?.is_none() {
                self.load(self.variant, self.elements.clone())?;
                break;
            }
        }
        self.watch_foreign();
        // Our own repairs are events too.
        let _ = self.events.drain(|_, _| ());
        Ok(true)
    }

    /// The socket that becomes readable when somebody changed nftables.
    pub fn events(&self) -> &Socket {
        &self.events
    }

    /// What the administrator should know: foreign rules that drop containers' packets and that
    /// can't be amended from here.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether foreign changes of our tables are refused by the kernel.
    pub fn owned(&self) -> bool {
        self.owned
    }

    fn watch_foreign(&mut self) {
        let bridges: Vec<String> = self
            .elements
            .iter()
            .filter_map(|e| match e {
                Element::Bridge(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        self.warnings = foreign::keep_accepts(&mut self.socket, &self.table, &bridges);
    }

    /// Removes our tables and the accept rules in foreign chains; the administrator's table stays.
    pub fn unload(&mut self) -> std::result::Result<(), NetlinkError> {
        foreign::drop_accepts(&mut self.socket);
        let mut transaction = Transaction::default();
        for family in FAMILIES {
            transaction.delete_table(family, &self.table);
        }
        transaction.commit(&mut self.socket)
    }

    fn encode(&self, to: &mut Transaction, all: &[Element], add: bool, others: &BTreeSet<Element>) {
        let mut sets: BTreeMap<(Family, &'static str), Vec<Raw>> = BTreeMap::new();
        for element in all {
            for (family, set, raw) in raw(element, others, all) {
                let list = sets.entry((family, set)).or_default();
                if !list.contains(&raw) {
                    list.push(raw);
                }
            }
        }
        for ((family, set), list) in sets {
            if add {
                to.add_elements(family, &self.table, set, &list);
            } else {
                to.delete_elements(family, &self.table, set, &list);
            }
        }
    }
}

fn plain(key: Vec<u8>) -> Raw {
    Raw { key, end: None, value: None }
}

fn family(v4: bool) -> Family {
    if v4 { Family::Ip } else { Family::Ip6 }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn after(address: IpAddr) -> Option<Vec<u8>> {
    match address {
        IpAddr::V4(a) => a.to_bits().checked_add(1).map(|b| b.to_be_bytes().to_vec()),
        IpAddr::V6(a) => a.to_bits().checked_add(1).map(|b| b.to_be_bytes().to_vec()),
    }
}

// `open_any` is shared by published ports of several host addresses: it goes with the last.
fn raw(
    element: &Element,
    others: &BTreeSet<Element>,
    together: &[Element],
) -> Vec<(Family, &'static str, Raw)> {
    match element {
        Element::Bridge(name) => both("br", &types::ifname(name)),
        Element::Internal(name) => both("internal", &types::ifname(name)),
        Element::Intra(from, to) => {
            both("intra", &types::join(&[&types::ifname(from), &types::ifname(to)]))
        }
        Element::Masquerade(subnet) => {
            let raw = Raw { key: octets(subnet.network()), end: after(subnet.last()), value: None };
            vec![(family(subnet.is_ipv4()), "masq", raw)]
        }
        Element::Publish { protocol, host_ip, host_port, to, to_port } => {
            let v4 = to.is_ipv4();
            let proto = [*protocol];
            let port = host_port.to_be_bytes();
            let address = octets(*host_ip);
            let value = Some(types::join(&[&octets(*to), &to_port.to_be_bytes()]));
            let any = types::join(&[&proto, &port]);
            let (set, key) = if host_ip.is_unspecified() {
                ("pub_any", any.clone())
            } else {
                ("pub_ip", types::join(&[&address, &proto, &port]))
            };
            let mut out = vec![(family(v4), set, Raw { key, end: None, value })];
            let shared = others.iter().any(|other| {
                !together.contains(other)
                    && matches!(other, Element::Publish { protocol: p, host_port: h, to: t, .. }
                        if p == protocol && h == host_port && t.is_ipv4() == v4)
            });
            if !shared {
                out.push((family(v4), "open_any", plain(any)));
            }
            out
        }
    }
}

fn both(set: &'static str, key: &[u8]) -> Vec<(Family, &'static str, Raw)> {
    FAMILIES.iter().map(|family| (*family, set, plain(key.to_vec()))).collect()
}
