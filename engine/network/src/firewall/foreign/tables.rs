//! Foreign chains that drop forwarded packets: a drop in any base chain wins over our accept, so
//! two accept rules for each kind of our bridges stand at the head of `filter FORWARD`, the chain
//! of iptables-nft, which Docker, ufw and many scripts use. Chains of others that can't be amended
//! safely are named in a warning with the line to add.

use std::fs;

use sys::netlink::Socket;
use sys::nft::{self, BaseChain, Expr, Family, Rule, Transaction, Verdict};

const HOOK_FORWARD: u32 = 2;
/// Every bridge of ours begins so, unless the client named it.
const PREFIX: &str = "ferry";

/// The comparisons that a rule of ours makes, by direction.
fn patterns(bridges: &[String]) -> Vec<(bool, Vec<u8>)> {
    let mut out = Vec::new();
    for incoming in [true, false] {
        out.push((incoming, PREFIX.as_bytes().to_vec()));
        for name in bridges.iter().filter(|n| !n.starts_with(PREFIX)) {
            let mut bytes = name.as_bytes().to_vec();
            bytes.push(0);
            out.push((incoming, bytes));
        }
    }
    out
}

fn is_iptables(chain: &BaseChain) -> bool {
    chain.table == "filter"
        && chain.name == "FORWARD"
        && matches!(chain.family, Family::Ip | Family::Ip6)
}

/// Inserts what is missing; gives warnings about chains that drop and aren't iptables' own.
pub(super) fn keep_accepts(socket: &mut Socket, ours: &str, bridges: &[String]) -> Vec<String> {
    let mut warnings = Vec::new();
    let chains = nft::base_chains(socket, HOOK_FORWARD).unwrap_or_default();
    for chain in &chains {
        if is_iptables(chain) {
            if let Err(error) = amend(socket, chain, bridges) {
                warnings.push(format!(
                    "containers may be cut off: no accept rule could be added to iptables' chain FORWARD: {error}"
                ));
            }
        } else if chain.drops && chain.table != ours && !chain.table.starts_with("ferry") {
            let family = chain.family.as_str();
            let (table, name) = (&chain.table, &chain.name);
            warnings.push(format!(
                "chain {name} of nftables table {family} {table} drops forwarded packets, those of containers too; to let them pass: nft 'insert rule {family} {table} {name} iifname \"{PREFIX}*\" accept; insert rule {family} {table} {name} oifname \"{PREFIX}*\" accept'"
            ));
        }
    }
    warnings.extend(legacy());
    warnings
}

fn amend(socket: &mut Socket, chain: &BaseChain, bridges: &[String]) -> Result<(), String> {
    let text = |e: sys::netlink::Error| e.to_string();
    let rules = nft::rules(socket, chain.family, &chain.table, &chain.name).map_err(text)?;
    let wanted = patterns(bridges);
    // A rule below others may come too late; only those at the head count, in any order.
    let head: Vec<_> = rules.iter().take_while(|r| single(r).is_some()).collect();
    let missing: Vec<_> =
        wanted.iter().filter(|w| !head.iter().any(|r| single(r) == Some(*w))).collect();
    if missing.is_empty() || (!chain.drops && rules.is_empty()) {
        return Ok(());
    }
    let mut transaction = Transaction::default();
    for rule in rules.iter().filter(|r| single(r).is_some_and(|l| missing.contains(&l))) {
        transaction.delete_rule(chain.family, &chain.table, &chain.name, rule.handle);
    }
    for (incoming, bytes) in missing {
        let pair = if bytes.last() == Some(&0) {
            Expr::link_name(*incoming, &String::from_utf8_lossy(&bytes[..bytes.len() - 1]))
        } else {
            Expr::link_prefix(*incoming, &String::from_utf8_lossy(bytes))
        };
        let mut rule = pair.to_vec();
        rule.push(Expr::Counter);
        rule.push(Expr::Verdict(Verdict::Accept));
        transaction.insert_rule(chain.family, &chain.table, &chain.name, &rule);
    }
    transaction.commit(socket).map_err(text)
}

/// The one comparison of a rule that does nothing else but accept, as ours do.
fn single(rule: &Rule) -> Option<&(bool, Vec<u8>)> {
    match rule.links.as_slice() {
        [one] if rule.accepts && !rule.more => Some(one),
        _ => None,
    }
}

/// Takes our rules out of foreign chains.
pub(super) fn drop_accepts(socket: &mut Socket) {
    for chain in nft::base_chains(socket, HOOK_FORWARD).unwrap_or_default() {
        if !is_iptables(&chain) {
            continue;
        }
        let rules = nft::rules(socket, chain.family, &chain.table, &chain.name).unwrap_or_default();
        let mut transaction = Transaction::default();
        for rule in rules {
            if single(&rule).is_some_and(|(_, bytes)| bytes == PREFIX.as_bytes()) {
                transaction.delete_rule(chain.family, &chain.table, &chain.name, rule.handle);
            }
        }
        let _ = transaction.commit(socket);
    }
}

/// Legacy iptables keeps its rules outside nftables, where only its own program changes them
/// safely: its table is replaced as a whole, and a change made meanwhile would be lost.
fn legacy() -> Option<String> {
    let names = fs::read_to_string("/proc/net/ip_tables_names").ok()?;
    names.lines().any(|n| n == "filter").then(|| {
        format!(
            "legacy iptables filters packets beside nftables; where its chain FORWARD drops, let containers pass: iptables-legacy -I FORWARD -i {PREFIX}+ -j ACCEPT; iptables-legacy -I FORWARD -o {PREFIX}+ -j ACCEPT"
        )
    })
}
