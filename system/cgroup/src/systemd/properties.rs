//! Limits as properties of a unit. What systemd has no property for is left to the cgroup's files,
//! where all limits are written in any case. Pure.

use super::annotation::Property;
use crate::devices::{DeviceList, allows_all};
use crate::{Error, v2};
use dbus::Value;
use oci::runtime::{Cpu, DeviceRule, Resources};

/// What systemd takes for "no limit".
const INFINITY: u64 = u64::MAX;
/// The kernel's period of a CPU quota, microseconds.
const PERIOD: u64 = 100_000;

/// Since which version systemd knows what.
const HAS_QUOTA_PERIOD: u32 = 242;
const HAS_CPUSET: u32 = 244;
const HAS_MAJOR_DEVICES: u32 = 240;
const HAS_CPU_IDLE: u32 = 252;
const HAS_OOM_POLICY: u32 = 253;

fn property(name: &str, value: impl Into<Value>) -> Property {
    (name.to_owned(), value.into())
}

/// What a unit is, apart from its limits.
pub(super) fn of_unit(unit: &super::Unit, pid: i32, unified: bool) -> Vec<Property> {
    let mut all = vec![property("Description", unit.description.as_str())];
    if unit.is_slice() {
        all.push(property("Wants", Value::texts([unit.slice.as_str()])));
    } else {
        all.push(property("Slice", unit.slice.as_str()));
        all.push(property("Delegate", true));
    }
    all.push(property("PIDs", Value::array("u", [Value::U32(pid as u32)])));
    let io = if unified { "IOAccounting" } else { "BlockIOAccounting" };
    for name in ["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"] {
        all.push(property(name, true));
    }
    all.push(property("DefaultDependencies", false));
    all
}

/// The quota that systemd can hold: it counts in hundredths of a processor, rounded up, and the
/// kernel's file must get the same.
pub fn as_systemd_rounds(resources: &Resources) -> Resources {
    let mut rounded = resources.clone();
    if let Some(cpu) = &mut rounded.cpu
        && let Some(quota) = cpu.quota.filter(|quota| *quota > 0)
    {
        let period = cpu.period.filter(|period| *period != 0).unwrap_or(PERIOD);
        let percent = u128::from(per_second(quota as u64, period));
        if u128::from(quota as u64) * 1_000_000 / u128::from(period) % 10_000 != 0 {
            cpu.quota = Some((percent * u128::from(period) / 1_000_000) as i64);
        }
    }
    rounded
}

/// Microseconds of processor time a second, in whole hundredths.
fn per_second(quota: u64, period: u64) -> u64 {
    let exact = u128::from(quota) * 1_000_000 / u128::from(period.max(1));
    (exact.div_ceil(10_000) * 10_000).min(u128::from(INFINITY)) as u64
}

fn add_quota(all: &mut Vec<Property>, quota: Option<i64>, period: Option<u64>, version: u32) {
    let (quota, period) = (quota.filter(|q| *q != 0), period.filter(|p| *p != 0));
    if let Some(period) = period
        && version >= HAS_QUOTA_PERIOD
    {
        all.push(property("CPUQuotaPeriodUSec", period));
    }
    if quota.is_some() || period.is_some() {
        let share = match quota {
            Some(quota) if quota > 0 => per_second(quota as u64, period.unwrap_or(PERIOD)),
            _ => INFINITY,
        };
        all.push(property("CPUQuotaPerSecUSec", share));
    }
}

/// `0-2,5` as a mask of bytes, the lowest first.
fn mask(list: &str) -> Result<Vec<u8>, Error> {
    let invalid = || Error::Invalid(format!("invalid range: {list}"));
    let mut bits = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| invalid())?;
        let last: usize = last.parse().map_err(|_| invalid())?;
        if first > last || last >= 65_536 {
            return Err(invalid());
        }
        for bit in first..=last {
            bits.resize(bits.len().max(bit / 8 + 1), 0);
            bits[bit / 8] |= 1 << (bit % 8);
        }
    }
    if bits.is_empty() { Err(Error::Invalid("empty value".into())) } else { Ok(bits) }
}

