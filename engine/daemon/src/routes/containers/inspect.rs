//! `GET /containers/{id}/json`: the whole record with the state as it is now.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use containerd_api::services::snapshots::v1::{MountsRequest, UsageRequest};
use engine_api::upgrade::is_user_defined;
use engine_api::{
    ContainerConfig, ContainerInspect, ContainerState, DriverData, EndpointSettings,
    NetworkSettings, PortBinding, PortMap, StringMap,
};

use crate::engine::Engine;
use crate::http::{ApiError, Request, Response};
use crate::lifecycle::container::Row;
use crate::lifecycle::{Container, Named, endpoint_spec};
use crate::records::{Spec, State};
use crate::routes::networks::endpoint_settings;
use crate::sink;

/// The handler.
pub(super) async fn inspect(engine: Arc<Engine>, request: Request) -> Result<Response, ApiError> {
    let container = engine.find(request.name())?;
    let spec = container
        .spec()
        .map_err(|_| ApiError::not_found(format!("No such container: {}", request.name())))?;
    let row = container.row();
    let mut reply = whole(&engine, &container, &row, spec);
    reply.graph_driver = driver_data(&engine, &container, &row).await;
    if request.query.bool("size") {
        let rw = size(&engine, &container).await;
        reply.size_rw = Some(rw);
        reply.size_root_fs = Some(rw + super::list::image_size(&engine, &row));
    }
    Ok(Response::versioned(reply, request.version))
}

/// What the container itself wrote, in bytes: the sizes of its files.
pub(super) async fn size(engine: &Engine, container: &Container) -> i64 {
    let row = container.row();
    let data = driver_data(engine, container, &row).await.data.unwrap_or_default();
    if let Some(upper) = data.get("UpperDir").map(PathBuf::from) {
        let counted = tokio::task::spawn_blocking(move || sys::tree::size(&upper)).await;
        if let Ok(Ok(bytes)) = counted {
            return i64::try_from(bytes).unwrap_or(i64::MAX);
        }
    }
    let request =
        UsageRequest { snapshotter: row.fixed.snapshotter.clone(), key: container.id.clone() };
    let answer = engine.client.snapshots().usage(request).await;
    answer.map_or(0, |usage| usage.into_inner().size)
}

fn whole(engine: &Engine, container: &Container, row: &Row, spec: Spec) -> ContainerInspect {
    let folder = engine.settings.data_root.join("containers").join(&spec.id);
    let has_network = !spec.config.network_disabled;
    let file = |name: &str| {
        if row.state.generation > 0 && has_network {
            folder.join(name).to_string_lossy().into_owned()
        } else {
            String::new()
        }
    };
    let has_log = spec.host.log_config.driver == "json-file";
    let log = sink::log_path(&engine.settings.data_root, &spec.id);
    let ids = container.execs.ids();
    let mut host = spec.host.clone();
    if !host.privileged {
        let texts = |list: &[&str]| Some(list.iter().map(|p| (*p).to_owned()).collect());
        host.masked_paths = host.masked_paths.or_else(|| texts(&plan::MASKED));
        host.readonly_paths = host.readonly_paths.or_else(|| texts(&plan::READ_ONLY));
    }
    ContainerInspect {
        id: spec.id.clone(),
        created: State::time(spec.created),
        path: spec.path.clone(),
        args: spec.args.clone(),
        state: state(row),
        image: spec.image.clone(),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path: if has_log && row.state.generation > 0 {
            log.to_string_lossy().into_owned()
        } else {
            String::new()
        },
        name: format!("/{}", row.name),
        restart_count: i64::from(row.state.restart_count),
        driver: spec.snapshotter.clone(),
        platform: spec.platform.clone(),
        exec_ids: Some(ids).filter(|ids| !ids.is_empty()),
        mounts: spec.mounts.iter().filter(|m| !m.hidden).map(|m| m.point.clone()).collect(),
        network_settings: networks(engine, container, row, &spec),
        config: ContainerConfig { mac_address: mac_address(&spec), ..spec.config.clone() },
        image_manifest_descriptor: spec.manifest.clone(),
        host_config: host,
        ..ContainerInspect::default()
    }
}

/// The hardware address that was asked for on the network of the mode, where old clients look.
fn mac_address(spec: &Spec) -> String {
    let mode = spec.host.network_mode.as_str();
    let asked = spec.endpoints.get(mode).filter(|_| mode == "bridge" || is_user_defined(mode));
    asked.map(|endpoint| endpoint.mac_address.clone()).unwrap_or_default()
}

