//! A legacy table as bytes: entries one after the other, jumps being offsets into them. Inserting
//! and removing rules keeps every jump right. Pure.

use super::{COUNTER_LEN, FORWARD, Family, NAME_LEN, put_name, word};
use crate::nft::End;

/// Hooks that a table may have: prerouting, input, forward, output, postrouting.
const HOOKS: usize = 5;
const TARGET_HEAD: usize = 32;
/// A verdict, padded.
const STANDARD_LEN: usize = TARGET_HEAD + 8;
const ACCEPT: i32 = -2;
const DROP: i32 = -1;
const MATCH_HEAD: usize = 32;

/// Where an entry's fields are.
struct Layout {
    /// Addresses and masks of the packet, before the links' names.
    addresses: usize,
    /// The whole condition on the packet's header.
    header: usize,
    /// `target_offset`; `next_offset` and the counters follow.
    offsets: usize,
    /// Where matches begin.
    len: usize,
}

const V4: Layout = Layout { addresses: 16, header: 84, offsets: 88, len: 112 };
const V6: Layout = Layout { addresses: 64, header: 133, offsets: 140, len: 168 };

fn layout(family: Family) -> &'static Layout {
    match family {
        Family::V4 => &V4,
        Family::V6 => &V6,
    }
}

/// A rule of a chain, as far as telling its effect on packets of a link needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where it begins.
    pub offset: usize,
    /// As [`nft::Rule::links`](crate::nft::Rule::links).
    pub links: Vec<(bool, Vec<u8>)>,
    /// What it does.
    pub end: End,
    /// Whether it also asks something else of the packet.
    pub more: bool,
}

/// A table, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    family: Family,
    name: String,
    valid_hooks: u32,
    hooks: [u32; HOOKS],
    underflows: [u32; HOOKS],
    bytes: Vec<u8>,
    /// For each entry, which one of the table that was read it is.
    origins: Vec<Option<usize>>,
}

fn half(bytes: &[u8], at: usize) -> usize {
    match bytes.get(at..at + 2) {
        Some(&[a, b]) => usize::from(u16::from_ne_bytes([a, b])),
        _ => 0,
    }
}

impl Table {
    /// Takes over what the kernel gave; `None` when it does not hold together.
    pub(super) fn parse(family: Family, name: &str, info: &[u8], bytes: Vec<u8>) -> Option<Self> {
        let words = |at: usize| std::array::from_fn(|n| word(info, at + 4 * n));
        let after = NAME_LEN + 4;
        let mut table = Self {
            family,
            name: name.to_owned(),
            valid_hooks: word(info, NAME_LEN),
            hooks: words(after),
            underflows: words(after + 4 * HOOKS),
            bytes,
            origins: Vec::new(),
        };
        let count = table.entries()?.len();
        let whole = count == word(info, after + 8 * HOOKS) as usize;
        table.origins = (0..count).map(Some).collect();
        whole.then_some(table)
    }

