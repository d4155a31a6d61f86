//! What a create request may ask for, with the texts that clients know, in the order in
//! which dockerd looks. Limits are in `resources`, mounts in `mounts`.

use engine_api::{ContainerConfig, HostConfig, MountRequest, PortMap};
use plan::caps::CapSet;

use super::{mount, resources};
use crate::engine::Engine;
use crate::http::ApiError;
use crate::lifecycle::restart::Policy;
use crate::limits::Limits;
use crate::signals;

pub(super) type Checked<T = ()> = Result<T, ApiError>;

pub(super) fn bad<T>(text: impl Into<String>) -> Checked<T> {
    Err(ApiError::bad_request(text))
}

/// What contradicts itself in a request, whatever its version. Looked at first.
pub fn request(config: &ContainerConfig, host: &HostConfig, limits: &Limits) -> Checked {
    network_mode(config, host)?;
    if !matches!(host.isolation.as_str(), "" | "default") {
        return bad(format!(
            "invalid isolation ({}): linux only supports 'default'",
            host.isolation
        ));
    }
    let r = &host.resources;
    if r.io_maximum_bandwidth != 0 {
        return bad(
            "invalid option: QoS maximum bandwidth configuration is not supported on linux",
        );
    }
    if r.io_maximum_iops != 0 {
        return bad("invalid option: QoS maximum IOPs configuration is not supported on linux");
    }
    let realtime = (r.cpu_realtime_period, r.cpu_realtime_runtime);
    if realtime != (0, 0) && !limits.cpu_realtime {
        return bad("kernel does not support CPU real-time scheduler");
    }
    if realtime.0 != 0 && realtime.1 > realtime.0 {
        return bad("cpu real-time runtime cannot be higher than cpu real-time period");
    }
    if limits.cpu_shares && r.cpu_shares < 0 {
        let shares = r.cpu_shares;
        return bad(format!("invalid CPU shares ({shares}): value must be a positive integer"));
    }
    Ok(())
}

fn network_mode(config: &ContainerConfig, host: &HostConfig) -> Checked {
    let filled = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let mode = host.network_mode.as_str();
    if mode == "container" || mode.starts_with("container:") {
        if mode.len() <= "container:".len() {
            return bad("invalid network mode: invalid container format container:<name|id>");
        }
        let published =
            host.publish_all_ports || host.port_bindings.as_ref().is_some_and(|p| !p.is_empty());
        let exposed = config.exposed_ports.as_ref().is_some_and(|p| !p.is_empty());
        let links = "container type network can't be used with links. This would result in undefined behavior";
        for (is_set, what) in [
            (!config.hostname.is_empty(), "hostname and the network mode"),
            (filled(&host.links), links),
            (filled(&host.dns), "dns and the network mode"),
            (filled(&host.extra_hosts), "custom host-to-IP mapping and the network mode"),
            (published, "port publishing and the container type network mode"),
            (exposed, "port exposing and the container type network mode"),
        ] {
            if is_set {
                return bad(format!("conflicting options: {what}"));
            }
        }
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return bad("conflicting options: hostname and the UTS mode");
    }
    if mode == "host" && filled(&host.links) {
        return bad(
            "conflicting options: host type networking can't be used with links. This would result in undefined behavior",
        );
    }
    Ok(())
}

/// Checks what runs.
pub fn config(config: &mut ContainerConfig) -> Checked {
    if !config.working_dir.is_empty() {
        if !config.working_dir.starts_with('/') {
            return bad(format!(
                "the working directory '{}' is invalid, it needs to be an absolute path",
                config.working_dir
            ));
        }
        config.working_dir = engine_api::path::clean(&config.working_dir);
    }
    if !config.stop_signal.is_empty() {
        signals::parse(&config.stop_signal).map_err(|e| ApiError::bad_request(e.to_string()))?;
    }
    for variable in config.env.iter().flatten() {
        if variable.is_empty() || variable.starts_with('=') {
            return bad(format!("invalid environment variable: {variable}"));
        }
    }
    health(config)?;
    let probe = config.healthcheck.as_ref().and_then(|h| h.test.as_ref());
    if probe.is_some_and(|test| test.first().is_some_and(|word| word != "NONE")) {
        return Err(ApiError::not_implemented("Healthcheck is not supported by Ferry yet"));
    }
    Ok(())
}

