//! `--network` and what else concerns networks: addresses, aliases, links.

use crate::args::{Matches, csv, golang};
use engine_api::{EndpointIpamConfig, EndpointSettings};
use std::collections::BTreeMap;

/// One `--network`.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Attachment {
    /// The network, or a mode such as `host`.
    pub target: String,
    /// What was asked for there.
    pub endpoint: EndpointSettings,
}

/// Reads one `--network`: a name, or `key=value` fields.
pub fn parse(text: &str) -> Result<Attachment, String> {
    if !text.contains('=') {
        return Ok(Attachment { target: text.to_owned(), ..Attachment::default() });
    }
    let mut found = Attachment::default();
    for field in csv::fields(text)? {
        let (key, value) = match field.to_lowercase().split_once('=') {
            Some((key, _)) => (key.trim().to_owned(), field[key.len() + 1..].trim().to_owned()),
            None => return Err("invalid syntax: name=value pairs are required".into()),
        };
        read_field(&mut found, &key, value)?;
    }
    if found.target.is_empty() {
        return Err("network name/id is not specified".into());
    }
    Ok(found)
}

fn read_field(found: &mut Attachment, key: &str, value: String) -> Result<(), String> {
    let endpoint = &mut found.endpoint;
    match key {
        "name" => found.target = value,
        "alias" => endpoint.aliases.get_or_insert_default().push(value),
        "ip" => endpoint.ipam_config.get_or_insert_default().ipv4_address = value,
        "ip6" => endpoint.ipam_config.get_or_insert_default().ipv6_address = value,
        "link-local-ip" => {
            let config = endpoint.ipam_config.get_or_insert_default();
            config.link_local_ips.get_or_insert_default().push(value);
        }
        "mac-address" => endpoint.mac_address = mac(&value)?,
        "driver-opt" => {
            let (key, value) = driver_option(&value)?;
            endpoint.driver_opts.get_or_insert_default().insert(key, value);
        }
        "gw-priority" => {
            endpoint.gw_priority = golang::parse_decimal(&value, "Atoi").map_err(|why| {
                let why = why.rsplit(": ").next().unwrap_or_default().to_owned();
                format!("invalid gw-priority ({value}): {why}")
            })?;
        }
        _ => return Err(format!("invalid field key {key}")),
    }
    Ok(())
}

/// `key=value`, the key in lower case.
pub fn driver_option(text: &str) -> Result<(String, String), String> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "invalid key value pair format in driver options".to_owned())?;
    Ok((key.trim().to_lowercase(), value.trim().to_owned()))
}

fn mac(text: &str) -> Result<String, String> {
    let trimmed = text.trim();
    if is_mac(trimmed) {
        Ok(trimmed.to_owned())
    } else {
        Err(format!("MAC address is not correctly formatted: {trimmed}"))
    }
}

/// Whether this is a hardware address of 6, 8 or 20 bytes.
fn is_mac(text: &str) -> bool {
    let separator = if text.contains('-') { '-' } else { ':' };
    let parts: Vec<&str> = text.split(separator).collect();
    matches!(parts.len(), 6 | 8 | 20)
        && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// `container[:alias]`.
pub fn parse_link(text: &str) -> Result<(String, String), String> {
    if text.is_empty() {
        return Err("empty string specified for links".into());
    }
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [name] => Ok((name.to_owned(), name.to_owned())),
        [name, alias] => Ok((name.to_owned(), alias.to_owned())),
        _ => Err(format!("bad format for links: {text}")),
    }
}

/// Whether the name is a network that someone made, and no mode.
fn is_user_defined(target: &str) -> bool {
    !matches!(target, "" | "default" | "bridge" | "host" | "none")
        && !target.starts_with("container:")
}

/// The network mode and the endpoints of `run` and `create`.
pub fn endpoints(
    m: &Matches,
) -> Result<(String, BTreeMap<String, Option<EndpointSettings>>), String> {
    let mac_address = m.text("mac-address").trim().to_owned();
    if !mac_address.is_empty() && !is_mac(&mac_address) {
        return Err(format!("{mac_address} is not a valid mac address"));
    }
    let mut attachments: Vec<Attachment> =
        m.texts("network").into_iter().map(parse).collect::<Result<_, _>>()?;
    if attachments.is_empty() {
        attachments.push(Attachment { target: "default".into(), ..Attachment::default() });
    }
    let mode = attachments[0].target.clone();
    let user_defined = attachments.iter().any(|a| is_user_defined(&a.target));
    merge_flags(&mut attachments[0], m, mac_address)?;
    let mut endpoints = BTreeMap::new();
    let several = attachments.len() > 1;
    for attachment in attachments {
        let target = attachment.target;
        if attachment.endpoint.aliases.is_some() && !is_user_defined(&target) {
            return Err(
                "network-scoped aliases are only supported for user-defined networks".into()
            );
        }
        if several && user_defined && target.starts_with("container:") {
            return Err("conflicting options: cannot attach both user-defined and non-user-defined network-modes".into());
        }
        if endpoints.insert(target.clone(), Some(attachment.endpoint)).is_some() {
            return Err(format!("network {} is specified multiple times", golang::quote(&target)));
        }
    }
    Ok((mode, endpoints))
}

/// Puts the flags that mean the first network into it.
fn merge_flags(first: &mut Attachment, m: &Matches, mac_address: String) -> Result<(), String> {
    let texts = |flag: &str| -> Vec<String> { m.texts(flag).into_iter().map(Into::into).collect() };
    let endpoint = &mut first.endpoint;
    let conflict = |taken: bool, flag: &str, what: &str| {
        if taken && m.given(flag) {
            return Err(format!(
                "conflicting options: cannot specify both --{flag} and per-network {what}"
            ));
        }
        Ok(())
    };
    conflict(endpoint.aliases.is_some(), "network-alias", "alias")?;
    let config = endpoint.ipam_config.clone().unwrap_or_default();
    conflict(!config.ipv4_address.is_empty(), "ip", "IPv4 address")?;
    conflict(!config.ipv6_address.is_empty(), "ip6", "IPv6 address")?;
    conflict(config.link_local_ips.is_some(), "link-local-ip", "link-local IP addresses")?;
    conflict(!endpoint.mac_address.is_empty(), "mac-address", "MAC address")?;
    if m.given("network-alias") {
        endpoint.aliases = Some(texts("network-alias"));
    }
    if m.given("link") && is_user_defined(&first.target) {
        endpoint.links = Some(texts("link"));
    }
    if !mac_address.is_empty() {
        endpoint.mac_address = mac_address;
    }
    if m.given("ip") || m.given("ip6") || m.given("link-local-ip") {
        let old = endpoint.ipam_config.take().unwrap_or_default();
        let text =
            |flag: &str, old: String| if m.given(flag) { m.text(flag).to_owned() } else { old };
        endpoint.ipam_config = Some(EndpointIpamConfig {
            ipv4_address: text("ip", old.ipv4_address),
            ipv6_address: text("ip6", old.ipv6_address),
            link_local_ips: if m.given("link-local-ip") {
                Some(texts("link-local-ip"))
            } else {
                old.link_local_ips
            },
        });
    }
    Ok(())
}
