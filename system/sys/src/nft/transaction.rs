//! One atomic change of nf_tables: everything in it happens, or nothing. Composing is pure; only
//! `commit` speaks to the kernel.

use crate::netlink::message::{F_ACK, F_APPEND, F_CREATE};
use crate::netlink::{Batch, Error, Socket};

use super::expr::Expr;
use super::{
    DELRULE, DELSETELEM, DELTABLE, Family, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, NEWTABLE, header,
    types,
};

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const INTERVAL_END: u32 = 1;
const SET_INTERVAL: u32 = 4;
const SET_MAP: u32 = 8;
/// Attributes carry 16-bit lengths: elements are sent in slices well below that.
const ELEMENTS_AT_ONCE: usize = 500;

/// Where a chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// 0 prerouting, 1 input, 2 forward, 3 output, 4 postrouting.
    pub number: u32,
    /// Order among the hook's chains.
    pub priority: i32,
}

/// A chain to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Absent: reached by jumps only.
    pub hook: Option<Hook>,
}

/// A set or map to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: &'static str,
    /// The key's types.
    pub key: &'static [u32],
    /// The value's types: a map.
    pub value: &'static [u32],
    /// Elements are ranges.
    pub interval: bool,
}

/// An element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    /// The key: of a range, its first.
    pub key: Vec<u8>,
    /// The first key after the range; `None` within it for a range that ends the key space.
    pub end: Option<Vec<u8>>,
    /// The map's value.
    pub value: Option<Vec<u8>>,
}

/// Changes that happen together.
#[derive(Clone, Debug)]
pub struct Transaction {
    batch: Batch,
    sets: u32,
    changes: usize,
}

impl Default for Transaction {
    fn default() -> Self {
        let mut batch = Batch::default();
        batch.message(BATCH_BEGIN, 0, "begin nftables transaction").fixed(&[0, 0, 0, 10]);
        Self { batch, sets: 0, changes: 0 }
    }
}

