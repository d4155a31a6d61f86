//! Counters of cgroups as containerd's metrics messages. A file that is missing counts nothing.

use super::Cgroups;
use shim_api::Any;
use shim_api::metrics::{v1, v2};
use std::path::Path;

fn text(folder: &Path, file: &str) -> String {
    std::fs::read_to_string(folder.join(file)).unwrap_or_default()
}

/// One number; `max` is the largest one.
fn number(folder: &Path, file: &str) -> u64 {
    match text(folder, file).trim() {
        "max" => u64::MAX,
        other => other.parse().unwrap_or(0),
    }
}

/// The number behind a key, in a file of `key number` lines.
pub(super) fn keyed(folder: &Path, file: &str, key: &str) -> u64 {
    find(&text(folder, file), key)
}

fn find(text: &str, key: &str) -> u64 {
    let mut pairs = text.lines().filter_map(|line| line.split_once(' '));
    pairs.find(|(name, _)| *name == key).and_then(|(_, n)| n.trim().parse().ok()).unwrap_or(0)
}

/// Sizes of huge pages as file names spell them.
fn hugetlb_sizes(folder: &Path, suffix: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.filter_map(|e| e.file_name().into_string().ok());
    let mut sizes: Vec<String> = names
        .filter_map(|n| Some(n.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.to_owned()))
        .filter(|size| !size.contains('.'))
        .collect();
    sizes.sort();
    sizes
}

