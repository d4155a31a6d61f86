//! Usage figures, in the shape that `events --stats` prints.

use crate::{Cgroup, RdtStats, file};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Usage figures of a cgroup.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Processors and memory nodes.
    pub cpuset: CpusetStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block I/O.
    pub blkio: BlkioStats,
    /// Huge pages by size.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    /// Cache and memory bandwidth; empty without a group of it.
    pub intel_rdt: RdtStats,
    /// Network interfaces; always null, as runc has it.
    pub network_interfaces: Option<Vec<u64>>,
}

/// Processor time.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuStats {
    /// Nanoseconds used.
    pub usage: CpuUsage,
    /// Periods held back.
    pub throttling: Throttling,
    /// How long tasks waited; v2 alone, where the kernel counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// Pressure: how long tasks waited for a resource.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one task.
    pub some: PressureFigures,
    /// All tasks at once.
    pub full: PressureFigures,
}

/// Percentages of the last seconds, and microseconds in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct PressureFigures {
    /// Of the last 10 seconds.
    #[serde(serialize_with = "short")]
    pub avg10: f64,
    /// Of the last 60 seconds.
    #[serde(serialize_with = "short")]
    pub avg60: f64,
    /// Of the last 300 seconds.
    #[serde(serialize_with = "short")]
    pub avg300: f64,
    /// Microseconds.
    pub total: u64,
}

/// A whole number without a fraction, as Go's encoder writes it.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn short<S: serde::Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.fract() == 0.0 { to.serialize_i64(*value as i64) } else { to.serialize_f64(*value) }
}

/// Nanoseconds used.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpuUsage {
    /// Together.
    #[serde(skip_serializing_if = "zero")]
    pub total: u64,
    /// By processor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// By processor, in the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// By processor, outside of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// Outside of it.
    pub user: u64,
}

/// Periods held back.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Throttling {
    /// Periods in force.
    #[serde(skip_serializing_if = "zero")]
    pub periods: u64,
    /// Periods in which the quota ran out.
    #[serde(rename = "throttledPeriods", skip_serializing_if = "zero")]
    pub throttled_periods: u64,
    /// Nanoseconds held back.
    #[serde(rename = "throttledTime", skip_serializing_if = "zero")]
    pub throttled_time: u64,
}

/// Processors and memory nodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CpusetStats {
    /// Processors.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    /// v1 flag.
    pub cpu_exclusive: u64,
    /// Memory nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    /// v1 flag.
    pub mem_hardwall: u64,
    /// v1 flag.
    pub mem_exclusive: u64,
    /// v1 flag.
    pub memory_migrate: u64,
    /// v1 flag.
    pub memory_spread_page: u64,
    /// v1 flag.
    pub memory_spread_slab: u64,
    /// v1 figure.
    pub memory_pressure: u64,
    /// v1 flag.
    pub sched_load_balance: u64,
    /// v1 figure.
    pub sched_relax_domain_level: i64,
}

/// Memory.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemoryStats {
    /// Bytes of page cache.
    #[serde(skip_serializing_if = "zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together.
    pub swap: MemoryEntry,
    /// Kernel memory.
    pub kernel: MemoryEntry,
    /// TCP buffers.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat` as it is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
    /// How long tasks waited for memory; v2 alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One kind of memory, bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MemoryEntry {
    /// Limit.
    pub limit: u64,
    /// In use.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// Most ever in use.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Tasks.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct PidsStats {
    /// Now.
    #[serde(skip_serializing_if = "zero")]
    pub current: u64,
    /// At most; absent when unlimited.
    #[serde(skip_serializing_if = "zero")]
    pub limit: u64,
}

/// Block I/O by device and operation.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlkioStats {
    /// Bytes.
    #[serde(rename = "ioServiceBytesRecursive", skip_serializing_if = "Vec::is_empty")]
    pub bytes: Vec<BlkioEntry>,
    /// Operations.
    #[serde(rename = "ioServicedRecursive", skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<BlkioEntry>,
    /// How long tasks waited for devices; v2 alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psi: Option<Pressure>,
}

/// One figure of one device.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct BlkioEntry {
    /// Major number.
    #[serde(skip_serializing_if = "zero")]
    pub major: u64,
    /// Minor number.
    #[serde(skip_serializing_if = "zero")]
    pub minor: u64,
    /// `Read`, `Write`, …
    pub op: String,
    /// The figure.
    #[serde(skip_serializing_if = "zero")]
    pub value: u64,
}

/// Huge pages of one size, bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HugetlbStats {
    /// In use.
    #[serde(skip_serializing_if = "zero")]
    pub usage: u64,
    /// Most ever in use.
    #[serde(skip_serializing_if = "zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn zero(value: &u64) -> bool {
    *value == 0
}

