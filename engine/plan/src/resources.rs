//! Limits: from the API's fields to the runtime's. Fields that have no meaning on
//! Linux, or that Ferry lacks, are errors that name them.

use std::collections::BTreeMap;

use engine_api::{Resources as Wanted, ThrottleDevice as Throttle};
use oci::runtime::{BlockIo, Cpu, Memory, Pids, Resources, ThrottleDevice, WeightDevice};

use crate::PlanError;

/// The scheduler's period when CPUs are given as a number, in microseconds.
const PERIOD: u64 = 100_000;
const NANOS: i64 = 1_000_000_000;

/// The block devices' paths whose numbers [`resources`] needs.
pub fn blkio_wishes(wanted: &Wanted) -> Vec<&str> {
    let weights = wanted.blkio_weight_device.iter().flatten().map(|d| d.path.as_str());
    let throttles = [
        &wanted.blkio_device_read_bps,
        &wanted.blkio_device_write_bps,
        &wanted.blkio_device_read_iops,
        &wanted.blkio_device_write_iops,
    ];
    let rates =
        throttles.into_iter().flat_map(|list| list.iter().flatten()).map(|d| d.path.as_str());
    weights.chain(rates).collect()
}

/// The runtime's limits; `numbers` maps a block device's path to major and minor.
pub fn resources(
    wanted: &Wanted,
    numbers: &BTreeMap<String, (i64, i64)>,
) -> Result<Resources, PlanError> {
    refuse(wanted)?;
    let memory = Memory {
        limit: positive(wanted.memory),
        reservation: positive(wanted.memory_reservation),
        swap: swap(wanted),
        swappiness: wanted.memory_swappiness.and_then(|s| u64::try_from(s).ok()),
        disable_oom_killer: wanted.oom_kill_disable,
        kernel_tcp: positive(wanted.kernel_memory_tcp),
        ..Memory::default()
    };
    Ok(Resources {
        memory: Some(memory).filter(|m| *m != Memory::default()),
        cpu: Some(cpu(wanted)).filter(|c| *c != Cpu::default()),
        pids: wanted.pids_limit.filter(|n| *n != 0).map(|n| Pids { limit: Some(n.max(-1)) }),
        block_io: Some(block_io(wanted, numbers)).filter(|b| *b != BlockIo::default()),
        ..Resources::default()
    })
}

fn refuse(wanted: &Wanted) -> Result<(), PlanError> {
    let set = [
        (wanted.device_requests.as_ref().is_some_and(|r| !r.is_empty()), "DeviceRequests"),
        (wanted.cpu_count != 0, "CpuCount"),
        (wanted.cpu_percent != 0, "CpuPercent"),
        (wanted.io_maximum_iops != 0, "IOMaximumIOps"),
        (wanted.io_maximum_bandwidth != 0, "IOMaximumBandwidth"),
    ];
    match set.iter().find(|(is_set, _)| *is_set) {
        Some((_, name)) => Err(PlanError::Unsupported((*name).to_owned())),
        None => Ok(()),
    }
}

fn positive(n: i64) -> Option<i64> {
    (n > 0).then_some(n)
}

/// Memory and swap together; twice the memory when only that is given.
fn swap(wanted: &Wanted) -> Option<i64> {
    match (wanted.memory, wanted.memory_swap) {
        (_, swap) if swap != 0 => Some(swap),
        (memory, _) if memory > 0 => Some(memory.saturating_mul(2)),
        _ => None,
    }
}

fn cpu(wanted: &Wanted) -> Cpu {
    let mut cpu = Cpu {
        shares: u64::try_from(wanted.cpu_shares).ok().filter(|n| *n > 0),
        quota: (wanted.cpu_quota != 0).then_some(wanted.cpu_quota),
        period: u64::try_from(wanted.cpu_period).ok().filter(|n| *n > 0),
        cpus: wanted.cpuset_cpus.clone(),
        mems: wanted.cpuset_mems.clone(),
        realtime_runtime: (wanted.cpu_realtime_runtime != 0).then_some(wanted.cpu_realtime_runtime),
        realtime_period: u64::try_from(wanted.cpu_realtime_period).ok().filter(|n| *n > 0),
        ..Cpu::default()
    };
    if wanted.nano_cpus > 0 {
        cpu.period = Some(PERIOD);
        cpu.quota =
            Some((i128::from(wanted.nano_cpus) * i128::from(PERIOD) / i128::from(NANOS)) as i64);
    }
    cpu
}

fn block_io(wanted: &Wanted, numbers: &BTreeMap<String, (i64, i64)>) -> BlockIo {
    let rates = |list: &Option<Vec<Throttle>>| {
        let known = list.iter().flatten().filter_map(|d| Some((numbers.get(&d.path)?, d.rate)));
        known
            .map(|(&(major, minor), rate)| ThrottleDevice { major, minor, rate })
            .collect::<Vec<_>>()
    };
    let weights = wanted.blkio_weight_device.iter().flatten();
    BlockIo {
        weight: Some(wanted.blkio_weight).filter(|w| *w > 0),
        weight_device: weights
            .filter_map(|d| Some((numbers.get(&d.path)?, d.weight)))
            .map(|(&(major, minor), weight)| WeightDevice {
                major,
                minor,
                weight: Some(weight),
                leaf_weight: None,
            })
            .collect(),
        throttle_read_bps_device: rates(&wanted.blkio_device_read_bps),
        throttle_write_bps_device: rates(&wanted.blkio_device_write_bps),
        throttle_read_iops_device: rates(&wanted.blkio_device_read_iops),
        throttle_write_iops_device: rates(&wanted.blkio_device_write_iops),
        ..BlockIo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_become_quota_and_period_and_swap_is_twice_the_memory() {
        let wanted = Wanted { nano_cpus: 1_500_000_000, memory: 1 << 20, ..Wanted::default() };
        let got = resources(&wanted, &BTreeMap::new()).unwrap();
        let cpu = got.cpu.unwrap();
        assert_eq!((cpu.quota, cpu.period), (Some(150_000), Some(100_000)));
        assert_eq!(got.memory.unwrap().swap, Some(2 << 20));
        assert!(got.pids.is_none() && got.block_io.is_none());
    }

    #[test]
    fn what_linux_does_not_have_is_refused_by_name() {
        let wanted = Wanted { cpu_percent: 5, ..Wanted::default() };
        let error = resources(&wanted, &BTreeMap::new()).unwrap_err();
        assert_eq!(error.to_string(), "CpuPercent is not supported by Ferry yet");
    }
}