/// Clock ticks to nanoseconds.
fn ticks(n: u64) -> u64 {
    n * (1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

/// The v1 (or hybrid) message.
pub(super) fn v1(cgroups: &Cgroups) -> Any {
    let mut all = v1::Metrics::default();
    if let Some(folder) = cgroups.controller("pids") {
        let limit = match number(folder, "pids.max") {
            u64::MAX => 0,
            n => n,
        };
        all.pids = Some(v1::Pids { current: number(folder, "pids.current"), limit });
    }
    let mut cpu = v1::Cpu::default();
    if let Some(folder) = cgroups.controller("cpuacct") {
        let stat = text(folder, "cpuacct.stat");
        let per_cpu = text(folder, "cpuacct.usage_percpu");
        cpu.usage = Some(v1::CpuUsage {
            total: number(folder, "cpuacct.usage"),
            kernel: ticks(find(&stat, "system")),
            user: ticks(find(&stat, "user")),
            per_cpu: per_cpu.split_whitespace().filter_map(|n| n.parse().ok()).collect(),
        });
    }
    if let Some(folder) = cgroups.controller("cpu") {
        let stat = text(folder, "cpu.stat");
        cpu.throttling = Some(v1::Throttle {
            periods: find(&stat, "nr_periods"),
            throttled_periods: find(&stat, "nr_throttled"),
            throttled_time: find(&stat, "throttled_time"),
        });
    }
    all.cpu = Some(cpu);
    if let Some(folder) = cgroups.controller("memory") {
        all.memory = Some(memory_v1(folder));
        let control = text(folder, "memory.oom_control");
        all.memory_oom_control = Some(v1::OomControl {
            oom_kill_disable: find(&control, "oom_kill_disable"),
            under_oom: find(&control, "under_oom"),
            oom_kill: find(&control, "oom_kill"),
        });
    }
    if let Some(folder) = cgroups.controller("blkio") {
        all.blkio = Some(blkio(folder));
    }
    if let Some(folder) = cgroups.controller("hugetlb") {
        let sizes = hugetlb_sizes(folder, ".usage_in_bytes");
        all.hugetlb = sizes
            .into_iter()
            .map(|pagesize| v1::Hugetlb {
                usage: number(folder, &format!("hugetlb.{pagesize}.usage_in_bytes")),
                max: number(folder, &format!("hugetlb.{pagesize}.max_usage_in_bytes")),
                failcnt: number(folder, &format!("hugetlb.{pagesize}.failcnt")),
                pagesize,
            })
            .collect();
    }
    shim_api::pack(v1::METRICS, &all)
}

fn memory_v1(folder: &Path) -> v1::Memory {
    let stat = text(folder, "memory.stat");
    let get = |key: &str| find(&stat, key);
    let entry = |name: &str| {
        let file = |what: &str| format!("{name}.{what}");
        folder.join(file("usage_in_bytes")).exists().then(|| v1::MemoryEntry {
            limit: number(folder, &file("limit_in_bytes")),
            usage: number(folder, &file("usage_in_bytes")),
            max: number(folder, &file("max_usage_in_bytes")),
            failcnt: number(folder, &file("failcnt")),
        })
    };
    v1::Memory {
        cache: get("cache"),
        rss: get("rss"),
        rss_huge: get("rss_huge"),
        mapped_file: get("mapped_file"),
        dirty: get("dirty"),
        writeback: get("writeback"),
        pg_pg_in: get("pgpgin"),
        pg_pg_out: get("pgpgout"),
        pg_fault: get("pgfault"),
        pg_maj_fault: get("pgmajfault"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        hierarchical_memory_limit: get("hierarchical_memory_limit"),
        hierarchical_swap_limit: get("hierarchical_memsw_limit"),
        total_cache: get("total_cache"),
        total_rss: get("total_rss"),
        total_rss_huge: get("total_rss_huge"),
        total_mapped_file: get("total_mapped_file"),
        total_dirty: get("total_dirty"),
        total_writeback: get("total_writeback"),
        total_pg_pg_in: get("total_pgpgin"),
        total_pg_pg_out: get("total_pgpgout"),
        total_pg_fault: get("total_pgfault"),
        total_pg_maj_fault: get("total_pgmajfault"),
        total_inactive_anon: get("total_inactive_anon"),
        total_active_anon: get("total_active_anon"),
        total_inactive_file: get("total_inactive_file"),
        total_active_file: get("total_active_file"),
        total_unevictable: get("total_unevictable"),
        usage: entry("memory"),
        swap: entry("memory.memsw"),
        kernel: entry("memory.kmem"),
        kernel_tcp: entry("memory.kmem.tcp"),
    }
}

fn blkio(folder: &Path) -> v1::Blkio {
    // CFQ's counters are complete where they exist; else the throttler's.
    let either = |cfq: &str, throttle: &str| {
        let list = entries(&text(folder, cfq));
        if list.is_empty() { entries(&text(folder, throttle)) } else { list }
    };
    let only = |file: &str| entries(&text(folder, file));
    v1::Blkio {
        io_service_bytes_recursive: either(
            "blkio.io_service_bytes_recursive",
            "blkio.throttle.io_service_bytes_recursive",
        ),
        io_serviced_recursive: either(
            "blkio.io_serviced_recursive",
            "blkio.throttle.io_serviced_recursive",
        ),
        io_queued_recursive: only("blkio.io_queued_recursive"),
        io_service_time_recursive: only("blkio.io_service_time_recursive"),
        io_wait_time_recursive: only("blkio.io_wait_time_recursive"),
        io_merged_recursive: only("blkio.io_merged_recursive"),
        io_time_recursive: only("blkio.time_recursive"),
        sectors_recursive: only("blkio.sectors_recursive"),
    }
}

/// Lines of `major:minor [operation] number`.
fn entries(text: &str) -> Vec<v1::BlkioEntry> {
    let parse = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (device, op, value) = match words[..] {
            [device, op, value] => (device, op, value),
            [device, value] => (device, "", value),
            _ => return None,
        };
        let (major, minor) = device.split_once(':')?;
        Some(v1::BlkioEntry {
            op: op.to_owned(),
            device: String::new(),
            major: major.parse().ok()?,
            minor: minor.parse().ok()?,
            value: value.parse().ok()?,
        })
    };
    text.lines().filter_map(parse).collect()
}

/// The v2 message.
pub(super) fn v2(cgroups: &Cgroups) -> Any {
    let mut all = v2::Metrics::default();
    if let Some(folder) = &cgroups.v2 {
        let limit = match number(folder, "pids.max") {
            u64::MAX => 0,
            n => n,
        };
        all.pids = Some(v2::Pids { current: number(folder, "pids.current"), limit });
        let stat = text(folder, "cpu.stat");
        let get = |key: &str| find(&stat, key);
        all.cpu = Some(v2::Cpu {
            usage_usec: get("usage_usec"),
            user_usec: get("user_usec"),
            system_usec: get("system_usec"),
            nr_periods: get("nr_periods"),
            nr_throttled: get("nr_throttled"),
            throttled_usec: get("throttled_usec"),
        });
        all.memory = Some(memory_v2(folder));
        let events = text(folder, "memory.events");
        all.memory_events = Some(v2::MemoryEvents {
            low: find(&events, "low"),
            high: find(&events, "high"),
            max: find(&events, "max"),
            oom: find(&events, "oom"),
            oom_kill: find(&events, "oom_kill"),
        });
        all.io = Some(v2::Io { usage: text(folder, "io.stat").lines().filter_map(io).collect() });
        let sizes = hugetlb_sizes(folder, ".current");
        all.hugetlb = sizes
            .into_iter()
            .map(|pagesize| v2::Hugetlb {
                current: number(folder, &format!("hugetlb.{pagesize}.current")),
                max: number(folder, &format!("hugetlb.{pagesize}.max")),
                pagesize,
            })
            .collect();
    }
    shim_api::pack(v2::METRICS, &all)
}

/// A line of `io.stat`: `major:minor key=number …`.
fn io(line: &str) -> Option<v2::IoEntry> {
    let (device, rest) = line.split_once(' ')?;
    let (major, minor) = device.split_once(':')?;
    let get = |key: &str| {
        let mut pairs = rest.split_whitespace().filter_map(|w| w.split_once('='));
        pairs.find(|(k, _)| *k == key).and_then(|(_, v)| v.parse().ok()).unwrap_or(0)
    };
    Some(v2::IoEntry {
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        rbytes: get("rbytes"),
        wbytes: get("wbytes"),
        rios: get("rios"),
        wios: get("wios"),
    })
}

fn memory_v2(folder: &Path) -> v2::Memory {
    let stat = text(folder, "memory.stat");
    let get = |key: &str| find(&stat, key);
    v2::Memory {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        workingset_refault: get("workingset_refault"),
        workingset_activate: get("workingset_activate"),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        usage: number(folder, "memory.current"),
        usage_limit: number(folder, "memory.max"),
        swap_usage: number(folder, "memory.swap.current"),
        swap_limit: number(folder, "memory.swap.max"),
    }
}
