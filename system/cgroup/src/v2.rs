//! Limits of cgroup v2, with the translations from v1's units.

use crate::devices::{allows_all, device_program};
use crate::{Error, file, tree};
use oci::runtime::{BlockIo, Cpu, DeviceRule, HugepageLimit, Memory, Rdma, Resources};
use rustix::fs::{Mode, OFlags};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Makes a folder and has every ancestor below the mount hand all its controllers down.
pub(crate) fn create_enabled(path: &Path) -> Result<(), Error> {
    let mut missing: Vec<PathBuf> = Vec::new();
    let mut at = path;
    while let Some(parent) = at.parent() {
        if !file::exists(parent, "cgroup.controllers") && file::exists(at, "cgroup.controllers") {
            break;
        }
        missing.push(at.to_owned());
        at = parent;
    }
    for folder in missing.iter().rev() {
        if let Some(parent) = folder.parent() {
            let all = file::read(parent, "cgroup.controllers").unwrap_or_default();
            let names: Vec<&str> = all.split_whitespace().collect();
            enable_in(parent, &names);
        }
        tree::make(folder)?;
    }
    Ok(())
}

/// Hands some controllers down to `folder` along its ancestors, as far as the kernel lets us; a
/// limit that then has no file is reported when it is written.
pub(crate) fn enable(folder: &Path, names: &[&str]) {
    let ancestors: Vec<&Path> = folder
        .ancestors()
        .skip(1)
        .take_while(|p| file::exists(p, "cgroup.subtree_control"))
        .collect();
    for parent in ancestors.iter().rev() {
        enable_in(parent, names);
    }
}

fn enable_in(folder: &Path, names: &[&str]) {
    let held = file::read(folder, "cgroup.subtree_control").unwrap_or_default();
    let wanted: Vec<String> = names
        .iter()
        .filter(|name| !held.split_whitespace().any(|h| h == **name))
        .map(|name| format!("+{name}"))
        .collect();
    if wanted.is_empty() || file::write(folder, "cgroup.subtree_control", &wanted.join(" ")).is_ok()
    {
        return;
    }
    // One that can't be had (a threaded child, a real-time task) must not cost the others.
    for one in wanted {
        let _ = file::write(folder, "cgroup.subtree_control", &one);
    }
}

/// `cpu.weight` (1 to 10000, 100 the default) of `cpu.shares` (2 to 262144, 1024 the default): the
/// curve through both ends and both defaults that the OCI runtimes agreed on in 2025.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// `io.weight` (1 to 10000) of a v1 weight (10 to 1000).
pub(crate) fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).saturating_sub(10)) * 9999 / 990
}

/// `memory.swap.max` of v1's limit of memory and swap together.
pub(crate) fn swap_only(swap: Option<i64>, limit: Option<i64>) -> Result<Option<i64>, Error> {
    let limit = limit.filter(|l| *l != 0);
    match (swap.filter(|s| *s != 0), limit) {
        (None, Some(-1)) => Ok(Some(-1)),
        (None, _) => Ok(None),
        (Some(-1), _) => Ok(Some(-1)),
        (Some(_), None | Some(-1)) => {
            Err(Error::Invalid("unable to set swap limit without memory limit".into()))
        }
        (Some(swap), Some(limit)) if limit < 0 || swap < 0 => {
            Err(Error::Invalid(format!("invalid memory limits {limit} and {swap}")))
        }
        (Some(swap), Some(limit)) if swap < limit => {
            Err(Error::Invalid("memory+swap limit should be >= memory limit".into()))
        }
        (Some(swap), Some(limit)) => Ok(Some(swap - limit)),
    }
}

fn number(value: i64) -> String {
    if value == -1 { "max".into() } else { value.to_string() }
}

pub(crate) fn rdma_line(device: &str, rdma: &Rdma) -> String {
    let mut line = device.to_owned();
    if let Some(handles) = rdma.hca_handles {
        let _ = write!(line, " hca_handle={handles}");
    }
    if let Some(objects) = rdma.hca_objects {
        let _ = write!(line, " hca_object={objects}");
    }
    line
}

pub(crate) fn apply_hugetlb(folder: &Path, page: &HugepageLimit) -> Result<(), Error> {
    let limit = page.limit.to_string();
    file::write(folder, &format!("hugetlb.{}.max", page.page_size), &limit)?;
    let reserved = format!("hugetlb.{}.rsvd.max", page.page_size);
    if file::exists(folder, &reserved) { file::write(folder, &reserved, &limit) } else { Ok(()) }
}

