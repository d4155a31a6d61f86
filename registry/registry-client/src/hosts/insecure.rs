//! Registries that need not be verified: hosts and networks, as `--insecure-registry`
//! takes them. Loopback is always among them, as with docker.

use std::net::IpAddr;

/// The list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insecure {
    hosts: Vec<String>,
    networks: Vec<Network>,
}

/// Why an entry can't be used; in docker's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidInsecure(String);

impl Default for Insecure {
    fn default() -> Self {
        let loopback = [("127.0.0.0".parse(), 8), ("::1".parse(), 128)];
        let networks = loopback
            .into_iter()
            .filter_map(|(address, bits)| address.ok().map(|address| Network { address, bits }));
        Self { hosts: Vec::new(), networks: networks.collect() }
    }
}

impl Insecure {
    /// Nobody, not even loopback: for who was told a scheme and means it.
    pub const fn none() -> Self {
        Self { hosts: Vec::new(), networks: Vec::new() }
    }

    /// Loopback and `entries`; each a network, or a host with perhaps a port.
    pub fn new<S: AsRef<str>>(entries: &[S]) -> Result<Self, InvalidInsecure> {
        let mut list = Self::default();
        for entry in entries {
            list.add(entry.as_ref())?;
        }
        Ok(list)
    }

    fn add(&mut self, entry: &str) -> Result<(), InvalidInsecure> {
        // Docker strips these with a warning, and refuses any other scheme.
        let lower = entry.to_ascii_lowercase();
        let at =
            ["http://", "https://"].iter().find(|s| lower.starts_with(**s)).map_or(0, |s| s.len());
        let entry = &entry[at..];
        if entry.contains("://") {
            let why = format!("insecure registry {entry} should not contain '://'");
            return Err(InvalidInsecure(why));
        }
        if entry.starts_with('-') || entry.ends_with('-') {
            let why = format!("invalid index name ({entry}). Cannot begin or end with a hyphen");
            return Err(InvalidInsecure(why));
        }
        if let Some(network) = Network::parse(entry) {
            self.networks.push(network);
            return Ok(());
        }
        check_host(entry).map_err(|why| {
            InvalidInsecure(format!("insecure registry {entry} is not valid: {why}"))
        })?;
        self.hosts.push(entry.to_ascii_lowercase());
        Ok(())
    }

    /// Whether this host, with exactly this port if it has one, is listed.
    pub fn names(&self, authority: &str) -> bool {
        self.hosts.iter().any(|host| host.eq_ignore_ascii_case(authority))
    }

    /// Whether an address lies in a listed network.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Whether there is a network that a host's addresses have to be held against. A name
    /// that resolves to loopback counts, so this is always true for the default.
    pub fn has_networks(&self) -> bool {
        !self.networks.is_empty()
    }

    /// The networks, as docker shows them.
    pub fn networks(&self) -> Vec<String> {
        self.networks
            .iter()
            .map(|network| format!("{}/{}", network.address, network.bits))
            .collect()
    }

    /// The hosts, as docker shows them.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }
}

fn check_host(entry: &str) -> Result<(), String> {
    let (host, port) = match split(entry) {
        Some((host, port)) => (host, port),
        None => (entry, ""),
    };
    let bare = entry.rsplit_once(':').filter(|(_, port)| !port.is_empty() && digits(port));
    let name = bare.map_or(entry, |(host, _)| host);
    let is_name = !name.is_empty() && name.split('.').all(is_label);
    if !is_name && host.parse::<IpAddr>().is_err() {
        return Err(format!("invalid host {host:?}"));
    }
    if !port.is_empty() && !port.parse::<u32>().is_ok_and(|port| port <= 65535) {
        return Err(format!("invalid port {port:?}"));
    }
    Ok(())
}

/// `host:port` and `[v6]:port`; `None` for a host alone.
fn split(entry: &str) -> Option<(&str, &str)> {
    let (host, port) = entry.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(host) => Some((host.strip_suffix(']')?, port)),
        None if host.contains(':') => None,
        None => Some((host, port)),
    }
}

fn digits(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// An address and how many of its bits count. Also what `NO_PROXY` may list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits) = (address.parse::<IpAddr>().ok()?, bits.parse().ok()?);
        let most = if address.is_ipv4() { 32 } else { 128 };
        (bits <= most).then_some(Self { address, bits })
    }

    pub(crate) fn contains(&self, other: IpAddr) -> bool {
        let other = other.to_canonical();
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => same(
                u128::from(own.to_bits()),
                u128::from(other.to_bits()),
                32 - u32::from(self.bits),
            ),
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                same(own.to_bits(), other.to_bits(), 128 - u32::from(self.bits))
            }
            _ => false,
        }
    }
}

/// Equal but for the lowest `free` bits.
fn same(a: u128, b: u128, free: u32) -> bool {
    (a ^ b).checked_shr(free).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_checked_in_dockers_words() {
        for (entry, error) in [
            ("foo:99999", r#"insecure registry foo:99999 is not valid: invalid port "99999""#),
            (
                "10.0.0.0/33",
                r#"insecure registry 10.0.0.0/33 is not valid: invalid host "10.0.0.0/33""#,
            ),
            ("a/b", r#"insecure registry a/b is not valid: invalid host "a/b""#),
            ("foo:x", r#"insecure registry foo:x is not valid: invalid host "foo""#),
            ("", r#"insecure registry  is not valid: invalid host """#),
            ("a b", r#"insecure registry a b is not valid: invalid host "a b""#),
            ("foo/", r#"insecure registry foo/ is not valid: invalid host "foo/""#),
            ("ftp://foo", "insecure registry ftp://foo should not contain '://'"),
            ("-x", "invalid index name (-x). Cannot begin or end with a hyphen"),
        ] {
            assert_eq!(Insecure::new(&[entry]).unwrap_err().to_string(), error);
        }
        for entry in ["foo", "foo:5000", "::1", "[::1]:5000", "10.0.0.0/8", "fd00::/8", "foo:0"] {
            assert!(Insecure::new(&[entry]).is_ok(), "{entry}");
        }
    }

    #[test]
    fn hosts_match_with_their_port_and_networks_by_address() {
        let list = Insecure::new(&["Reg.io:5000", "http://plain.io", "10.1.0.0/16"]).unwrap();
        assert!(list.names("reg.io:5000") && list.names("plain.io"));
        assert!(!list.names("reg.io") && !list.names("plain.io:5000"));
        for (address, inside) in [
            ("127.1.2.3", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("10.1.255.255", true),
            ("10.2.0.0", false),
            ("::2", false),
        ] {
            assert_eq!(list.contains(address.parse().unwrap()), inside, "{address}");
        }
        let all = Insecure::new(&["0.0.0.0/0"]).unwrap();
        assert!(all.contains("8.8.8.8".parse().unwrap()));
    }
}