fn add_cpuset(all: &mut Vec<Property>, cpu: &Cpu, version: u32) -> Result<(), Error> {
    for (name, field, list) in
        [("AllowedCPUs", "Cpus", &cpu.cpus), ("AllowedMemoryNodes", "Mems", &cpu.mems)]
    {
        if version < HAS_CPUSET || list.is_empty() {
            continue;
        }
        let bits = mask(list).map_err(|why| {
            Error::Invalid(format!("resources.CPU.{field}={list:?} conversion error: {why}"))
        })?;
        all.push(property(name, bits));
    }
    Ok(())
}

fn tasks(limit: i64) -> u64 {
    match limit {
        ..0 => INFINITY,
        // systemd takes no zero.
        0 => 1,
        limit => limit as u64,
    }
}

fn bytes(limit: i64) -> u64 {
    if limit < 0 { INFINITY } else { limit as u64 }
}

/// Limits of a v1 or hybrid machine.
pub(super) fn of_v1(resources: &Resources, version: u32) -> Result<Vec<Property>, Error> {
    let mut all = Vec::new();
    let memory = resources.memory.as_ref().and_then(|m| m.limit).filter(|l| *l != 0);
    if let Some(limit) = memory {
        all.push(property("MemoryLimit", bytes(limit)));
    }
    if let Some(cpu) = &resources.cpu {
        if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
            all.push(property("CPUShares", shares));
        }
        add_quota(&mut all, cpu.quota, cpu.period, version);
        add_cpuset(&mut all, cpu, version)?;
    }
    let weight = resources.block_io.as_ref().and_then(|b| b.weight).filter(|w| *w != 0);
    if let Some(weight) = weight {
        all.push(property("BlockIOWeight", u64::from(weight)));
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|p| p.limit) {
        all.push(property("TasksMax", tasks(limit)));
    }
    Ok(all)
}

/// Limits of a v2 machine.
pub(super) fn of_v2(resources: &Resources, version: u32) -> Result<Vec<Property>, Error> {
    let mut all = Vec::new();
    if let Some(memory) = &resources.memory {
        let fields = [
            ("MemoryMax", memory.limit.filter(|l| *l != 0)),
            ("MemoryLow", memory.reservation.filter(|l| *l != 0)),
            ("MemorySwapMax", v2::swap_only(memory.swap, memory.limit)?),
        ];
        for (name, value) in fields {
            if let Some(value) = value {
                all.push(property(name, bytes(value)));
            }
        }
    }
    if let Some(cpu) = &resources.cpu {
        let shares = cpu.shares.filter(|s| *s != 0);
        if cpu.idle == Some(1) && version >= HAS_CPU_IDLE {
            // The weight that means cpu.idle; a weight beside it has no effect.
            all.push(property("CPUWeight", 0u64));
        } else if let Some(shares) = shares {
            all.push(property("CPUWeight", v2::weight_of_shares(shares)));
        }
        add_quota(&mut all, cpu.quota, cpu.period, version);
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|p| p.limit) {
        all.push(property("TasksMax", tasks(limit)));
    }
    if let Some(cpu) = &resources.cpu {
        add_cpuset(&mut all, cpu, version)?;
    }
    add_unified(&mut all, resources, version)?;
    Ok(all)
}

