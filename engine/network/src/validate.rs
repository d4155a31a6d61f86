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
    let wanted = endpoint_of(&network.name, Some(network), spec)?;
    if let Some(address) = spec.link_local.first() {
        return Err(Error::Unsupported(format!("link-local address {address}")));
    }
    if let Some(key) = spec.driver_opts.keys().next() {
        return Err(Error::Unsupported(format!("endpoint option {key}")));
    }
    Ok(wanted)
}

/// As [`endpoint`], for a network of this name that need not exist yet.
pub(crate) fn endpoint_of(
    name: &str,
    network: Option<&Network>,
    spec: &EndpointSpec,
) -> Result<Wanted> {
    let mut wrong = Vec::new();
    if matches!(name, "bridge" | "host" | "none" | "default") {
        if !spec.ipv4.is_empty() || !spec.ipv6.is_empty() {
            wrong.push(
                "user specified IP address is supported on user defined networks only".into(),
            );
        }
        if spec.has_aliases {
            wrong.push(
                "network-scoped alias is supported only for containers in user defined networks"
                    .into(),
            );
        }
    }
    let parse = |text: &str| text.parse::<IpAddr>().ok().filter(|a| !a.is_unspecified());
    let ipv4 = parse(&spec.ipv4).filter(IpAddr::is_ipv4);
    let ipv6 = parse(&spec.ipv6).filter(IpAddr::is_ipv6);
    for (text, parsed, what) in
        [(&spec.ipv4, ipv4, "IPv4 address"), (&spec.ipv6, ipv6, "IPv6 address")]
    {
        if !text.is_empty() && parsed.is_none() {
            wrong.push(format!("invalid {what}: {text}"));
        }
    }
    for text in spec.link_local.iter().filter(|text| parse(text).is_none()) {
        wrong.push(format!("invalid link-local IP address: {text}"));
    }
    for (text, v4) in [(&spec.ipv4, true), (&spec.ipv6, false)] {
        if let Some(network) = network.filter(|_| !text.is_empty()) {
            wrong.extend(out_of_range(network, text, v4));
        }
    }
    let mac = mac(&spec.mac);
    if !spec.mac.is_empty() && mac.is_none() {
        return Err(Error::Invalid(format!("invalid MAC address {}", spec.mac)));
    }
    let sysctls = spec.driver_opts.get("com.docker.network.endpoint.sysctls");
    wrong.extend(sysctls.into_iter().flat_map(|list| list.split(',')).filter_map(wrong_sysctl));
    findings("invalid endpoint settings", &wrong)?;
    Ok(Wanted { ipv4, ipv6, mac })
}

/// Why an address can't be had of a network: its subnets must be the user's own and hold it.
fn out_of_range(network: &Network, text: &str, v4: bool) -> Option<String> {
    let of_user = |p: &&Pool| p.subnet.is_ipv4() == v4 && p.from_user;
    let mut pools = network.pools.iter().filter(of_user).peekable();
    if pools.peek().is_none() {
        return Some("user specified IP address is supported only when connecting to networks with user configured subnets".into());
    }
    let address = text.parse::<IpAddr>().ok();
    let held = pools.any(|p| address.is_some_and(|a| p.subnet.contains(a)));
    (!held).then(|| format!("no configured subnet or ip-range contain the IP address {text}"))
}

/// Why a kernel setting is none of an interface's.
fn wrong_sysctl(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.splitn(5, '.').collect();
    if matches!(parts[..], [_, "ipv4" | "ipv6" | "mpls", _, "IFNAME" | "ifname", _]) {
        return None;
    }
    Some(format!(
        "unrecognised network interface sysctl '{text}'; represent 'net.X.Y.ethN.Z=V' as 'net.X.Y.IFNAME.Z=V', 'X' must be 'ipv4', 'ipv6' or 'mpls'"
    ))
}

/// Parses `02:42:ac:11:00:02`, also with dashes, or as `0242.ac11.0002`.
pub(crate) fn mac(text: &str) -> Option<[u8; 6]> {
    let mut out = [0; 6];
    if text.contains('.') {
        let mut words = text.split('.');
        for pair in out.chunks_exact_mut(2) {
            let word = words.next().filter(|w| w.len() == 4)?;
            pair.copy_from_slice(&u16::from_str_radix(word, 16).ok()?.to_be_bytes());
        }
        return words.next().is_none().then_some(out);
    }
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
        assert_eq!(mac("0242.ac11.0002"), Some([2, 0x42, 0xac, 0x11, 0, 2]));
        for bad in ["zz", "", "02:42:ac:11:00", "02:42:ac:11:00:02:03", "2:42:ac:11:0:2"] {
            assert_eq!(mac(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_endpoint_is_checked_also_for_a_network_that_does_not_exist_yet() {
        let text = |name: &str, spec: &EndpointSpec| {
            endpoint_of(name, None, spec).unwrap_err().to_string()
        };
        let spec = EndpointSpec {
            ipv4: "::1".into(),
            ipv6: "::".into(),
            link_local: vec!["x".into()],
            ..EndpointSpec::default()
        };
        assert_eq!(
            text("n", &spec),
            "invalid endpoint settings:\n* invalid IPv4 address: ::1\n* invalid IPv6 address: ::\n* invalid link-local IP address: x"
        );
        let alias = EndpointSpec { has_aliases: true, ..EndpointSpec::default() };
        assert!(endpoint_of("n", None, &alias).is_ok());
        assert_eq!(
            text("bridge", &alias),
            "invalid endpoint settings:\nnetwork-scoped alias is supported only for containers in user defined networks"
        );
        let mac = EndpointSpec { mac: "x".into(), ..EndpointSpec::default() };
        assert_eq!(text("bridge", &mac), "invalid MAC address x");
        for (sysctl, good) in [("net.ipv4.conf.IFNAME.forwarding=1", true), ("net.ipv4.x=1", false)]
        {
            let key = "com.docker.network.endpoint.sysctls".to_owned();
            let driver_opts = [(key, sysctl.to_owned())].into();
            let spec = EndpointSpec { driver_opts, ..EndpointSpec::default() };
            assert_eq!(endpoint_of("n", None, &spec).is_ok(), good, "{sysctl}");
        }
    }
}
