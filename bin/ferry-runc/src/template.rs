//! `spec`: the configuration to start from.

use crate::commands::Failure;
use oci::runtime::{
    Capabilities, DeviceRule, IdMapping, Linux, Mount, Namespace, NamespaceType, Process,
    Resources, Rlimit, Root, SPEC_VERSION, Spec,
};
use std::path::Path;

fn strings(all: &[&str]) -> Vec<String> {
    all.iter().map(|s| (*s).to_owned()).collect()
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: strings(options),
        ..Mount::default()
    }
}

fn mounts() -> Vec<Mount> {
    let safe = ["nosuid", "noexec", "nodev"];
    let with = |more: &[&'static str]| [&safe[..], more].concat();
    vec![
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/dev/shm", "tmpfs", "shm", &with(&["mode=1777", "size=65536k"])),
        mount("/dev/mqueue", "mqueue", "mqueue", &safe),
        mount("/sys", "sysfs", "sysfs", &with(&["ro"])),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &with(&["relatime", "ro"])),
    ]
}

/// The default configuration.
fn example() -> Spec {
    let caps = strings(&["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    let process = Process {
        terminal: true,
        args: strings(&["sh"]),
        env: strings(&[
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=xterm",
        ]),
        cwd: "/".into(),
        capabilities: Some(Capabilities {
            bounding: caps.clone(),
            effective: caps.clone(),
            permitted: caps,
            ..Capabilities::default()
        }),
        rlimits: vec![Rlimit { kind: "RLIMIT_NOFILE".into(), hard: 1024, soft: 1024 }],
        no_new_privileges: true,
        ..Process::default()
    };
    let kinds = [
        NamespaceType::Pid,
        NamespaceType::Network,
        NamespaceType::Ipc,
        NamespaceType::Uts,
        NamespaceType::Mount,
    ];
    let mut namespaces: Vec<Namespace> =
        kinds.iter().map(|kind| Namespace { kind: *kind, path: String::new() }).collect();
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        namespaces.push(Namespace { kind: NamespaceType::Cgroup, path: String::new() });
    }
    let linux = Linux {
        resources: Some(Resources {
            devices: vec![DeviceRule { access: "rwm".into(), ..DeviceRule::default() }],
            ..Resources::default()
        }),
        namespaces,
        masked_paths: strings(&[
            "/proc/acpi",
            "/proc/asound",
            "/proc/kcore",
            "/proc/keys",
            "/proc/latency_stats",
            "/proc/timer_list",
            "/proc/timer_stats",
            "/proc/sched_debug",
            "/sys/firmware",
            "/proc/scsi",
        ]),
        readonly_paths: strings(&[
            "/proc/bus",
            "/proc/fs",
            "/proc/irq",
            "/proc/sys",
            "/proc/sysrq-trigger",
        ]),
        ..Linux::default()
    };
    Spec {
        oci_version: SPEC_VERSION.into(),
        process: Some(process),
        root: Some(Root { path: "rootfs".into(), readonly: true }),
        hostname: "ferry".into(),
        mounts: mounts(),
        linux: Some(linux),
        ..Spec::default()
    }
}

/// What changes for somebody without rights: a user namespace with one id, the host's network.
fn make_rootless(spec: &mut Spec) {
    let Some(linux) = &mut spec.linux else { return };
    linux.namespaces.retain(|n| n.kind != NamespaceType::Network);
    linux.namespaces.push(Namespace { kind: NamespaceType::User, path: String::new() });
    let one = |host_id| vec![IdMapping { container_id: 0, host_id, size: 1 }];
    linux.uid_mappings = one(rustix::process::geteuid().as_raw());
    linux.gid_mappings = one(rustix::process::getegid().as_raw());
    linux.resources = None;
    for mount in &mut spec.mounts {
        mount.options.retain(|o| !o.starts_with("gid="));
        if mount.destination == "/sys" {
            mount.kind = "none".into();
            mount.source = "/sys".into();
            mount.options = strings(&["rbind", "nosuid", "noexec", "nodev", "ro"]);
        }
    }
}

/// Writes `config.json` into a bundle; an existing one is left alone.
pub(crate) fn write(bundle: Option<&str>, rootless: bool) -> Result<(), Failure> {
    let fail = |message: String| Failure { message, code: 1 };
    let folder = Path::new(bundle.unwrap_or("."));
    if !folder.is_dir() {
        return Err(fail(format!("chdir {}: no such file or directory", folder.display())));
    }
    let path = folder.join("config.json");
    if path.exists() {
        return Err(fail("File config.json exists. Remove it first".into()));
    }
    let mut spec = example();
    if rootless {
        make_rootless(&mut spec);
    }
    let text = oci::runtime::to_json_indented(&spec, "\t").map_err(|e| fail(e.to_string()))?;
    std::fs::write(&path, text)
        .map_err(|e| fail(format!("open {}: {}", path.display(), runtime::Lower(&e))))
}
