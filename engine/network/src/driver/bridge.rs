//! The bridge driver: a bridge in the host, a veth pair an endpoint, masquerading to the outside.
//! Plans only.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{BridgePlan, Capabilities, Driver, Element, JoinPlan, LinkKind, LinkPlan, NetworkPlan};
use crate::types::{BridgeLink, Endpoint, Network, NetworkSpec};
use crate::validate::{go_bool, mac};
use crate::{Error, Result};

/// The kernel's limit of ports on one bridge.
pub const MAX_PORTS: usize = 1023;

const NAME: &str = "com.docker.network.bridge.name";
const ICC: &str = "com.docker.network.bridge.enable_icc";
const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
const DEFAULT: &str = "com.docker.network.bridge.default_bridge";
const BINDING: &str = "com.docker.network.bridge.host_binding_ipv4";
const INHIBIT: &str = "com.docker.network.bridge.inhibit_ipv4";
const MODE4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
const MODE6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
const MTU: &str = "com.docker.network.driver.mtu";

/// The bridge driver.
#[derive(Clone, Copy, Debug)]
pub struct Bridge;

/// A network's options, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Options {
    name: Option<String>,
    icc: bool,
    masquerade: bool,
    mtu: Option<u32>,
    inhibit: bool,
}

impl Options {
    fn parse(all: &BTreeMap<String, String>) -> Result<Self> {
        let flag = |key: &str, otherwise: bool| {
            all.get(key).map_or(Ok(otherwise), |text| go_bool(key, text))
        };
        for (key, text) in all {
            match key.as_str() {
                MODE4 | MODE6 => match text.as_str() {
                    "" | "nat" => {}
                    "routed" | "nat-unprotected" | "isolated" => {
                        return Err(Error::Unsupported(format!("{key}={text}")));
                    }
                    other => {
                        return Err(Error::Invalid(format!(
                            "failed to parse {key} value: {other} (unknown gateway mode {other})"
                        )));
                    }
                },
                "com.docker.network.bridge.trusted_host_interfaces"
                | "com.docker.network.container_iface_prefix" => {
                    return Err(Error::Unsupported(format!("network option {key}")));
                }
                // A stock daemon ignores options that it does not know; so do callers rely on it.
                _ => {}
            }
        }
        if let Some(text) = all.get(BINDING)
            && text.parse::<IpAddr>().is_err()
        {
            return Err(Error::Invalid(format!(
                "failed to parse {BINDING} value: {text} (invalid ip)"
            )));
        }
        let mtu = all
            .get(MTU)
            .map(|text| {
                text.parse::<u32>().map_err(|_| {
                    Error::Invalid(format!(
                        "failed to parse {MTU} value: {text} (strconv.Atoi: parsing {text:?}: invalid syntax)"
                    ))
                })
            })
            .transpose()?
            .filter(|mtu| *mtu != 0);
        flag(DEFAULT, false)?;
        Ok(Self {
            name: all.get(NAME).filter(|n| !n.is_empty()).cloned(),
            icc: flag(ICC, true)?,
            masquerade: flag(MASQUERADE, true)?,
            mtu,
            inhibit: flag(INHIBIT, false)?,
        })
    }
}

fn link(network: &Network) -> Result<&BridgeLink> {
    network.link.as_ref().ok_or_else(|| {
        Error::Invalid(format!("the record of network {} names no bridge", network.name))
    })
}

