//! The spec itself: everything that the other modules say, put together.

use std::collections::BTreeMap;

use engine_api::{ContainerConfig, HostConfig, Ulimit};
use oci::runtime::{
    Capabilities, ConsoleSize, Device as OciDevice, DeviceRule, Linux, Mount, Namespace,
    NamespaceType, Process, Rlimit, Root, Spec, User,
};

use crate::caps::{self, CapSet};
use crate::resources::resources;
use crate::users::Identity;
use crate::{HostMount, PlanError, TmpfsMount, mounts, profile, seccomp, security};

/// The spec's version: what the runtimes in use understand.
const OCI_VERSION: &str = "1.2.1";
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the machine and the daemon's configuration give.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// Capabilities that the daemon itself holds.
    pub caps: CapSet,
    /// `x86_64`, `aarch64`.
    pub machine: String,
    /// The host's name, for containers in its UTS namespace.
    pub hostname: String,
    /// Whether containers get a cgroup namespace of their own when nothing is said.
    pub cgroup_v2: bool,
    /// `--cgroup-parent`, or `/docker` (a slice with the systemd driver).
    pub cgroup_parent: String,
    /// Cgroups are made by systemd.
    pub systemd_cgroup: bool,
    /// `--no-new-privileges`.
    pub no_new_privileges: bool,
    /// `--default-ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// The kernel's first two numbers.
    pub kernel: (u64, u64),
    /// The daemon's own profile, `--seccomp-profile`: a profile's text, `unconfined`, or empty.
    pub seccomp_profile: String,
    /// Whether unprivileged ports and ping may be opened up in a network namespace.
    pub open_ports: bool,
}

/// A device, looked up on the host.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// The path in the container.
    pub path: String,
    /// `c` or `b`.
    pub kind: String,
    /// Major number.
    pub major: i64,
    /// Minor number.
    pub minor: i64,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// `rwm` or fewer.
    pub access: String,
}

/// Where a namespace comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NamespaceChoice {
    /// A new one.
    #[default]
    New,
    /// The host's.
    Host,
    /// One that exists.
    Path(String),
}

/// What a spec is made from.
#[derive(Debug, Clone)]
pub struct Input<'a> {
    /// The container's id.
    pub id: &'a str,
    /// What runs.
    pub config: &'a ContainerConfig,
    /// What it gets.
    pub host: &'a HostConfig,
    /// The machine.
    pub facts: &'a HostFacts,
    /// Entry point and command together.
    pub args: &'a [String],
    /// Who runs.
    pub identity: &'a Identity,
    /// Where the root file system will be: a path in the bundle.
    pub root: &'a str,
    /// The network namespace.
    pub network: NamespaceChoice,
    /// The IPC namespace.
    pub ipc: NamespaceChoice,
    /// Whose `/dev/shm` is shared; empty: its own, as the IPC mode has it.
    pub shm: &'a str,
    /// The pid namespace.
    pub pid: NamespaceChoice,
    /// Folders and files of the host, with the generated `/etc` files last.
    pub mounts: &'a [HostMount],
    /// The user's tmpfs mounts.
    pub tmpfs: &'a [TmpfsMount],
    /// Devices: those asked for, or all of the host's for a privileged container.
    pub devices: &'a [Device],
    /// Major and minor of block devices by path.
    pub block_numbers: &'a BTreeMap<String, (i64, i64)>,
    /// The init program on the host; empty: none.
    pub init: &'a str,
}

