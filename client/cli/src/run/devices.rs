//! Devices of the host: `--device`, `--device-cgroup-rule`, `--gpus`.

use crate::args::{Matches, csv, golang};
use engine_api::{DeviceMapping, DeviceRequest};
use std::collections::BTreeMap;

/// A rule such as `c 1:3 rwm`.
pub fn check_rule(text: &str) -> Result<(), String> {
    let wrong = || format!("invalid device cgroup format '{text}'");
    let number = |t: &str| t == "*" || !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, rights] = words[..] else { return Err(wrong()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let good = matches!(kind, "a" | "b" | "c")
        && number(major)
        && number(minor)
        && (1..=3).contains(&rights.len())
        && rights.bytes().all(|b| b"rwm".contains(&b));
    if good { Ok(()) } else { Err(wrong()) }
}

/// Whether this is a device of the container device interface: `vendor/class=name`.
fn is_cdi(text: &str) -> bool {
    text.split_once('=').is_some_and(|(kind, name)| {
        !text.starts_with('/') && kind.contains('/') && !name.is_empty()
    })
}

/// `host[:container][:rights]`, each.
pub fn mappings(texts: &[&str]) -> Result<Vec<DeviceMapping>, String> {
    texts.iter().filter(|t| !is_cdi(t)).map(|t| mapping(t)).collect()
}

fn mapping(text: &str) -> Result<DeviceMapping, String> {
    let is_rights =
        |t: &str| !t.is_empty() && t.len() <= 3 && t.bytes().all(|b| b"rwm".contains(&b));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, rights) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, rights] if is_rights(rights) => (host, host, rights),
        [host, container] => (host, container, "rwm"),
        [host, container, rights] if is_rights(rights) => (host, container, rights),
        [_, _, rights] => return Err(format!("bad mode specified: {rights}")),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    let container = if container.is_empty() { host } else { container };
    Ok(DeviceMapping {
        path_on_host: host.to_owned(),
        path_in_container: container.to_owned(),
        cgroup_permissions: rights.to_owned(),
    })
}

/// `--gpus`: a number, `all`, or `key=value` fields.
pub fn parse_gpus(text: &str, _before: usize) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest::default();
    let mut seen: Vec<String> = Vec::new();
    let mut capabilities = vec!["gpu".to_owned()];
    for field in csv::fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        let known = if value.is_none() { "count" } else { key };
        if seen.iter().any(|k| k == known) {
            return Err(format!("gpu request key '{known}' can be specified only once"));
        }
        seen.push(known.to_owned());
        match (key, value) {
            (count, None) | ("count", Some(count)) => request.count = gpu_count(count)?,
            ("driver", Some(driver)) => driver.clone_into(&mut request.driver),
            ("device", Some(ids)) => {
                request.device_ids = Some(ids.split(',').map(ToOwned::to_owned).collect());
            }
            ("capabilities", Some(more)) => {
                capabilities = more.split(',').map(ToOwned::to_owned).collect();
                capabilities.push("gpu".to_owned());
            }
            ("options", Some(options)) => {
                let mut map = BTreeMap::new();
                for option in csv::fields(options)? {
                    let (key, value) = option.split_once('=').unwrap_or((&option, ""));
                    map.insert(key.to_owned(), value.to_owned());
                }
                request.options = Some(map);
            }
            (key, Some(_)) => return Err(format!("unexpected key '{key}' in '{field}'")),
        }
    }
    let counted = seen.iter().any(|k| k == "count");
    if !counted && request.device_ids.is_none() {
        request.count = 1;
    }
    request.capabilities = Some(vec![capabilities]);
    Ok(request)
}

fn gpu_count(text: &str) -> Result<i64, String> {
    if text == "all" {
        return Ok(-1);
    }
    golang::parse_decimal(text, "Atoi").map_err(|why| {
        let why = why.rsplit(": ").next().unwrap_or_default().to_owned();
        format!("invalid count ({text}): value must be either \"all\" or an integer: {why}")
    })
}

/// What `--gpus` and devices of the container device interface ask for.
pub fn requests(m: &Matches) -> Option<Vec<DeviceRequest>> {
    let mut found: Vec<DeviceRequest> =
        m.texts("gpus").into_iter().filter_map(|t| parse_gpus(t, 0).ok()).collect();
    let ids: Vec<String> =
        m.texts("device").into_iter().filter(|t| is_cdi(t)).map(Into::into).collect();
    if !ids.is_empty() {
        let request = DeviceRequest {
            driver: "cdi".to_owned(),
            device_ids: Some(ids),
            ..DeviceRequest::default()
        };
        found.push(request);
    }
    (!found.is_empty()).then_some(found)
}