pub(crate) fn read(group: &Cgroup) -> Stats {
    match group.v2() {
        Some(folder) if group.is_unified() => read_v2(folder),
        _ => read_v1(group),
    }
}

/// `0-2,5` as numbers, 4,096 at most.
fn list(text: &str) -> Vec<u16> {
    let mut all = Vec::new();
    for part in text.trim().split(',').filter(|p| !p.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            all.extend((first..=last).take(4096));
        }
    }
    all
}

/// Nanoseconds of a clock tick (USER_HZ is 100 on every Linux).
const TICK: u64 = 10_000_000;

fn read_v1(group: &Cgroup) -> Stats {
    let mut stats = Stats::default();
    if let Some(folder) = group.controller("cpuacct") {
        let usage = &mut stats.cpu.usage;
        usage.total = file::number(folder, "cpuacct.usage").unwrap_or(0);
        for (key, value) in file::pairs(folder, "cpuacct.stat") {
            *(if key == "user" { &mut usage.user } else { &mut usage.kernel }) = value * TICK;
        }
        for line in file::read(folder, "cpuacct.usage_all").unwrap_or_default().lines().skip(1) {
            let mut fields = line.split(' ').skip(1).filter_map(|n| n.parse::<u64>().ok());
            let (user, kernel) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
            usage.percpu.push(user + kernel);
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(kernel);
        }
    }
    if let Some(folder) = group.controller("cpu") {
        for (key, value) in file::pairs(folder, "cpu.stat") {
            match key.as_str() {
                "nr_periods" => stats.cpu.throttling.periods = value,
                "nr_throttled" => stats.cpu.throttling.throttled_periods = value,
                "throttled_time" => stats.cpu.throttling.throttled_time = value,
                _ => {}
            }
        }
    }
    if let Some(folder) = group.controller("cpuset") {
        read_cpuset(folder, &mut stats.cpuset);
    }
    if let Some(folder) = group.controller("memory") {
        let memory = &mut stats.memory;
        memory.usage = memory_v1(folder, "memory");
        memory.swap = memory_v1(folder, "memory.memsw");
        memory.kernel = memory_v1(folder, "memory.kmem");
        memory.kernel_tcp = memory_v1(folder, "memory.kmem.tcp");
        memory.raw = file::pairs(folder, "memory.stat").into_iter().collect();
        memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
    }
    if let Some(folder) = group.controller("pids") {
        read_pids(folder, &mut stats.pids);
    }
    if let Some(folder) = group.controller("blkio") {
        let first = |names: [&str; 2]| {
            names.iter().map(|n| blkio_v1(folder, n)).find(|l| !l.is_empty()).unwrap_or_default()
        };
        stats.blkio.bytes = first([
            "blkio.bfq.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
        ]);
        stats.blkio.operations =
            first(["blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"]);
    }
    if let Some(folder) = group.controller("hugetlb") {
        read_hugetlb(folder, "usage_in_bytes", &mut stats.hugetlb);
    }
    stats
}

fn read_cpuset(folder: &Path, into: &mut CpusetStats) {
    let number = |name: &str| file::number(folder, name).unwrap_or(0);
    into.cpus = list(&file::read(folder, "cpuset.cpus").unwrap_or_default());
    into.mems = list(&file::read(folder, "cpuset.mems").unwrap_or_default());
    into.cpu_exclusive = number("cpuset.cpu_exclusive");
    into.mem_hardwall = number("cpuset.mem_hardwall");
    into.mem_exclusive = number("cpuset.mem_exclusive");
    into.memory_migrate = number("cpuset.memory_migrate");
    into.memory_spread_page = number("cpuset.memory_spread_page");
    into.memory_spread_slab = number("cpuset.memory_spread_slab");
    into.memory_pressure = number("cpuset.memory_pressure");
    into.sched_load_balance = number("cpuset.sched_load_balance");
    let level = file::read(folder, "cpuset.sched_relax_domain_level").unwrap_or_default();
    into.sched_relax_domain_level = level.trim().parse().unwrap_or(0);
}

fn memory_v1(folder: &Path, prefix: &str) -> MemoryEntry {
    let number = |name: &str| file::number(folder, &format!("{prefix}.{name}")).unwrap_or(0);
    MemoryEntry {
        limit: number("limit_in_bytes"),
        usage: number("usage_in_bytes"),
        max: number("max_usage_in_bytes"),
        failcnt: number("failcnt"),
    }
}