/// Checks the times and counts of a health check, whether it has a probe or not.
fn health(config: &ContainerConfig) -> Checked {
    let Some(check) = &config.healthcheck else { return Ok(()) };
    let short = |nanos: i64| nanos != 0 && nanos < 1_000_000;
    let table = [
        (short(check.interval.0), "Interval in Healthcheck cannot be less than 1ms"),
        (short(check.timeout.0), "Timeout in Healthcheck cannot be less than 1ms"),
        (check.retries < 0, "Retries in Healthcheck cannot be negative"),
        (short(check.start_period.0), "StartPeriod in Healthcheck cannot be less than 1ms"),
        (short(check.start_interval.0), "StartInterval in Healthcheck cannot be less than 1ms"),
    ];
    table.iter().find(|(is_wrong, _)| *is_wrong).map_or(Ok(()), |(_, text)| bad(*text))
}

/// Checks what it gets from the host. Gives warnings.
pub fn host(engine: &Engine, host: &mut HostConfig) -> Checked<Vec<String>> {
    if host.restart_policy.name.is_empty() {
        host.restart_policy.name = "no".into();
    }
    let mut warnings = Vec::new();
    everywhere(host, engine.facts.caps)?;
    warnings.extend(resources::check(&mut host.resources, &engine.limits, false)?);
    isolation(host)?;
    let mode = host.network_mode.as_str();
    if !matches!(mode, "host" | "none") && !engine.limits.ipv4_forwarding {
        warnings.push("IPv4 forwarding is disabled. Networking will not work.".into());
    }
    let publishes = host.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
    if mode == "host" && publishes {
        warnings.push("Published ports are discarded when using host network mode".into());
    }
    let parent = host.resources.cgroup_parent.as_str();
    let is_slice = parent.strip_suffix(".slice").is_some_and(|name| !name.is_empty());
    if !parent.is_empty() && engine.facts.systemd_cgroup && !is_slice {
        return bad(
            "cgroup-parent for systemd cgroup should be a valid slice named as \"xxx.slice\"",
        );
    }
    engine.runtime(&host.runtime).map_err(ApiError::bad_request)?;
    if host.runtime.is_empty() {
        host.runtime.clone_from(&engine.current.load().default_runtime);
    }
    for place in host.tmpfs.iter().flatten().map(|(place, _)| place) {
        mount::destination(place).map_err(ApiError::bad_request)?;
    }
    if !matches!(host.cgroupns_mode.as_str(), "" | "host" | "private") {
        return bad(format!("invalid cgroup namespace mode: {}", host.cgroupns_mode));
    }
    Ok(warnings)
}

/// What every platform looks at.
fn everywhere(host: &HostConfig, caps: CapSet) -> Checked {
    let policy = &host.restart_policy;
    if host.auto_remove && policy.name != "no" {
        return bad("can't create 'AutoRemove' container with restart policy");
    }
    for wanted in host.mounts.iter().flatten() {
        mount::check(wanted, mount::Source::MustExist).map_err(ApiError::bad_request)?;
        supported(wanted)?;
    }
    for entry in host.extra_hosts.iter().flatten() {
        extra_host(entry)?;
    }
    ports(host.port_bindings.as_ref())?;
    Policy::parse(&policy.name, policy.maximum_retry_count)
        .map_err(|e| ApiError::bad_request(e.to_string()))?;
    for (list, names) in [("CapAdd", &host.cap_add), ("CapDrop", &host.cap_drop)] {
        if let Some(names) = names {
            // Checked only: inspect shows the names as they were given.
            plan::caps::normalize(list, names, caps)
                .map_err(|e| ApiError::bad_request(e.to_string()))?;
        }
    }
    if host.annotations.as_ref().is_some_and(|all| all.contains_key("")) {
        return bad("invalid Annotations: the empty string is not permitted as an annotation key");
    }
    Ok(())
}

