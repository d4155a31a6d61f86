//! What others have in nf_tables, as far as the network crate must know it: base chains at a hook
//! and the rules of one chain. Nothing is changed here.

use crate::netlink::message::{Attributes, F_ACK, F_DUMP};
use crate::netlink::{Batch, Error, Socket};

use super::{Family, GETCHAIN, GETRULE, GETTABLE, NEWCHAIN, NEWRULE, NEWTABLE, header};

/// A chain at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseChain {
    /// The table's family.
    pub family: Family,
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub name: String,
    /// The hook's number.
    pub hook: u32,
    /// Its order.
    pub priority: i32,
    /// Whether packets that no rule judged are dropped.
    pub drops: bool,
}

/// What becomes of a packet that a rule fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It passes this chain.
    Accept,
    /// It is dropped, or refused.
    Drop,
    /// Another chain judges, or it goes on.
    Other,
}

/// A rule, as far as telling its effect on packets of a link needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its handle within the table.
    pub handle: u64,
    /// For each comparison of a link's name: whether of the incoming link, and the bytes that it
    /// begins with, a final zero included where the whole name counts.
    pub links: Vec<(bool, Vec<u8>)>,
    /// What it does.
    pub end: End,
    /// Whether it also asks something else of the packet.
    pub more: bool,
    /// Its comment.
    pub comment: Option<String>,
}

fn u64_of(attrs: Attributes<'_>, kind: u16) -> Option<u64> {
    Some(u64::from_be_bytes(attrs.get(kind)?.try_into().ok()?))
}

/// A table, as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    /// `TABLE_…`
    pub flags: u32,
    /// How many chains, sets and other objects it holds.
    pub objects: u32,
}

/// The table of this name, if there is one.
pub fn table(socket: &mut Socket, family: Family, table: &str) -> Result<Option<Table>, Error> {
    let mut batch = Batch::default();
    batch
        .message(GETTABLE, F_ACK, format!("find table {table}"))
        .fixed(&header(family.number()))
        .text(1, table);
    let mut found = None;
    let got = socket.get(batch, |h, body| {
        if h.kind == NEWTABLE {
            let attrs = Attributes::new(body.get(4..).unwrap_or(&[]));
            let number = |kind| attrs.be32(kind).unwrap_or(0);
            found = Some(Table { flags: number(2), objects: number(3) });
        }
    });
    match got {
        Ok(()) => Ok(found),
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// All chains at the hook with this number, of the families ip, ip6 and inet.
pub fn base_chains(socket: &mut Socket, hook: u32) -> Result<Vec<BaseChain>, Error> {
    socket.dump(
        |batch| {
            batch.message(GETCHAIN, F_DUMP, "dump of chains").fixed(&header(0));
        },
        |found: &mut Vec<BaseChain>, head, body| {
            if head.kind == NEWCHAIN {
                found.extend(parse_chain(body).filter(|c| c.hook == hook));
            }
        },
    )
}

fn parse_chain(body: &[u8]) -> Option<BaseChain> {
    let family = Family::from_number(*body.first()?)?;
    let attrs = Attributes::new(body.get(4..)?);
    let hook = attrs.nested(4)?;
    Some(BaseChain {
        family,
        table: attrs.text(1)?.to_owned(),
        name: attrs.text(3)?.to_owned(),
        hook: hook.be32(1)?,
        priority: hook.be32(2)? as i32,
        drops: attrs.be32(5) == Some(0),
    })
}

/// The rules of one chain, in order.
pub fn rules(
    socket: &mut Socket,
    family: Family,
    table: &str,
    chain: &str,
) -> Result<Vec<Rule>, Error> {
    socket.dump(
        |batch| {
            batch
                .message(GETRULE, F_DUMP, format!("dump of rules of {table} {chain}"))
                .fixed(&header(family.number()))
                .text(1, table)
                .text(2, chain);
        },
        |found: &mut Vec<Rule>, head, body| {
            if head.kind == NEWRULE {
                let attrs = Attributes::new(body.get(4..).unwrap_or(&[]));
                // Old kernels ignore the filter of a dump.
                if attrs.text(1) == Some(table) && attrs.text(2) == Some(chain) {
                    found.extend(parse_rule(attrs));
                }
            }
        },
    )
}

fn parse_rule(attrs: Attributes<'_>) -> Option<Rule> {
    let mut rule = Rule {
        handle: u64_of(attrs, 3)?,
        links: Vec::new(),
        end: End::Other,
        more: false,
        comment: attrs.get(7).and_then(comment),
    };
    let mut loaded = None;
    for (_, element) in attrs.nested(4).into_iter().flatten() {
        let element = Attributes::new(element);
        let name = element.text(1).unwrap_or_default();
        let Some(data) = element.nested(2) else {
            // An expression without parameters: refusing has some, counting may have none.
            rule.more |= name != "counter";
            continue;
        };
        match name {
            "meta" => {
                loaded = match data.be32(2) {
                    Some(6) => Some(true),
                    Some(7) => Some(false),
                    _ => None,
                };
            }
            "cmp" => {
                let equal = data.be32(2) == Some(0);
                match (loaded.take(), data.nested(3).and_then(|d| d.get(1))) {
                    (Some(incoming), Some(bytes)) if equal => {
                        rule.links.push((incoming, bytes.to_vec()));
                    }
                    _ => rule.more = true,
                }
            }
            "immediate" => {
                let verdict = data.nested(2).and_then(|d| d.nested(2)).and_then(|v| v.be32(1));
                match verdict {
                    Some(1) => rule.end = End::Accept,
                    Some(0) => rule.end = End::Drop,
                    Some(_) => {}
                    None => rule.more = true,
                }
            }
            "reject" => rule.end = End::Drop,
            // A module of iptables'; the others' packets go on, or it is not ours to say.
            "target" if data.text(1) == Some("REJECT") => rule.end = End::Drop,
            "target" | "counter" | "log" => {}
            "match" if data.text(1) == Some("comment") => {}
            _ => rule.more = true,
        }
    }
    Some(rule)
}

/// The comment among a rule's notes: type, length, value, one after the other.
fn comment(mut notes: &[u8]) -> Option<String> {
    while let [kind, len, rest @ ..] = notes {
        let value = rest.get(..usize::from(*len))?;
        if *kind == 0 {
            let text = value.split(|byte| *byte == 0).next()?;
            return String::from_utf8(text.to_vec()).ok();
        }
        notes = &rest[usize::from(*len)..];
    }
    None
}