/// The files of `unified` that systemd knows under a name of its own.
fn add_unified(all: &mut Vec<Property>, resources: &Resources, version: u32) -> Result<(), Error> {
    let wrong = |name: &str, value: &str, why: &str| {
        Error::Invalid(format!("unified resource {name:?} {why}: {value:?}"))
    };
    let files = &resources.unified;
    let idle = version >= HAS_CPU_IDLE && files.get("cpu.idle").is_some_and(|v| v.trim() == "1");
    for (name, value) in files {
        if name.contains('/') {
            return Err(Error::Invalid(format!(
                "unified resource {name:?} must be a file name (no slashes)"
            )));
        }
        if name.find('.').is_none_or(|at| at == 0) {
            return Err(Error::Invalid(format!(
                "unified resource {name:?} must be in the form CONTROLLER.PARAMETER"
            )));
        }
        let value = value.trim();
        let number = || match value {
            "max" => Ok(INFINITY),
            other => other.parse().map_err(|_| wrong(name, value, "value conversion error")),
        };
        match name.as_str() {
            "cpu.idle" if idle => all.push(property("CPUWeight", 0u64)),
            "cpu.weight" if !idle => all.push(property("CPUWeight", number()?)),
            "cpu.max" => {
                let words: Vec<&str> = value.split_whitespace().collect();
                let part = |text: &str| {
                    text.parse().map_err(|_| wrong(name, value, "value conversion error"))
                };
                let (quota, period) = match words[..] {
                    ["max"] => (None, PERIOD),
                    ["max", period] => (None, part(period)?),
                    [quota] => (Some(part(quota)? as i64), PERIOD),
                    [quota, period] => (Some(part(quota)? as i64), part(period)?),
                    _ => return Err(wrong(name, value, "value invalid")),
                };
                add_quota(all, quota, Some(period), version);
            }
            "cpuset.cpus" | "cpuset.mems" if version >= HAS_CPUSET => {
                let which =
                    if name == "cpuset.cpus" { "AllowedCPUs" } else { "AllowedMemoryNodes" };
                all.push(property(which, mask(value)?));
            }
            "memory.high" => all.push(property("MemoryHigh", number()?)),
            "memory.low" => all.push(property("MemoryLow", number()?)),
            "memory.min" => all.push(property("MemoryMin", number()?)),
            "memory.max" => all.push(property("MemoryMax", number()?)),
            "memory.swap.max" => all.push(property("MemorySwapMax", number()?)),
            "pids.max" => all.push(property("TasksMax", number()?.max(1))),
            _ => {}
        }
    }
    Ok(())
}

/// What can only be said when the unit is made.
pub(super) fn at_start(resources: &Resources, version: u32) -> Vec<Property> {
    match resources.unified.get("memory.oom.group").map(|v| v.trim()) {
        Some("0") if version >= HAS_OOM_POLICY => vec![property("OOMPolicy", "continue")],
        Some("1") if version >= HAS_OOM_POLICY => vec![property("OOMPolicy", "kill")],
        _ => Vec::new(),
    }
}

