//! `/etc/resolv.conf` for a container, from the host's and what the container overrides.

use std::net::IpAddr;

/// systemd-resolved's address for programs of the host: no container reaches it.
pub const STUB: &str = "127.0.0.53";
/// What the stub asks; read in place of the host's file when that names the stub alone.
pub const STUB_TARGET: &str = "/run/systemd/resolve/resolv.conf";

const GOOGLE4: [&str; 2] = ["8.8.8.8", "8.8.4.4"];
const GOOGLE6: [&str; 2] = ["2001:4860:4860::8888", "2001:4860:4860::8844"];

/// The host's file that the content is based on.
#[derive(Clone, Copy, Debug)]
pub struct HostResolv<'a> {
    /// Its path, named in a comment.
    pub path: &'a str,
    /// What it says.
    pub content: &'a str,
}

/// What `--dns`, `--dns-search`, `--dns-opt` (or the daemon's own settings) say.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Servers; empty: the host's.
    pub servers: Vec<String>,
    /// Search domains; empty: the host's; a single `.`: none.
    pub search: Vec<String>,
    /// Options; empty: the host's.
    pub options: Vec<String>,
}

/// Which servers a container can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResolvMode {
    /// The host's network: the file as it is.
    Host,
    /// Servers are asked from the container: loopback ones are of no use there, nor IPv6 ones
    /// without IPv6.
    Direct {
        /// Whether the container has IPv6.
        ipv6: bool,
    },
    /// The engine's resolver at 127.0.0.11 asks them.
    Internal,
}

/// Whether the host's file names systemd's stub and nothing else.
pub fn uses_stub(content: &str) -> bool {
    let parsed = Parsed::from(content);
    matches!(parsed.servers.as_slice(), [one] if one == STUB)
}

#[derive(Default)]
struct Parsed {
    servers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
    other: Vec<String>,
}

impl From<&str> for Parsed {
    fn from(content: &str) -> Self {
        let mut out = Self::default();
        for line in content.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_whitespace();
            let key = words.next().unwrap_or_default();
            let rest: Vec<String> = words.map(str::to_owned).collect();
            match key {
                "nameserver" => {
                    out.servers.extend(rest.into_iter().next().filter(|s| is_address(s)));
                }
                "search" | "domain" => out.search = rest,
                "options" => out.options.extend(rest),
                _ => out.other.push(line.to_owned()),
            }
        }
        out
    }
}

fn address(text: &str) -> Option<IpAddr> {
    text.split('%').next()?.parse().ok()
}

fn is_address(text: &str) -> bool {
    address(text).is_some()
}

/// The file's content.
pub fn resolv_conf(host: HostResolv<'_>, overrides: &Overrides, mode: ResolvMode) -> String {
    let mut parsed = Parsed::from(host.content);
    let mut overridden = Vec::new();
    let from_host = overrides.servers.is_empty();
    if !from_host {
        parsed.servers.clone_from(&overrides.servers);
        overridden.push("nameservers");
    }
    if !overrides.search.is_empty() {
        parsed.search = overrides.search.iter().filter(|s| *s != ".").cloned().collect();
        overridden.push("search");
    }
    let mut ndots = has_ndots(&parsed.options).then_some("host");
    if !overrides.options.is_empty() {
        parsed.options.clone_from(&overrides.options);
        overridden.push("options");
        ndots = has_ndots(&parsed.options).then_some("override");
    }
    let mut external = None;
    let mut defaults = false;
    match mode {
        ResolvMode::Host => {}
        ResolvMode::Direct { ipv6 } if from_host => {
            parsed.servers.retain(|s| reachable(s, ipv6));
            if parsed.servers.is_empty() {
                defaults = true;
                let six = if ipv6 { &GOOGLE6[..] } else { &[] };
                parsed.servers = GOOGLE4.iter().chain(six).map(|s| (*s).to_owned()).collect();
            }
        }
        ResolvMode::Direct { .. } => {}
        ResolvMode::Internal => {
            let shown: Vec<String> = parsed
                .servers
                .iter()
                .map(|s| if from_host { format!("host({s})") } else { s.clone() })
                .collect();
            external = Some(shown.join(" "));
            parsed.servers = vec!["127.0.0.11".to_owned()];
            if ndots.is_none() {
                parsed.options.push("ndots:0".to_owned());
                ndots = Some("internal");
            }
        }
    }
    let how = match mode {
        ResolvMode::Host => "",
        ResolvMode::Direct { .. } => " (legacy)",
        ResolvMode::Internal => " (internal resolver)",
    };
    let notes = Notes { path: host.path, how, external, defaults, overridden, ndots };
    print(&parsed, &notes)
}

struct Notes<'a> {
    path: &'a str,
    how: &'a str,
    external: Option<String>,
    defaults: bool,
    overridden: Vec<&'a str>,
    ndots: Option<&'a str>,
}

