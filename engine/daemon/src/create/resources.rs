//! Limits of a new container, or of one that is changed: what may be asked for, and what
//! the machine can't do. Pure but for the number of processors.

use engine_api::Resources;

use super::validate::{Checked, bad};
use crate::limits::Limits;

const MEGABYTE: i64 = 1 << 20;
/// The least memory that a container can start with.
const LEAST_MEMORY: i64 = 6 * MEGABYTE;

/// Checks limits and drops those that the machine lacks. Gives warnings about them.
pub fn check(r: &mut Resources, limits: &Limits, is_update: bool) -> Checked<Vec<String>> {
    let mut warnings = Vec::new();
    memory(r, limits, is_update, &mut warnings)?;
    out_of_memory(r, limits, &mut warnings);
    if !limits.pids {
        if r.pids_limit.is_some_and(|n| n > 0) {
            warnings
                .push(lacking("PIDs limit capabilities or the cgroup is not mounted. PIDs limit"));
        }
        r.pids_limit = None;
    }
    cpus(r, limits, &mut warnings)?;
    cpusets(r, limits, &mut warnings)?;
    blkio(r, limits, &mut warnings)?;
    Ok(warnings)
}

/// `what` ends with what is dropped.
fn lacking(what: &str) -> String {
    format!("Your kernel does not support {what} discarded.")
}

