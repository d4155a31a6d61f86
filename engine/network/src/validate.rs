//! From what a client wrote to checked values, with the texts that clients match. Pure.

use std::net::IpAddr;

use ipam::Prefix;

use crate::types::{EndpointSpec, IpamPool, IpamSpec, Network, NetworkSpec, Pool};
use crate::{Error, Result};

/// Joins findings as Go's multi-errors are shown: one plain, several as a list.
fn findings(title: &str, all: &[String]) -> Result<()> {
    match all {
        [] => Ok(()),
        [one] => Err(Error::Invalid(format!("{title}:\n{one}"))),
        many => {
            let list: Vec<String> = many.iter().map(|f| format!("* {f}")).collect();
            Err(Error::Invalid(format!("{title}:\n{}", list.join("\n"))))
        }
    }
}

/// The pools of a create; a pool without a subnet comes back in `None`, to be chosen.
pub(crate) fn pools(ipam: &IpamSpec) -> Result<Vec<(Option<Pool>, IpamPool)>> {
    let mut wrong = Vec::new();
    let mut out = Vec::new();
    for written in &ipam.config {
        let pool = pool(written, &mut wrong);
        out.push((pool, written.clone()));
    }
    findings("invalid network config", &wrong)?;
    Ok(out)
}

fn pool(written: &IpamPool, wrong: &mut Vec<String>) -> Option<Pool> {
    let subnet = match Prefix::parse_with_address(&written.subnet) {
        Ok((address, prefix)) => {
            if address != prefix.network() {
                wrong.push(format!("invalid subnet {}: it should be {prefix}", written.subnet));
            }
            Some(prefix)
        }
        Err(e) => {
            wrong.push(format!("invalid subnet {}: {e}", written.subnet));
            None
        }
    };
    let within = |address: IpAddr| subnet.is_none_or(|s| s.contains(address));
    let outside =
        || subnet.map(|s| format!("parent subnet {s} doesn't contain")).unwrap_or_default();
    let mut ip_range = None;
    if !written.ip_range.is_empty() {
        match Prefix::parse_with_address(&written.ip_range) {
            Ok((address, range)) => {
                if address != range.network() {
                    wrong.push(format!(
                        "invalid ip-range {}: it should be {range}",
                        written.ip_range
                    ));
                } else if subnet.is_some_and(|s| !s.contains_prefix(&range)) {
                    wrong.push(format!("invalid ip-range {range}: {} ip-range", outside()));
                }
                ip_range = Some(range);
            }
            Err(e) => wrong.push(format!("invalid ip-range {}: {e}", written.ip_range)),
        }
    }
    let mut address = |what: &str, shown: &str, text: &str| match text.parse::<IpAddr>() {
        Ok(a) if within(a) => Some(a),
        Ok(_) => {
            wrong.push(format!("invalid {what} {shown}: {} this address", outside()));
            None
        }
        Err(_) => {
            wrong.push(format!("invalid {what} {shown}: invalid address"));
            None
        }
    };
    let gateway = (!written.gateway.is_empty())
        .then(|| address("gateway", &written.gateway, &written.gateway))
        .flatten();
    let aux_addresses = written
        .aux_addresses
        .iter()
        .filter_map(|(name, text)| Some((name.clone(), address("auxiliary address", name, text)?)))
        .collect();
    Some(Pool {
        subnet: subnet?,
        ip_range,
        gateway,
        aux_addresses,
        show_gateway: gateway.is_some(),
        from_user: true,
    })
}

/// What is wrong with a create whatever networks exist.
pub(crate) fn spec(spec: &NetworkSpec) -> Result<()> {
    if matches!(spec.name.as_str(), "bridge" | "host" | "none" | "default") {
        return Err(Error::Predefined(spec.name.clone()));
    }
    if spec.name.trim().is_empty() {
        return Err(Error::Invalid("invalid name: name is empty".into()));
    }
    if spec.scope == "swarm" {
        return Err(Error::SwarmScope);
    }
    if spec.ingress {
        return Err(Error::IngressScope);
    }
    if spec.driver == "overlay" {
        return Err(Error::NotManager);
    }
    if spec.config_only {
        return Err(Error::Unsupported("a configuration-only network".into()));
    }
    if !spec.config_from.is_empty() {
        return Err(Error::Missing(format!(
            "configuration network {:?} does not exist",
            spec.config_from
        )));
    }
    if spec.enable_ipv4 == Some(false) && spec.enable_ipv6 != Some(true) {
        return Err(Error::Invalid("IPv4 or IPv6 must be enabled".into()));
    }
    match spec.ipam.driver.as_str() {
        "" | "default" => Ok(()),
        "null" => Err(Error::Unsupported("the IPAM driver null".into())),
        other => Err(Error::PluginNotFound(other.to_owned())),
    }
}

/// The static addresses and MAC of an endpoint.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) ipv4: Option<IpAddr>,
    pub(crate) ipv6: Option<IpAddr>,
    pub(crate) mac: Option<[u8; 6]>,
}