/// The spec that the runtime executes.
pub fn spec(input: &Input<'_>) -> Result<Spec, PlanError> {
    refuse(input.host)?;
    let security = security::parse(input.host.security_opt.as_deref().unwrap_or_default())?;
    let privileged = input.host.privileged;
    let held = held(input.host, input.facts);
    let mut args = input.args.to_vec();
    if args.is_empty() {
        return Err(PlanError::NoCommand);
    }
    if !input.init.is_empty() {
        args.splice(0..0, ["/sbin/docker-init".to_owned(), "--".to_owned()]);
    }
    let uts_host = input.host.uts_mode == "host";
    let process = Process {
        terminal: input.config.tty,
        console_size: console(input.host.console_size),
        args,
        cwd: if input.config.working_dir.is_empty() {
            "/".into()
        } else {
            input.config.working_dir.clone()
        },
        env: environment(input.config, input.config.tty),
        user: user(input.identity),
        capabilities: Some(capabilities(held)),
        rlimits: rlimits(input.host, input.facts)?,
        no_new_privileges: security.no_new_privileges.unwrap_or(input.facts.no_new_privileges),
        oom_score_adj: Some(input.host.oom_score_adj as i32),
        ..Process::default()
    };
    Ok(Spec {
        oci_version: OCI_VERSION.into(),
        process: Some(process),
        root: Some(Root { path: input.root.into(), readonly: input.host.readonly_rootfs }),
        hostname: if uts_host { String::new() } else { input.config.hostname.clone() },
        mounts: all_mounts(input, privileged || security.writable_cgroups),
        annotations: input.host.annotations.clone().unwrap_or_default(),
        linux: Some(linux(input, &security, held)?),
        ..Spec::default()
    })
}

fn refuse(host: &HostConfig) -> Result<(), PlanError> {
    let unsupported = |what: &str| Err(PlanError::Unsupported(what.to_owned()));
    if host.storage_opt.as_ref().is_some_and(|o| !o.is_empty()) {
        return unsupported("StorageOpt");
    }
    if !host.cgroup.is_empty() {
        return unsupported("Cgroup");
    }
    if !host.volume_driver.is_empty() && host.volume_driver != "local" {
        return unsupported("VolumeDriver");
    }
    if host.links.as_ref().is_some_and(|l| !l.is_empty()) {
        return unsupported("Links");
    }
    Ok(())
}

fn held(host: &HostConfig, facts: &HostFacts) -> CapSet {
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default();
    caps::effective(&list(&host.cap_add), &list(&host.cap_drop), host.privileged, facts.caps)
}

fn capabilities(set: CapSet) -> Capabilities {
    let names = set.names();
    Capabilities {
        bounding: names.clone(),
        effective: names.clone(),
        permitted: names,
        ..Capabilities::default()
    }
}

fn console([height, width]: [u64; 2]) -> Option<ConsoleSize> {
    (height != 0 || width != 0).then_some(ConsoleSize { height, width })
}

fn user(identity: &Identity) -> User {
    User {
        uid: identity.uid,
        gid: identity.gid,
        additional_gids: identity.groups.clone(),
        ..User::default()
    }
}

/// The environment: path, host name and terminal first, the configuration's over them.
fn environment(config: &ContainerConfig, tty: bool) -> Vec<String> {
    let mut out = vec![DEFAULT_PATH.to_owned(), format!("HOSTNAME={}", config.hostname)];
    if tty {
        out.push("TERM=xterm".into());
    }
    overlay(&mut out, config.env.as_deref().unwrap_or_default());
    out
}

/// Sets variables over others; a name without `=` removes one.
fn overlay(env: &mut Vec<String>, over: &[String]) {
    let name = |text: &str| text.split('=').next().unwrap_or_default().to_owned();
    for variable in over {
        let at = env.iter().position(|e| name(e) == name(variable));
        match (at, variable.contains('=')) {
            (Some(at), true) => env[at].clone_from(variable),
            (Some(at), false) => {
                env.remove(at);
            }
            (None, true) => env.push(variable.clone()),
            (None, false) => {}
        }
    }
}

