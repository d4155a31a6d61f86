//! The constant tables: sets, maps, chains and rules, per family. Rules change only with this
//! file; what changes while running are elements.

use sys::nft::{Chain, Expr, Family, Hook, Set, Transaction, Verdict, meta, types};
use types::{IFNAME, IPV4, IPV6, PROTOCOL, SERVICE};

/// The mark bit by which the administrator's table lets a packet reach a container.
pub(crate) const MARK_ADMIN: u32 = 0x0200_0000;
/// The mark bit of packets that passed the host's input policy.
pub(crate) const MARK_GATE: u32 = 0x0400_0000;

/// What differs between hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Variant {
    /// The number of the link `fin0`, when the input gate is in use.
    pub gate: Option<u32>,
    /// Drop new IPv4 flows that come from outside and go elsewhere than to us, since this daemon
    /// switched forwarding on.
    pub strict: bool,
    /// The same of IPv6.
    pub strict6: bool,
}

impl Variant {
    /// Whether new flows of a family stay closed.
    pub(crate) fn is_strict(self, family: Family) -> bool {
        if family == Family::Ip6 { self.strict6 } else { self.strict }
    }
}

struct Addresses {
    v6: bool,
    len: u32,
    source: u32,
    destination: u32,
}

const fn addresses(family: Family) -> Addresses {
    match family {
        Family::Ip6 => Addresses { v6: true, len: 16, source: 8, destination: 24 },
        _ => Addresses { v6: false, len: 4, source: 12, destination: 16 },
    }
}

macro_rules! sets {
    ($name:ident, $addr:ident) => {
        const $name: &[Set] = &[
            Set { name: "br", key: &[IFNAME], value: &[], interval: false },
            Set { name: "internal", key: &[IFNAME], value: &[], interval: false },
            Set { name: "guests", key: &[IFNAME], value: &[], interval: false },
            Set { name: "intra", key: &[IFNAME, IFNAME], value: &[], interval: false },
            Set { name: "masq", key: &[$addr], value: &[], interval: true },
            Set {
                name: "links",
                key: &[$addr, $addr, PROTOCOL, SERVICE],
                value: &[],
                interval: false,
            },
            Set {
                name: "pub_ip",
                key: &[$addr, PROTOCOL, SERVICE],
                value: &[$addr, SERVICE],
                interval: false,
            },
            Set {
                name: "pub_any",
                key: &[PROTOCOL, SERVICE],
                value: &[$addr, SERVICE],
                interval: false,
            },
            Set { name: "gated_ip", key: &[$addr, PROTOCOL, SERVICE], value: &[], interval: false },
            Set { name: "gated_any", key: &[PROTOCOL, SERVICE], value: &[], interval: false },
            Set { name: "open_any", key: &[PROTOCOL, SERVICE], value: &[], interval: false },
        ];
    };
}
sets!(SETS4, IPV4);
sets!(SETS6, IPV6);

const fn hooked(name: &'static str, kind: &'static str, number: u32, priority: i32) -> Chain {
    Chain { name, hook: Some(Hook { kind, number, priority }) }
}

const CHAINS: &[Chain] = &[
    hooked("raw", "filter", 0, -300),
    Chain { name: "pub", hook: None },
    hooked("pre", "nat", 0, -105),
    hooked("out", "nat", 3, -105),
    hooked("forward", "filter", 2, -1),
    hooked("post", "nat", 4, 95),
];

const GATE_CHAINS: &[Chain] =
    &[Chain { name: "loop", hook: None }, hooked("gate", "filter", 1, 290)];

/// The registers in which the fields of a key begin, words at a time from register 1 on: the first
/// field is in register 1, then word registers follow.
fn word_register(words: u32) -> u32 {
    if words == 0 { 1 } else { 8 + words }
}

/// Builds one rule.
#[derive(Default)]
struct R(Vec<Expr>);

impl R {
    fn link(mut self, incoming: bool, name: &str, equal: bool) -> Self {
        let mut pair = Expr::iifname(name, equal);
        if !incoming {
            pair[0] = Expr::Meta { key: meta::OIFNAME, reg: 1 };
        }
        self.0.extend(pair);
        self
    }

    fn link_in(mut self, incoming: bool, set: &'static str, absent: bool) -> Self {
        let key = if incoming { meta::IIFNAME } else { meta::OIFNAME };
        self.0.push(Expr::Meta { key, reg: 1 });
        self.0.push(Expr::Lookup { set, reg: 1, to: None, absent });
        self
    }

    /// Both links as one key.
    fn links_in(mut self, set: &'static str) -> Self {
        self.0.push(Expr::Meta { key: meta::IIFNAME, reg: 1 });
        self.0.push(Expr::Meta { key: meta::OIFNAME, reg: 2 });
        self.0.push(Expr::Lookup { set, reg: 1, to: None, absent: false });
        self
    }

