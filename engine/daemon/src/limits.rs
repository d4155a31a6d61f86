//! What this machine can do for a container, its cgroups before all: looked up once, when the
//! daemon begins. Nothing here knows a container.

use std::path::Path;

/// What can be limited, and which processors and memory nodes there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Packets are passed on between networks.
    pub ipv4_forwarding: bool,
    /// Memory.
    pub memory: bool,
    /// Memory together with swap.
    pub swap: bool,
    /// How willingly memory is swapped.
    pub swappiness: bool,
    /// Memory that is kept under pressure.
    pub reservation: bool,
    /// Whether the kernel kills for lack of memory.
    pub oom_kill_disable: bool,
    /// The number of processes.
    pub pids: bool,
    /// Shares of processors.
    pub cpu_shares: bool,
    /// Quotas of processors.
    pub cpu_cfs: bool,
    /// Real-time scheduling.
    pub cpu_realtime: bool,
    /// Which processors and memory nodes are used.
    pub cpuset: bool,
    /// The processors, as `0-3`.
    pub cpus: String,
    /// The memory nodes.
    pub mems: String,
    /// Weight of block I/O.
    pub blkio_weight: bool,
    /// Weight of a device.
    pub blkio_weight_device: bool,
    /// Bytes read from a device a second.
    pub read_bps: bool,
    /// Bytes written.
    pub write_bps: bool,
    /// Reads.
    pub read_iops: bool,
    /// Writes.
    pub write_iops: bool,
}

impl Limits {
    /// Looks at the hierarchies below `root`, which is `/sys/fs/cgroup`.
    pub fn of(root: &Path) -> Self {
        let limits = match std::fs::read_to_string(root.join("cgroup.controllers")) {
            Ok(controllers) => Self::unified(root, &controllers),
            Err(_) => Self::separate(root),
        };
        Self { ipv4_forwarding: line(Path::new("/proc/sys/net/ipv4/ip_forward")) == "1", ..limits }
    }

    fn unified(root: &Path, controllers: &str) -> Self {
        let has = |name: &str| controllers.split_whitespace().any(|c| c == name);
        let (memory, cpu, io) = (has("memory"), has("cpu"), has("io"));
        Self {
            memory,
            // The root itself has no limit: the daemon's own group tells.
            swap: memory && root.join(own_group()).join("memory.swap.max").exists(),
            reservation: memory,
            pids: has("pids"),
            cpu_shares: cpu,
            cpu_cfs: cpu,
            cpuset: has("cpuset"),
            cpus: line(&root.join("cpuset.cpus.effective")),
            mems: line(&root.join("cpuset.mems.effective")),
            blkio_weight: io,
            blkio_weight_device: io,
            read_bps: io,
            write_bps: io,
            read_iops: io,
            write_iops: io,
            ..Self::default()
        }
    }

    fn separate(root: &Path) -> Self {
        let has = |path: &str| root.join(path).exists();
        let throttle = |what: &str| has(&format!("blkio/blkio.throttle.{what}_device"));
        Self {
            memory: has("memory/memory.limit_in_bytes"),
            swap: has("memory/memory.memsw.limit_in_bytes"),
            swappiness: has("memory/memory.swappiness"),
            reservation: has("memory/memory.soft_limit_in_bytes"),
            oom_kill_disable: has("memory/memory.oom_control"),
            pids: has("pids"),
            cpu_shares: has("cpu/cpu.shares"),
            cpu_cfs: has("cpu/cpu.cfs_quota_us"),
            cpu_realtime: has("cpu/cpu.rt_period_us"),
            cpuset: has("cpuset"),
            cpus: line(&root.join("cpuset/cpuset.cpus")),
            mems: line(&root.join("cpuset/cpuset.mems")),
            blkio_weight: has("blkio/blkio.weight") || has("blkio/blkio.bfq.weight"),
            blkio_weight_device: has("blkio/blkio.weight_device")
                || has("blkio/blkio.bfq.weight_device"),
            read_bps: throttle("read_bps"),
            write_bps: throttle("write_bps"),
            read_iops: throttle("read_iops"),
            write_iops: throttle("write_iops"),
            ..Self::default()
        }
    }
}

/// This process's group in the hierarchy of version 2, relative to its root.
fn own_group() -> String {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    path.unwrap_or_default().to_owned()
}

fn line(path: &Path) -> String {
    std::fs::read_to_string(path).map_or_else(|_| "0".to_owned(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_read() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path();
        for (file, text) in [
            ("memory/memory.limit_in_bytes", ""),
            ("cpuset/cpuset.cpus", "0-3\n"),
            ("blkio/blkio.throttle.read_bps_device", ""),
        ] {
            std::fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
            std::fs::write(root.join(file), text).unwrap();
        }
        let limits = Limits::of(root);
        assert!(limits.memory && limits.cpuset && limits.read_bps);
        assert!(!limits.swap && !limits.write_bps && !limits.pids);
        assert_eq!(limits.cpus, "0-3");
        std::fs::write(root.join("cgroup.controllers"), "cpu io pids\n").unwrap();
        let limits = Limits::of(root);
        assert!(limits.cpu_cfs && limits.blkio_weight && limits.pids && !limits.memory);
        assert!(!limits.oom_kill_disable);
    }
}