fn print(parsed: &Parsed, notes: &Notes<'_>) -> String {
    let mut out = String::from(
        "# Generated by Docker Engine.\n# This file can be edited; Docker Engine will not make further changes once it\n# has been modified.\n\n",
    );
    let mut line = |text: String| {
        out.push_str(&text);
        out.push('\n');
    };
    for server in &parsed.servers {
        line(format!("nameserver {server}"));
    }
    if !parsed.search.is_empty() {
        line(format!("search {}", parsed.search.join(" ")));
    }
    if !parsed.options.is_empty() {
        line(format!("options {}", parsed.options.join(" ")));
    }
    for other in &parsed.other {
        line(other.clone());
    }
    line(String::new());
    line(format!("# Based on host file: '{}'{}", notes.path, notes.how));
    if notes.defaults {
        line("# Used default nameservers.".to_owned());
    }
    if let Some(external) = &notes.external {
        line(format!("# ExtServers: [{external}]"));
    }
    line(format!("# Overrides: [{}]", notes.overridden.join(" ")));
    if let Some(from) = notes.ndots {
        line(format!("# Option ndots from: {from}"));
    }
    out
}

fn has_ndots(options: &[String]) -> bool {
    options.iter().any(|o| o.starts_with("ndots:"))
}

fn reachable(server: &str, ipv6: bool) -> bool {
    match address(server) {
        // A zone names a link that the container does not have.
        Some(IpAddr::V6(_)) if !ipv6 || server.contains('%') => false,
        Some(a) => !a.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "# Generated by Docker Engine.\n# This file can be edited; Docker Engine will not make further changes once it\n# has been modified.\n\n";
    const DIRECT: ResolvMode = ResolvMode::Direct { ipv6: false };

    fn make(content: &str, overrides: &Overrides, mode: ResolvMode) -> String {
        let host = HostResolv { path: "/etc/resolv.conf", content };
        let text = resolv_conf(host, overrides, mode);
        text.strip_prefix(HEAD).unwrap().to_owned()
    }

    fn list(all: &[&str]) -> Vec<String> {
        all.iter().map(|s| (*s).to_owned()).collect()
    }

    // Every expected text below was printed by a stock daemon of version 28.5.
    #[test]
    fn unreachable_servers_go_and_defaults_come_when_none_is_left() {
        let none = Overrides::default();
        assert_eq!(
            make("nameserver 127.0.0.1\n", &none, DIRECT),
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\n\n# Based on host file: '/etc/resolv.conf' (legacy)\n# Used default nameservers.\n# Overrides: []\n"
        );
        let rich = "nameserver ::1\nnameserver 9.9.9.9\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\nsearch x.y z\noptions ndots:3 edns0\nsortlist 1.2.3.0\n; comment\n# foo\n";
        assert_eq!(
            make(rich, &none, DIRECT),
            "nameserver 9.9.9.9\nsearch x.y z\noptions ndots:3 edns0\nsortlist 1.2.3.0\n\n# Based on host file: '/etc/resolv.conf' (legacy)\n# Overrides: []\n# Option ndots from: host\n"
        );
        assert_eq!(
            make("domain foo.com\nnameserver 1.1.1.1\n", &none, DIRECT),
            "nameserver 1.1.1.1\nsearch foo.com\n\n# Based on host file: '/etc/resolv.conf' (legacy)\n# Overrides: []\n"
        );
    }

    #[test]
    fn overrides_are_taken_as_they_are_and_named() {
        let host = "nameserver 1.1.1.1\nsearch q\noptions ndots:2 rotate\n";
        let dns = Overrides {
            servers: list(&["127.0.0.1"]),
            search: list(&["."]),
            ..Overrides::default()
        };
        assert_eq!(
            make(host, &dns, DIRECT),
            "nameserver 127.0.0.1\noptions ndots:2 rotate\n\n# Based on host file: '/etc/resolv.conf' (legacy)\n# Overrides: [nameservers search]\n# Option ndots from: host\n"
        );
        let other = Overrides {
            search: list(&["a", "b"]),
            options: list(&["rotate"]),
            ..Overrides::default()
        };
        assert_eq!(
            make(host, &other, DIRECT),
            "nameserver 1.1.1.1\nsearch a b\noptions rotate\n\n# Based on host file: '/etc/resolv.conf' (legacy)\n# Overrides: [search options]\n"
        );
    }

    #[test]
    fn the_hosts_network_keeps_its_stub_and_the_internal_resolver_asks_behind_it() {
        let none = Overrides::default();
        let stub = "nameserver 127.0.0.53\noptions edns0\n";
        assert!(uses_stub(stub));
        assert_eq!(
            make(stub, &none, ResolvMode::Host),
            "nameserver 127.0.0.53\noptions edns0\n\n# Based on host file: '/etc/resolv.conf'\n# Overrides: []\n"
        );
        assert_eq!(
            make("nameserver 10.255.255.53\n", &none, ResolvMode::Internal),
            "nameserver 127.0.0.11\noptions ndots:0\n\n# Based on host file: '/etc/resolv.conf' (internal resolver)\n# ExtServers: [host(10.255.255.53)]\n# Overrides: []\n# Option ndots from: internal\n"
        );
    }
}
