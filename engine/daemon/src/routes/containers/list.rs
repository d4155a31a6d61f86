//! `GET /containers/json`: rows, filtered and sorted, without touching the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine_api::filters::{CONTAINERS, FilterError, Filters};
use engine_api::{
    ContainerSummary, EndpointSettings, ListBody, Port, SummaryHostConfig, SummaryNetworkSettings,
};
use http::StatusCode;
use jiff::Timestamp;

use crate::engine::Engine;
use crate::http::{ApiError, Request, Response};
use crate::lifecycle::Container;
use crate::lifecycle::container::Row;
use crate::records::Phase;
use crate::routes::networks::endpoint_settings;

const STATES: [&str; 7] =
    ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// The word of the API for what a container is doing.
pub(super) fn state_word(row: &Row) -> &'static str {
    if row.removing { "removing" } else { row.state.phase.word() }
}

/// The handler.
pub(super) async fn list(engine: Arc<Engine>, request: Request) -> Result<Response, ApiError> {
    let filters = request.filters(CONTAINERS)?;
    let limit = request.query.integer("limit")?.unwrap_or(0);
    let since_before = bounds(&engine, &filters)?;
    check(&filters)?;
    let asks_state = filters.contains("status") || filters.contains("exited");
    let all = request.query.bool("all") || limit > 0 || asks_state;
    let size = request.query.bool("size");
    let mut out = Vec::new();
    for container in engine.all() {
        if limit > 0 && out.len() as i64 >= limit {
            break;
        }
        let row = container.row();
        if (all || row.state.phase.is_running())
            && matches(&engine, &container, &row, &filters, &since_before)
        {
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

/// Times of the containers that `before` and `since` name.
#[derive(Default)]
struct Bounds {
    before: Option<i64>,
    since: Option<i64>,
}

fn bounds(engine: &Engine, filters: &Filters) -> Result<Bounds, ApiError> {
    let time = |key: &str| {
        let found = filters.get(key).next().map(|name| engine.find(name)).transpose();
        found.map(|c| c.map(|c| c.row().fixed.created)).map_err(ApiError::from)
    };
    Ok(Bounds { before: time("before")?, since: time("since")? })
}

fn check(filters: &Filters) -> Result<(), ApiError> {
    let invalid = |key: &str, value: &str, why: String| {
        ApiError::bad_request(format!("invalid filter '{key}={value}': {why}"))
    };
    if let Some(value) = filters.get("status").find(|v| !STATES.contains(v)) {
        return Err(invalid(
            "status",
            value,
            format!("invalid value for state ({value}): must be one of {}", STATES.join(", ")),
        ));
    }
    if let Some(value) = filters.get("health").find(|v| !HEALTH.contains(v)) {
        return Err(invalid(
            "health",
            value,
            format!("invalid value for health ({value}): must be one of {}", HEALTH.join(", ")),
        ));
    }
    if let Some(value) = filters.get("exited").find(|v| v.parse::<i64>().is_err()) {
        return Err(invalid(
            "exited",
            value,
            format!("strconv.Atoi: parsing {value:?}: invalid syntax"),
        ));
    }
    for key in ["publish", "expose"] {
        for value in filters.get(key) {
            let number = value.split(['/', '-']).next().unwrap_or_default();
            if number.parse::<u16>().is_err() {
                return Err(ApiError::internal(format!(
                    "error while looking up for {key} {value}: strconv.ParseUint: parsing {number:?}: invalid syntax"
                )));
            }
        }
    }
    filters.boolean("is-task").map_err(|e: FilterError| ApiError::from(e))?;
    Ok(())
}

fn matches(
    engine: &Engine,
    container: &Container,
    row: &Row,
    filters: &Filters,
    bounds: &Bounds,
) -> bool {
    let fixed = &row.fixed;
    let any = |key: &str, test: &dyn Fn(&str) -> bool| {
        !filters.contains(key) || filters.get(key).any(test)
    };
    let name = |wanted: &str| {
        let bare = wanted.trim_start_matches('/');
        row.name.contains(bare.trim_start_matches('^').trim_end_matches('$'))
            && anchored(&row.name, bare)
    };
    let ancestor = |wanted: &str| {
        let image = engine.images.resolve(wanted).map(|i| i.id.to_string());
        image.is_ok_and(|id| id == fixed.image_id) || fixed.image == wanted
    };
    let network = |wanted: &str| {
        let joined = engine.networks.of_container(&container.id);
        fixed.networks.contains_key(wanted)
            || joined
                .iter()
                .any(|e| e.network_name == wanted || e.network.as_str().starts_with(wanted))
    };
    let volume = |wanted: &str| {
        fixed
            .mounts
            .iter()
            .any(|m| m.name == wanted || m.destination == wanted || m.source == wanted)
    };
    let port = |wanted: &str| {
        let wanted = if wanted.contains('/') { wanted.to_owned() } else { format!("{wanted}/tcp") };
        fixed.exposed.contains(&wanted)
    };
    let published = |wanted: &str| {
        ports(engine, container, row).iter().any(|p| {
            p.public_port != 0
                && (format!("{}/{}", p.private_port, p.kind) == wanted
                    || p.private_port.to_string() == wanted)
        })
    };
    any("id", &|wanted| container.id.starts_with(wanted))
        && any("name", &name)
        && any("status", &|wanted| state_word(row) == wanted)
        && any("exited", &|wanted| {
            row.state.phase == Phase::Exited
                && wanted.parse() == Ok(row.state.exit_code)
                && row.state.started_at != 0
        })
        && any("health", &|wanted| wanted == "none")
        && filters.labels("label", &fixed.labels)
        && any("ancestor", &ancestor)
        && any("network", &network)
        && any("volume", &volume)
        && any("expose", &port)
        && any("publish", &published)
        && any("isolation", &|wanted| wanted == "default" || wanted.is_empty())
        && filters.boolean("is-task").ok().flatten().is_none_or(|wanted| !wanted)
        && bounds.before.is_none_or(|at| fixed.created < at)
        && bounds.since.is_none_or(|at| fixed.created > at)
}

/// `^` and `$` bind a name; anything between is taken as it stands.
fn anchored(name: &str, pattern: &str) -> bool {
    let start = pattern.strip_prefix('^').map(|p| p.trim_start_matches('/'));
    let bare = start.unwrap_or(pattern);
    match (start.is_some(), bare.strip_suffix('$')) {
        (true, Some(bare)) => name == bare,
        (true, None) => name.starts_with(bare),
        (false, Some(bare)) => name.ends_with(bare),
        (false, None) => name.contains(bare),
    }
}

fn summary(engine: &Engine, container: &Container, row: &Row) -> ContainerSummary {
    let fixed = &row.fixed;
    ContainerSummary {
        id: container.id.clone(),
        names: vec![format!("/{}", row.name)],
        image: fixed.image.clone(),
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

fn ports(engine: &Engine, container: &Container, row: &Row) -> Vec<Port> {
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

    #[test]
    fn names_match_in_part_unless_anchored() {
        assert!(anchored("web1", "eb") && anchored("web1", "^we") && anchored("web1", "^/web1$"));
        assert!(!anchored("web1", "^eb") && !anchored("web1", "web$"));
    }
}