/// Device rules, as far as systemd can say them: only what is allowed, none with a minor number of
/// all majors. Our own program or list replaces them once the unit exists.
pub(super) fn of_devices(rules: &[DeviceRule], version: u32) -> Vec<Property> {
    let nothing = || property("DeviceAllow", Value::array("(ss)", []));
    if allows_all(rules) {
        return vec![nothing(), property("DevicePolicy", "auto")];
    }
    let mut all = vec![nothing(), property("DevicePolicy", "strict")];
    let Some(allowed) = DeviceList::from_rules(rules).ok().and_then(|list| list.allowed()) else {
        return all;
    };
    let entries: Vec<Value> = allowed
        .into_iter()
        .filter_map(|one| {
            let kind = if one.block { "block" } else { "char" };
            let path = match (one.major, one.minor) {
                (None, None) => format!("{kind}-*"),
                (None, Some(_)) => return None,
                (Some(major), None) if version >= HAS_MAJOR_DEVICES => format!("{kind}-{major}"),
                (Some(_), None) => return None,
                (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
            };
            Some(Value::Struct(vec![Value::text(path), Value::text(one.access)]))
        })
        .collect();
    all.push(property("DeviceAllow", Value::array("(ss)", entries)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci::runtime::{Memory, Pids};

    fn find(all: &[Property], name: &str) -> Option<Value> {
        all.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone())
    }

    #[test]
    fn a_quota_is_rounded_up_to_whole_hundredths_in_the_file_too() {
        let with = |quota| Resources {
            cpu: Some(Cpu { quota: Some(quota), period: Some(100_000), ..Cpu::default() }),
            ..Resources::default()
        };
        let quota = |resources: &Resources| resources.cpu.as_ref().unwrap().quota.unwrap();
        assert_eq!(quota(&as_systemd_rounds(&with(150_000))), 150_000);
        assert_eq!(quota(&as_systemd_rounds(&with(12_345))), 13_000);
        let all = of_v2(&with(12_345), 252).unwrap();
        assert_eq!(find(&all, "CPUQuotaPerSecUSec"), Some(Value::U64(130_000)));
        assert_eq!(find(&all, "CPUQuotaPeriodUSec"), Some(Value::U64(100_000)));
        assert_eq!(
            find(&of_v2(&with(-1), 252).unwrap(), "CPUQuotaPerSecUSec"),
            Some(Value::U64(INFINITY))
        );
    }

    #[test]
    fn limits_become_the_properties_of_each_hierarchy() {
        let resources = Resources {
            memory: Some(Memory { limit: Some(100), swap: Some(300), ..Memory::default() }),
            pids: Some(Pids { limit: Some(-1) }),
            cpu: Some(Cpu { shares: Some(1024), cpus: "0,9".into(), ..Cpu::default() }),
            ..Resources::default()
        };
        let all = of_v2(&resources, 252).unwrap();
        assert_eq!(find(&all, "MemoryMax"), Some(Value::U64(100)));
        assert_eq!(find(&all, "MemorySwapMax"), Some(Value::U64(200)));
        assert_eq!(find(&all, "TasksMax"), Some(Value::U64(INFINITY)));
        assert_eq!(find(&all, "CPUWeight"), Some(Value::U64(100)));
        assert_eq!(find(&all, "AllowedCPUs"), Some(Value::Bytes(vec![1, 2])));
        let all = of_v1(&resources, 252).unwrap();
        assert_eq!(find(&all, "MemoryLimit"), Some(Value::U64(100)));
        assert_eq!(find(&all, "CPUShares"), Some(Value::U64(1024)));
    }

    #[test]
    fn files_that_systemd_knows_become_its_properties() {
        let files = [("cpu.max", "20000 50000"), ("memory.high", "max"), ("pids.max", "0")];
        let unified = files.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let all = of_v2(&Resources { unified, ..Resources::default() }, 252).unwrap();
        assert_eq!(find(&all, "CPUQuotaPerSecUSec"), Some(Value::U64(400_000)));
        assert_eq!(find(&all, "MemoryHigh"), Some(Value::U64(INFINITY)));
        assert_eq!(find(&all, "TasksMax"), Some(Value::U64(1)));
    }

    #[test]
    fn devices_are_named_as_systemd_names_them() {
        let rule = |allow, kind: &str, major, minor, access: &str| DeviceRule {
            allow,
            kind: kind.into(),
            major,
            minor,
            access: access.into(),
        };
        let rules = [
            rule(false, "", None, None, "rwm"),
            rule(true, "c", Some(1), Some(3), "rwm"),
            rule(true, "c", Some(136), None, "rw"),
            rule(true, "b", None, None, "m"),
            rule(true, "c", None, Some(7), "r"),
        ];
        let all = of_devices(&rules, 252);
        let last = all.last().unwrap().1.clone();
        let entry = |a: &str, b: &str| Value::Struct(vec![Value::text(a), Value::text(b)]);
        let expected =
            [entry("/dev/char/1:3", "rwm"), entry("char-136", "rw"), entry("block-*", "m")];
        assert_eq!(last, Value::array("(ss)", expected));
        let everything = [rule(true, "a", None, None, "rwm")];
        assert_eq!(find(&of_devices(&everything, 252), "DevicePolicy"), Some(Value::text("auto")));
    }
}
