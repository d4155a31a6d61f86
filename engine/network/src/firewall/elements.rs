//! What an element of a plan is in the kernel: which set or map of which family, and its bytes.

use std::collections::BTreeSet;
use std::net::IpAddr;

use sys::nft::{Element as Raw, Family, types};

use crate::driver::Element;

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

/// The sets and maps that an element is in, with its bytes.
///
/// `open_any` is shared by published ports of several host addresses: it goes with the last, which
/// `others` tell, those that change `together` left out.
pub(super) fn raw(
    element: &Element,
    others: &BTreeSet<Element>,
    together: &[Element],
) -> Vec<(Family, &'static str, Raw)> {
    match element {
        Element::Bridge(name) => both("br", &types::ifname(name)),
        Element::Internal(name) => both("internal", &types::ifname(name)),
        Element::Guests(name) => both("guests", &types::ifname(name)),
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
    [Family::Ip, Family::Ip6].into_iter().map(|family| (family, set, plain(key.to_vec()))).collect()
}