pub(crate) fn apply(folder: &Path, resources: &Resources) -> Result<(), Error> {
    if let Some(limit) = resources.pids.as_ref().and_then(|p| p.limit).filter(|l| *l != 0) {
        file::write(folder, "pids.max", &if limit > 0 { limit.to_string() } else { "max".into() })?;
    }
    if let Some(memory) = &resources.memory {
        apply_memory(folder, memory)?;
    }
    if let Some(block) = &resources.block_io {
        apply_io(folder, block)?;
    }
    if let Some(cpu) = &resources.cpu {
        apply_cpu(folder, cpu)?;
    }
    resources.hugepage_limits.iter().try_for_each(|page| apply_hugetlb(folder, page))?;
    for (device, rdma) in &resources.rdma {
        file::write(folder, "rdma.max", &rdma_line(device, rdma))?;
    }
    for (name, value) in &resources.unified {
        if name.contains('/') {
            return Err(Error::Invalid(format!(
                "unified resource {name:?} must be a file name (no slashes)"
            )));
        }
        for line in value.lines() {
            file::write(folder, name, line)?;
        }
    }
    Ok(())
}

fn apply_memory(folder: &Path, memory: &Memory) -> Result<(), Error> {
    let limit = memory.limit.filter(|l| *l != 0);
    let swap = swap_only(memory.swap, memory.limit)?;
    if memory.check_before_update == Some(true)
        && let (Some(limit), Some(usage)) = (limit, file::number(folder, "memory.current"))
        && limit > 0
        && usage >= limit as u64
    {
        return Err(Error::Invalid(format!("rejecting memory limit {limit} <= usage {usage}")));
    }
    if let Some(swap) = swap
        && let Err(error) = file::write(folder, "memory.swap.max", &number(swap))
        // Without swap accounting, "unlimited" and "none beyond memory" need no file.
        && (swap > 0 || file::exists(folder, "memory.swap.max"))
    {
        return Err(error);
    }
    if let Some(limit) = limit {
        file::write(folder, "memory.max", &number(limit))?;
    }
    match memory.reservation.filter(|r| *r != 0) {
        Some(reservation) => file::write(folder, "memory.low", &number(reservation)),
        None => Ok(()),
    }
}

fn apply_cpu(folder: &Path, cpu: &Cpu) -> Result<(), Error> {
    if let Some(idle) = cpu.idle {
        file::write(folder, "cpu.idle", &idle.to_string())?;
    }
    if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
        file::write(folder, "cpu.weight", &weight_of_shares(shares).to_string())?;
    }
    let burst = cpu.burst.map(|b| b.to_string());
    let early = burst.as_ref().map(|b| file::write(folder, "cpu.max.burst", b));
    let (quota, period) = (cpu.quota.filter(|q| *q != 0), cpu.period.filter(|p| *p != 0));
    if quota.is_some() || period.is_some() {
        let quota = quota.filter(|q| *q > 0).map_or("max".into(), |q| q.to_string());
        let line = format!("{quota} {}", period.unwrap_or(100_000));
        file::write(folder, "cpu.max", &line)?;
    }
    if let (Some(Err(_)), Some(burst)) = (early, burst) {
        file::write(folder, "cpu.max.burst", &burst)?;
    }
    for (name, value) in [("cpuset.cpus", &cpu.cpus), ("cpuset.mems", &cpu.mems)] {
        if !value.is_empty() {
            file::write(folder, name, value)?;
        }
    }
    Ok(())
}

fn apply_io(folder: &Path, block: &BlockIo) -> Result<(), Error> {
    let bfq = file::exists(folder, "io.bfq.weight");
    if let Some(weight) = block.weight.filter(|w| *w != 0) {
        if bfq {
            file::write(folder, "io.bfq.weight", &weight.to_string())?;
        } else {
            file::write(folder, "io.weight", &io_weight(weight).to_string())?;
        }
    }
    for device in &block.weight_device {
        let Some(weight) = device.weight else { continue };
        let (name, weight) = if bfq {
            ("io.bfq.weight", u64::from(weight))
        } else {
            ("io.weight", io_weight(weight))
        };
        file::write(folder, name, &format!("{}:{} {weight}", device.major, device.minor))?;
    }
    for (key, list) in [
        ("rbps", &block.throttle_read_bps_device),
        ("wbps", &block.throttle_write_bps_device),
        ("riops", &block.throttle_read_iops_device),
        ("wiops", &block.throttle_write_iops_device),
    ] {
        for d in list {
            let rate = if d.rate == 0 { "max".into() } else { d.rate.to_string() };
            file::write(folder, "io.max", &format!("{}:{} {key}={rate}", d.major, d.minor))?;
        }
    }
    Ok(())
}