fn state(row: &Row) -> ContainerState {
    let state = &row.state;
    ContainerState {
        status: super::list::state_word(row).to_owned(),
        running: state.phase.is_running(),
        paused: state.phase == crate::records::Phase::Paused,
        restarting: state.phase == crate::records::Phase::Restarting,
        oom_killed: state.oom_killed,
        dead: state.phase == crate::records::Phase::Dead,
        pid: if state.phase.has_task() { i64::from(state.pid) } else { 0 },
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: State::time(state.started_at),
        finished_at: State::time(state.finished_at),
        health: None,
    }
}

/// Where the root file system's layers lie. They never move while the daemon runs, so containerd
/// is asked once.
async fn driver_data(engine: &Engine, container: &Container, row: &Row) -> DriverData {
    let name = row.fixed.snapshotter.clone();
    if let Some(data) = container.layers.get() {
        return DriverData { data: Some(data.clone()), name };
    }
    let request = MountsRequest { snapshotter: name.clone(), key: container.id.clone() };
    let answer = engine.client.snapshots().mounts(request).await;
    let mut data = StringMap::from([("ID".to_owned(), container.id.clone())]);
    if let Ok(answer) = answer {
        let mounts = answer.into_inner().mounts;
        let overlays = mounts.iter().filter(|m| m.r#type == "overlay").flat_map(|m| &m.options);
        data.extend(overlays.filter_map(|option| {
            let (key, value) = option.split_once('=').unwrap_or((option, ""));
            let name = match key {
                "lowerdir" => "LowerDir",
                "upperdir" => "UpperDir",
                "workdir" => "WorkDir",
                _ => return None,
            };
            Some((name.to_owned(), value.to_owned()))
        }));
        // Another request may have been quicker; it heard the same.
        let _ = container.layers.set(data.clone());
    }
    DriverData { data: Some(data), name }
}

fn networks(engine: &Engine, container: &Container, row: &Row, spec: &Spec) -> NetworkSettings {
    let mut all: BTreeMap<String, EndpointSettings> = spec.endpoints.clone();
    let named = Named { id: &spec.id, name: &row.name, hostname: &spec.config.hostname };
    for (name, settings) in &mut all {
        settings.network_id = super::list::asked(engine, row, name).network_id;
        if row.state.generation > 0 {
            settings.dns_names = endpoint_spec(&named, name, settings).dns_names;
            // From then on it is an address that it has, not one that it asks for.
            settings.mac_address.clear();
        }
    }
    let mut ports: PortMap = PortMap::new();
    let up = row.state.phase.has_task();
    let endpoints = if up { engine.networks.of_container(&container.id) } else { Vec::new() };
    for endpoint in &endpoints {
        let asked = all.get(&endpoint.network_name).cloned().unwrap_or_default();
        all.insert(endpoint.network_name.clone(), endpoint_settings(&asked, endpoint));
        for binding in &endpoint.ports {
            let key = format!("{}/{}", binding.container_port, binding.protocol.as_str());
            let shown = PortBinding {
                host_ip: binding.host_ip.to_string(),
                host_port: binding.host_port.to_string(),
            };
            ports.entry(key).or_default().get_or_insert_default().push(shown);
        }
    }
    if up {
        for exposed in spec.config.exposed_ports.iter().flatten().map(|(port, ())| port) {
            ports.entry(exposed.clone()).or_default();
        }
    }
    let default = all.get("bridge").cloned().unwrap_or_default();
    let pin = (up && !spec.config.network_disabled).then(|| container.sandbox()).flatten();
    NetworkSettings {
        sandbox_id: pin.as_ref().map(|(id, _)| id.clone()).unwrap_or_default(),
        sandbox_key: pin.map(|(_, key)| key).unwrap_or_default(),
        ports: Some(ports),
        endpoint_id: default.endpoint_id,
        gateway: default.gateway,
        global_ipv6_address: default.global_ipv6_address,
        global_ipv6_prefix_len: default.global_ipv6_prefix_len,
        ip_address: default.ip_address,
        ip_prefix_len: default.ip_prefix_len,
        ipv6_gateway: default.ipv6_gateway,
        mac_address: default.mac_address,
        networks: all,
        ..NetworkSettings::default()
    }
}
