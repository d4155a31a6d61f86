//! What a create request may ask for, with the texts that clients know. Defaults of
//! the host configuration are filled in here as well, so that records are complete.

use engine_api::{ContainerConfig, HostConfig, Resources};

use crate::engine::Engine;
use crate::http::ApiError;
use crate::lifecycle::restart::Policy;
use crate::signals;

type Checked<T = ()> = Result<T, ApiError>;

const MEGABYTE: i64 = 1 << 20;
/// The least memory that a container can start with.
const LEAST_MEMORY: i64 = 6 * MEGABYTE;

fn bad<T>(text: impl Into<String>) -> Checked<T> {
    Err(ApiError::bad_request(text))
}

/// Checks what runs.
pub fn config(config: &ContainerConfig) -> Checked<Vec<String>> {
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        return bad(format!(
            "the working directory '{}' is invalid, it needs to be an absolute path",
            config.working_dir
        ));
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
    Ok(Vec::new())
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

/// Checks what it gets, and fills in defaults. Gives warnings.
pub fn host(
    engine: &Engine,
    config: &ContainerConfig,
    host: &mut HostConfig,
) -> Checked<Vec<String>> {
    let settings = &engine.settings;
    restart(host)?;
    if host.shm_size < 0 {
        return bad("SHM size can not be less than 0");
    }
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return bad(format!(
            "Invalid value {}, range for oom score adj is [-1000, 1000]",
            host.oom_score_adj
        ));
    }
    let warnings = resources(&mut host.resources)?;
    for (list, names) in [("CapAdd", &host.cap_add), ("CapDrop", &host.cap_drop)] {
        if let Some(names) = names {
            // Checked only: inspect shows the names as they were given.
            plan::caps::normalize(list, names, engine.facts.caps)
                .map_err(|e| ApiError::bad_request(e.to_string()))?;
        }
    }
    plan::parse_security(host.security_opt.as_deref().unwrap_or_default())
        .map_err(|e| ApiError::internal(e.to_string()))?;
    if !matches!(host.isolation.as_str(), "" | "default") {
        return bad(format!(
            "invalid isolation ({}): linux only supports 'default'",
            host.isolation
        ));
    }
    modes(engine, config, host)?;
    engine.runtime(&host.runtime).map_err(ApiError::bad_request)?;
    if host.runtime.is_empty() {
        host.runtime.clone_from(&settings.default_runtime);
    }
    for entry in host.extra_hosts.iter().flatten() {
        if !entry.contains(':') {
            return bad(format!("bad format for add-host: {entry:?}"));
        }
    }
    super::logs::check(settings, &mut host.log_config)?;
    if host.shm_size == 0 {
        host.shm_size = settings.default_shm_size;
    }
    refuse(host)?;
    ports(host)?;
    Ok(warnings)
}

/// What Ferry does not have: an error that names it, never ignored.
fn refuse(host: &HostConfig) -> Checked {
    let filled = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|l| !l.is_empty());
    let table = [
        (filled(&host.links), "Links"),
        (host.publish_all_ports, "PublishAllPorts"),
        (host.storage_opt.as_ref().is_some_and(|o| !o.is_empty()), "StorageOpt"),
        (!matches!(host.volume_driver.as_str(), "" | "local"), "VolumeDriver"),
        (!matches!(host.userns_mode.as_str(), "" | "host"), "UsernsMode"),
        (!host.cgroup.is_empty(), "Cgroup"),
        (host.resources.device_requests.as_ref().is_some_and(|r| !r.is_empty()), "DeviceRequests"),
    ];
    match table.iter().find(|(is_set, _)| *is_set) {
        Some((_, name)) => {
            Err(ApiError::not_implemented(format!("{name} is not supported by Ferry yet")))
        }
        None => Ok(()),
    }
}

fn restart(host: &mut HostConfig) -> Checked {
    let policy = &mut host.restart_policy;
    let parsed = Policy::parse(&policy.name, policy.maximum_retry_count)
        .map_err(|e| ApiError::bad_request(e.to_string()))?;
    if host.auto_remove && parsed.restarts() {
        return bad("can't create 'AutoRemove' container with restart policy");
    }
    if policy.name.is_empty() {
        policy.name = "no".into();
    }
    Ok(())
}

