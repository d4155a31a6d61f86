//! Limits: `--ulimit`, weights and rates of devices, and the resources they become.

use crate::args::{Matches, golang, values};
use engine_api::{Resources, ThrottleDevice, Ulimit, WeightDevice};

/// `name=soft[:hard]`.
pub fn parse(text: &str) -> Result<Ulimit, String> {
    const NAMES: [&str; 16] = [
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
        "as",
    ];
    let wrong = || format!("invalid ulimit argument: {text}");
    let (name, limits) = text.split_once('=').ok_or_else(wrong)?;
    if !NAMES.contains(&name) || name == "as" {
        return Err(format!("invalid ulimit type: {name}"));
    }
    if limits.contains('=') {
        return Err(wrong());
    }
    let number = |t: &str| golang::parse_decimal(t, "ParseInt");
    let mut parts = limits.split(':');
    let soft = number(parts.next().unwrap_or_default())?;
    let hard = parts.next().map(number).transpose()?;
    if parts.next().is_some() {
        return Err(format!(
            "too many limit value arguments - {limits}, can only have up to two, `soft[:hard]`"
        ));
    }
    let hard = match hard {
        None => soft,
        Some(hard) if hard != -1 && (soft == -1 || soft > hard) => {
            let shown = if soft == -1 { "-1 (unlimited)".to_owned() } else { soft.to_string() };
            return Err(format!(
                "ulimit soft limit must be less than or equal to hard limit: {shown} > {hard}"
            ));
        }
        Some(hard) => hard,
    };
    Ok(Ulimit { name: name.to_owned(), hard, soft })
}

fn device(text: &str) -> Result<(&str, &str), String> {
    let (path, value) = text.split_once(':').ok_or_else(|| format!("bad format: {text}"))?;
    if path.is_empty() || value.contains(':') {
        return Err(format!("bad format: {text}"));
    }
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    Ok((path, value))
}

/// `path:weight`.
pub fn weight_device(text: &str) -> Result<WeightDevice, String> {
    let (path, value) = device(text)?;
    match golang::parse_uint(value, 10, 65535) {
        Ok(weight) if weight == 0 || (10..=1000).contains(&weight) => {
            Ok(WeightDevice { path: path.to_owned(), weight: weight as u16 })
        }
        _ => Err(format!("invalid weight for device: {text}")),
    }
}

/// `path:rate`, the rate a size.
pub fn throttle_bytes(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = device(text)?;
    match values::bytes(value) {
        Ok(rate) => Ok(ThrottleDevice { path: path.to_owned(), rate: rate as u64 }),
        Err(_) => Err(format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
        )),
    }
}

/// `path:rate`, the rate a number.
pub fn throttle_count(text: &str) -> Result<ThrottleDevice, String> {
    let (path, value) = device(text)?;
    match golang::parse_uint(value, 10, u64::MAX) {
        Ok(rate) => Ok(ThrottleDevice { path: path.to_owned(), rate }),
        Err(_) => Err(format!(
            "invalid rate for device: {text}. The correct format is <device-path>:<number>. Number must be a positive integer"
        )),
    }
}

/// All values of a flag whose check was passed while parsing; none is nil.
fn each<T>(m: &Matches, flag: &str, parse: fn(&str) -> Result<T, String>) -> Vec<T> {
    m.texts(flag).into_iter().filter_map(|t| parse(t).ok()).collect()
}

/// The resources that `run`, `create` and `update` have in common.
pub fn resources(m: &Matches) -> Resources {
    let some = |flag: &str| m.given(flag).then(|| m.number(flag));
    Resources {
        cpu_shares: m.number("cpu-shares"),
        memory: m.number("memory"),
        nano_cpus: m.number("cpus"),
        blkio_weight: m.number("blkio-weight") as u16,
        cpu_period: m.number("cpu-period"),
        cpu_quota: m.number("cpu-quota"),
        cpu_realtime_period: m.number("cpu-rt-period"),
        cpu_realtime_runtime: m.number("cpu-rt-runtime"),
        cpuset_cpus: m.text("cpuset-cpus").to_owned(),
        cpuset_mems: m.text("cpuset-mems").to_owned(),
        memory_reservation: m.number("memory-reservation"),
        memory_swap: m.number("memory-swap"),
        pids_limit: some("pids-limit"),
        ..Resources::default()
    }
}

/// The resources of `run` and `create`.
pub fn all_resources(m: &Matches) -> Result<Resources, String> {
    let swappiness = m.number("memory-swappiness");
    if swappiness != -1 && !(0..=100).contains(&swappiness) {
        return Err(format!("invalid value: {swappiness}. Valid memory swappiness range is 0-100"));
    }
    let mut ulimits: Vec<Ulimit> = Vec::new();
    for limit in each(m, "ulimit", parse) {
        ulimits.retain(|u| u.name != limit.name);
        ulimits.push(limit);
    }
    ulimits.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Resources {
        cgroup_parent: m.text("cgroup-parent").to_owned(),
        blkio_weight_device: Some(each(m, "blkio-weight-device", weight_device)),
        blkio_device_read_bps: Some(each(m, "device-read-bps", throttle_bytes)),
        blkio_device_write_bps: Some(each(m, "device-write-bps", throttle_bytes)),
        blkio_device_read_iops: Some(each(m, "device-read-iops", throttle_count)),
        blkio_device_write_iops: Some(each(m, "device-write-iops", throttle_count)),
        memory_swappiness: Some(swappiness),
        oom_kill_disable: Some(m.on("oom-kill-disable")),
        ulimits: Some(ulimits),
        devices: Some(super::devices::mappings(&m.texts("device"))?),
        device_cgroup_rules: m
            .given("device-cgroup-rule")
            .then(|| m.texts("device-cgroup-rule").into_iter().map(Into::into).collect()),
        device_requests: super::devices::requests(m),
        ..resources(m)
    })
}