/// Attaches the new device program before the old ones go, so that no moment is without one.
pub(crate) fn apply_devices(folder: &Path, rules: &[DeviceRule]) -> Result<(), Error> {
    let code = device_program(rules)?;
    let failed =
        |source| Error::Io { what: "attach device program to", path: folder.into(), source };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(folder, flags, Mode::empty()).map_err(|e| failed(e.into()))?;
    let dir = std::os::fd::AsFd::as_fd(&dir);
    let old = sys::bpf::device_programs(dir).unwrap_or_default();
    if !allows_all(rules) {
        let program = sys::bpf::load_device_program(&code).map_err(failed)?;
        let program = std::os::fd::AsFd::as_fd(&program);
        sys::bpf::attach_device_program(dir, program).map_err(failed)?;
    }
    for program in &old {
        sys::bpf::detach_device_program(dir, std::os::fd::AsFd::as_fd(program)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_default_shares_are_the_default_weight() {
        assert_eq!(weight_of_shares(1024), 100);
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
    }

    #[test]
    fn swap_is_what_exceeds_memory() {
        assert_eq!(swap_only(Some(300), Some(100)).unwrap(), Some(200));
        assert_eq!(swap_only(Some(-1), Some(100)).unwrap(), Some(-1));
        assert_eq!(swap_only(None, Some(100)).unwrap(), None);
        assert!(swap_only(Some(50), Some(100)).is_err());
        assert!(swap_only(Some(50), None).is_err());
    }

    fn read(folder: &Path, name: &str) -> Option<String> {
        std::fs::read_to_string(folder.join(name)).ok()
    }

    proptest! {
        #[test]
        fn swap_is_never_negative_and_with_memory_never_more_than_asked_for(
            swap in proptest::option::of(-3i64..1 << 40), limit in proptest::option::of(-3i64..1 << 40),
        ) {
            match swap_only(swap, limit) {
                Ok(Some(-1)) => prop_assert!(swap == Some(-1) || limit == Some(-1)),
                Ok(Some(only)) => {
                    prop_assert!(only >= 0);
                    prop_assert_eq!(Some(only + limit.unwrap()), swap);
                }
                Ok(None) => prop_assert!(matches!(swap, None | Some(0))),
                Err(_) => prop_assert!(swap.is_some_and(|s| s != 0)),
            }
        }

        #[test]
        fn limits_are_written_as_the_kernel_reads_them(
            quota in proptest::option::of(-2i64..1_000_000), period in proptest::option::of(0u64..1_000_000),
            shares in proptest::option::of(0u64..300_000), pids in proptest::option::of(-2i64..100_000),
        ) {
            let folder = tempfile::tempdir().unwrap();
            for name in ["cpu.max", "cpu.weight", "pids.max"] {
                std::fs::write(folder.path().join(name), "").unwrap();
            }
            let cpu = Cpu { quota, period, shares, ..Cpu::default() };
            let pids_limit = oci::runtime::Pids { limit: pids };
            let resources =
                Resources { cpu: Some(cpu), pids: Some(pids_limit), ..Resources::default() };
            apply(folder.path(), &resources).unwrap();
            let max = read(folder.path(), "cpu.max").unwrap();
            if quota.is_none_or(|q| q == 0) && period.is_none_or(|p| p == 0) {
                prop_assert_eq!(max, "");
            } else {
                let (left, right) = max.split_once(' ').unwrap();
                let right: u64 = right.parse().unwrap();
                prop_assert_eq!(right, period.filter(|p| *p != 0).unwrap_or(100_000));
                let wanted = quota.filter(|q| *q > 0);
                prop_assert_eq!(left.parse::<i64>().ok(), wanted);
                prop_assert_eq!(left == "max", wanted.is_none());
            }
            let weight = read(folder.path(), "cpu.weight").unwrap();
            if shares.is_some_and(|s| s != 0) {
                prop_assert!((1..=10_000).contains(&weight.parse::<u64>().unwrap()));
            } else {
                prop_assert_eq!(weight, "");
            }
            let tasks = read(folder.path(), "pids.max").unwrap();
            match pids.filter(|l| *l != 0) {
                Some(limit) if limit > 0 => prop_assert_eq!(tasks, limit.to_string()),
                Some(_) => prop_assert_eq!(tasks, "max"),
                None => prop_assert_eq!(tasks, ""),
            }
        }

        #[test]
        fn weights_stay_in_range_and_grow_with_shares(a in 1u64..300_000, b in 1u64..300_000) {
            let (low, high) = (weight_of_shares(a.min(b)), weight_of_shares(a.max(b)));
            prop_assert!(low <= high && (1..=10_000).contains(&low) && high <= 10_000);
        }

        #[test]
        fn io_weights_stay_in_range(w in 10u16..=1000) {
            prop_assert!((1..=10_000).contains(&io_weight(w)));
        }
    }
}
