//! `linux` but for resources and seccomp. No interpretation of the values.

use super::{IdMapping, Resources, Seccomp, objects};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A kind of namespace.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceType {
    /// Mount table.
    #[default]
    Mount,
    /// Process ids.
    Pid,
    /// Network stack.
    Network,
    /// Host and domain name.
    Uts,
    /// System V and POSIX message queues, semaphores, shared memory.
    Ipc,
    /// User and group ids, capabilities.
    User,
    /// Root of the cgroup tree as seen from inside.
    Cgroup,
    /// Monotonic and boot-time clocks.
    Time,
}

objects! {
    /// What concerns Linux alone.
    Linux {
        omit {
            /// User ids of the user namespace.
            #[serde(rename = "uidMappings")]
            uid_mappings: Vec<IdMapping>,
            /// Group ids of the user namespace.
            #[serde(rename = "gidMappings")]
            gid_mappings: Vec<IdMapping>,
            /// Kernel settings, `net.ipv4.ip_forward` → `1`.
            sysctl: BTreeMap<String, String>,
            /// Resource limits of the cgroup.
            resources: Option<Resources>,
            /// Path in the cgroup tree, or `slice:prefix:name` with the systemd driver.
            cgroups_path: String,
            /// Namespaces made or joined.
            namespaces: Vec<Namespace>,
            /// Device nodes made beside the default ones.
            devices: Vec<Device>,
            /// Network devices moved in, by their name on the host.
            net_devices: BTreeMap<String, NetDevice>,
            /// System call filter.
            seccomp: Option<Seccomp>,
            /// `shared`, `slave`, `private` or `unbindable`, with an `r` in front for recursive.
            rootfs_propagation: String,
            /// Paths hidden from the container.
            masked_paths: Vec<String>,
            /// Paths made read-only.
            readonly_paths: Vec<String>,
            /// SELinux context of the mounts.
            mount_label: String,
            /// Cache and memory bandwidth allocation.
            intel_rdt: Option<IntelRdt>,
            /// Personality of the process.
            personality: Option<Personality>,
            /// Offsets of the clocks of a time namespace, by clock: `monotonic`, `boottime`.
            time_offsets: BTreeMap<String, TimeOffset>,
            /// NUMA memory policy of the process.
            memory_policy: Option<MemoryPolicy>,
        }
    }

    /// A namespace made (no path) or joined (path).
    Namespace {
        always {
            /// Its kind.
            #[serde(rename = "type")]
            kind: NamespaceType,
        }
        omit {
            /// File of the namespace to join.
            path: String,
        }
    }

    /// A device node made in the container.
    Device {
        always {
            /// Path inside the container.
            path: String,
            /// `c`, `u` (character), `b` (block) or `p` (FIFO).
            #[serde(rename = "type")]
            kind: String,
            /// Major number.
            major: i64,
            /// Minor number.
            minor: i64,
        }
        omit {
            /// Permission bits.
            file_mode: Option<u32>,
            /// Owner inside the container.
            uid: Option<u32>,
            /// Group inside the container.
            gid: Option<u32>,
        }
    }

    /// A network device moved into the container.
    NetDevice {
        omit {
            /// Its name inside; the host's when empty.
            name: String,
        }
    }

    /// Cache and memory bandwidth allocation (resctrl).
    IntelRdt {
        omit {
            /// Class of service.
            #[serde(rename = "closID")]
            clos_id: String,
            /// Lines of the schemata file.
            schemata: Vec<String>,
            /// L3 cache line.
            l3_cache_schema: String,
            /// Memory bandwidth line.
            mem_bw_schema: String,
            /// Whether a monitoring group is made.
            enable_monitoring: bool,
        }
    }

    /// Personality of the process.
    Personality {
        always {
            /// `LINUX` or `LINUX32`.
            domain: String,
        }
        omit {
            /// Flags; the specification defines none yet.
            flags: Vec<String>,
        }
    }

    /// Offset of one clock.
    TimeOffset {
        omit {
            /// Seconds.
            secs: i64,
            /// Nanoseconds.
            nanosecs: u32,
        }
    }

    /// NUMA memory policy of the process.
    MemoryPolicy {
        always {
            /// Mode, such as `MPOL_INTERLEAVE`.
            mode: String,
        }
        omit {
            /// Nodes, such as `0-3`.
            nodes: String,
            /// Flags, such as `MPOL_F_STATIC_NODES`.
            flags: Vec<String>,
        }
    }
}