/// What Ferry does not have of mounts that are right in themselves.
fn supported(wanted: &MountRequest) -> Checked {
    let missing =
        |what: String| Err(ApiError::not_implemented(format!("{what} supported by Ferry yet")));
    if matches!(wanted.kind.as_str(), "image" | "cluster") {
        return missing(format!("mounts of type {} are not", wanted.kind));
    }
    let Some(options) = &wanted.volume_options else { return Ok(()) };
    let driver = options.driver_config.clone().unwrap_or_default();
    if !matches!(driver.name.as_str(), "" | "local")
        || driver.options.is_some_and(|o| !o.is_empty())
    {
        return missing("VolumeOptions.DriverConfig is not".into());
    }
    if !options.subpath.is_empty() {
        return missing("VolumeOptions.Subpath is not".into());
    }
    Ok(())
}

fn extra_host(entry: &str) -> Checked {
    let Some((_, address)) = entry.split_once(':').filter(|(name, _)| !name.is_empty()) else {
        return bad(format!("bad format for add-host: {entry:?}"));
    };
    let bare = address.trim();
    if address == "host-gateway" || bare.parse::<std::net::IpAddr>().is_ok() {
        return Ok(());
    }
    bad(format!("invalid IP address in add-host: {address:?}"))
}

fn ports(bindings: Option<&PortMap>) -> Checked {
    let wrong = |text: &str| bad(format!("invalid port specification: {text:?}"));
    let number = |text: &str| text.parse::<u16>().ok();
    for (port, bindings) in bindings.into_iter().flatten() {
        let own = port.split('/').next().unwrap_or_default();
        if number(own).is_none() {
            return wrong(own);
        }
        for binding in bindings.iter().flatten() {
            let text = binding.host_port.split('/').next().unwrap_or_default();
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            let in_order = number(low).zip(number(high)).is_some_and(|(low, high)| low <= high);
            if !text.is_empty() && !in_order {
                return wrong(&binding.host_port);
            }
        }
    }
    Ok(())
}