fn rlimits(host: &HostConfig, facts: &HostFacts) -> Result<Vec<Rlimit>, PlanError> {
    const KNOWN: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    let own = host.resources.ulimits.as_deref().unwrap_or_default();
    let inherited = facts.ulimits.iter().filter(|d| !own.iter().any(|o| o.name == d.name));
    own.iter()
        .chain(inherited)
        .map(|limit| {
            if !KNOWN.contains(&limit.name.as_str()) {
                return Err(PlanError::Unsupported(format!("ulimit {}", limit.name)));
            }
            // -1 is "unlimited", which is also what the wrapped number means.
            Ok(Rlimit {
                kind: format!("RLIMIT_{}", limit.name.to_ascii_uppercase()),
                hard: limit.hard as u64,
                soft: limit.soft as u64,
            })
        })
        .collect()
}

fn all_mounts(input: &Input<'_>, writable_cgroups: bool) -> Vec<Mount> {
    let mut kernel = mounts::kernel(input.host.privileged, writable_cgroups);
    let mut users: Vec<Mount> = Vec::new();
    if !input.shm.is_empty() {
        users.push(mounts::shared_shm(input.shm));
    } else if input.host.ipc_mode != "none" {
        users.push(mounts::shm(input.host.shm_size));
    }
    if input.mounts.iter().any(|m| m.destination == "/dev/shm") {
        users.clear();
    }
    users.extend(input.tmpfs.iter().map(Mount::from));
    if !input.init.is_empty() {
        users.push(mounts::init(input.init));
    }
    users.extend(input.mounts.iter().map(Mount::from));
    if input.host.readonly_rootfs {
        // The root's own read-only flag does not reach these.
        kernel.retain(|m| m.destination != "/dev/mqueue" || input.host.ipc_mode != "none");
    }
    mounts::ordered(kernel, users)
}

fn linux(
    input: &Input<'_>,
    security: &security::Security,
    held: CapSet,
) -> Result<Linux, PlanError> {
    let privileged = input.host.privileged;
    let own_network = input.network != NamespaceChoice::Host;
    let mut limits = resources(&input.host.resources, input.block_numbers)?;
    limits.devices = device_rules(input)?;
    let paths = |list: &Option<Vec<String>>, default: &[&str]| match list {
        _ if privileged => Vec::new(),
        Some(own) => own.clone(),
        None => default.iter().map(|p| (*p).to_owned()).collect(),
    };
    Ok(Linux {
        sysctl: sysctls(input, own_network),
        resources: Some(limits),
        cgroups_path: cgroups_path(input),
        namespaces: namespaces(input),
        devices: input.devices.iter().map(oci_device).collect(),
        seccomp: seccomp_filter(input, security, held)?,
        masked_paths: paths(&input.host.masked_paths, &MASKED),
        readonly_paths: paths(&input.host.readonly_paths, &READ_ONLY),
        ..Linux::default()
    })
}

/// Hidden from every container that is not privileged.
pub const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Read-only in every container that is not privileged.
pub const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn seccomp_filter(
    input: &Input<'_>,
    security: &security::Security,
    held: CapSet,
) -> Result<Option<oci::runtime::Seccomp>, PlanError> {
    if security.seccomp_unconfined {
        return Ok(None);
    }
    let facts = input.facts;
    let own = security.seccomp_profile.as_deref();
    let default = if input.host.privileged { "unconfined" } else { &facts.seccomp_profile };
    match own.unwrap_or(default) {
        "" | "builtin" => Ok(Some(seccomp::default_profile(held, &facts.machine))),
        "unconfined" => Ok(None),
        text => {
            let place =
                profile::Place { machine: &facts.machine, kernel: facts.kernel, caps: held };
            profile::read(text, place)
        }
    }
}

fn sysctls(input: &Input<'_>, own_network: bool) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    if own_network && input.facts.open_ports {
        out.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        out.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
    }
    if !input.config.domainname.is_empty() && input.host.uts_mode != "host" {
        out.insert("kernel.domainname".to_owned(), input.config.domainname.clone());
    }
    out.extend(input.host.sysctls.clone().unwrap_or_default());
    out
}

fn cgroups_path(input: &Input<'_>) -> String {
    let own = &input.host.resources.cgroup_parent;
    let parent = if own.is_empty() { &input.facts.cgroup_parent } else { own };
    if input.facts.systemd_cgroup {
        return format!("{parent}:docker:{}", input.id);
    }
    format!("/{}/{}", parent.trim_matches('/'), input.id)
}

