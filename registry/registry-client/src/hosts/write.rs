//! Hosts written as containerd's `hosts.toml`, for a program that reads no other form.

use std::fmt::Write;

use super::{Capabilities, Host, Reach, TlsFiles};
use crate::url::Scheme;

/// A file that means these hosts; the last one is the registry itself.
pub fn hosts_file(hosts: &[Host]) -> String {
    let mut out = String::new();
    let Some((upstream, others)) = hosts.split_last() else { return out };
    line(&mut out, "server", &text(&address(upstream)));
    settings(&mut out, upstream);
    for host in others {
        // Nothing can fail in writing to a string.
        let _ = writeln!(out, "[host.{}]", text(&address(host)));
        settings(&mut out, host);
    }
    out
}

fn address(host: &Host) -> String {
    let scheme = match host.reach {
        Reach::Only(Scheme::Https) => "https",
        // With a word about certificates this means https first.
        Reach::Only(Scheme::Http) | Reach::HttpsThenHttp => "http",
    };
    format!("{scheme}://{}{}", host.authority, host.path)
}

fn settings(out: &mut String, host: &Host) {
    line(out, "override_path", "true");
    let Capabilities { pull, resolve, push, referrers } = host.capabilities;
    let all = [("pull", pull), ("resolve", resolve), ("push", push), ("referrers", referrers)];
    let named: Vec<String> =
        all.iter().filter(|(_, has)| *has).map(|(name, _)| text(name)).collect();
    line(out, "capabilities", &format!("[{}]", named.join(", ")));
    let TlsFiles { ca, client, skip_verify } = &host.tls;
    let is_plain = host.reach == Reach::Only(Scheme::Http);
    if (*skip_verify && !is_plain) || host.reach == Reach::HttpsThenHttp {
        line(out, "skip_verify", if *skip_verify { "true" } else { "false" });
    }
    let path = |path: &std::path::PathBuf| text(&path.to_string_lossy());
    if !ca.is_empty() {
        let list: Vec<String> = ca.iter().map(path).collect();
        line(out, "ca", &format!("[{}]", list.join(", ")));
    }
    if !client.is_empty() {
        let pair = |(cert, key): &(_, _)| format!("[{}, {}]", path(cert), path(key));
        let list: Vec<String> = client.iter().map(pair).collect();
        line(out, "client", &format!("[{}]", list.join(", ")));
    }
    if let Some(limit) = host.dial_timeout {
        line(out, "dial_timeout", &text(&format!("{}ms", limit.as_millis())));
    }
    if !host.headers.is_empty() {
        let pairs = host.headers.iter().filter_map(|(name, value)| {
            Some(format!("{} = [{}]", text(name.as_str()), text(value.to_str().ok()?)))
        });
        let pairs: Vec<String> = pairs.collect();
        line(out, "header", &format!("{{ {} }}", pairs.join(", ")));
    }
}

fn line(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key} = {value}");
}

/// A string as TOML writes it.
fn text(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out + "\""
}