/// Namespaces of the container's own, the host's or another container's.
fn isolation(host: &HostConfig) -> Checked {
    let ipc = host.ipc_mode.as_str();
    if !matches!(ipc, "" | "host" | "private" | "shareable" | "none")
        && !ipc.starts_with("container:")
    {
        return bad(format!("invalid IPC mode: {ipc}"));
    }
    let pid = host.pid_mode.as_str();
    let of_container = pid.strip_prefix("container:").is_some_and(|name| !name.is_empty());
    if !matches!(pid, "" | "host") && !of_container {
        return bad(format!("invalid PID mode: {pid}"));
    }
    if host.shm_size < 0 {
        return bad("SHM size can not be less than 0");
    }
    if !matches!(host.uts_mode.as_str(), "" | "host") {
        return bad(format!("invalid UTS mode: {}", host.uts_mode));
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return bad(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    Ok(())
}

/// Fills in what the request leaves to the daemon, so that the record is complete.
pub fn adapt(engine: &Engine, host: &mut HostConfig) -> Checked {
    let settings = &engine.settings;
    let r = &mut host.resources;
    if r.memory > 0 && r.memory_swap == 0 {
        r.memory_swap = r.memory.saturating_mul(2);
    }
    if host.shm_size == 0 {
        host.shm_size = settings.default_shm_size;
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode.clone_from(&settings.default_ipc_mode);
    }
    if host.cgroupns_mode.is_empty() {
        let v2 = engine.facts.cgroup_v2;
        let default = if v2 { "private" } else { "host" };
        let own = settings.default_cgroupns_mode.as_deref().filter(|_| v2 || !host.privileged);
        host.cgroupns_mode = own.unwrap_or(default).to_owned();
    }
    for mode in [&mut host.ipc_mode, &mut host.pid_mode, &mut host.network_mode] {
        let Some(other) = mode.strip_prefix("container:") else { continue };
        // An id, so that the other one may be renamed.
        if let Ok(found) = engine.find(other) {
            *mode = format!("container:{}", found.id);
        }
    }
    host.resources.oom_kill_disable.get_or_insert(false);
    labels(engine, host)
}

/// Who shares namespaces or is privileged has no label of its own.
fn labels(engine: &Engine, host: &mut HostConfig) -> Checked {
    let options = host.security_opt.as_deref().unwrap_or_default();
    if options.iter().any(|o| o.split('=').next() == Some("label")) {
        return Ok(());
    }
    if host.ipc_mode == "host" || host.pid_mode == "host" || host.privileged {
        host.security_opt.get_or_insert_default().push("label=disable".into());
        return Ok(());
    }
    for mode in [&host.ipc_mode, &host.pid_mode] {
        let other = mode.strip_prefix("container:").filter(|name| !name.is_empty());
        other
            .map(|name| engine.find(name))
            .transpose()
            .map_err(|e| ApiError::bad_request(e.to_string()))?;
    }
    Ok(())
}

/// What Ferry does not have: an error that names it, never ignored.
pub fn refuse(host: &HostConfig) -> Checked {
    let filled = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let table = [
        (filled(&host.links), "Links"),
        (host.publish_all_ports, "PublishAllPorts"),
        (host.storage_opt.as_ref().is_some_and(|o| !o.is_empty()), "StorageOpt"),
        (!matches!(host.volume_driver.as_str(), "" | "local"), "VolumeDriver"),
        (!matches!(host.userns_mode.as_str(), "" | "host"), "UsernsMode"),
        (!host.cgroup.is_empty(), "Cgroup"),
    ];
    match table.iter().find(|(is_set, _)| *is_set) {
        Some((_, name)) => {
            Err(ApiError::not_implemented(format!("{name} is not supported by Ferry yet")))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_environment_or_folder_is_refused() {
        let with =
            |env: &str| ContainerConfig { env: Some(vec![env.into()]), ..Default::default() };
        assert_eq!(
            config(&mut with("=x")).unwrap_err().message,
            "invalid environment variable: =x"
        );
        let folder = ContainerConfig { working_dir: "foo".into(), ..Default::default() };
        let refused = config(&mut { folder }).unwrap_err();
        assert!(refused.message.contains("needs to be an absolute path"));
    }

    #[test]
    fn extra_hosts_have_a_name_and_an_address() {
        for good in ["a:1.2.3.4", "a:::1", "a:host-gateway"] {
            assert!(extra_host(good).is_ok(), "{good}");
        }
        let text = |entry: &str| extra_host(entry).unwrap_err().message;
        assert_eq!(text("x"), "bad format for add-host: \"x\"");
        assert_eq!(text("x:y"), "invalid IP address in add-host: \"y\"");
        assert_eq!(text("x:[::1]"), "invalid IP address in add-host: \"[::1]\"");
    }

    #[test]
    fn ports_are_numbers_and_ranges_of_the_host() {
        let with = |port: &str, host: &str| {
            let binding = engine_api::PortBinding { host_port: host.into(), ..Default::default() };
            ports(Some(&PortMap::from([(port.to_owned(), Some(vec![binding]))])))
        };
        for (port, host) in [("80/tcp", ""), ("80", "8080"), ("80/udp", "8080-8090")] {
            assert!(with(port, host).is_ok(), "{port} {host}");
        }
        for (port, host, text) in [
            ("x/tcp", "", "\"x\""),
            ("80-81/tcp", "", "\"80-81\""),
            ("80/tcp", "x", "\"x\""),
            ("80/tcp", "9-8", "\"9-8\""),
        ] {
            let got = with(port, host).unwrap_err().message;
            assert_eq!(got, format!("invalid port specification: {text}"));
        }
    }
}
