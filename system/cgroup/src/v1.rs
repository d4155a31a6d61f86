//! Limits of cgroup v1.

use crate::{Cgroup, DeviceList, Error, file, v2};
use oci::runtime::{BlockIo, Cpu, DeviceRule, Memory, Resources};
use std::path::Path;

/// Gives a fresh `cpuset` folder its parent's processors and memory nodes, without which no task
/// can join; fills empty parents on the way. Of one that `is_new` nobody need ask what it has.
pub(crate) fn inherit_cpuset(path: &Path, is_new: bool) -> Result<(), Error> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        inherit(path, name, is_new)?;
    }
    Ok(())
}

fn inherit(path: &Path, name: &str, is_new: bool) -> Result<String, Error> {
    let own = if is_new { String::new() } else { file::read(path, name)? };
    if !own.trim().is_empty() {
        return Ok(own.trim().to_owned());
    }
    let parent = path.parent().unwrap_or(path);
    if !file::exists(parent, name) {
        return Ok(String::new());
    }
    let value = inherit(parent, name, false)?;
    file::write(path, name, &value)?;
    Ok(value)
}

struct Writer<'a> {
    group: &'a Cgroup,
}

impl<'a> Writer<'a> {
    fn folder(&self, controller: &'static str, limit: &'static str) -> Result<&'a Path, Error> {
        self.group.controller(controller).ok_or(Error::NoController { controller, limit })
    }

    fn set(
        &self,
        controller: &'static str,
        name: &'static str,
        value: Option<impl ToString>,
    ) -> Result<(), Error> {
        match value {
            Some(value) => file::write(self.folder(controller, name)?, name, &value.to_string()),
            None => Ok(()),
        }
    }
}

pub(crate) fn apply(
    group: &Cgroup,
    v2_folder: Option<&Path>,
    resources: &Resources,
) -> Result<(), Error> {
    if !resources.unified.is_empty() {
        return Err(Error::Invalid(
            "invalid configuration: cannot use unified on cgroup v1".into(),
        ));
    }
    let writer = Writer { group };
    if let Some(memory) = &resources.memory {
        apply_memory(&writer, memory)?;
    }
    if let Some(cpu) = &resources.cpu {
        apply_cpu(&writer, cpu)?;
    }
    if let Some(limit) = resources.pids.as_ref().and_then(|pids| pids.limit).filter(|l| *l != 0) {
        let text = if limit > 0 { limit.to_string() } else { "max".into() };
        writer.set("pids", "pids.max", Some(text))?;
    }
    if let Some(block) = &resources.block_io {
        apply_block_io(&writer, block)?;
    }
    for page in &resources.hugepage_limits {
        let name = format!("hugetlb.{}.limit_in_bytes", page.page_size);
        match (group.controller("hugetlb"), v2_folder) {
            (Some(folder), _) => file::write(folder, &name, &page.limit.to_string())?,
            // A hybrid machine may keep this controller on its v2 side.
            (None, Some(folder)) => {
                v2::enable(folder, &["hugetlb"]);
                v2::apply_hugetlb(folder, page)?;
            }
            (None, None) => writer.folder("hugetlb", "hugepageLimits").map(drop)?,
        }
    }
    if let Some(network) = &resources.network {
        writer.set("net_cls", "net_cls.classid", network.class_id)?;
        for p in &network.priorities {
            let line = format!("{} {}", p.name, p.priority);
            writer.set("net_prio", "net_prio.ifpriomap", Some(line))?;
        }
    }
    for (device, rdma) in &resources.rdma {
        writer.set("rdma", "rdma.max", Some(v2::rdma_line(device, rdma)))?;
    }
    Ok(())
}

/// What a list of exceptions can't say, a program in the v2 folder of a hybrid machine says.
pub(crate) fn apply_devices(
    folder: &Path,
    v2_folder: Option<&Path>,
    rules: &[DeviceRule],
) -> Result<(), Error> {
    let list = match (DeviceList::from_rules(rules), v2_folder) {
        (Err(_), Some(v2)) => {
            v2::apply_devices(v2, rules)?;
            DeviceList::everything()
        }
        (list, _) => list?,
    };
    if list.allows_all()
        && file::read(folder, "devices.list").is_ok_and(|now| now.trim() == "a *:* rwm")
    {
        return Ok(());
    }
    file::write_lines(folder, &list.v1_lines())
}

fn apply_memory(writer: &Writer, memory: &Memory) -> Result<(), Error> {
    apply_memory_limits(writer, memory)?;
    writer.set("memory", "memory.soft_limit_in_bytes", memory.reservation)?;
    writer.set("memory", "memory.kmem.tcp.limit_in_bytes", memory.kernel_tcp)?;
    if memory.disable_oom_killer == Some(true) {
        writer.set("memory", "memory.oom_control", Some(1))?;
    }
    match memory.swappiness {
        Some(value) if value > 100 => Err(Error::Invalid(format!(
            "invalid memory swappiness value: {value} (valid range is 0-100)"
        ))),
        value => writer.set("memory", "memory.swappiness", value),
    }
}