fn read_pids(folder: &Path, into: &mut PidsStats) {
    into.current = file::number(folder, "pids.current").unwrap_or(0);
    into.limit = file::number(folder, "pids.max").filter(|l| *l != u64::MAX).unwrap_or(0);
}

fn device(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn blkio_v1(folder: &Path, name: &str) -> Vec<BlkioEntry> {
    let text = file::read(folder, name).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (major, minor) = device(fields.next()?)?;
            let op = fields.next()?.to_owned();
            Some(BlkioEntry { major, minor, op, value: fields.next()?.parse().ok()? })
        })
        .collect()
}

fn read_hugetlb(folder: &Path, suffix: &str, into: &mut BTreeMap<String, HugetlbStats>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let Some(size) = name.to_str().and_then(|n| n.strip_prefix("hugetlb.")) else { continue };
        let Some(size) = size.strip_suffix(suffix).and_then(|s| s.strip_suffix('.')) else {
            continue;
        };
        let number =
            |what: &str| file::number(folder, &format!("hugetlb.{size}.{what}")).unwrap_or(0);
        if size.ends_with("rsvd") {
            continue;
        }
        let failures = file::pairs(folder, &format!("hugetlb.{size}.events"));
        let entry = HugetlbStats {
            usage: number(suffix),
            max: number("max_usage_in_bytes"),
            failcnt: failures.first().map_or_else(|| number("failcnt"), |(_, v)| *v),
        };
        into.insert(size.to_owned(), entry);
    }
}

fn read_v2(folder: &Path) -> Stats {
    let mut stats = Stats::default();
    for (key, value) in file::pairs(folder, "cpu.stat") {
        match key.as_str() {
            "usage_usec" => stats.cpu.usage.total = value * 1000,
            "user_usec" => stats.cpu.usage.user = value * 1000,
            "system_usec" => stats.cpu.usage.kernel = value * 1000,
            "nr_periods" => stats.cpu.throttling.periods = value,
            "nr_throttled" => stats.cpu.throttling.throttled_periods = value,
            "throttled_usec" => stats.cpu.throttling.throttled_time = value * 1000,
            _ => {}
        }
    }
    let number = |name: &str| file::number(folder, name).unwrap_or(0);
    let memory = &mut stats.memory;
    memory.usage = MemoryEntry {
        limit: number("memory.max"),
        usage: number("memory.current"),
        max: number("memory.peak"),
        failcnt: 0,
    };
    memory.swap = MemoryEntry {
        limit: number("memory.swap.max"),
        usage: number("memory.swap.current"),
        max: number("memory.swap.peak"),
        failcnt: 0,
    };
    memory.swap.usage += memory.usage.usage;
    memory.swap.limit = memory.swap.limit.saturating_add(memory.usage.limit);
    memory.raw = file::pairs(folder, "memory.stat").into_iter().collect();
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    read_pids(folder, &mut stats.pids);
    for line in file::read(folder, "io.stat").unwrap_or_default().lines() {
        let mut fields = line.split(' ');
        let Some((major, minor)) = fields.next().and_then(device) else { continue };
        for field in fields {
            let Some((key, value)) = field.split_once('=') else { continue };
            let Ok(value) = value.parse() else { continue };
            let (bytes, op) = match key {
                "rbytes" => (true, "Read"),
                "wbytes" => (true, "Write"),
                "rios" => (false, "Read"),
                "wios" => (false, "Write"),
                _ => continue,
            };
            let list = if bytes { &mut stats.blkio.bytes } else { &mut stats.blkio.operations };
            list.push(BlkioEntry { major, minor, op: op.into(), value });
        }
    }
    read_hugetlb(folder, "current", &mut stats.hugetlb);
    stats.cpu.psi = pressure(folder, "cpu.pressure");
    stats.memory.psi = pressure(folder, "memory.pressure");
    stats.blkio.psi = pressure(folder, "io.pressure");
    stats
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and `full` likewise. Nothing where the kernel
/// does not count.
fn pressure(folder: &Path, name: &str) -> Option<Pressure> {
    let text = file::read(folder, name).ok()?;
    let mut all = Pressure::default();
    for line in text.lines() {
        let (kind, fields) = line.split_once(' ')?;
        let figures = match kind {
            "some" => &mut all.some,
            "full" => &mut all.full,
            _ => continue,
        };
        for field in fields.split(' ') {
            let (key, value) = field.split_once('=')?;
            match key {
                "avg10" => figures.avg10 = value.parse().ok()?,
                "avg60" => figures.avg60 = value.parse().ok()?,
                "avg300" => figures.avg300 = value.parse().ok()?,
                "total" => figures.total = value.parse().ok()?,
                _ => {}
            }
        }
    }
    Some(all)
}