    fn loopback(mut self, a: &Addresses, source: bool) -> Self {
        let offset = if source { a.source } else { a.destination };
        let (len, bytes) = if a.v6 {
            let mut one = vec![0; 16];
            one[15] = 1;
            (16, one)
        } else {
            (1, vec![127])
        };
        self.0.push(Expr::Payload { base: 1, offset, len, reg: 1 });
        self.0.push(Expr::Compare { reg: 1, equal: true, bytes });
        self
    }

    fn source_in(mut self, a: &Addresses, set: &'static str) -> Self {
        self.0.push(Expr::Payload { base: 1, offset: a.source, len: a.len, reg: 1 });
        self.0.push(Expr::Lookup { set, reg: 1, to: None, absent: false });
        self
    }

    /// Loads `[saddr .] [daddr .] l4proto . dport` and looks it up.
    fn key(
        mut self,
        a: &Addresses,
        source: bool,
        destination: bool,
        set: &'static str,
        map: bool,
    ) -> Self {
        let mut words = 0;
        for (on, offset) in [(source, a.source), (destination, a.destination)] {
            if on {
                let reg = word_register(words);
                self.0.push(Expr::Payload { base: 1, offset, len: a.len, reg });
                words += a.len / 4;
            }
        }
        self.0.push(Expr::Meta { key: meta::L4PROTO, reg: word_register(words) });
        self.0.push(Expr::Payload { base: 2, offset: 2, len: 2, reg: word_register(words + 1) });
        self.0.push(Expr::Lookup { set, reg: 1, to: map.then_some(1), absent: false });
        self
    }

    fn local(mut self) -> Self {
        self.0.push(Expr::DestinationType { reg: 1 });
        self.0.push(Expr::Compare { reg: 1, equal: true, bytes: 2u32.to_ne_bytes().to_vec() });
        self
    }

    /// The incoming link is of this kind. Links without a kind, as devices are, end a rule that asks
    /// for one, so this can't be asked the other way.
    fn kind(mut self, kind: &str) -> Self {
        self.0.push(Expr::Meta { key: meta::IIFKIND, reg: 1 });
        self.0.push(Expr::Compare { reg: 1, equal: true, bytes: types::ifname(kind).to_vec() });
        self
    }

    /// Nobody translated it, and no administrator marked it.
    fn unwanted(self) -> Self {
        self.connection_bits(2, DNAT_STATUS, false).mark_unset(MARK_ADMIN)
    }

    fn mark_unset(mut self, bit: u32) -> Self {
        self.0.push(Expr::Meta { key: meta::MARK, reg: 1 });
        self.0.push(Expr::Bitwise { reg: 1, mask: bit, xor: 0 });
        self.0.push(Expr::Compare { reg: 1, equal: true, bytes: vec![0; 4] });
        self
    }

    fn connection(self, key: u32, bits: u32) -> Self {
        self.connection_bits(key, bits, true)
    }

    fn connection_bits(mut self, key: u32, bits: u32, any: bool) -> Self {
        self.0.push(Expr::Conntrack { key, reg: 1 });
        self.0.push(Expr::Bitwise { reg: 1, mask: bits, xor: 0 });
        self.0.push(Expr::Compare { reg: 1, equal: !any, bytes: vec![0; 4] });
        self
    }

    fn end(mut self, last: Expr) -> Vec<Expr> {
        self.0.push(last);
        self.0
    }

    fn verdict(self, verdict: Verdict) -> Vec<Expr> {
        self.end(Expr::Verdict(verdict))
    }
}

const DNAT_STATUS: u32 = 0x20;
const ESTABLISHED_OR_RELATED: u32 = 0x6;
const NEW: u32 = 0x8;

/// Adds the whole table of one family.
pub fn load(transaction: &mut Transaction, family: Family, table: &str, variant: Variant) {
    let a = addresses(family);
    for set in if a.v6 { SETS6 } else { SETS4 } {
        transaction.add_set(family, table, set);
    }
    for chain in CHAINS {
        transaction.add_chain(family, table, chain);
    }
    if variant.gate.is_some() && !a.v6 {
        for chain in GATE_CHAINS {
            transaction.add_chain(family, table, chain);
        }
    }
    let mut rules: Vec<(&str, Vec<Expr>)> = Vec::new();
    translation(&a, variant, &mut rules);
    if let Some(fin0) = variant.gate.filter(|_| !a.v6) {
        gate(&a, fin0, &mut rules);
    }
    forward(&a, variant, &mut rules);
    for (chain, rule) in rules {
        transaction.append_rule(family, table, chain, &rule);
    }
}