fn memory(
    r: &mut Resources,
    limits: &Limits,
    is_update: bool,
    warnings: &mut Vec<String>,
) -> Checked {
    r.memory_swappiness.take_if(|s| *s == -1);
    if r.memory != 0 && r.memory < LEAST_MEMORY {
        return bad("Minimum memory limit allowed is 6MB");
    }
    if r.memory > 0 && !limits.memory {
        warnings
            .push(lacking("memory limit capabilities or the cgroup is not mounted. Limitation"));
        (r.memory, r.memory_swap) = (0, -1);
    }
    if r.memory > 0 && r.memory_swap != -1 && !limits.swap {
        warnings.push("Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap.".into());
        r.memory_swap = -1;
    }
    if r.memory > 0 && r.memory_swap > 0 && r.memory_swap < r.memory {
        return bad("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if r.memory == 0 && r.memory_swap > 0 && !is_update {
        return bad(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if !limits.swappiness && r.memory_swappiness.take().is_some() {
        warnings.push(lacking(
            "memory swappiness capabilities or the cgroup is not mounted. Memory swappiness",
        ));
    }
    if let Some(swappiness) = r.memory_swappiness.filter(|s| !(0..=100).contains(s)) {
        return bad(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if r.memory_reservation > 0 && !limits.reservation {
        warnings.push(lacking(
            "memory soft limit capabilities or the cgroup is not mounted. Limitation",
        ));
        r.memory_reservation = 0;
    }
    if r.memory_reservation > 0 && r.memory_reservation < LEAST_MEMORY {
        return bad("Minimum memory reservation allowed is 6MB");
    }
    if r.memory > 0 && r.memory_reservation > r.memory {
        return bad(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    Ok(())
}

fn out_of_memory(r: &mut Resources, limits: &Limits, warnings: &mut Vec<String>) {
    if !limits.oom_kill_disable && r.oom_kill_disable.take() == Some(true) {
        warnings.push(lacking("OomKillDisable. OomKillDisable"));
    }
    if r.oom_kill_disable == Some(true) && r.memory == 0 {
        warnings.push("OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources.".into());
    }
}

fn cpus(r: &mut Resources, limits: &Limits, warnings: &mut Vec<String>) -> Checked {
    if r.nano_cpus > 0 && r.cpu_period > 0 {
        return bad("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if r.nano_cpus > 0 && r.cpu_quota > 0 {
        return bad("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if r.nano_cpus > 0 && !limits.cpu_cfs {
        return bad(
            "NanoCPUs can not be set, as your kernel does not support CPU CFS scheduler or the cgroup is not mounted",
        );
    }
    if r.nano_cpus != 0 {
        // Counting reads several files: not for the many containers without a limit.
        let count = std::thread::available_parallelism().map_or(1, usize::from) as i64;
        if r.nano_cpus < 0 || r.nano_cpus > count * 1_000_000_000 {
            return bad(format!(
                "range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
            ));
        }
    }
    if r.cpu_shares > 0 && !limits.cpu_shares {
        warnings.push(lacking("CPU shares or the cgroup is not mounted. Shares"));
        r.cpu_shares = 0;
    }
    if (r.cpu_period != 0 || r.cpu_quota != 0) && !limits.cpu_cfs {
        warnings.push(lacking("CPU CFS scheduler. CPU period/quota"));
        (r.cpu_period, r.cpu_quota) = (0, 0);
    }
    if r.cpu_period != 0 && !(1000..=1_000_000).contains(&r.cpu_period) {
        return bad(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if r.cpu_quota > 0 && r.cpu_quota < 1000 {
        return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    if r.cpu_percent > 0 {
        warnings.push("linux does not support CPU percent. Percent discarded.".into());
        r.cpu_percent = 0;
    }
    Ok(())
}

fn cpusets(r: &mut Resources, limits: &Limits, warnings: &mut Vec<String>) -> Checked {
    let asked = !r.cpuset_cpus.is_empty() || !r.cpuset_mems.is_empty();
    if asked && !limits.cpuset {
        warnings.push(lacking("cpuset or the cgroup is not mounted. Cpuset"));
        r.cpuset_cpus.clear();
        r.cpuset_mems.clear();
    }
    cpuset("cpuset cpus", "CPUs", &r.cpuset_cpus, &limits.cpus)?;
    cpuset("cpuset mems", "memory nodes", &r.cpuset_mems, &limits.mems)
}

fn cpuset(what: &str, plural: &str, wanted: &str, available: &str) -> Checked {
    if wanted.is_empty() {
        return Ok(());
    }
    let Some(list) = numbers(wanted) else {
        return bad(format!("Invalid value {wanted} for {what}: invalid format: {wanted}"));
    };
    let online = numbers(available).unwrap_or_default();
    if list.iter().all(|n| online.contains(n)) {
        return Ok(());
    }
    bad(format!(
        "Requested {plural} are not available - requested {wanted}, available: {available}"
    ))
}

/// The numbers of `0-2,5`.
fn numbers(text: &str) -> Option<Vec<u32>> {
    let mut out = Vec::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (low.parse::<u32>().ok()?, high.parse::<u32>().ok()?);
        if high < low || high > 8192 {
            return None;
        }
        out.extend(low..=high);
    }
    Some(out)
}

fn blkio(r: &mut Resources, limits: &Limits, warnings: &mut Vec<String>) -> Checked {
    if r.blkio_weight > 0 && !limits.blkio_weight {
        warnings.push(lacking("Block I/O weight or the cgroup is not mounted. Weight"));
        r.blkio_weight = 0;
    }
    if r.blkio_weight > 0 && !(10..=1000).contains(&r.blkio_weight) {
        return bad("Range of blkio weight is from 10 to 1000");
    }
    let filled = r.blkio_weight_device.as_ref().is_some_and(|list| !list.is_empty());
    if filled && !limits.blkio_weight_device {
        warnings
            .push(lacking("Block I/O weight_device or the cgroup is not mounted. Weight-device"));
        r.blkio_weight_device = Some(Vec::new());
    }
    for (list, can, what) in [
        (&mut r.blkio_device_read_bps, limits.read_bps, ("BPS Block I/O read", "BPS read")),
        (&mut r.blkio_device_write_bps, limits.write_bps, ("BPS Block I/O write", "BPS write")),
        (&mut r.blkio_device_read_iops, limits.read_iops, ("IOPS Block read", "IOPS read")),
        (&mut r.blkio_device_write_iops, limits.write_iops, ("IOPS Block write", "IOPS write")),
    ] {
        if list.as_ref().is_some_and(|list| !list.is_empty()) && !can {
            let (kind, short) = what;
            warnings.push(lacking(&format!(
                "{kind} limit or the cgroup is not mounted. Block I/O {short} limit"
            )));
            *list = Some(Vec::new());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Limits {
        Limits {
            memory: true,
            swap: true,
            swappiness: true,
            reservation: true,
            oom_kill_disable: true,
            cpu_cfs: true,
            cpuset: true,
            cpus: "0-1".into(),
            mems: "0".into(),
            ..Limits::default()
        }
    }

    fn text(r: Resources) -> String {
        check(&mut { r }, &all(), false).unwrap_err().message
    }

    #[test]
    fn limits_are_refused_with_the_known_texts() {
        let r = Resources::default;
        assert_eq!(text(Resources { memory: 100, ..r() }), "Minimum memory limit allowed is 6MB");
        assert_eq!(
            text(Resources { memory_swap: 100, ..r() }),
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        );
        assert_eq!(
            text(Resources { cpu_quota: 10, ..r() }),
            "CPU cfs quota can not be less than 1ms (i.e. 1000)"
        );
        assert_eq!(
            text(Resources { cpuset_cpus: "x".into(), ..r() }),
            "Invalid value x for cpuset cpus: invalid format: x"
        );
        assert!(
            text(Resources { cpuset_cpus: "4999".into(), ..r() })
                .starts_with("Requested CPUs are not available")
        );
    }

    #[test]
    fn what_the_machine_lacks_is_dropped_with_a_warning() {
        let mut r = Resources {
            memory: 1 << 30,
            memory_swappiness: Some(10),
            cpu_shares: 5,
            blkio_weight: 50,
            pids_limit: Some(9),
            ..Resources::default()
        };
        let warnings = check(&mut r, &Limits::default(), false).unwrap();
        assert_eq!(warnings.len(), 5, "{warnings:?}");
        assert_eq!((r.memory, r.memory_swap, r.cpu_shares, r.blkio_weight), (0, -1, 0, 0));
        assert!(r.memory_swappiness.is_none() && r.pids_limit.is_none());
    }
}
