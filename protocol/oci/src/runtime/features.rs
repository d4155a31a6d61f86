//! The features document that `features` prints.

use super::objects;
use std::collections::BTreeMap;

objects! {
    /// What a runtime can do.
    Features {
        always {
            /// Oldest version of the specification that is understood.
            oci_version_min: String,
            /// Newest version that is understood.
            oci_version_max: String,
        }
        omit {
            /// Hooks.
            hooks: Vec<String>,
            /// Mount options.
            mount_options: Vec<String>,
            /// What concerns Linux alone.
            linux: Option<LinuxFeatures>,
            /// Free key-value pairs.
            annotations: BTreeMap<String, String>,
            /// Annotations (or prefixes ending in a dot) that change behaviour.
            potentially_unsafe_config_annotations: Vec<String>,
        }
    }

    /// What a runtime can do on Linux.
    LinuxFeatures {
        omit {
            /// Kinds of namespaces.
            namespaces: Vec<String>,
            /// Capabilities known by name.
            capabilities: Vec<String>,
            /// cgroups.
            cgroup: Option<CgroupFeatures>,
            /// System call filters.
            seccomp: Option<SeccompFeatures>,
            /// AppArmor.
            apparmor: Option<Enabled>,
            /// SELinux.
            selinux: Option<Enabled>,
            /// Cache and memory bandwidth allocation.
            intel_rdt: Option<IntelRdtFeatures>,
            /// NUMA memory policy.
            memory_policy: Option<MemoryPolicyFeatures>,
            /// Extensions of mounts.
            mount_extensions: Option<MountExtensions>,
            /// Network devices moved in.
            net_devices: Option<Enabled>,
        }
    }

    /// cgroups.
    CgroupFeatures {
        always {
            /// Version 1.
            v1: bool,
            /// Version 2.
            v2: bool,
            /// The systemd driver.
            systemd: bool,
            /// The systemd driver of a user's instance.
            systemd_user: bool,
            /// RDMA.
            rdma: bool,
        }
    }

    /// System call filters.
    SeccompFeatures {
        always {
            /// Whether there are any.
            enabled: bool,
        }
        omit {
            /// Actions.
            actions: Vec<String>,
            /// Operators.
            operators: Vec<String>,
            /// Architectures.
            archs: Vec<String>,
            /// Flags known.
            known_flags: Vec<String>,
            /// Flags that this kernel has too.
            supported_flags: Vec<String>,
        }
    }

    /// Something that is there or not.
    Enabled {
        always {
            /// Whether it is.
            enabled: bool,
        }
    }

    /// Cache and memory bandwidth allocation.
    IntelRdtFeatures {
        always {
            /// Whether there is any.
            enabled: bool,
        }
        omit {
            /// Whether `schemata` is understood.
            schemata: bool,
            /// Whether `enableMonitoring` is understood.
            monitoring: bool,
        }
    }

    /// NUMA memory policy.
    MemoryPolicyFeatures {
        omit {
            /// Modes.
            modes: Vec<String>,
            /// Flags.
            flags: Vec<String>,
        }
    }

    /// Extensions of mounts.
    MountExtensions {
        omit {
            /// Mounts with ids of their own.
            idmap: Option<Enabled>,
        }
    }
}
