//! `--publish` and `--expose`.

use crate::args::{csv, golang};
use engine_api::{PortBinding, PortMap};
use std::collections::BTreeMap;

/// Ports that are exposed and where they are published.
#[derive(Debug, Default)]
#[allow(clippy::zero_sized_map_values)] // The API's sets are such maps.
pub struct Ports {
    /// `port/protocol`, each.
    pub exposed: BTreeMap<String, ()>,
    /// Where each is published.
    pub bindings: PortMap,
}

/// Reads all `--publish` and `--expose`.
pub fn parse(publish: &[&str], expose: &[&str]) -> Result<Ports, String> {
    let mut ports = Ports::default();
    for text in publish {
        let short = if text.contains('=') { long_form(text)? } else { (*text).to_owned() };
        publish_one(&mut ports, &short)?;
    }
    for text in expose {
        expose_one(&mut ports, text)?;
    }
    Ok(ports)
}

/// `published=80,target=80,protocol=tcp` as `80:80/tcp`.
fn long_form(text: &str) -> Result<String, String> {
    let (mut target, mut published, mut protocol) =
        (String::new(), String::new(), "tcp".to_owned());
    for field in csv::fields(text)? {
        let (key, value) = field
            .split_once('=')
            .filter(|(_, v)| !v.is_empty())
            .ok_or_else(|| format!("invalid field: {field}"))?;
        match key.to_lowercase().as_str() {
            "protocol" => value.clone_into(&mut protocol),
            "target" => {
                golang::parse_uint(value, 10, 65535).map_err(|why| {
                    format!(
                        "invalid target port ({value}): value must be an integer: {}",
                        last(&why)
                    )
                })?;
                value.clone_into(&mut target);
            }
            "published" => value.clone_into(&mut published),
            "mode" => {}
            key => return Err(format!("invalid field key: {key}")),
        }
    }
    if target.is_empty() {
        return Err(format!("missing mandatory field '{}'", golang::quote("target")));
    }
    let published = if published.is_empty() { String::new() } else { format!("{published}:") };
    Ok(format!("{published}{target}/{protocol}"))
}

fn last(why: &str) -> &str {
    why.rsplit(": ").next().unwrap_or_default()
}

/// A port, or a range of them.
fn range(text: &str) -> Option<(u16, u16)> {
    let port = |t: &str| golang::parse_uint(t, 10, 65535).ok().map(|p| p as u16);
    match text.split_once('-') {
        None => port(text).map(|p| (p, p)),
        Some((low, high)) => {
            let (low, high) = (port(low)?, port(high)?);
            (low <= high).then_some((low, high))
        }
    }
}

/// `[[ip:][host]:]container[/protocol]`.
fn publish_one(ports: &mut Ports, text: &str) -> Result<(), String> {
    let (spec, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (rest, container) = spec.rsplit_once(':').unwrap_or(("", spec));
    let (ip, host) = match rest.rsplit_once(':') {
        Some((ip, host)) => (ip, host),
        None => ("", rest),
    };
    if container.is_empty() {
        return Err(format!("No port specified: {text}<empty>"));
    }
    let ip = address(ip)?;
    let (first, end) =
        range(container).ok_or_else(|| format!("Invalid containerPort: {container}"))?;
    let hosts = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| format!("Invalid hostPort: {host}"))?),
    };
    if let Some((low, high)) = hosts
        && end - first != high - low
        && end != first
    {
        return Err(format!(
            "Invalid ranges specified for container and host Ports: {container} and {host}"
        ));
    }
    if !matches!(protocol.to_lowercase().as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("Invalid proto: {protocol}"));
    }
    for offset in 0..=end - first {
        let host_port = match hosts {
            None => String::new(),
            Some((low, high)) if end == first && high != low => format!("{low}-{high}"),
            Some((low, _)) => (low + offset).to_string(),
        };
        let key = format!("{}/{}", first + offset, protocol.to_lowercase());
        ports.exposed.insert(key.clone(), ());
        let binding = PortBinding { host_ip: ip.clone(), host_port };
        ports.bindings.entry(key).or_default().get_or_insert_default().push(binding);
    }
    Ok(())
}

/// The host's address, without brackets.
fn address(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    if text == bare && text.contains(':') {
        return Err(format!(
            "Invalid ip address {text}: address {text}:: too many colons in address"
        ));
    }
    match bare.parse::<std::net::IpAddr>() {
        Ok(_) => Ok(bare.to_owned()),
        Err(_) => Err(format!("Invalid ip address: {bare}")),
    }
}

fn expose_one(ports: &mut Ports, text: &str) -> Result<(), String> {
    if text.contains(':') {
        return Err(format!("invalid port format for --expose: {text}"));
    }
    let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let wrong = |why: &str| format!("invalid range format for --expose: {text}, error: {why}");
    if numbers.is_empty() {
        return Err(wrong("empty string specified for ports"));
    }
    let port = |t: &str| golang::parse_uint(t, 10, 65535).map_err(|why| wrong(&why));
    let (low, high) = match numbers.split_once('-') {
        Some((low, high)) => (port(low)?, port(high)?),
        None => (port(numbers)?, port(numbers)?),
    };
    if high < low {
        return Err(wrong(&format!("invalid range specified for port: {numbers}")));
    }
    for number in low..=high {
        ports.exposed.insert(format!("{number}/{}", protocol.to_lowercase()), ());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_published_where_the_text_says() {
        let ports = parse(&["127.0.0.1:8080-8081:80-81", "53/udp"], &["9-10"]).unwrap();
        let at = |key: &str| ports.bindings[key].clone().unwrap()[0].clone();
        assert_eq!(at("81/tcp").host_port, "8081");
        assert_eq!(at("80/tcp").host_ip, "127.0.0.1");
        assert_eq!(at("53/udp").host_port, "");
        assert!(ports.exposed.contains_key("10/tcp"));
    }

    #[test]
    fn a_wrong_port_is_named() {
        let wrong = |text: &str| parse(&[text], &[]).unwrap_err();
        assert_eq!(wrong("abc"), "Invalid containerPort: abc");
        assert_eq!(wrong("80:80/foo"), "Invalid proto: foo");
        assert_eq!(wrong("1.2.3.4.5:80:80"), "Invalid ip address: 1.2.3.4.5");
        assert_eq!(
            wrong("80:80:80:80"),
            "Invalid ip address 80:80: address 80:80:: too many colons in address"
        );
    }
}
