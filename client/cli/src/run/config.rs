//! The body of a create request, from the flags of `run` and `create`. Checks come
//! in the order in which users see them.

use super::{files, limits, mounts, networks, ports, security};
use crate::args::{Matches, golang};
use engine_api::{
    ContainerConfig, ContainerCreateRequest, GoDuration, HealthConfig, HostConfig, LogConfig,
    NetworkingConfig, RestartPolicy,
};

fn strings(texts: Vec<&str>) -> Vec<String> {
    texts.into_iter().map(ToOwned::to_owned).collect()
}

/// A list that was not given is nil.
fn maybe(m: &Matches, flag: &str) -> Option<Vec<String>> {
    m.given(flag).then(|| strings(m.texts(flag)))
}

/// The body for the image and command in the arguments.
pub fn request(m: &Matches) -> Result<ContainerCreateRequest, String> {
    unsupported(m)?;
    let ports = ports::parse(&m.texts("publish"), &m.texts("expose"))?;
    let (binds, volumes) = mounts::volumes(&m.texts("volume"));
    let resources = limits::all_resources(m)?;
    let mut config = config(m)?;
    security::modes(m)?;
    let restart_policy = restart_policy(m.text("restart"))?;
    let (security_opt, unmasked) = security::options(&m.texts("security-opt"))?;
    let storage_opt = storage(&m.texts("storage-opt"))?;
    config.healthcheck = health(m)?;
    if m.on("rm") && !matches!(restart_policy.name.as_str(), "" | "no") {
        return Err("conflicting options: cannot specify both --restart and --rm".into());
    }
    let (mode, endpoints) = networks::endpoints(m)?;
    config.exposed_ports = Some(ports.exposed);
    config.volumes = Some(volumes);
    config.mac_address = String::new();
    let mounts = m.texts("mount").into_iter().map(mounts::parse).collect::<Result<Vec<_>, _>>()?;
    let text = |flag: &str| m.text(flag).to_owned();
    let host = HostConfig {
        binds: Some(binds).filter(|b| !b.is_empty()),
        container_id_file: text("cidfile"),
        log_config: log_config(m)?,
        network_mode: mode,
        port_bindings: Some(ports.bindings),
        restart_policy,
        auto_remove: m.on("rm"),
        volume_driver: text("volume-driver"),
        volumes_from: maybe(m, "volumes-from"),
        annotations: m.given("annotation").then(|| files::pairs(&m.texts("annotation"))),
        cap_add: maybe(m, "cap-add"),
        cap_drop: maybe(m, "cap-drop"),
        cgroupns_mode: text("cgroupns"),
        dns: Some(strings(m.texts("dns"))),
        dns_options: Some(strings(m.texts("dns-option"))),
        dns_search: Some(strings(m.texts("dns-search"))),
        extra_hosts: maybe(m, "add-host"),
        group_add: maybe(m, "group-add"),
        ipc_mode: text("ipc"),
        links: maybe(m, "link"),
        oom_score_adj: m.number("oom-score-adj"),
        pid_mode: text("pid"),
        privileged: m.on("privileged"),
        publish_all_ports: m.on("publish-all"),
        readonly_rootfs: m.on("read-only"),
        security_opt: Some(security_opt).filter(|o| !o.is_empty()),
        storage_opt,
        tmpfs: mounts::tmpfs(&m.texts("tmpfs")),
        uts_mode: text("uts"),
        userns_mode: text("userns"),
        shm_size: m.number("shm-size"),
        sysctls: m.given("sysctl").then(|| files::pairs(&m.texts("sysctl"))),
        runtime: text("runtime"),
        isolation: text("isolation"),
        resources,
        mounts: Some(mounts).filter(|m| !m.is_empty()),
        masked_paths: unmasked.then(Vec::new),
        readonly_paths: unmasked.then(Vec::new),
        init: m.given("init").then(|| m.on("init")),
        ..HostConfig::default()
    };
    Ok(ContainerCreateRequest {
        config: Some(config),
        host_config: Some(host),
        networking_config: Some(NetworkingConfig { endpoints_config: Some(endpoints) }),
    })
}

/// Names what docker has and this version does not.
fn unsupported(m: &Matches) -> Result<(), String> {
    if m.on("use-api-socket") {
        return Err("--use-api-socket is not supported by this version of ferry".into());
    }
    content_trust(m)
}