impl Driver for Bridge {
    fn name(&self) -> &'static str {
        "bridge"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { addresses: true, many: true }
    }

    fn create_network(&self, _: &NetworkSpec, network: &mut Network) -> Result<()> {
        let options = Options::parse(&network.options)?;
        for v4 in [true, false] {
            if network.pools.iter().filter(|p| p.subnet.is_ipv4() == v4).count() > 1 {
                return Err(Error::Refused(
                    "bridge driver doesn't support multiple subnets".to_owned(),
                ));
            }
        }
        let id = network.id.as_str();
        let name = options.name.unwrap_or_else(|| format!("ferry-{}", &id[..9]));
        if name.len() > sys::netlink::route::MAX_LINK_NAME
            || name.contains(['/', ' '])
            || name == "."
            || name == ".."
        {
            return Err(Error::kernel(
                format!("bridge name {name}"),
                std::io::Error::from_raw_os_error(34),
            ));
        }
        // The id is random, so the MAC is; it is fixed so that it never follows the ports.
        let mut address = [0x02, 0x42, 0, 0, 0, 0];
        for (at, byte) in address[2..].iter_mut().enumerate() {
            *byte = u8::from_str_radix(&id[at * 2..at * 2 + 2], 16).unwrap_or(0);
        }
        network.link = Some(BridgeLink { name, mac: address });
        Ok(())
    }

    fn network_plan(&self, network: &Network) -> Result<NetworkPlan> {
        let options = Options::parse(&network.options)?;
        let link = link(network)?;
        let mut elements = vec![Element::Bridge(link.name.clone())];
        if options.icc {
            elements.push(Element::Intra(link.name.clone(), link.name.clone()));
        }
        if network.internal {
            elements.push(Element::Internal(link.name.clone()));
        } else if options.masquerade {
            elements.extend(network.pools.iter().map(|p| Element::Masquerade(p.subnet)));
        }
        let addresses = network
            .pools
            .iter()
            .filter(|p| !(options.inhibit && p.subnet.is_ipv4()))
            .filter_map(|p| Some((p.gateway?, p.subnet.len())))
            .collect();
        let bridge =
            BridgePlan { name: link.name.clone(), mac: link.mac, mtu: options.mtu, addresses };
        Ok(NetworkPlan { bridge: Some(bridge), elements, own_namespace: None })
    }

    fn join(&self, network: &Network, endpoint: &Endpoint) -> Result<JoinPlan> {
        let options = Options::parse(&network.options)?;
        let link = link(network)?;
        let address = mac(&endpoint.mac)
            .ok_or_else(|| Error::Invalid(format!("invalid MAC address {}", endpoint.mac)))?;
        let mut addresses: Vec<(IpAddr, u8)> = Vec::new();
        addresses.extend(endpoint.ipv4.map(|(a, len)| (IpAddr::V4(a), len)));
        addresses.extend(endpoint.ipv6.map(|(a, len)| (IpAddr::V6(a), len)));
        let mut sysctls = Vec::new();
        if endpoint.ipv6.is_some() {
            sysctls.push(("net.ipv6.conf.IFNAME.disable_ipv6".to_owned(), "0".to_owned()));
        }
        let kind = LinkKind::Veth {
            host_name: host_link(endpoint),
            bridge: link.name.clone(),
            isolated: !options.icc,
        };
        Ok(JoinPlan {
            links: vec![LinkPlan {
                kind,
                target_name: endpoint.interface.clone(),
                mac: address,
                mtu: options.mtu,
                addresses,
            }],
            sysctls,
            elements: publish(endpoint),
            default_route: !network.internal,
            ..JoinPlan::default()
        })
    }
}

/// The host's end is named after the endpoint, whose id is never used again.
fn host_link(endpoint: &Endpoint) -> String {
    format!("veth{}", &endpoint.id.as_str()[..11])
}

fn publish(endpoint: &Endpoint) -> Vec<Element> {
    let to = |v4: bool| {
        if v4 {
            endpoint.ipv4.map(|(a, _)| IpAddr::V4(a))
        } else {
            endpoint.ipv6.map(|(a, _)| IpAddr::V6(a))
        }
    };
    endpoint
        .ports
        .iter()
        .filter_map(|port| {
            Some(Element::Publish {
                protocol: port.protocol.number(),
                host_ip: port.host_ip,
                host_port: port.host_port,
                to: to(port.host_ip.is_ipv4())?,
                to_port: port.container_port,
            })
        })
        .collect()
}

/// The MAC that follows from an address: the same container address always has the same one, so
/// neighbours' caches stay right when an address is used again.
pub(crate) fn mac_of(v4: Option<std::net::Ipv4Addr>, v6: Option<std::net::Ipv6Addr>) -> [u8; 6] {
    let tail = match (v4, v6) {
        (Some(a), _) => a.octets(),
        (None, Some(a)) => {
            let o = a.octets();
            [o[12], o[13], o[14], o[15]]
        }
        (None, None) => [0; 4],
    };
    [0x02, 0x42, tail[0], tail[1], tail[2], tail[3]]
}