fn namespaces(input: &Input<'_>) -> Vec<Namespace> {
    let mut out = vec![Namespace { kind: NamespaceType::Mount, path: String::new() }];
    let mut add = |kind, choice: &NamespaceChoice| match choice {
        NamespaceChoice::New => out.push(Namespace { kind, path: String::new() }),
        NamespaceChoice::Path(path) => out.push(Namespace { kind, path: path.clone() }),
        NamespaceChoice::Host => {}
    };
    add(NamespaceType::Network, &input.network);
    let uts =
        if input.host.uts_mode == "host" { NamespaceChoice::Host } else { NamespaceChoice::New };
    add(NamespaceType::Uts, &uts);
    add(NamespaceType::Pid, &input.pid);
    add(NamespaceType::Ipc, &input.ipc);
    let private = match input.host.cgroupns_mode.as_str() {
        "private" => true,
        "host" => false,
        _ => input.facts.cgroup_v2 && !input.host.privileged,
    };
    add(
        NamespaceType::Cgroup,
        if private { &NamespaceChoice::New } else { &NamespaceChoice::Host },
    );
    out
}

fn oci_device(device: &Device) -> OciDevice {
    OciDevice {
        path: device.path.clone(),
        kind: device.kind.clone(),
        major: device.major,
        minor: device.minor,
        file_mode: Some(device.mode),
        uid: Some(device.uid),
        gid: Some(device.gid),
    }
}

fn rule(
    allow: bool,
    kind: &str,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> DeviceRule {
    DeviceRule { allow, kind: kind.into(), major, minor, access: access.into() }
}

/// Everything is forbidden but the harmless devices, those asked for, and the rules given.
fn device_rules(input: &Input<'_>) -> Result<Vec<DeviceRule>, PlanError> {
    if input.host.privileged {
        return Ok(vec![rule(true, "", None, None, "rwm")]);
    }
    let mut rules = vec![rule(false, "", None, None, "rwm")];
    for (major, minor) in [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)] {
        rules.push(rule(true, "c", Some(major), Some(minor), "rwm"));
    }
    rules.push(rule(false, "c", Some(10), Some(229), "rwm"));
    for device in input.devices {
        rules.push(rule(
            true,
            &device.kind,
            Some(device.major),
            Some(device.minor),
            &device.access,
        ));
    }
    for text in input.host.resources.device_cgroup_rules.iter().flatten() {
        rules.push(device_rule(text).ok_or_else(|| PlanError::DeviceRule(text.clone()))?);
    }
    Ok(rules)
}

/// `c 42:* rmw`.
fn device_rule(text: &str) -> Option<DeviceRule> {
    let mut words = text.split(' ');
    let (kind, numbers, access) = (words.next()?, words.next()?, words.next()?);
    let (major, minor) = numbers.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(-1) } else { text.parse::<i64>().ok() };
    let known = matches!(kind, "a" | "b" | "c")
        && !access.is_empty()
        && access.chars().all(|c| "rwm".contains(c));
    (known && words.next().is_none()).then_some(())?;
    Some(rule(true, kind, Some(number(major)?), Some(number(minor)?), access))
}

/// The process of an exec: the container's own, with what the exec asks for.
pub fn exec_process(
    base: &Process,
    args: Vec<String>,
    env: &[String],
    privileged: Option<CapSet>,
    identity: Option<&Identity>,
) -> Process {
    let mut process = base.clone();
    process.args = args;
    process.console_size = None;
    if !process.terminal {
        process.env.retain(|e| e != "TERM=xterm");
    }
    overlay(&mut process.env, env);
    if let Some(caps) = privileged {
        process.capabilities = Some(capabilities(caps));
    }
    if let Some(identity) = identity {
        process.user = user(identity);
    }
    process
}

#[cfg(test)]
mod tests;