impl Transaction {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.changes == 0
    }

    /// Makes the table, or changes nothing when it exists with these flags.
    pub fn add_table(&mut self, family: Family, table: &str, flags: u32) {
        self.changes += 1;
        self.batch
            .message(NEWTABLE, F_ACK | F_CREATE, format!("add table {} {table}", family.as_str()))
            .fixed(&header(family.number()))
            .text(1, table)
            .be32(2, flags);
    }

    /// Removes the table and all in it; it must exist.
    pub fn delete_table(&mut self, family: Family, table: &str) {
        self.changes += 1;
        self.batch
            .message(DELTABLE, F_ACK, format!("delete table {} {table}", family.as_str()))
            .fixed(&header(family.number()))
            .text(1, table);
    }

    /// Makes a chain whose policy is to accept.
    pub fn add_chain(&mut self, family: Family, table: &str, chain: &Chain) {
        self.changes += 1;
        let message = self
            .batch
            .message(NEWCHAIN, F_ACK | F_CREATE, format!("add chain {table} {}", chain.name))
            .fixed(&header(family.number()))
            .text(1, table)
            .text(3, chain.name);
        if let Some(hook) = chain.hook {
            message
                .nest(4, |n| {
                    n.be32(1, hook.number).be32(2, hook.priority as u32);
                })
                .be32(5, 1)
                .text(7, hook.kind);
        }
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, family: Family, table: &str, set: &Set) {
        self.changes += 1;
        self.sets += 1;
        let mut flags = 0;
        if set.interval {
            flags |= SET_INTERVAL;
        }
        if !set.value.is_empty() {
            flags |= SET_MAP;
        }
        let mut message = self
            .batch
            .message(NEWSET, F_ACK | F_CREATE, format!("add set {table} {}", set.name))
            .fixed(&header(family.number()))
            .text(1, table)
            .text(2, set.name)
            .be32(3, flags)
            .be32(4, types::concat(set.key))
            .be32(5, types::key_length(set.key) as u32);
        if !set.value.is_empty() {
            message = message
                .be32(6, types::concat(set.value))
                .be32(7, types::key_length(set.value) as u32);
        }
        message = message.be32(10, self.sets);
        if set.key == [types::IFNAME] {
            // A note for the program nft, which shows such keys as empty without it: they are in
            // the machine's byte order.
            message.attr(13, &[0, 4, 1, 0, 0, 0]);
        }
    }

    /// Adds elements; one that is there already, with the same value, is no error.
    pub fn add_elements(&mut self, family: Family, table: &str, set: &str, elements: &[Element]) {
        self.elements(NEWSETELEM, F_CREATE, family, table, set, elements);
    }

    /// Removes elements; each must be there.
    pub fn delete_elements(&mut self, family: Family, table: &str, set: &str, all: &[Element]) {
        self.elements(DELSETELEM, 0, family, table, set, all);
    }

    fn elements(
        &mut self,
        kind: u16,
        flags: u16,
        family: Family,
        table: &str,
        set: &str,
        elements: &[Element],
    ) {
        let verb = if kind == NEWSETELEM { "add element to" } else { "delete element of" };
        for slice in elements.chunks(ELEMENTS_AT_ONCE) {
            self.changes += 1;
            self.batch
                .message(kind, flags | F_ACK, format!("{verb} {table} {set}"))
                .fixed(&header(family.number()))
                .text(1, table)
                .text(2, set)
                .nest(3, |list| {
                    for element in slice {
                        encode_element(list, element);
                    }
                });
        }
    }

    /// Adds a rule at the end of its chain.
    pub fn append_rule(&mut self, family: Family, table: &str, chain: &str, rule: &[Expr]) {
        self.rule(F_CREATE | F_APPEND, family, table, chain, rule, None);
    }

    /// Adds a rule at the start of its chain, with a comment (of which 254 bytes count).
    pub fn insert_rule(
        &mut self,
        family: Family,
        table: &str,
        chain: &str,
        rule: &[Expr],
        comment: &str,
    ) {
        self.rule(F_CREATE, family, table, chain, rule, Some(comment));
    }

    fn rule(
        &mut self,
        flags: u16,
        family: Family,
        table: &str,
        chain: &str,
        rule: &[Expr],
        comment: Option<&str>,
    ) {
        self.changes += 1;
        let message = self
            .batch
            .message(NEWRULE, flags | F_ACK, format!("add rule to {table} {chain}"))
            .fixed(&header(family.number()))
            .text(1, table)
            .text(2, chain)
            .nest(4, |list| {
                for expr in rule {
                    expr.encode(list);
                }
            });
        if let Some(comment) = comment {
            let text = &comment.as_bytes()[..comment.len().min(254)];
            let mut note = vec![0, text.len() as u8 + 1];
            note.extend_from_slice(text);
            note.push(0);
            message.attr(7, &note);
        }
    }

    /// Removes the rule with this handle.
    pub fn delete_rule(&mut self, family: Family, table: &str, chain: &str, handle: u64) {
        self.changes += 1;
        self.batch
            .message(DELRULE, F_ACK, format!("delete rule of {table} {chain}"))
            .fixed(&header(family.number()))
            .text(1, table)
            .text(2, chain)
            .attr(3, &handle.to_be_bytes());
    }

    /// Makes it happen; a refusal names the first refused change, and nothing has changed then.
    pub fn commit(mut self, socket: &mut Socket) -> Result<(), Error> {
        if self.changes == 0 {
            return Ok(());
        }
        self.batch.message(BATCH_END, 0, "end nftables transaction").fixed(&[0, 0, 0, 10]);
        socket.transaction(self.batch)
    }
}

fn encode_element(list: &mut crate::netlink::message::Nest<'_>, element: &Element) {
    list.nest(1, |n| {
        n.nest(1, |d| {
            d.attr(1, &element.key);
        });
        if let Some(value) = &element.value {
            n.nest(2, |d| {
                d.attr(1, value);
            });
        }
    });
    if let Some(end) = &element.end {
        list.nest(1, |n| {
            n.nest(1, |d| {
                d.attr(1, end);
            })
            .be32(3, INTERVAL_END);
        });
    }
}
