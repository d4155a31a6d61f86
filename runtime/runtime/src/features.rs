//! The features document.

use crate::{caps, numa, options, seccomp};
use oci::runtime::{
    CgroupFeatures, Enabled, Features, IntelRdtFeatures, LinuxFeatures, MemoryPolicyFeatures,
    MountExtensions, SPEC_VERSION, SeccompFeatures,
};

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

fn seccomp_features() -> SeccompFeatures {
    // Those of this machine; a profile may name others, which have no effect here.
    let archs = strings(if cfg!(target_arch = "aarch64") {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    } else {
        &["SCMP_ARCH_X32", "SCMP_ARCH_X86", "SCMP_ARCH_X86_64"]
    });
    let flags = seccomp::FLAGS.iter();
    let known: Vec<String> = flags.clone().map(|(name, _)| (*name).to_owned()).collect();
    let supported = flags
        // WAIT_KILLABLE_RECV is only valid together with a listener.
        .filter(|(_, bit)| {
            let with = if *bit == 32 { bit | seccomp::NEW_LISTENER } else { *bit };
            sys::privilege::seccomp_flag_is_known(with)
        })
        .map(|(name, _)| (*name).to_owned())
        .collect();
    SeccompFeatures {
        enabled: true,
        actions: strings(&[
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_LOG",
            "SCMP_ACT_NOTIFY",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_TRAP",
        ]),
        operators: strings(&[
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_LE",
            "SCMP_CMP_LT",
            "SCMP_CMP_MASKED_EQ",
            "SCMP_CMP_NE",
        ]),
        archs,
        known_flags: known,
        supported_flags: supported,
    }
}

/// What this runtime can do, whatever the machine.
pub fn features() -> Features {
    let linux = LinuxFeatures {
        namespaces: strings(&["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"]),
        capabilities: strings(&caps::NAMES),
        cgroup: Some(CgroupFeatures {
            v1: true,
            v2: true,
            systemd: true,
            systemd_user: true,
            rdma: true,
        }),
        seccomp: Some(seccomp_features()),
        apparmor: Some(Enabled { enabled: true }),
        selinux: Some(Enabled { enabled: true }),
        intel_rdt: Some(IntelRdtFeatures { enabled: true, schemata: true, monitoring: true }),
        memory_policy: Some(MemoryPolicyFeatures {
            modes: strings(&numa::MODES),
            flags: numa::FLAGS.iter().map(|(name, _)| (*name).to_owned()).collect(),
        }),
        mount_extensions: Some(MountExtensions { idmap: Some(Enabled { enabled: true }) }),
        net_devices: Some(Enabled { enabled: true }),
    };
    Features {
        oci_version_min: "1.0.0".into(),
        oci_version_max: SPEC_VERSION.into(),
        hooks: strings(&[
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ]),
        mount_options: options::known(),
        linux: Some(linux),
        potentially_unsafe_config_annotations: strings(&[
            "org.criu.config",
            "org.systemd.property.",
        ]),
        ..Features::default()
    }
}
