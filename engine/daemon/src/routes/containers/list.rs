//! `GET /containers/json`: rows, filtered and sorted, without touching the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine_api::filters::CONTAINERS;
use engine_api::{
    ContainerSummary, EndpointSettings, ListBody, Port, SummaryHostConfig, SummaryNetworkSettings,
};
use http::StatusCode;
use jiff::Timestamp;

use super::filter::Wanted;
use crate::engine::Engine;
use crate::http::{ApiError, Request, Response};
use crate::lifecycle::Container;
use crate::lifecycle::container::Row;
use crate::records::Phase;
use crate::routes::networks::endpoint_settings;

/// The word of the API for what a container is doing.
pub(super) fn state_word(row: &Row) -> &'static str {
    if row.removing { "removing" } else { row.state.phase.word() }
}

/// The handler.
pub(super) async fn list(engine: Arc<Engine>, request: Request) -> Result<Response, ApiError> {
    let filters = request.filters(CONTAINERS)?;
    let limit = request.query.integer("limit")?.unwrap_or(0);
    let wanted = Wanted::new(&engine, &filters)?;
    let all = request.query.bool("all") || limit > 0 || filters.get("status").next().is_some();
    let size = request.query.bool("size");
    let mut out = Vec::new();
    for container in engine.all() {
        if limit > 0 && out.len() as i64 >= limit {
            break;
        }
        let row = container.row();
        if (all || row.state.phase.is_running()) && wanted.matches(&engine, &container, &row) {
            out.push((container, row));
        }
    }
    let mut body = ListBody::new(request.version);
    for (container, row) in out {
        let mut item = summary(&engine, &container, &row);
        if size {
            item.size_rw = super::inspect::size(&engine, &container).await;
            item.size_root_fs = item.size_rw + image_size(&engine, &row);
        }
        body.push(&item);
    }
    Ok(Response::new(StatusCode::OK, "application/json", body.finish()))
}

/// All containers with their sizes.
pub(in crate::routes) async fn with_sizes(engine: &Engine) -> Vec<ContainerSummary> {
    let mut out = Vec::new();
    for container in engine.all() {
        let row = container.row();
        let mut item = summary(engine, &container, &row);
        item.size_rw = super::inspect::size(engine, &container).await;
        item.size_root_fs = item.size_rw + image_size(engine, &row);
        out.push(item);
    }
    out
}

pub(super) fn image_size(engine: &Engine, row: &Row) -> i64 {
    engine
        .images
        .resolve(&row.fixed.image_id)
        .map_or(0, |image| i64::try_from(image.size()).unwrap_or(i64::MAX))
}

fn summary(engine: &Engine, container: &Container, row: &Row) -> ContainerSummary {
    let fixed = &row.fixed;
    ContainerSummary {
        id: container.id.clone(),
        names: vec![format!("/{}", row.name)],
        image: image_name(engine, row),
        image_id: fixed.image_id.clone(),
        image_manifest_descriptor: fixed.manifest.clone(),
        command: fixed.command.clone(),
        created: fixed.created.div_euclid(1_000_000_000),
        ports: ports(engine, container, row),
        labels: fixed.labels.clone(),
        state: state_word(row).to_owned(),
        status: status(row),
        host_config: SummaryHostConfig {
            network_mode: fixed.network_mode.clone(),
            annotations: fixed.annotations.clone(),
        },
        network_settings: SummaryNetworkSettings { networks: networks(engine, container, row) },
        mounts: fixed.mounts.clone(),
        ..ContainerSummary::default()
    }
}

/// What a container's image was called at its creation, as long as that still means it.
fn image_name(engine: &Engine, row: &Row) -> String {
    let (name, id) = (&row.fixed.image, &row.fixed.image_id);
    match engine.images.resolve(name) {
        Ok(image) if image.id.to_string() == *id => name.clone(),
        _ => id.clone(),
    }
}

/// The networks of a container: as joined while it runs, else as asked for.
fn networks(
    engine: &Engine,
    container: &Container,
    row: &Row,
) -> BTreeMap<String, EndpointSettings> {
    let networks = row.fixed.networks.iter();
    let mut out: BTreeMap<_, _> = networks
        .map(|(name, ipam_config)| {
            let ipam_config = ipam_config.clone();
            (name.clone(), EndpointSettings { ipam_config, ..asked(engine, row, name) })
        })
        .collect();
    for endpoint in engine.networks.of_container(&container.id) {
        let own = out.entry(endpoint.network_name.clone()).or_default();
        *own = EndpointSettings { dns_names: None, ..endpoint_settings(own, &endpoint) };
    }
    out
}

/// What is shown of a network that the container is not on now: its id stays once it was.
pub(super) fn asked(engine: &Engine, row: &Row, network: &str) -> EndpointSettings {
    let was_on = row.state.generation > 0 && row.state.started_at != 0;
    let found = was_on.then(|| engine.networks.find(network).ok()).flatten();
    let network_id = found.map(|n| n.id.to_string()).unwrap_or_default();
    EndpointSettings { network_id, ..EndpointSettings::default() }
}

pub(super) fn ports(engine: &Engine, container: &Container, row: &Row) -> Vec<Port> {
    let mut out = Vec::new();
    if !row.state.phase.has_task() {
        return out;
    }
    for endpoint in engine.networks.of_container(&container.id) {
        for binding in &endpoint.ports {
            out.push(Port {
                ip: binding.host_ip.to_string(),
                private_port: binding.container_port,
                public_port: binding.host_port,
                kind: binding.protocol.as_str().to_owned(),
            });
        }
    }
    for exposed in &row.fixed.exposed {
        let (number, kind) = exposed.split_once('/').unwrap_or((exposed, "tcp"));
        let Ok(number) = number.parse() else { continue };
        if !out.iter().any(|p| p.private_port == number && p.kind == kind) {
            out.push(Port { private_port: number, kind: kind.to_owned(), ..Port::default() });
        }
    }
    out
}

/// `Up 5 minutes (Paused)`, `Exited (0) 3 days ago`.
fn status(row: &Row) -> String {
    let state = &row.state;
    let since = |nanos: i64| {
        human((Timestamp::now().as_nanosecond() as i64).saturating_sub(nanos) / 1_000_000_000)
    };
    if row.removing {
        return "Removal In Progress".into();
    }
    match state.phase {
        Phase::Running => format!("Up {}", since(state.started_at)),
        Phase::Paused => format!("Up {} (Paused)", since(state.started_at)),
        Phase::Restarting => {
            format!("Restarting ({}) {} ago", state.exit_code, since(state.finished_at))
        }
        Phase::Dead => "Dead".into(),
        Phase::Created => "Created".into(),
        Phase::Exited if state.finished_at == 0 => String::new(),
        Phase::Exited => format!("Exited ({}) {} ago", state.exit_code, since(state.finished_at)),
    }
}

/// A duration in seconds as people say it.
fn human(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        s if s < 1 => "Less than a second".into(),
        1 => "1 second".into(),
        s if s < 60 => format!("{s} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let cases = [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (61, "About a minute"),
            (120, "2 minutes"),
            (3600, "About an hour"),
            (2 * 3600, "2 hours"),
            (3 * 86400, "3 days"),
            (20 * 86400, "2 weeks"),
            (100 * 86400, "3 months"),
            (800 * 86400, "2 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(human(seconds), text);
        }
    }
}