/// Checks what a container asks of a network.
pub(crate) fn endpoint(network: &Network, spec: &EndpointSpec) -> Result<Wanted> {
    let mut wrong = Vec::new();
    let mut wanted = Wanted::default();
    let user_defined = !network.predefined();
    if !user_defined && (!spec.ipv4.is_empty() || !spec.ipv6.is_empty()) {
        wrong.push("user specified IP address is supported on user defined networks only".into());
    }
    for (text, v4) in [(&spec.ipv4, true), (&spec.ipv6, false)] {
        if text.is_empty() {
            continue;
        }
        let parsed = text.parse::<IpAddr>().ok().filter(|a| a.is_ipv4() == v4);
        if parsed.is_none() {
            wrong.push(format!("invalid IPv{} address: {text}", if v4 { 4 } else { 6 }));
        }
        let family = || network.pools.iter().filter(move |p| p.subnet.is_ipv4() == v4);
        if !family().any(|p| p.from_user) {
            wrong.push(
                "user specified IP address is supported only when connecting to networks with user configured subnets"
                    .into(),
            );
        } else if !parsed.is_some_and(|a| family().any(|p| p.subnet.contains(a))) {
            wrong.push(format!("no configured subnet or ip-range contain the IP address {text}"));
        }
        if v4 { wanted.ipv4 = parsed } else { wanted.ipv6 = parsed }
    }
    for text in &spec.link_local {
        if text.parse::<IpAddr>().is_err() {
            wrong.push(format!("invalid link-local IP address: {text}"));
        }
    }
    findings("invalid endpoint settings", &wrong)?;
    if !spec.mac.is_empty() {
        let mac = mac(&spec.mac);
        wanted.mac =
            Some(mac.ok_or_else(|| Error::Invalid(format!("invalid MAC address {}", spec.mac)))?);
    }
    if let Some(address) = spec.link_local.first() {
        return Err(Error::Unsupported(format!("link-local address {address}")));
    }
    if let Some(key) = spec.driver_opts.keys().next() {
        return Err(Error::Unsupported(format!("endpoint option {key}")));
    }
    Ok(wanted)
}

/// Parses `02:42:ac:11:00:02` (or with dashes).
pub(crate) fn mac(text: &str) -> Option<[u8; 6]> {
    let mut out = [0; 6];
    let separator = if text.contains('-') { '-' } else { ':' };
    let mut parts = text.split(separator);
    for byte in &mut out {
        let part = parts.next().filter(|p| p.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(out)
}

/// Prints a MAC address.
pub(crate) fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

/// Go's `strconv.ParseBool`, with its error.
pub(crate) fn go_bool(key: &str, text: &str) -> Result<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(Error::Invalid(format!(
            "failed to parse {key} value: {text} (strconv.ParseBool: parsing {text:?}: invalid syntax)"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn one(subnet: &str, range: &str, gateway: &str, aux: &[(&str, &str)]) -> IpamSpec {
        let aux_addresses: BTreeMap<_, _> =
            aux.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let pool = IpamPool {
            subnet: subnet.into(),
            ip_range: range.into(),
            gateway: gateway.into(),
            aux_addresses,
        };
        IpamSpec { config: vec![pool], ..Default::default() }
    }

    #[test]
    fn wrong_pools_are_told_as_the_stock_daemon_tells_them() {
        let title = "invalid network config:\n";
        for (spec, text) in [
            (one("bad", "", "", &[]), "invalid subnet bad: invalid CIDR block notation"),
            (
                one("10.1.2.3/24", "", "", &[]),
                "invalid subnet 10.1.2.3/24: it should be 10.1.2.0/24",
            ),
            (
                one("10.1.2.0/24", "", "10.1.3.1", &[]),
                "invalid gateway 10.1.3.1: parent subnet 10.1.2.0/24 doesn't contain this address",
            ),
            (
                one("10.1.2.0/24", "10.1.3.0/25", "", &[]),
                "invalid ip-range 10.1.3.0/25: parent subnet 10.1.2.0/24 doesn't contain ip-range",
            ),
            (
                one("10.1.2.0/24", "y", "x", &[("a", "z")]),
                "* invalid ip-range y: invalid CIDR block notation\n* invalid gateway x: invalid address\n* invalid auxiliary address a: invalid address",
            ),
            (
                one("10.20.0.0/24", "", "", &[("a", "10.21.0.5")]),
                "invalid auxiliary address a: parent subnet 10.20.0.0/24 doesn't contain this address",
            ),
            (one("", "", "10.9.5.1", &[]), "invalid subnet : invalid CIDR block notation"),
        ] {
            assert_eq!(pools(&spec).unwrap_err().to_string(), format!("{title}{text}"));
        }
    }

    #[test]
    fn a_mac_is_six_pairs() {
        assert_eq!(mac("02:42:ac:11:00:02"), Some([2, 0x42, 0xac, 0x11, 0, 2]));
        assert_eq!(mac("02-42-ac-11-00-02"), Some([2, 0x42, 0xac, 0x11, 0, 2]));
        for bad in ["zz", "", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:0:2"] {
            assert_eq!(mac(bad), None, "{bad}");
        }
    }
}