/// Refuses to be asked for signatures.
pub(crate) fn content_trust(m: &Matches) -> Result<(), String> {
    if m.on("disable-content-trust") {
        return Ok(());
    }
    Err("--disable-content-trust=false is not supported: no signatures are checked".into())
}

/// What runs, and which of its streams are attached.
fn config(m: &Matches) -> Result<ContainerConfig, String> {
    let attach = m.texts("attach");
    let detached = m.on("detach");
    let all = attach.is_empty() && !detached;
    let stdin = m.on("interactive");
    let on = |stream: &str| attach.contains(&stream);
    let attach_stdin = !detached && (on("stdin") || attach.is_empty() && stdin);
    let command: Vec<String> = m.args[1..].to_vec();
    let entrypoint = m.given("entrypoint").then(|| vec![m.text("entrypoint").to_owned()]);
    let text = |flag: &str| m.text(flag).to_owned();
    let env = files::environment(&m.texts("env-file"), &m.texts("env"))?;
    let labels = files::labels(&m.texts("label-file"), &m.texts("label"))?;
    Ok(ContainerConfig {
        hostname: text("hostname"),
        domainname: text("domainname"),
        user: text("user"),
        attach_stdin,
        attach_stdout: all || on("stdout"),
        attach_stderr: all || on("stderr"),
        tty: m.on("tty"),
        open_stdin: stdin,
        stdin_once: stdin && attach_stdin,
        env: Some(env),
        cmd: Some(command).filter(|c| !c.is_empty()),
        image: m.arg(0).to_owned(),
        working_dir: text("workdir"),
        entrypoint,
        labels: Some(labels),
        stop_signal: text("stop-signal"),
        stop_timeout: m.given("stop-timeout").then(|| m.number("stop-timeout")),
        ..ContainerConfig::default()
    })
}

/// `no`, `always`, `unless-stopped`, `on-failure[:count]`.
pub fn restart_policy(text: &str) -> Result<RestartPolicy, String> {
    let (name, count) = text.split_once(':').unwrap_or((text, ""));
    if text.starts_with(':') {
        return Err("invalid restart policy format: no policy provided before colon".into());
    }
    let maximum_retry_count = match count {
        "" => 0,
        count => golang::parse_decimal(count, "Atoi").map_err(|_| {
            "invalid restart policy format: maximum retry count must be an integer".to_owned()
        })?,
    };
    Ok(RestartPolicy { name: name.to_owned(), maximum_retry_count })
}

fn log_config(m: &Matches) -> Result<LogConfig, String> {
    let options = m.texts("log-opt");
    let driver = m.text("log-driver").to_owned();
    if driver == "none" && !options.is_empty() {
        return Err(format!("invalid logging opts for driver {driver}"));
    }
    Ok(LogConfig { driver, config: Some(files::pairs(&options)) })
}

fn storage(texts: &[&str]) -> Result<Option<engine_api::StringMap>, String> {
    if texts.iter().any(|t| !t.contains('=')) {
        return Err("invalid storage option".into());
    }
    Ok((!texts.is_empty()).then(|| files::pairs(texts)))
}

fn health(m: &Matches) -> Result<Option<HealthConfig>, String> {
    const FLAGS: [&str; 6] = [
        "health-cmd",
        "health-interval",
        "health-timeout",
        "health-start-period",
        "health-start-interval",
        "health-retries",
    ];
    let some = FLAGS.iter().any(|flag| {
        let text = m.text(flag);
        m.number(flag) != 0 || !text.is_empty() && text != "0s"
    });
    if m.on("no-healthcheck") {
        if some {
            return Err("--no-healthcheck conflicts with --health-* options".into());
        }
        let test = Some(vec!["NONE".to_owned()]);
        return Ok(Some(HealthConfig { test, ..HealthConfig::default() }));
    }
    if !some {
        return Ok(None);
    }
    for flag in [
        "health-interval",
        "health-timeout",
        "health-retries",
        "health-start-period",
        "health-start-interval",
    ] {
        if m.number(flag) < 0 {
            return Err(format!("--{flag} cannot be negative"));
        }
    }
    let command = m.text("health-cmd");
    let test = (!command.is_empty()).then(|| vec!["CMD-SHELL".to_owned(), command.to_owned()]);
    Ok(Some(HealthConfig {
        test,
        interval: GoDuration(m.number("health-interval")),
        timeout: GoDuration(m.number("health-timeout")),
        start_period: GoDuration(m.number("health-start-period")),
        start_interval: GoDuration(m.number("health-start-interval")),
        retries: m.number("health-retries"),
    }))
}