/// The limit of memory must never exceed that of memory and swap, so the order of the two writes
/// depends on what is set now.
fn apply_memory_limits(writer: &Writer, memory: &Memory) -> Result<(), Error> {
    const LIMIT: &str = "memory.limit_in_bytes";
    const SWAP: &str = "memory.memsw.limit_in_bytes";
    let Some(limit) = memory.limit.filter(|l| *l != 0) else {
        return writer.set("memory", SWAP, memory.swap.filter(|s| *s != 0));
    };
    let folder = writer.folder("memory", "memory.limit")?;
    let with_swap = file::exists(folder, SWAP);
    // Without a limit memory.swap means "as the kernel does"; unlimited memory means unlimited swap.
    let swap = match memory.swap.filter(|s| *s != 0) {
        None if limit == -1 => Some(-1),
        swap => swap,
    };
    let swap = swap.filter(|_| with_swap);
    let write_limit = || {
        file::write(folder, LIMIT, &limit.to_string()).map_err(|error| match &error {
            Error::Write { source, .. } if source.raw_os_error() == Some(16) => {
                Error::MemoryInUse {
                    limit,
                    usage: file::number(folder, "memory.usage_in_bytes").unwrap_or(0),
                    peak: file::number(folder, "memory.max_usage_in_bytes").unwrap_or(0),
                }
            }
            _ => error,
        })
    };
    let Some(swap) = swap else { return write_limit() };
    let present = file::number(folder, LIMIT).unwrap_or(u64::MAX);
    let growing = swap == -1 || present < swap as u64;
    if growing {
        file::write(folder, SWAP, &swap.to_string())?;
        write_limit()
    } else {
        write_limit()?;
        file::write(folder, SWAP, &swap.to_string())
    }
}

fn apply_cpu(writer: &Writer, cpu: &Cpu) -> Result<(), Error> {
    if let Some(shares) = cpu.shares.filter(|s| *s != 0) {
        writer.set("cpu", "cpu.shares", Some(shares))?;
        let folder = writer.folder("cpu", "cpu.shares")?;
        let held = file::number(folder, "cpu.shares").unwrap_or(shares);
        if shares > held {
            return Err(Error::Invalid(format!("the maximum allowed cpu-shares is {held}")));
        }
        if shares < held {
            return Err(Error::Invalid(format!("the minimum allowed cpu-shares is {held}")));
        }
    }
    let period = cpu.period.filter(|p| *p != 0);
    let quota = cpu.quota.filter(|q| *q != 0);
    let burst = |after: bool| match cpu.burst {
        Some(burst) if after == (quota.is_some()) => {
            writer.set("cpu", "cpu.cfs_burst_us", Some(burst))
        }
        _ => Ok(()),
    };
    burst(false)?;
    // A quota may be too small for the new period, or the period for the old quota: try both orders.
    let early = writer.set("cpu", "cpu.cfs_period_us", period);
    writer.set("cpu", "cpu.cfs_quota_us", quota)?;
    if let Err(error) = early {
        if quota.is_none() {
            return Err(error);
        }
        writer.set("cpu", "cpu.cfs_period_us", period)?;
    }
    burst(true)?;
    writer.set("cpu", "cpu.rt_period_us", cpu.realtime_period.filter(|p| *p != 0))?;
    writer.set("cpu", "cpu.rt_runtime_us", cpu.realtime_runtime.filter(|p| *p != 0))?;
    writer.set("cpu", "cpu.idle", cpu.idle)?;
    let text = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
    writer.set("cpuset", "cpuset.cpus", text(&cpu.cpus))?;
    writer.set("cpuset", "cpuset.mems", text(&cpu.mems))
}

fn apply_block_io(writer: &Writer, block: &BlockIo) -> Result<(), Error> {
    let weight_name = |folder: &Path| {
        if file::exists(folder, "blkio.weight") { "blkio.weight" } else { "blkio.bfq.weight" }
    };
    if let Some(weight) = block.weight.filter(|w| *w != 0) {
        let folder = writer.folder("blkio", "blkio.weight")?;
        file::write(folder, weight_name(folder), &weight.to_string())?;
    }
    writer.set("blkio", "blkio.leaf_weight", block.leaf_weight.filter(|w| *w != 0))?;
    for device in &block.weight_device {
        let folder = writer.folder("blkio", "blkio.weight_device")?;
        let name = if weight_name(folder) == "blkio.weight" {
            "blkio.weight_device"
        } else {
            "blkio.bfq.weight_device"
        };
        if let Some(weight) = device.weight {
            let line = format!("{}:{} {weight}", device.major, device.minor);
            file::write(folder, name, &line)?;
        }
        if let Some(weight) = device.leaf_weight.filter(|w| *w != 0) {
            let line = format!("{}:{} {weight}", device.major, device.minor);
            file::write(folder, "blkio.leaf_weight_device", &line)?;
        }
    }
    for (name, list) in [
        ("blkio.throttle.read_bps_device", &block.throttle_read_bps_device),
        ("blkio.throttle.write_bps_device", &block.throttle_write_bps_device),
        ("blkio.throttle.read_iops_device", &block.throttle_read_iops_device),
        ("blkio.throttle.write_iops_device", &block.throttle_write_iops_device),
    ] {
        for d in list {
            let line = format!("{}:{} {}", d.major, d.minor, d.rate);
            writer.set("blkio", name, Some(line))?;
        }
    }
    Ok(())
}