fn ports(host: &HostConfig) -> Checked {
    for port in host.port_bindings.iter().flatten().map(|(port, _)| port) {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        if number.parse::<u16>().is_err() || !matches!(protocol, "tcp" | "udp" | "sctp") {
            return bad(format!("invalid port specification: {port:?}"));
        }
    }
    Ok(())
}

fn modes(engine: &Engine, config: &ContainerConfig, host: &mut HostConfig) -> Checked {
    let of_container = |mode: &str| mode.strip_prefix("container:").map(str::to_owned);
    let known = |what: &str, mode: &str, allowed: &[&str]| match of_container(mode) {
        Some(other) if what != "UTS" && what != "cgroup namespace" => engine
            .find(&other)
            .map(|c| Some(c.id.clone()))
            .map_err(|e| ApiError::bad_request(e.to_string())),
        _ if allowed.contains(&mode) => Ok(None),
        _ => bad(format!("invalid {what} mode: {mode}")),
    };
    if let Some(id) = known("IPC", &host.ipc_mode, &["", "host", "private", "shareable", "none"])? {
        host.ipc_mode = format!("container:{id}");
    }
    if host.ipc_mode.is_empty() {
        host.ipc_mode.clone_from(&engine.settings.default_ipc_mode);
    }
    if let Some(id) = known("PID", &host.pid_mode, &["", "host"])? {
        host.pid_mode = format!("container:{id}");
    }
    known("UTS", &host.uts_mode, &["", "host"])?;
    known("cgroup namespace", &host.cgroupns_mode, &["", "host", "private"])?;
    if host.cgroupns_mode.is_empty() {
        let default = if engine.facts.cgroup_v2 && !host.privileged { "private" } else { "host" };
        host.cgroupns_mode =
            engine.settings.default_cgroupns_mode.clone().unwrap_or_else(|| default.to_owned());
    }
    if matches!(host.network_mode.as_str(), "" | "default") {
        host.network_mode = "bridge".into();
    }
    if let Some(other) = of_container(&host.network_mode) {
        if other.is_empty() {
            return bad("invalid network mode: invalid container format container:<name|id>");
        }
        if !config.hostname.is_empty() {
            return bad("conflicting options: hostname and the network mode");
        }
        if let Ok(found) = engine.find(&other) {
            host.network_mode = format!("container:{}", found.id);
        }
    }
    if host.uts_mode == "host" && !config.hostname.is_empty() {
        return bad("conflicting options: hostname and the UTS mode");
    }
    Ok(())
}

/// Checks limits. Gives warnings about what the kernel lacks.
pub fn resources(r: &mut Resources) -> Checked<Vec<String>> {
    memory(r)?;
    if r.memory > 0 && r.memory_swap == 0 && limits_swap() {
        r.memory_swap = r.memory.saturating_mul(2);
    }
    cpus(r)?;
    if r.pids_limit == Some(0) {
        r.pids_limit = None;
    }
    let mut warnings = Vec::new();
    if r.blkio_weight > 0 && !(10..=1000).contains(&r.blkio_weight) && has_blkio_weight() {
        return bad("Range of blkio weight is from 10 to 1000");
    }
    if r.blkio_weight > 0 && !has_blkio_weight() {
        warnings.push("Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.".to_owned());
        r.blkio_weight = 0;
    }
    if r.oom_kill_disable.is_none()
        && !std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
    {
        r.oom_kill_disable = Some(false);
    }
    Ok(warnings)
}

fn limits_swap() -> bool {
    let root = std::path::Path::new("/sys/fs/cgroup");
    ["memory/memory.memsw.limit_in_bytes", "cgroup.controllers"]
        .iter()
        .any(|f| root.join(f).exists())
}

fn has_blkio_weight() -> bool {
    let v1 = std::path::Path::new("/sys/fs/cgroup/blkio");
    ["blkio.weight", "blkio.bfq.weight"].iter().any(|f| v1.join(f).exists())
        || std::path::Path::new("/sys/fs/cgroup/io.bfq.weight").exists()
}

