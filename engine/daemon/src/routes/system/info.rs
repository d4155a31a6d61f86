//! `GET /info`: the machine, the configuration, and how many of what there are.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use engine_api::{
    Commit, ContainerdInfo, ContainerdNamespaces, FirewallInfo, IndexInfo, PluginsInfo,
    RegistryServiceConfig, RuntimeInfo, SwarmInfo, SystemInfo,
};

use super::Reply;
use crate::config::Settings;
use crate::engine::Engine;
use crate::http::{Request, Response};
use crate::records::Phase;

pub(super) async fn info(engine: Arc<Engine>, request: Request) -> Reply {
    let mut info = SystemInfo::default();
    count(&engine, &mut info);
    machine(&engine, &mut info);
    configuration(&engine, &mut info);
    info.containerd_commit =
        Commit { id: engine.client.peer_version().await.unwrap_or_default(), ..Commit::default() };
    Ok(Response::json(&info, request.version))
}

fn count(engine: &Engine, info: &mut SystemInfo) {
    for container in engine.all() {
        info.containers += 1;
        match container.row().state.phase {
            Phase::Running | Phase::Restarting => info.containers_running += 1,
            Phase::Paused => info.containers_paused += 1,
            _ => info.containers_stopped += 1,
        }
    }
    info.images = i64::try_from(engine.images.count()).unwrap_or(i64::MAX);
    info.n_fd = count_entries("/proc/self/fd");
    info.n_goroutines = count_entries("/proc/self/task");
    info.system_time = engine_api::Time(jiff::Timestamp::now()).rfc3339();
}

fn count_entries(folder: &str) -> i64 {
    fs::read_dir(folder).map_or(0, |entries| i64::try_from(entries.count()).unwrap_or(0))
}

fn machine(engine: &Engine, info: &mut SystemInfo) {
    let name = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    info.kernel_version = text(name.release());
    info.architecture = text(name.machine());
    info.name = text(name.nodename());
    info.os_type = "linux".into();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let field = |key: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(key));
        line.map(|value| value.trim_matches('"').to_owned()).unwrap_or_default()
    };
    info.operating_system = field("PRETTY_NAME=");
    info.os_version = field("VERSION_ID=");
    info.ncpu = std::thread::available_parallelism()
        .map_or(1, |count| i64::try_from(count.get()).unwrap_or(1));
    info.mem_total = total_memory();
    info.ipv4_forwarding = engine.limits.ipv4_forwarding;
    cgroups(engine, info);
}

fn total_memory() -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<i64> = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) * 1024
}

fn cgroups(engine: &Engine, info: &mut SystemInfo) {
    let v2 = engine.facts.cgroup_v2;
    let limits = &engine.limits;
    info.cgroup_version = if v2 { "2" } else { "1" }.into();
    info.cgroup_driver = if engine.settings.systemd_cgroup { "systemd" } else { "cgroupfs" }.into();
    info.memory_limit = limits.memory;
    info.swap_limit = limits.swap;
    info.oom_kill_disable = limits.oom_kill_disable;
    info.cpu_cfs_period = limits.cpu_cfs;
    info.cpu_cfs_quota = limits.cpu_cfs;
    info.cpu_shares = limits.cpu_shares;
    info.cpu_set = limits.cpuset;
    info.pids_limit = limits.pids;
}

