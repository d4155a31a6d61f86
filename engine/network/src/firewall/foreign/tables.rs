//! Chains of nftables at the forward hook. `filter FORWARD` of the families ip and ip6 belongs to
//! iptables-nft, which Docker, ufw and many scripts use: there our rules go, and to its tools they
//! are rules like others. Any other chain that drops is its administrator's.

use std::collections::BTreeSet;

use sys::netlink::Socket;
use sys::nft::{self, BaseChain, Expr, Family, Rule, Transaction, Verdict};

use super::{PREFIX, Pattern, Seen, each, missing, patterns};

const HOOK_FORWARD: u32 = 2;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Chains that drop and can't be amended.
    pub(super) warnings: Vec<String>,
    /// Whether firewalld's table is there.
    pub(super) firewalld: bool,
}

fn is_iptables(chain: &BaseChain) -> bool {
    chain.table == "filter"
        && chain.name == "FORWARD"
        && matches!(chain.family, Family::Ip | Family::Ip6)
}

fn seen(rule: &Rule) -> Seen<'_> {
    Seen { links: &rule.links, end: rule.end, more: rule.more }
}

/// Inserts what is missing, takes out what is ours and no longer wanted, looks at other chains.
pub(super) fn keep(socket: &mut Socket, tag: &str, links: &BTreeSet<String>) -> Found {
    let mut found = Found::default();
    let chains = match nft::base_chains(socket, HOOK_FORWARD) {
        Ok(chains) => chains,
        Err(error) => {
            found.warnings.push(format!("foreign firewall rules could not be read: {error}"));
            return found;
        }
    };
    let user = format!("{tag}-user");
    for chain in &chains {
        if chain.table == tag || chain.table == user {
            continue;
        }
        if chain.table == "firewalld" {
            found.firewalld = true;
            continue;
        }
        // One that is gone meanwhile is an event by itself.
        let Ok(rules) = nft::rules(socket, chain.family, &chain.table, &chain.name) else {
            continue;
        };
        if is_iptables(chain) {
            if let Err(error) = amend(socket, chain, &rules, tag, links) {
                found.warnings.push(format!(
                    "containers may be cut off: no accept rule could be added to iptables' chain FORWARD: {error}"
                ));
            }
        } else {
            found.warnings.extend(judge(chain, &rules, links));
        }
    }
    found
}

fn amend(
    socket: &mut Socket,
    chain: &BaseChain,
    rules: &[Rule],
    tag: &str,
    links: &BTreeSet<String>,
) -> Result<(), sys::netlink::Error> {
    let ours = |rule: &&Rule| rule.comment.as_deref() == Some(tag);
    // A chain that lets everything pass needs nothing of us.
    let needed = chain.drops || !rules.iter().all(|rule| ours(&rule));
    let wanted = if needed { patterns(links) } else { Vec::new() };
    let (lacks, _) = missing(rules.iter().map(seen), &wanted);
    let mut transaction = Transaction::default();
    for rule in rules.iter().filter(ours) {
        let stale = match rule.links.as_slice() {
            [one] => !wanted.contains(one) || lacks.contains(&one),
            _ => true,
        };
        if stale {
            transaction.delete_rule(chain.family, &chain.table, &chain.name, rule.handle);
        }
    }
    // Each goes to the head: the last one inserted is the first.
    for pattern in lacks.into_iter().rev() {
        let rule = accept(pattern);
        transaction.insert_rule(chain.family, &chain.table, &chain.name, &rule, tag);
    }
    transaction.commit(socket)
}

fn accept((incoming, bytes): &Pattern) -> Vec<Expr> {
    let mut rule = Expr::link_bytes(*incoming, bytes).to_vec();
    rule.push(Expr::Counter);
    rule.push(Expr::Verdict(Verdict::Accept));
    rule
}

/// A chain of the administrator's: a warning when packets of our bridges don't get through.
fn judge(chain: &BaseChain, rules: &[Rule], links: &BTreeSet<String>) -> Option<String> {
    let wanted: Vec<Pattern> = each(links);
    let (lacks, drops) = missing(rules.iter().map(seen), &wanted);
    if lacks.is_empty() || !(chain.drops || drops) {
        return None;
    }
    let family = chain.family.as_str();
    let (table, name) = (&chain.table, &chain.name);
    let line = |key: &str, link: &str| {
        format!("insert rule {family} {table} {name} {key} \"{link}\" accept")
    };
    let lines: Vec<String> = patterns(links)
        .into_iter()
        .map(|(incoming, bytes)| {
            let text = String::from_utf8_lossy(&bytes);
            let key = if incoming { "iifname" } else { "oifname" };
            match text.strip_suffix('\0') {
                Some(whole) => line(key, whole),
                None => line(key, &format!("{PREFIX}*")),
            }
        })
        .collect();
    Some(format!(
        "chain {name} of nftables table {family} {table} drops forwarded packets, those of containers too where no rule of its own lets them pass; to let all pass: nft '{}'",
        lines.join("; ")
    ))
}
