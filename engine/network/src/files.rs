//! The content of a container's `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, as the stock
//! daemon writes them. Pure: no file is read or written here.

mod resolv;

use std::net::IpAddr;

pub use resolv::{HostResolv, Overrides, ResolvMode, STUB, STUB_TARGET, resolv_conf, uses_stub};

const LOCAL: &str = "127.0.0.1\tlocalhost\n\
::1\tlocalhost ip6-localhost ip6-loopback\n\
fe00::\tip6-localnet\n\
ff00::\tip6-mcastprefix\n\
ff02::1\tip6-allnodes\n\
ff02::2\tip6-allrouters\n";

/// `/etc/hosts`: the loopback names, the `--add-host` entries in order, then the container's own
/// name for each of its addresses.
pub fn hosts(extra: &[(String, IpAddr)], own: &[IpAddr], hostname: &str, domain: &str) -> String {
    let mut out = LOCAL.to_owned();
    for (name, address) in extra {
        line(&mut out, *address, name);
    }
    let names = own_names(hostname, domain);
    for address in own {
        line(&mut out, *address, &names);
    }
    out
}

/// `/etc/hosts` on the host's network: the host's own, then the `--add-host` entries.
pub fn hosts_of_host(host: &str, extra: &[(String, IpAddr)]) -> String {
    let mut out = host.to_owned();
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    for (name, address) in extra {
        line(&mut out, *address, name);
    }
    out
}

fn line(out: &mut String, address: IpAddr, names: &str) {
    out.push_str(&address.to_string());
    out.push('\t');
    out.push_str(names);
    out.push('\n');
}

/// `/etc/hostname`.
pub fn hostname(hostname: &str) -> String {
    format!("{hostname}\n")
}

/// The full name, then the part before the first dot where that differs.
fn own_names(hostname: &str, domain: &str) -> String {
    let full = if domain.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domain}") };
    match full.split_once('.') {
        Some((short, _)) if !short.is_empty() => format!("{full} {short}"),
        _ => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_has_extra_names_before_the_containers_own() {
        let extra = [
            ("foo".to_owned(), "1.1.1.1".parse().unwrap()),
            ("hg".to_owned(), "172.17.0.1".parse().unwrap()),
        ];
        let text = hosts(&extra, &["172.17.0.2".parse().unwrap()], "hh.dom", "xx");
        let tail = "1.1.1.1\tfoo\n172.17.0.1\thg\n172.17.0.2\thh.dom.xx hh\n";
        assert_eq!(text, format!("{LOCAL}{tail}"));
        let plain = hosts(&[], &["172.18.0.2".parse().unwrap()], "7f4203093f6c", "");
        assert_eq!(plain, format!("{LOCAL}172.18.0.2\t7f4203093f6c\n"));
        assert_eq!(hosts(&[], &[], "zz", ""), LOCAL);
    }

    #[test]
    fn the_hosts_own_file_is_kept_on_its_network() {
        let extra = [("a".to_owned(), "1.2.3.4".parse().unwrap())];
        assert_eq!(hosts_of_host("127.0.0.1 vm", &extra), "127.0.0.1 vm\n1.2.3.4\ta\n");
    }
}
