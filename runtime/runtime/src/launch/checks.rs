//! What a configuration must not say, part by part.

use super::{bit, exists};
use crate::error::{Error, Result};
use oci::runtime::{Linux, Spec};
use std::path::PathBuf;
use sys::ns::flag;

pub(super) fn check_hooks(spec: &Spec) -> Result<()> {
    let Some(hooks) = &spec.hooks else { return Ok(()) };
    let kinds = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("startContainer", &hooks.start_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    for (kind, hooks) in kinds {
        for hook in hooks {
            if !hook.path.starts_with('/') {
                let path = &hook.path;
                return Err(Error::Spec(format!("{kind} hook {path:?} must be an absolute path")));
            }
            if hook.timeout.is_some_and(|seconds| seconds <= 0) {
                let why =
                    format!("timeout of {kind} hook {:?} must be greater than zero", hook.path);
                return Err(Error::Spec(why));
            }
        }
    }
    Ok(())
}

pub(super) fn check_version(version: &str) -> Result<()> {
    let number = version.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<Option<u32>> = number.split('.').map(|p| p.parse().ok()).collect();
    match parts[..] {
        [Some(1), Some(_), Some(_)] => Ok(()),
        [Some(_), Some(_), Some(_)] => Err(Error::Spec(format!(
            "ociVersion {version} is not supported: this is a 1.x runtime"
        ))),
        _ => Err(Error::Spec(format!("ociVersion {version:?} is not a semantic version"))),
    }
}

pub(super) fn namespaces(linux: &Linux) -> Result<(u64, Vec<(u64, PathBuf)>)> {
    let (mut new, mut join) = (0, Vec::new());
    let mut seen = 0;
    for namespace in &linux.namespaces {
        let bit = bit(namespace.kind);
        if seen & bit != 0 {
            let kind = serde_json::to_string(&namespace.kind).unwrap_or_default();
            let twice = format!("duplicated ns {{{kind} {:?}}}", namespace.path);
            return Err(Error::Spec(format!("malformed spec file: {twice}")));
        }
        seen |= bit;
        if namespace.path.is_empty() {
            new |= bit;
        } else if !namespace.path.starts_with('/') {
            let path = &namespace.path;
            return Err(Error::Spec(format!("namespace path {path:?} must be an absolute path")));
        } else {
            join.push((bit, PathBuf::from(&namespace.path)));
        }
    }
    Ok((new, join))
}

pub(super) fn check_ids(linux: &Linux, new: u64, all: u64) -> Result<()> {
    let mapped = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if new & flag::USER != 0 && (linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty()) {
        return Err(Error::Spec(
            "user namespaces enabled, but no uid or gid mappings found".into(),
        ));
    }
    if all & flag::USER == 0 && mapped {
        return Err(Error::Spec(
            "user namespace mappings specified, but user namespace isn't enabled in the config"
                .into(),
        ));
    }
    if new & flag::TIME == 0 && !linux.time_offsets.is_empty() {
        return Err(Error::Spec(
            "time namespace offsets specified, but time namespace isn't enabled in the config"
                .into(),
        ));
    }
    Ok(())
}

pub(super) fn check_names(spec: &Spec, linux: &Linux, all: u64) -> Result<()> {
    if !spec.hostname.is_empty() && all & flag::UTS == 0 {
        return Err(Error::Spec("unable to set hostname without a private UTS namespace".into()));
    }
    if !spec.domainname.is_empty() && all & flag::UTS == 0 {
        return Err(Error::Spec("unable to set domainname without a private UTS namespace".into()));
    }
    let masks = !linux.masked_paths.is_empty() || !linux.readonly_paths.is_empty();
    if masks && all & flag::MOUNT == 0 {
        return Err(Error::Spec(
            "unable to restrict sys entries without a private MNT namespace".into(),
        ));
    }
    for path in linux.masked_paths.iter().chain(&linux.readonly_paths) {
        if !path.starts_with('/') {
            let why = format!("masked or read-only path {path:?} must be an absolute path");
            return Err(Error::Spec(why));
        }
    }
    if !linux.mount_label.is_empty() && !exists("/sys/fs/selinux/enforce") {
        return Err(Error::Spec(
            "selinux label is specified in config, but selinux is disabled or not supported".into(),
        ));
    }
    check_devices(linux, all)?;
    if let Some(rdt) = &linux.intel_rdt {
        let root = cgroup::Resctrl::find().ok_or_else(|| {
            Error::Spec("intelRdt is specified in config, but Intel RDT is not enabled".into())
        })?;
        root.check(rdt).map_err(|e| Error::Spec(e.to_string()))?;
    }
    if linux.personality.as_ref().is_some_and(|p| !p.flags.is_empty()) {
        return Err(Error::Spec("linux.personality.flags: no flag is defined".into()));
    }
    linux.sysctl.keys().try_for_each(|key| check_sysctl(key, all, spec))
}

fn check_devices(linux: &Linux, all: u64) -> Result<()> {
    if !linux.net_devices.is_empty() && all & flag::NET == 0 {
        return Err(Error::Spec(
            "unable to move network devices without a private NET namespace".into(),
        ));
    }
    let fits = |name: &str| {
        let odd = |c: char| c == '/' || c == ':' || c.is_whitespace() || c == '\0';
        (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(odd)
    };
    let mut seen: Vec<&str> = Vec::new();
    for (name, device) in &linux.net_devices {
        let inside = if device.name.is_empty() { name } else { &device.name };
        for name in [name, inside] {
            if !fits(name) {
                return Err(Error::Spec(format!("invalid network device name {name:?}")));
            }
        }
        if seen.contains(&inside.as_str()) {
            return Err(Error::Spec(format!("network device name {inside:?} is used twice")));
        }
        seen.push(inside);
    }
    Ok(())
}

const IPC_SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Only settings that belong to a namespace of the container may be changed.
fn check_sysctl(key: &str, all: u64, spec: &Spec) -> Result<()> {
    let dotted = key.replace('/', ".");
    let refused = |space: &str| {
        Err(Error::Spec(format!("sysctl {key:?} is not allowed in the hosts {space} namespace")))
    };
    if key.split(['.', '/']).any(str::is_empty) || key.contains("..") {
        return Err(Error::Spec(format!("sysctl {key:?} is not a valid name")));
    }
    if IPC_SYSCTLS.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        return if all & flag::IPC == 0 { refused("ipc") } else { Ok(()) };
    }
    if dotted.starts_with("net.") {
        return if all & flag::NET == 0 { refused("network") } else { Ok(()) };
    }
    if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
        let twice = dotted == "kernel.hostname" && !spec.hostname.is_empty();
        if twice {
            return Err(Error::Spec(format!(
                "sysctl {key:?} conflicts with the hostname of the config"
            )));
        }
        return if all & flag::UTS == 0 { refused("uts") } else { Ok(()) };
    }
    if dotted.starts_with("user.") && all & flag::USER != 0 {
        return Ok(());
    }
    Err(Error::Spec(format!("sysctl {key:?} is not in a separate kernel namespace")))
}
