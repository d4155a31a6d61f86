//! Other people's firewalls: a drop in any base chain wins over our accept, so for each kind of
//! our bridges two accept rules are kept in whatever drops forwarded packets. Here: what is wanted
//! and how a chain is judged. The chains of nftables are in `tables`, legacy iptables in `legacy`,
//! firewalld, which must be asked, in `firewalld`. What can't be amended safely is named in a
//! warning with the line to add.

mod firewalld;
mod legacy;
mod tables;

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use sys::netlink::Socket;
use sys::nft::End;

use firewalld::Firewalld;
use legacy::Legacy;
use tables::Found;

/// Every bridge of ours begins so, unless the client named it.
const PREFIX: &str = "ferry";

/// Direction (true: incoming) and the bytes that a link's name begins with, a final zero included
/// where the whole name counts.
type Pattern = (bool, Vec<u8>);

/// A rule of somebody's chain.
struct Seen<'a> {
    links: &'a [Pattern],
    end: End,
    more: bool,
}

/// What is wanted of a chain in which we put rules.
fn patterns(links: &BTreeSet<String>) -> Vec<Pattern> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    if links.iter().any(|name| name.starts_with(PREFIX)) {
        names.push(PREFIX.into());
    }
    names.extend(links.iter().filter(|name| !name.starts_with(PREFIX)).map(|name| whole(name)));
    names.into_iter().flat_map(|name| [(true, name.clone()), (false, name)]).collect()
}

/// What is wanted of a chain that others keep: that the links there are pass.
fn each(links: &BTreeSet<String>) -> Vec<Pattern> {
    links.iter().flat_map(|name| [(true, whole(name)), (false, whole(name))]).collect()
}

fn whole(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Those of `wanted` that no rule accepts before one drops everything; and whether one does.
///
/// Rules of others that stand before ours are left there: who puts a rule at the head means it.
fn missing<'a, 'b>(
    rules: impl Iterator<Item = Seen<'a>>,
    wanted: &'b [Pattern],
) -> (Vec<&'b Pattern>, bool) {
    let mut left: Vec<&Pattern> = wanted.iter().collect();
    for rule in rules {
        match (rule.links, rule.end) {
            (_, End::Other) => {}
            _ if rule.more => {}
            ([], End::Drop) => return (left, true),
            ([one], End::Accept) => {
                left.retain(|(incoming, name)| *incoming != one.0 || !name.starts_with(&one.1));
            }
            ([], End::Accept) => return (Vec::new(), false),
            _ => {}
        }
    }
    (left, false)
}

/// All of other people's firewalls in one network namespace.
#[derive(Debug)]
pub(super) struct Foreign {
    /// The comment of our rules.
    tag: String,
    links: BTreeSet<String>,
    tables: Found,
    legacy: Legacy,
    firewalld: Firewalld,
}

impl Foreign {
    /// Changes nothing yet; rules will carry `tag` as their comment.
    pub(super) fn new(tag: &str, bus: Option<dbus::Address>) -> Self {
        Self {
            tag: tag.to_owned(),
            links: BTreeSet::new(),
            tables: Found::default(),
            legacy: Legacy::default(),
            firewalld: Firewalld::new(bus),
        }
    }

    /// Sees to it that packets of these bridges pass; of none: takes out all that is ours.
    pub(super) fn keep(&mut self, socket: &mut Socket, links: BTreeSet<String>) {
        self.links = links;
        self.look_at_tables(socket);
        self.legacy.keep(&self.links);
        self.firewalld.keep(&self.links);
    }

    /// Looks at nftables' chains, of whose changes the kernel tells.
    pub(super) fn look_at_tables(&mut self, socket: &mut Socket) {
        self.tables = tables::keep(socket, &self.tag, &self.links);
    }

    /// Looks at what may have changed in silence, or come into being: cheap where nothing did.
    pub(super) fn look_at_rest(&mut self) {
        self.legacy.keep(&self.links);
        self.firewalld.connect();
    }

    /// Hears of changes outside nftables; true when something came.
    pub(super) fn hear(&mut self) -> bool {
        let legacy = self.legacy.hear();
        if legacy {
            self.legacy.keep(&self.links);
        }
        self.firewalld.hear() || legacy
    }

    /// Waits for answers that are outstanding.
    pub(super) fn settle(&mut self, limit: Duration) {
        self.firewalld.settle(limit);
    }

    /// When to look at the rest again, though nothing is readable.
    pub(super) fn again(&self) -> Option<Duration> {
        self.firewalld.again()
    }

    pub(super) fn wakers(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.legacy.waker().into_iter().chain(self.firewalld.waker())
    }

    /// What keeps packets from passing and can't be mended from here.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut all = self.tables.warnings.clone();
        all.extend_from_slice(self.legacy.warnings());
        all.extend(self.firewalld.warnings(self.tables.firewalld));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(all: &[&str]) -> BTreeSet<String> {
        all.iter().map(|name| (*name).to_owned()).collect()
    }

    fn rule(links: &[Pattern], end: End) -> Seen<'_> {
        Seen { links, end, more: false }
    }

    #[test]
    fn exactly_two_rules_are_wanted_and_two_more_for_each_bridge_of_another_name() {
        assert_eq!(patterns(&links(&[])), []);
        let two = patterns(&links(&["ferry0", "ferry-0123"]));
        assert_eq!(two, [(true, b"ferry".to_vec()), (false, b"ferry".to_vec())]);
        let four = patterns(&links(&["ferry0", "br7"]));
        assert_eq!(four[2..], [(true, b"br7\0".to_vec()), (false, b"br7\0".to_vec())]);
    }

    #[test]
    fn a_chain_lacks_what_no_rule_accepts_before_everything_is_dropped() {
        let wanted = each(&links(&["ferry0"]));
        let (incoming, outgoing) = ([(true, b"ferry".to_vec())], [(false, b"ferry0\0".to_vec())]);
        let other = [(true, b"ferry1\0".to_vec())];
        let all = || [rule(&incoming, End::Accept), rule(&outgoing, End::Accept)];
        assert_eq!(missing(all().into_iter(), &wanted), (vec![], false));
        let late = [rule(&[], End::Drop)].into_iter().chain(all());
        assert_eq!(missing(late, &wanted), (wanted.iter().collect(), true));
        let half = [rule(&incoming, End::Accept), rule(&other, End::Accept), rule(&[], End::Drop)];
        assert_eq!(missing(half.into_iter(), &wanted), (vec![&wanted[1]], true));
        let narrow = Seen { links: &incoming, end: End::Accept, more: true };
        assert_eq!(missing([narrow].into_iter(), &wanted).0.len(), 2);
        // What drops only some packets, or leaves it to another chain, is its owner's business.
        let some = Seen { links: &[], end: End::Drop, more: true };
        let first = [some, rule(&[], End::Other), rule(&other, End::Drop)];
        assert_eq!(missing(first.into_iter().chain(all()), &wanted), (vec![], false));
        assert_eq!(missing([rule(&[], End::Accept)].into_iter(), &wanted), (vec![], false));
    }
}
