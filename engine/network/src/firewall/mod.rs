//! The firewall: our own constant tables and their elements, and what is kept in foreign ones.
//! One nftables socket, one writer; a change of elements is one transaction.

mod elements;
mod foreign;
pub mod schema;

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use sys::netlink::{Error as NetlinkError, Protocol, Socket};
use sys::nft::{self, Element as Raw, Family, Transaction};

use crate::driver::Element;
use crate::{Error, Result};
use foreign::Foreign;

pub use schema::Variant;

const OWNED: u32 = nft::TABLE_OWNER | nft::TABLE_PERSIST;
/// How long a new bridge waits for firewalld; its containers wait no longer than that.
const FIREWALLD: Duration = Duration::from_secs(3);

/// A daemon that was killed may live on for a moment in a child that it was just starting.
const OWNER_ENDS: Duration = Duration::from_secs(1);

/// How the firewall is to be kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of our tables.
    pub table: String,
    /// Whether to keep rules at all.
    pub on: bool,
    /// Whether to own the tables where the kernel can; otherwise they are watched and replayed.
    pub own: bool,
    /// Where firewalld is asked.
    pub bus: Option<dbus::Address>,
}

/// Our tables in the kernel, and what is in them.
#[derive(Debug)]
pub struct Firewall {
    socket: Socket,
    events: Socket,
    /// The number by which our own changes are known among events.
    port: u32,
    families: Vec<Family>,
    table: String,
    on: bool,
    own: bool,
    variant: Variant,
    elements: BTreeSet<Element>,
    /// Whether our tables are there; before, changes are only noted.
    loaded: bool,
    /// Whether the kernel keeps others from changing our tables.
    owned: bool,
    foreign: Foreign,
    /// Somebody may have changed what tells of no changes.
    suspect: bool,
}

impl Firewall {
    /// Opens the sockets; the kernel is not changed yet.
    pub fn open(settings: &Settings) -> Result<Self> {
        let open = |groups: &[u32]| {
            Socket::open_in_groups(Protocol::Netfilter, groups)
                .map_err(|e| Error::kernel("open nftables socket", e))
        };
        let socket = open(&[])?;
        let port = socket.port().map_err(|e| Error::kernel("open nftables socket", e))?;
        // A kernel that was told to have no IPv6 refuses its tables.
        let six = Path::new("/proc/sys/net/ipv6/conf").exists();
        Ok(Self {
            socket,
            events: open(&[nft::GROUP_NFTABLES])?,
            port,
            families: if six { vec![Family::Ip, Family::Ip6] } else { vec![Family::Ip] },
            table: settings.table.clone(),
            on: settings.on,
            own: settings.own,
            variant: Variant::default(),
            elements: BTreeSet::new(),
            loaded: false,
            owned: false,
            foreign: Foreign::new(&settings.table, settings.bus.clone()),
            suspect: false,
        })
    }