    /// Where each entry begins and ends; `None` when one does not hold together.
    fn entries(&self) -> Option<Vec<(usize, usize)>> {
        let layout = layout(self.family);
        let (mut out, mut at) = (Vec::new(), 0);
        while at < self.bytes.len() {
            let entry = self.bytes.get(at..)?;
            let (target, next) = (half(entry, layout.offsets), half(entry, layout.offsets + 2));
            let target_len = half(entry, target);
            let fits = target >= layout.len
                && target_len >= TARGET_HEAD
                && target + target_len <= next
                && next <= entry.len()
                && next % 8 == 0;
            if !fits {
                return None;
            }
            out.push((at, at + next));
            at += next;
        }
        Some(out)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How many entries there are, each chain's head and end counted.
    pub(super) fn len(&self) -> usize {
        self.origins.len()
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The head of the message that replaces a table of `old` entries with this one.
    pub(super) fn write_head(&self, out: &mut Vec<u8>, old: u32) {
        out.resize(NAME_LEN, 0);
        put_name(out, &self.name);
        let sizes = [self.valid_hooks, self.len() as u32, self.bytes.len() as u32];
        let words = sizes.iter().chain(&self.hooks).chain(&self.underflows).chain([&old]);
        for word in words {
            out.extend_from_slice(&word.to_ne_bytes());
        }
    }

    /// The counters of the old entries, put where those are now; zero for new ones.
    pub(super) fn counters_from(&self, old: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len() * COUNTER_LEN);
        for origin in &self.origins {
            let from = origin.and_then(|n| old.get(n * COUNTER_LEN..(n + 1) * COUNTER_LEN));
            out.extend_from_slice(from.unwrap_or(&[0; COUNTER_LEN]));
        }
        out
    }

    /// Whether packets that no rule of the forward chain judged are dropped.
    pub fn forward_drops(&self) -> bool {
        self.rule(self.underflows[FORWARD] as usize).is_some_and(|rule| rule.end == End::Drop)
    }

    /// The rules of the forward chain, in order, its policy left out.
    pub fn forward(&self) -> Vec<Rule> {
        let range = self.hooks[FORWARD] as usize..self.underflows[FORWARD] as usize;
        let all = self.entries().unwrap_or_default();
        all.into_iter()
            .filter(|(at, _)| range.contains(at))
            .filter_map(|(at, _)| self.rule(at))
            .collect()
    }

    fn rule(&self, offset: usize) -> Option<Rule> {
        let layout = layout(self.family);
        let entry = self.bytes.get(offset..)?;
        let header = entry.get(..layout.header)?;
        let names = &header[layout.addresses..layout.addresses + 64];
        let rest = &header[layout.addresses + 64..];
        let link = |incoming: bool| {
            let at = if incoming { 0 } else { 16 };
            let (name, mask) = (&names[at..at + 16], &names[at + 32..at + 48]);
            let len = mask.iter().take_while(|byte| **byte != 0).count();
            (len > 0).then(|| (incoming, name[..len].to_vec()))
        };
        // Flags that say "not", protocols, addresses: any of it narrows the rule down.
        let plain = header[..layout.addresses].iter().chain(rest).all(|byte| *byte == 0);
        let target = half(entry, layout.offsets);
        let matches = entry.get(layout.len..target)?;
        Some(Rule {
            offset,
            links: [link(true), link(false)].into_iter().flatten().collect(),
            end: end(entry.get(target..)?),
            more: !plain || !only_comments(matches),
        })
    }

    /// Puts a rule that accepts packets of a link at the head of the forward chain; `bytes` as in
    /// [`Rule::links`].
    pub fn insert_accept(&mut self, incoming: bool, bytes: &[u8]) {
        let layout = layout(self.family);
        let mut entry = vec![0; layout.len + STANDARD_LEN];
        let at = layout.addresses + if incoming { 0 } else { 16 };
        for (n, byte) in bytes.iter().take(16).enumerate() {
            entry[at + n] = *byte;
            entry[at + 32 + n] = 0xff;
        }
        let mut put = |at: usize, value: usize| {
            entry[at..at + 2].copy_from_slice(&(value as u16).to_ne_bytes());
        };
        put(layout.offsets, layout.len);
        put(layout.offsets + 2, layout.len + STANDARD_LEN);
        put(layout.len, STANDARD_LEN);
        let verdict = layout.len + TARGET_HEAD;
        entry[verdict..verdict + 4].copy_from_slice(&ACCEPT.to_ne_bytes());

        let head = self.hooks[FORWARD] as usize;
        let index = self.index_of(head);
        self.move_by(head, entry.len() as i64);
        // The new entry is the chain's head.
        self.hooks[FORWARD] = head as u32;
        self.bytes.splice(head..head, entry);
        self.origins.insert(index, None);
    }

    /// Removes the rule that begins at this offset.
    pub fn remove(&mut self, offset: usize) {
        let entries = self.entries().unwrap_or_default();
        let Some(index) = entries.iter().position(|(at, _)| *at == offset) else { return };
        let end = entries[index].1;
        self.move_by(end, offset as i64 - end as i64);
        self.bytes.drain(offset..end);
        self.origins.remove(index);
    }

    fn index_of(&self, offset: usize) -> usize {
        let entries = self.entries().unwrap_or_default();
        entries.iter().position(|(at, _)| *at == offset).unwrap_or(entries.len())
    }

    /// Lets everything that points at `from` or behind it point `by` further.
    fn move_by(&mut self, from: usize, by: i64) {
        let moved = |to: u32| (i64::from(to) + by) as u32;
        for point in self.hooks.iter_mut().chain(&mut self.underflows) {
            if *point as usize >= from {
                *point = moved(*point);
            }
        }
        let offsets = layout(self.family).offsets;
        for (at, _) in self.entries().unwrap_or_default() {
            let target = at + half(&self.bytes[at..], offsets);
            if !is_standard(&self.bytes[target..]) {
                continue;
            }
            let verdict = target + TARGET_HEAD;
            let to = word(&self.bytes, verdict) as i32;
            if to >= 0 && to as usize >= from {
                let new = moved(to as u32);
                self.bytes[verdict..verdict + 4].copy_from_slice(&new.to_ne_bytes());
            }
        }
    }
}

/// The target's name is empty: a verdict, or a jump.
fn is_standard(target: &[u8]) -> bool {
    target.get(2) == Some(&0) && target.len() >= STANDARD_LEN && half(target, 0) >= STANDARD_LEN
}

fn end(target: &[u8]) -> End {
    if is_standard(target) {
        return match word(target, TARGET_HEAD) as i32 {
            ACCEPT => End::Accept,
            DROP => End::Drop,
            _ => End::Other,
        };
    }
    if target.get(2..).is_some_and(|name| name.starts_with(b"REJECT\0")) {
        return End::Drop;
    }
    End::Other
}

/// Whether matches ask nothing of the packet.
fn only_comments(mut matches: &[u8]) -> bool {
    while !matches.is_empty() {
        let len = half(matches, 0);
        let comment = matches.get(2..).is_some_and(|name| name.starts_with(b"comment\0"));
        if !comment || len < MATCH_HEAD || len > matches.len() {
            return false;
        }
        matches = &matches[len..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries: end of input, two of forward (one jumps to the chain at the end), its policy,
    /// end of output, a chain's head, one rule that returns by falling through, its end.
    fn sample(family: Family) -> Table {
        let layout = layout(family);
        let len = layout.len + STANDARD_LEN;
        let mut bytes = Vec::new();
        let chain = 6 * len as i32;
        for verdict in [ACCEPT, chain, 3 * len as i32, DROP, ACCEPT, -5, 7 * len as i32, -5] {
            let mut entry = vec![0; len];
            entry[layout.offsets..layout.offsets + 2]
                .copy_from_slice(&(layout.len as u16).to_ne_bytes());
            entry[layout.offsets + 2..layout.offsets + 4]
                .copy_from_slice(&(len as u16).to_ne_bytes());
            entry[layout.len..layout.len + 2].copy_from_slice(&(STANDARD_LEN as u16).to_ne_bytes());
            let at = layout.len + TARGET_HEAD;
            entry[at..at + 4].copy_from_slice(&verdict.to_ne_bytes());
            bytes.extend(entry);
        }
        let at = |n: usize| (n * len) as u32;
        let mut info = vec![0; NAME_LEN];
        put_name(&mut info, "filter");
        for word in
            [0b1110, 0, at(0), at(1), at(4), 0, 0, at(0), at(3), at(4), 0, 8, bytes.len() as u32]
        {
            info.extend_from_slice(&word.to_ne_bytes());
        }
        Table::parse(family, "filter", &info, bytes).unwrap()
    }

    fn verdicts(table: &Table) -> Vec<i64> {
        let layout = layout(table.family);
        let len = (layout.len + STANDARD_LEN) as i64;
        let entries = table.entries().unwrap();
        let verdict =
            |at: usize| i64::from(word(&table.bytes, at + layout.len + TARGET_HEAD) as i32);
        let shown = |n: i64| if n < 0 { n } else { n / len };
        entries.iter().map(|(at, _)| shown(verdict(*at))).collect()
    }

    #[test]
    fn jumps_and_hooks_stay_right_when_rules_come_and_go() {
        for family in [Family::V4, Family::V6] {
            let before = sample(family);
            let mut table = before.clone();
            table.insert_accept(false, b"ferry");
            table.insert_accept(true, b"br0\0");
            assert_eq!(verdicts(&table), [-2, -2, -2, 8, 5, -1, -2, -5, 9, -5]);
            let rules = table.forward();
            assert_eq!(rules.len(), 4);
            assert_eq!(rules[0].links, [(true, b"br0\0".to_vec())]);
            assert_eq!(rules[1].links, [(false, b"ferry".to_vec())]);
            assert!(rules[..2].iter().all(|r| r.end == End::Accept && !r.more));
            assert!(table.forward_drops());
            assert_eq!(table.origins[..4], [Some(0), None, None, Some(1)]);
            let counters: Vec<u8> = (0..8u8).flat_map(|n| [n; COUNTER_LEN]).collect();
            let kept = table.counters_from(&counters);
            assert_eq!(kept[COUNTER_LEN..3 * COUNTER_LEN], [0; 2 * COUNTER_LEN]);
            assert_eq!(kept[3 * COUNTER_LEN], 1);
            for rule in rules[..2].iter().rev() {
                table.remove(rule.offset);
            }
            assert_eq!(table, before);
        }
    }

    #[test]
    fn entries_that_do_not_hold_together_are_refused() {
        let table = sample(Family::V4);
        let mut info = vec![0; super::super::INFO_LEN];
        info[76..80].copy_from_slice(&8u32.to_ne_bytes());
        assert!(Table::parse(Family::V4, "filter", &info, table.bytes.clone()).is_some());
        for cut in [1, 8, 100, 151] {
            let short = table.bytes[..table.bytes.len() - cut].to_vec();
            assert!(Table::parse(Family::V4, "filter", &info, short).is_none());
        }
        for at in 0..table.bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bent = table.bytes.clone();
                bent[at] = value;
                if let Some(mut read) = Table::parse(Family::V4, "filter", &info, bent) {
                    let _ = (read.forward(), read.forward_drops());
                    read.insert_accept(true, b"ferry");
                }
            }
        }
    }
}