fn configuration(engine: &Engine, info: &mut SystemInfo) {
    let settings = &engine.current.load_full();
    info.id = engine_id(settings);
    info.driver.clone_from(&settings.storage_driver);
    info.driver_status =
        vec![vec!["driver-type".to_owned(), "io.containerd.snapshotter.v1".to_owned()]];
    let names = |list: &[&str]| Some(list.iter().map(|name| (*name).to_owned()).collect());
    info.plugins = PluginsInfo {
        volume: names(&["local"]),
        network: names(&["bridge", "host", "null"]),
        authorization: None,
        log: names(&["json-file", "none"]),
    };
    info.debug = settings.debug;
    info.logging_driver.clone_from(&settings.log.driver);
    info.index_server_address = "https://index.docker.io/v1/".into();
    info.registry_config = registries(engine);
    info.http_proxy = masked(&settings.http_proxy);
    info.https_proxy = masked(&settings.https_proxy);
    info.no_proxy.clone_from(&settings.no_proxy);
    info.docker_root_dir = settings.data_root.display().to_string();
    info.labels.clone_from(&settings.labels);
    info.experimental_build = settings.experimental;
    info.server_version = env!("CARGO_PKG_VERSION").into();
    info.runtimes = runtimes(settings);
    info.default_runtime.clone_from(&settings.default_runtime);
    info.swarm = SwarmInfo { local_node_state: "inactive".to_owned(), ..SwarmInfo::default() };
    info.live_restore_enabled = settings.live_restore;
    info.init_binary = "ferry-init".into();
    info.runc_commit = Commit { id: env!("CARGO_PKG_VERSION").to_owned(), ..Commit::default() };
    info.security_options = security(engine);
    info.firewall_backend = Some(FirewallInfo { driver: "nftables".to_owned(), info: None });
    info.containerd = Some(ContainerdInfo {
        address: engine.client.socket().display().to_string(),
        namespaces: ContainerdNamespaces {
            containers: settings.containerd_namespace.clone(),
            plugins: format!("plugins.{}", settings.containerd_namespace),
        },
    });
    let warnings = engine.networks.warnings();
    info.warnings = (!warnings.is_empty()).then_some(warnings);
}

/// A proxy's URL without its credentials.
fn masked(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.split_once('@') {
        Some((user, host)) if !user.contains('/') => format!("{scheme}://xxxxx:xxxxx@{host}"),
        _ => url.to_owned(),
    }
}

fn registries(engine: &Engine) -> RegistryServiceConfig {
    let settings = engine.current.load();
    let mirrors = &engine.remote.load().hosts.mirrors;
    let mirrors: Vec<String> = mirrors.iter().map(registry_client::Mirror::shown).collect();
    let docker = IndexInfo {
        mirrors: mirrors.clone(),
        name: "docker.io".to_owned(),
        official: true,
        secure: true,
    };
    let is_range = |entry: &&String| entry.contains('/');
    let mut ranges: Vec<String> =
        settings.insecure_registries.iter().filter(is_range).cloned().collect();
    ranges.extend(["::1/128", "127.0.0.0/8"].map(str::to_owned));
    let mut index: BTreeMap<String, IndexInfo> = settings
        .insecure_registries
        .iter()
        .filter(|entry| !entry.contains('/'))
        .map(|name| (name.clone(), IndexInfo { name: name.clone(), ..IndexInfo::default() }))
        .collect();
    index.insert("docker.io".to_owned(), docker);
    RegistryServiceConfig {
        index_configs: index,
        insecure_registry_cidrs: ranges,
        mirrors: Some(mirrors).filter(|mirrors| !mirrors.is_empty()),
        ..RegistryServiceConfig::default()
    }
}

fn runtimes(settings: &Settings) -> BTreeMap<String, RuntimeInfo> {
    let own = ["ferry-runc", "runc"].map(|name| {
        (name.to_owned(), RuntimeInfo { path: "ferry-runc".to_owned(), ..RuntimeInfo::default() })
    });
    let added = settings.runtimes.iter().map(|(name, runtime)| {
        let kind = runtime.runtime_type.clone().unwrap_or_default();
        (name.clone(), RuntimeInfo { path: runtime.path.clone(), kind, ..RuntimeInfo::default() })
    });
    own.into_iter().chain(added).collect()
}

fn security(engine: &Engine) -> Vec<String> {
    let mut options = Vec::new();
    if fs::exists("/sys/kernel/security/apparmor").unwrap_or(false) {
        options.push("name=apparmor".to_owned());
    }
    let profile = match engine.settings.seccomp_profile.as_str() {
        "" | "builtin" => "builtin",
        other => other,
    };
    options.push(format!("name=seccomp,profile={profile}"));
    if engine.facts.cgroup_v2 {
        options.push("name=cgroupns".to_owned());
    }
    if engine.settings.no_new_privileges {
        options.push("name=no-new-privileges".to_owned());
    }
    options
}

/// An id of this engine that survives restarts, kept beside its records.
pub(crate) fn engine_id(settings: &Settings) -> String {
    let file = settings.data_root.join("engine-id");
    if let Ok(id) = fs::read_to_string(&file) {
        return id.trim().to_owned();
    }
    let id =
        fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default().trim().to_owned();
    // Without it the next start shows another id, which harms nobody.
    let _ = fs::write(&file, &id);
    id
}