    /// Loads the tables anew with exactly these elements, in one transaction, so that no packet
    /// meets a half-made table; then looks after foreign firewalls.
    pub fn load(&mut self, variant: Variant, elements: BTreeSet<Element>) -> Result<()> {
        self.variant = variant;
        self.elements = elements;
        if !self.on {
            return Ok(());
        }
        let end = Instant::now() + OWNER_ENDS;
        while let Err(error) = self.replay() {
            // The kernel does not tell when an owner is gone.
            let owned = matches!(&error, Error::TablesOwned(_));
            if !owned || Instant::now() > end {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.loaded = true;
        self.keep_foreign();
        Ok(())
    }

    /// Loads the tables under another variant, when it is another.
    pub fn set_variant(&mut self, variant: Variant) -> Result<()> {
        if variant == self.variant {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.variant, variant);
        if self.loaded
            && let Err(error) = self.replay()
        {
            self.variant = before;
            return Err(error);
        }
        Ok(())
    }

    /// Whether what must be there before packets may be forwarded is there.
    pub fn is_ready(&self) -> bool {
        self.loaded || !self.on
    }

    /// Whether rules are kept.
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// What of `wanted` is lacking, and which elements of its kind are not in it.
    pub fn guests_to(&self, wanted: &BTreeSet<Element>) -> (Vec<Element>, Vec<Element>) {
        let fresh = wanted.difference(&self.elements).cloned().collect();
        let guests = |e: &&Element| matches!(e, Element::Guests(_)) && !wanted.contains(*e);
        (fresh, self.elements.iter().filter(guests).cloned().collect())
    }

    /// The variant that is loaded.
    pub fn variant(&self) -> Variant {
        self.variant
    }

    fn replay(&mut self) -> Result<()> {
        self.owned = false;
        if self.own {
            match self.replace(OWNED) {
                Ok(()) => self.owned = true,
                // Before 6.9 no table outlives its owner, before 5.12 none has one.
                Err(e) if unknown_flags(&e) => self.replace(0).map_err(|e| self.refused(e))?,
                Err(e) => return Err(self.refused(e)),
            }
        } else {
            self.replace(0).map_err(|e| self.refused(e))?;
        }
        self.administrators();
        Ok(())
    }

    /// Why our tables could not be loaded.
    fn refused(&mut self, error: NetlinkError) -> Error {
        let owned = |family: &Family, socket: &mut Socket, table: &str| {
            let found = nft::table(socket, *family, table);
            found.is_ok_and(|found| found.is_some_and(|t| t.flags & nft::TABLE_OWNER != 0))
        };
        let somebodys = self.families.iter().any(|f| owned(f, &mut self.socket, &self.table));
        if somebodys && error.errno() == Some(Errno::PERM.raw_os_error()) {
            return Error::TablesOwned(self.table.clone());
        }
        error.into()
    }

    fn replace(&mut self, flags: u32) -> std::result::Result<(), NetlinkError> {
        let mut transaction = Transaction::default();
        for family in self.families.clone() {
            if let Some(found) = nft::table(&mut self.socket, family, &self.table)? {
                // Claims one whose owner is gone; one that never had an owner can't get one.
                if found.flags & nft::TABLE_OWNER != 0 {
                    transaction.add_table(family, &self.table, found.flags & OWNED);
                }
                transaction.delete_table(family, &self.table);
            }
            transaction.add_table(family, &self.table, flags);
            schema::load(&mut transaction, family, &self.table, self.variant);
        }
        let all: Vec<Element> = self.elements.iter().cloned().collect();
        self.encode(&mut transaction, &all, true, &BTreeSet::new());
        transaction.commit(&mut self.socket)
    }

    /// Sees to it that the administrator's table is there; what there is, however shaped, is left
    /// as it is (and makes no event: of two daemons each would answer the other's for ever).
    fn administrators(&mut self) {
        let table = self.user_table();
        if !matches!(nft::table(&mut self.socket, Family::Inet, &table), Ok(None)) {
            return;
        }
        let mut transaction = Transaction::default();
        schema::load_user(&mut transaction, &table);
        if let Err(error) = transaction.commit(&mut self.socket) {
            tracing::warn!(%error, "the administrator's table could not be made");
        }
    }

    fn user_table(&self) -> String {
        format!("{}-user", self.table)
    }

    /// Whether the administrator wrote nothing into his table.
    fn user_table_is_blank(&mut self) -> bool {
        let table = self.user_table();
        let found = nft::table(&mut self.socket, Family::Inet, &table);
        found.is_ok_and(|found| found.is_some_and(|t| t.objects == 1))
            && nft::rules(&mut self.socket, Family::Inet, &table, schema::USER_CHAIN)
                .is_ok_and(|rules| rules.is_empty())
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
        match transaction.commit(&mut self.socket) {
            Ok(()) => self.elements.extend(fresh.iter().cloned()),
            // Somebody took the table away below us: what it should hold is known.
            Err(e) if !self.owned && e.errno() == Some(Errno::NOENT.raw_os_error()) => {
                self.elements.extend(fresh.iter().cloned());
                if let Err(error) = self.replay() {
                    self.elements.retain(|e| !fresh.contains(e));
                    return Err(error);
                }
            }
            Err(e) => return Err(e.into()),
        }
        if fresh.iter().any(|e| matches!(e, Element::Bridge(_))) {
            self.keep_foreign();
            self.settle();
        }
        Ok(())
    }

    /// Waits a while for those who must be asked.
    pub fn settle(&mut self) {
        self.foreign.settle(FIREWALLD);
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
            // Somebody changed the table below us.
            self.replay()?;
        }
        if gone.iter().any(|e| matches!(e, Element::Bridge(_))) {
            self.keep_foreign();
        }
        Ok(())
    }

    /// What tells of no changes is looked at again in the next `maintain`.
    pub fn suspect(&mut self) {
        self.suspect = true;
    }

    /// Hears of foreign changes and repairs what they broke; true when something had changed.
    pub fn maintain(&mut self) -> Result<bool> {
        let (mut changed, mut hit) = (false, false);
        let (port, table) = (self.port, self.table.as_str());
        let complete = self
            .events
            .drain(|header, body| {
                // Our own changes are events too.
                if header.port != port {
                    changed = true;
                    hit |= nft::event_table(header, body) == Some(table);
                }
            })
            .map_err(|e| Error::kernel("read nftables events", e))?;
        changed |= !complete;
        if !self.loaded {
            return Ok(false);
        }
        if changed {
            if self.intact(hit || !complete)? {
                self.administrators();
            } else {
                let table = &self.table;
                tracing::warn!(table, "somebody changed our firewall tables; loaded anew");
                self.replay()?;
            }
            self.foreign.look_at_tables(&mut self.socket);
        }
        let heard = self.foreign.hear();
        let again = self.foreign.again().is_some_and(|left| left.is_zero());
        let rest = std::mem::take(&mut self.suspect) || again;
        if rest {
            self.foreign.look_at_rest();
        }
        Ok(changed || heard || rest)
    }

    /// Whether our tables are as we made them, as far as can be told: nobody else changes one that
    /// is owned, and one that is not is taken for changed once `hit`.
    fn intact(&mut self, hit: bool) -> Result<bool> {
        if hit && !self.owned {
            return Ok(false);
        }
        for family in self.families.clone() {
            if nft::table(&mut self.socket, family, &self.table)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Descriptors that become readable when somebody changed something.
    pub fn wakers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [self.events.as_fd()].into_iter().chain(self.foreign.wakers())
    }

    /// When to call `maintain` again though nothing is readable.
    pub fn again(&self) -> Option<Duration> {
        self.foreign.again()
    }

    /// What the administrator should know: foreign rules that drop containers' packets and that
    /// can't be amended from here.
    pub fn warnings(&self) -> Vec<String> {
        self.foreign.warnings()
    }

    /// Whether foreign changes of our tables are refused by the kernel.
    pub fn owned(&self) -> bool {
        self.owned
    }

    fn keep_foreign(&mut self) {
        let bridge = |e: &Element| match e {
            Element::Bridge(name) => Some(name.clone()),
            _ => None,
        };
        let bridges = self.elements.iter().filter_map(bridge).collect();
        self.foreign.keep(&mut self.socket, bridges);
    }

    /// Takes out what is ours in foreign firewalls, and our own tables; what we opened by switching
    /// forwarding on stays closed, by a small table that nobody owns. The administrator's table
    /// stays when he wrote something into it.
    pub fn unload(&mut self) -> Result<()> {
        if !self.loaded {
            return Ok(());
        }
        self.foreign.keep(&mut self.socket, BTreeSet::new());
        let mut transaction = Transaction::default();
        for family in &self.families {
            transaction.delete_table(*family, &self.table);
            if self.variant.is_strict(*family) {
                schema::load_rest(&mut transaction, *family, &self.table);
            }
        }
        if self.user_table_is_blank() {
            transaction.delete_table(Family::Inet, &self.user_table());
        }
        transaction.commit(&mut self.socket)?;
        self.loaded = false;
        Ok(())
    }

    fn encode(&self, to: &mut Transaction, all: &[Element], add: bool, others: &BTreeSet<Element>) {
        let mut sets: BTreeMap<(Family, &'static str), Vec<Raw>> = BTreeMap::new();
        for element in all {
            for (family, set, raw) in elements::raw(element, others, all) {
                if !self.families.contains(&family) {
                    continue;
                }
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

/// The kernel does not know the flags of a new table.
fn unknown_flags(error: &NetlinkError) -> bool {
    [Errno::INVAL, Errno::OPNOTSUPP].iter().any(|e| error.errno() == Some(e.raw_os_error()))
}
