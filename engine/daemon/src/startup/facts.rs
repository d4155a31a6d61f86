//! What this machine gives: looked up once.

use std::path::Path;

use engine_api::Ulimit;
use plan::HostFacts;
use plan::caps::CapSet;

use super::StartupError;
use crate::config::Settings;
use crate::http::errno_text;

/// The machine's facts, with the daemon's settings applied.
pub(super) fn collect(settings: &Settings) -> Result<HostFacts, StartupError> {
    let cgroup_v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let parent = match settings.cgroup_parent.as_str() {
        "" if settings.systemd_cgroup => "system.slice",
        "" => "/docker",
        own => own,
    };
    let limits = settings.default_ulimits.iter();
    let uname = rustix::system::uname();
    let profile = match settings.seccomp_profile.as_str() {
        "" | "builtin" => String::new(),
        "unconfined" => "unconfined".into(),
        path => std::fs::read_to_string(path).map_err(|e| {
            let why = errno_text(&e);
            StartupError::Machine(format!(
                "opening seccomp profile ({path}) failed: open {path}: {why}"
            ))
        })?,
    };
    Ok(HostFacts {
        caps: own_capabilities(),
        machine: uname.machine().to_string_lossy().into_owned(),
        hostname: uname.nodename().to_string_lossy().into_owned(),
        kernel: kernel(&uname.release().to_string_lossy()),
        cgroup_v2,
        cgroup_parent: parent.to_owned(),
        systemd_cgroup: settings.systemd_cgroup,
        no_new_privileges: settings.no_new_privileges,
        ulimits: limits
            .map(|(name, limit)| Ulimit { name: name.clone(), soft: limit.soft, hard: limit.hard })
            .collect(),
        seccomp_profile: profile,
        open_ports: true,
    })
}

/// The first two numbers of a release such as `6.1.0-13-amd64`.
fn kernel(release: &str) -> (u64, u64) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse::<u64>().unwrap_or_default());
    (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default())
}

/// The capabilities in this process's bounding set: what children can have at most.
fn own_capabilities() -> CapSet {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapBnd:"));
    let bits = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    CapSet(bits.unwrap_or(CapSet::all().0)).and(CapSet::all())
}