fn memory(r: &Resources) -> Checked {
    if r.memory != 0 && r.memory < LEAST_MEMORY {
        return bad("Minimum memory limit allowed is 6MB");
    }
    if r.memory > 0 && r.memory_swap > 0 && r.memory_swap < r.memory {
        return bad("Minimum memoryswap limit should be larger than memory limit, see usage");
    }
    if r.memory == 0 && r.memory_swap > 0 {
        return bad(
            "You should always set the Memory limit when using Memoryswap limit, see usage",
        );
    }
    if let Some(swappiness) = r.memory_swappiness.filter(|s| *s != -1 && !(0..=100).contains(s)) {
        return bad(format!("Invalid value: {swappiness}, valid memory swappiness range is 0-100"));
    }
    if r.memory_reservation != 0 && r.memory_reservation < LEAST_MEMORY {
        return bad("Minimum memory reservation allowed is 6MB");
    }
    if r.memory > 0 && r.memory_reservation > r.memory {
        return bad(
            "Minimum memory limit can not be less than memory reservation limit, see usage",
        );
    }
    Ok(())
}

fn cpus(r: &Resources) -> Checked {
    if r.nano_cpus > 0 && r.cpu_period > 0 {
        return bad("Conflicting options: Nano CPUs and CPU Period cannot both be set");
    }
    if r.nano_cpus > 0 && r.cpu_quota > 0 {
        return bad("Conflicting options: Nano CPUs and CPU Quota cannot both be set");
    }
    if r.nano_cpus != 0 {
        // Counting reads several files: not for the many containers without a limit.
        let count = std::thread::available_parallelism().map_or(1, usize::from) as i64;
        if r.nano_cpus < 0 || r.nano_cpus > count * 1_000_000_000 {
            return bad(format!(
                "range of CPUs is from 0.01 to {count}.00, as there are only {count} CPUs available"
            ));
        }
    }
    if r.cpu_period != 0 && !(1000..=1_000_000).contains(&r.cpu_period) {
        return bad(
            "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)",
        );
    }
    if r.cpu_quota > 0 && r.cpu_quota < 1000 {
        return bad("CPU cfs quota can not be less than 1ms (i.e. 1000)");
    }
    cpuset("cpuset cpus", "CPUs", &r.cpuset_cpus, "/sys/devices/system/cpu/online")?;
    cpuset("cpuset mems", "memory nodes", &r.cpuset_mems, "/sys/devices/system/node/online")
}

fn cpuset(what: &str, plural: &str, wanted: &str, available: &str) -> Checked {
    if wanted.is_empty() {
        return Ok(());
    }
    let Some(list) = numbers(wanted) else {
        return bad(format!("Invalid value {wanted} for {what}: invalid format: {wanted}"));
    };
    let available = std::fs::read_to_string(available).unwrap_or_else(|_| "0".to_owned());
    let available = available.trim();
    let online = numbers(available).unwrap_or_default();
    if list.iter().all(|n| online.contains(n)) {
        return Ok(());
    }
    bad(format!(
        "Requested {plural} are not available - requested {wanted}, available: {available}"
    ))
}

/// The numbers of `0-2,5`.
fn numbers(text: &str) -> Option<Vec<u32>> {
    let mut out = Vec::new();
    for part in text.split(',') {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (low.parse::<u32>().ok()?, high.parse::<u32>().ok()?);
        if high < low || high > 8192 {
            return None;
        }
        out.extend(low..=high);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(r: Resources) -> String {
        resources(&mut { r }).unwrap_err().message
    }

    #[test]
    fn limits_are_refused_with_the_known_texts() {
        let r = Resources::default;
        assert_eq!(text(Resources { memory: 100, ..r() }), "Minimum memory limit allowed is 6MB");
        assert_eq!(
            text(Resources { memory_swap: 100, ..r() }),
            "You should always set the Memory limit when using Memoryswap limit, see usage"
        );
        assert_eq!(
            text(Resources { cpu_quota: 10, ..r() }),
            "CPU cfs quota can not be less than 1ms (i.e. 1000)"
        );
        assert_eq!(
            text(Resources { cpuset_cpus: "x".into(), ..r() }),
            "Invalid value x for cpuset cpus: invalid format: x"
        );
        assert!(
            text(Resources { cpuset_cpus: "4999".into(), ..r() })
                .starts_with("Requested CPUs are not available")
        );
    }

    #[test]
    fn a_bad_environment_or_folder_is_refused() {
        let with =
            |env: &str| ContainerConfig { env: Some(vec![env.into()]), ..Default::default() };
        assert_eq!(config(&with("=x")).unwrap_err().message, "invalid environment variable: =x");
        let folder = ContainerConfig { working_dir: "foo".into(), ..Default::default() };
        assert!(config(&folder).unwrap_err().message.contains("needs to be an absolute path"));
    }
}
