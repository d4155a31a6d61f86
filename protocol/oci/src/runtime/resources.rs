//! `linux.resources`: the limits of a cgroup, as config.json and `update --resources` hold them.

use super::objects;
use std::collections::BTreeMap;

objects! {
    /// Limits of a cgroup. What is absent stays as the kernel or an earlier update set it.
    Resources {
        omit {
            /// Device rules, in order.
            devices: Vec<DeviceRule>,
            /// Memory.
            memory: Option<Memory>,
            /// Processor time.
            cpu: Option<Cpu>,
            /// Number of tasks.
            pids: Option<Pids>,
            /// Block I/O.
            #[serde(rename = "blockIO")]
            block_io: Option<BlockIo>,
            /// Huge pages.
            hugepage_limits: Vec<HugepageLimit>,
            /// Network class and priorities (v1).
            network: Option<NetworkResources>,
            /// RDMA handles and objects by device.
            rdma: BTreeMap<String, Rdma>,
            /// Files of cgroup v2, written as they are.
            unified: BTreeMap<String, String>,
        }
    }

    /// One rule of the device list.
    DeviceRule {
        always {
            /// Whether the rule allows or denies.
            allow: bool,
        }
        omit {
            /// `a` (all), `c` or `b`; empty is all.
            #[serde(rename = "type")]
            kind: String,
            /// Major number; absent or -1 is any.
            major: Option<i64>,
            /// Minor number; absent or -1 is any.
            minor: Option<i64>,
            /// Letters of `rwm`.
            access: String,
        }
    }

    /// Memory limits, bytes; -1 is unlimited.
    Memory {
        omit {
            /// Hard limit.
            limit: Option<i64>,
            /// Soft limit.
            reservation: Option<i64>,
            /// Limit of memory and swap together.
            swap: Option<i64>,
            /// Kernel memory (v1, ignored by today's kernels).
            kernel: Option<i64>,
            /// TCP buffers (v1).
            #[serde(rename = "kernelTCP")]
            kernel_tcp: Option<i64>,
            /// Swappiness, 0 to 100 (v1).
            swappiness: Option<u64>,
            /// Whether the OOM killer stays away (v1).
            #[serde(rename = "disableOOMKiller")]
            disable_oom_killer: Option<bool>,
            /// Whether children count (v1; always so today).
            use_hierarchy: Option<bool>,
            /// Whether a limit below the present usage is refused.
            check_before_update: Option<bool>,
        }
    }

    /// Processor time.
    Cpu {
        omit {
            /// Relative weight of v1, 2 to 262144.
            shares: Option<u64>,
            /// Microseconds a period; -1 is unlimited.
            quota: Option<i64>,
            /// Microseconds that may be saved up.
            burst: Option<u64>,
            /// Microseconds of a period.
            period: Option<u64>,
            /// Real-time microseconds a period.
            realtime_runtime: Option<i64>,
            /// Microseconds of a real-time period.
            realtime_period: Option<u64>,
            /// Processors, `0-3,7`.
            cpus: String,
            /// Memory nodes, `0-1`.
            mems: String,
            /// 1 for SCHED_IDLE.
            idle: Option<i64>,
        }
    }

    /// Number of tasks.
    Pids {
        omit {
            /// The limit; -1, and 0 outside of an update, is unlimited.
            limit: Option<i64>,
        }
    }

    /// Block I/O.
    BlockIo {
        omit {
            /// Weight, 10 to 1000.
            weight: Option<u16>,
            /// Weight of the group's own tasks beside its children (v1, CFQ).
            leaf_weight: Option<u16>,
            /// Weights by device.
            weight_device: Vec<WeightDevice>,
            /// Bytes a second read.
            throttle_read_bps_device: Vec<ThrottleDevice>,
            /// Bytes a second written.
            throttle_write_bps_device: Vec<ThrottleDevice>,
            /// Operations a second read.
            #[serde(rename = "throttleReadIOPSDevice")]
            throttle_read_iops_device: Vec<ThrottleDevice>,
            /// Operations a second written.
            #[serde(rename = "throttleWriteIOPSDevice")]
            throttle_write_iops_device: Vec<ThrottleDevice>,
        }
    }

    /// Weight of one device.
    WeightDevice {
        always {
            /// Major number.
            major: i64,
            /// Minor number.
            minor: i64,
        }
        omit {
            /// Weight, 10 to 1000.
            weight: Option<u16>,
            /// Weight of the group's own tasks.
            leaf_weight: Option<u16>,
        }
    }

    /// Rate of one device.
    ThrottleDevice {
        always {
            /// Major number.
            major: i64,
            /// Minor number.
            minor: i64,
            /// Bytes or operations a second.
            rate: u64,
        }
    }

    /// Limit of one size of huge pages.
    HugepageLimit {
        always {
            /// Page size, such as `2MB`.
            page_size: String,
            /// Bytes.
            limit: u64,
        }
    }

    /// Network class and priorities (v1).
    NetworkResources {
        omit {
            /// Class identifier of outgoing packets.
            #[serde(rename = "classID")]
            class_id: Option<u32>,
            /// Priorities by interface.
            priorities: Vec<InterfacePriority>,
        }
    }

    /// Priority of one interface.
    InterfacePriority {
        always {
            /// Interface.
            name: String,
            /// Priority.
            priority: u32,
        }
    }

    /// RDMA limits of one device.
    Rdma {
        omit {
            /// Handles.
            hca_handles: Option<u32>,
            /// Objects.
            hca_objects: Option<u32>,
        }
    }
}