fn translation(a: &Addresses, variant: Variant, rules: &mut Vec<(&str, Vec<Expr>)>) {
    use Verdict::{Drop, Jump};
    let mut add = |chain, rule| rules.push((chain, rule));
    add("raw", R::default().link(true, "lo", false).loopback(a, false).verdict(Drop));
    if variant.gate.is_some() {
        add("raw", R::default().link(true, "fin1", true).mark_unset(MARK_GATE).verdict(Drop));
    }
    let nat = Expr::DestinationNat { v6: a.v6, address: 1, port: word_register(a.len / 4) };
    add("pub", R::default().key(a, false, true, "pub_ip", true).end(nat.clone()));
    add("pub", R::default().key(a, false, false, "pub_any", true).end(nat));
    if variant.gate.is_some() {
        add("pre", R::default().link(true, "fin1", true).verdict(Jump("pub")));
    }
    add("pre", R::default().link_in(true, "br", false).local().verdict(Jump("pub")));
    let open = R::default().local().key(a, false, false, "open_any", false);
    add("pre", open.verdict(Jump("pub")));
    add("out", R::default().local().verdict(Jump("pub")));
    let br = || R::default().link_in(false, "br", false);
    add("post", br().loopback(a, true).end(Expr::Masquerade));
    let hairpin = br().connection(2, DNAT_STATUS).source_in(a, "masq");
    add("post", hairpin.end(Expr::Masquerade));
    let outbound = R::default().link_in(false, "br", true).source_in(a, "masq");
    add("post", outbound.end(Expr::Masquerade));
}

fn gate(a: &Addresses, fin0: u32, rules: &mut Vec<(&str, Vec<Expr>)>) {
    use Verdict::{Accept, Drop, Goto};
    let via = vec![169, 254, 254, 1];
    rules.push((
        "loop",
        vec![
            Expr::Meta { key: meta::MARK, reg: 1 },
            Expr::Bitwise { reg: 1, mask: !MARK_GATE, xor: MARK_GATE },
            Expr::SetMark { reg: 1 },
            Expr::Load { reg: 1, bytes: via },
            Expr::Load { reg: 2, bytes: fin0.to_ne_bytes().to_vec() },
            Expr::Duplicate { address: 1, link: 2 },
            Expr::Verdict(Drop),
        ],
    ));
    let mut add = |rule| rules.push(("gate", rule));
    add(vec![
        Expr::Conntrack { key: 0, reg: 1 },
        Expr::Compare { reg: 1, equal: false, bytes: NEW.to_ne_bytes().to_vec() },
        Expr::Verdict(Accept),
    ]);
    add(R::default().link(true, "lo", true).verdict(Accept));
    let ip = R::default().key(a, false, true, "gated_ip", false);
    add(ip.local().verdict(Goto("loop")));
    let any = R::default().key(a, false, false, "gated_any", false);
    add(any.local().verdict(Goto("loop")));
}

fn forward(a: &Addresses, variant: Variant, rules: &mut Vec<(&str, Vec<Expr>)>) {
    use Verdict::{Accept, Drop};
    let mut add = |rule| rules.push(("forward", rule));
    add(R::default().connection(0, ESTABLISHED_OR_RELATED).verdict(Accept));
    add(R::default().links_in("intra").verdict(Accept));
    add(R::default().key(a, true, true, "links", false).verdict(Accept));
    add(R::default().link_in(true, "internal", false).verdict(Drop));
    add(R::default().link_in(false, "internal", false).verdict(Drop));
    let br = || R::default().link_in(false, "br", false);
    add(br().connection(2, DNAT_STATUS).verdict(Accept));
    add(br().mark_unset(MARK_ADMIN).verdict(Drop));
    if variant.is_strict(if a.v6 { Family::Ip6 } else { Family::Ip }) {
        // What programs of this host forward for their own guests, or have translated, is wanted. A
        // veth leads to somebody's namespace.
        add(R::default().kind("veth").verdict(Accept));
        let foreign = R::default().link_in(true, "br", true).link_in(true, "guests", true);
        add(foreign.unwanted().verdict(Drop));
    }
}

/// Adds the table that remains when we end, where we switched forwarding on: what comes from
/// outside stays closed. Nobody watches which bridges have guests then, so all bridges pass; and
/// nobody owns it, so that whoever wants to removes it.
pub(crate) fn load_rest(transaction: &mut Transaction, family: Family, table: &str) {
    use Verdict::{Accept, Drop};
    transaction.add_table(family, table, 0);
    transaction.add_chain(family, table, &hooked("forward", "filter", 2, -1));
    for rule in [
        R::default().connection(0, ESTABLISHED_OR_RELATED).verdict(Accept),
        R::default().kind("veth").verdict(Accept),
        R::default().kind("bridge").verdict(Accept),
        R::default().unwanted().verdict(Drop),
    ] {
        transaction.append_rule(family, table, "forward", &rule);
    }
}

/// The one chain of the administrator's table.
pub(crate) const USER_CHAIN: &str = "forward";

/// Adds the administrator's table, whose chain is empty at first; it is never owned.
pub fn load_user(transaction: &mut Transaction, table: &str) {
    transaction.add_table(Family::Inet, table, 0);
    transaction.add_chain(Family::Inet, table, &hooked(USER_CHAIN, "filter", 2, -5));
}
