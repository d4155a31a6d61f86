//! Deleting connection-tracking entries (nfnetlink_conntrack): when an address or a published port
//! changes hands, old flows must not reach the new holder. Reading and accounting are not here.

use std::net::IpAddr;

use super::message::{Attributes, Batch, F_ACK, F_DUMP};
use super::socket::{Error, Socket};

const SUBSYS_CTNETLINK: u16 = 1;
const MSG_GET: u16 = (SUBSYS_CTNETLINK << 8) | 1;
const MSG_DELETE: u16 = (SUBSYS_CTNETLINK << 8) | 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;

/// One tracked flow, as far as matching needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Source of the first packet.
    pub source: Option<IpAddr>,
    /// Destination of the first packet, before translation.
    pub destination: Option<IpAddr>,
    /// Who answers, after translation.
    pub reply_source: Option<IpAddr>,
    /// The IP protocol's number.
    pub protocol: u8,
    /// Destination port of the first packet.
    pub destination_port: Option<u16>,
}

#[derive(Default)]
struct Found(Vec<Batch>);

/// Deletes all entries of the family of `v4` that `matches`; the count of those deleted.
///
/// One that ended meanwhile is no error.
pub fn delete(
    socket: &mut Socket,
    v4: bool,
    matches: impl Fn(&Flow) -> bool,
) -> Result<usize, Error> {
    let family = [if v4 { libc::AF_INET as u8 } else { libc::AF_INET6 as u8 }, 0, 0, 0];
    let found: Found = socket.dump(
        |batch| {
            batch.message(MSG_GET, F_DUMP, "dump of tracked connections").fixed(&family);
        },
        |found: &mut Found, _, body| {
            let attrs = Attributes::new(body.get(4..).unwrap_or(&[]));
            if !matches(&parse(attrs)) {
                return;
            }
            let mut batch = Batch::default();
            let mut message =
                batch.message(MSG_DELETE, F_ACK, "delete a tracked connection").fixed(&family);
            if let Some(tuple) = attrs.get(CTA_TUPLE_ORIG) {
                message = message.attr(CTA_TUPLE_ORIG | 0x8000, tuple);
            }
            if let Some(id) = attrs.get(CTA_ID) {
                message.attr(CTA_ID, id);
            }
            found.0.push(batch);
        },
    )?;
    let mut count = 0;
    for batch in found.0 {
        match socket.request(batch) {
            Ok(()) => count += 1,
            Err(e) if e.errno() == Some(libc::ENOENT) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(count)
}

fn parse(attrs: Attributes<'_>) -> Flow {
    let mut flow = Flow::default();
    if let Some(tuple) = attrs.nested(CTA_TUPLE_ORIG) {
        if let Some(ip) = tuple.nested(CTA_TUPLE_IP) {
            flow.source = address(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC);
            flow.destination = address(ip, CTA_IP_V4_DST, CTA_IP_V6_DST);
        }
        if let Some(proto) = tuple.nested(CTA_TUPLE_PROTO) {
            flow.protocol = proto.get(CTA_PROTO_NUM).and_then(|b| b.first().copied()).unwrap_or(0);
            flow.destination_port = proto
                .get(CTA_PROTO_DST_PORT)
                .and_then(|b| Some(u16::from_be_bytes(b.try_into().ok()?)));
        }
    }
    if let Some(ip) = attrs.nested(CTA_TUPLE_REPLY).and_then(|t| t.nested(CTA_TUPLE_IP)) {
        flow.reply_source = address(ip, CTA_IP_V4_SRC, CTA_IP_V6_SRC);
    }
    flow
}

fn address(attrs: Attributes<'_>, four: u16, six: u16) -> Option<IpAddr> {
    if let Some(bytes) = attrs.get(four) {
        return Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?));
    }
    Some(IpAddr::from(<[u8; 16]>::try_from(attrs.get(six)?).ok()?))
}
