//! Which containers a list means. Values are checked in dockerd's order, with its texts.

use std::collections::BTreeSet;
use std::num::IntErrorKind;

use engine_api::filters::{FilterError, Filters};

use super::list::{ports, state_word};
use crate::engine::Engine;
use crate::http::ApiError;
use crate::lifecycle::Container;
use crate::lifecycle::container::Row;
use crate::records::Phase;
use crate::routes::patterns::Patterns;

const STATES: [&str; 7] =
    ["created", "running", "paused", "restarting", "removing", "exited", "dead"];
const HEALTH: [&str; 4] = ["none", "starting", "healthy", "unhealthy"];

/// The filters of a list, checked and looked up.
pub(super) struct Wanted<'a> {
    filters: &'a Filters,
    name: Patterns<'a>,
    /// Containers that the prefixes of `id` name.
    ids: BTreeSet<String>,
    /// Images that `ancestor` names.
    images: BTreeSet<String>,
    exited: Vec<i64>,
    before: Option<i64>,
    since: Option<i64>,
    published: Vec<Range>,
    exposed: Vec<Range>,
    tasks: bool,
}

/// Ports of one protocol.
struct Range {
    first: u16,
    last: u16,
    protocol: String,
}

impl Range {
    fn holds(&self, port: u16, protocol: &str) -> bool {
        (self.first..=self.last).contains(&port) && self.protocol == protocol
    }
}

impl<'a> Wanted<'a> {
    /// Checks the values.
    pub(super) fn new(engine: &Engine, filters: &'a Filters) -> Result<Self, ApiError> {
        let exited = filters.get("exited").map(exit_code).collect::<Result<_, _>>()?;
        words(filters, "status", "state", &STATES)?;
        let tasks = filters.boolean("is-task").map_err(|e: FilterError| ApiError::from(e))?;
        words(filters, "health", "health", &HEALTH)?;
        let created = |key: &str| {
            let found = filters.get(key).next().map(|name| engine.find(name)).transpose();
            found.map(|c| c.map(|c| c.row().fixed.created)).map_err(ApiError::from)
        };
        let (before, since) = (created("before")?, created("since")?);
        let images = filters.get("ancestor").filter_map(|name| engine.images.resolve(name).ok());
        let images = images.map(|image| image.id.to_string()).collect();
        // A prefix that several share means none of them.
        let of_prefix =
            |prefix: &str| engine.registry.resolve(prefix).ok().filter(|id| id.starts_with(prefix));
        Ok(Self {
            filters,
            name: Patterns::new(filters, "name"),
            ids: filters.get("id").filter_map(of_prefix).collect(),
            images,
            exited,
            before,
            since,
            published: ranges(filters, "publish")?,
            exposed: ranges(filters, "expose")?,
            tasks: tasks == Some(true),
        })
    }

    /// Whether the list shows the container.
    pub(super) fn matches(&self, engine: &Engine, container: &Container, row: &Row) -> bool {
        let (filters, fixed) = (self.filters, &row.fixed);
        let any = |key: &str, test: &dyn Fn(&str) -> bool| {
            !filters.contains(key) || filters.get(key).any(test)
        };
        let volume = |wanted: &str| {
            fixed
                .mounts
                .iter()
                .any(|m| m.name == wanted || m.destination == wanted || m.source == wanted)
        };
        (!filters.contains("id") || self.ids.contains(&container.id))
            && (self.name.matches(&row.name) || self.name.matches(&format!("/{}", row.name)))
            && filters.exact("status", state_word(row))
            && (self.exited.is_empty() || self.has_exited(row))
            && filters.exact("health", "none")
            && filters.labels("label", &fixed.labels)
            && (!filters.contains("ancestor") || self.images.contains(&fixed.image_id))
            && any("network", &|wanted| on_network(engine, container, row, wanted))
            && any("volume", &volume)
            && self.has_ports(engine, container, row)
            && !self.tasks
            && self.before.is_none_or(|at| fixed.created < at)
            && self.since.is_none_or(|at| fixed.created > at)
    }

    fn has_exited(&self, row: &Row) -> bool {
        row.state.phase == Phase::Exited
            && row.state.started_at != 0
            && self.exited.contains(&row.state.exit_code)
    }

    fn has_ports(&self, engine: &Engine, container: &Container, row: &Row) -> bool {
        let exposed = |range: &Range| {
            row.fixed.exposed.iter().any(|port| {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                number.parse().is_ok_and(|number| range.holds(number, protocol))
            })
        };
        let published = |range: &Range| {
            let ports = ports(engine, container, row);
            ports.iter().any(|p| p.public_port != 0 && range.holds(p.private_port, &p.kind))
        };
        (self.exposed.is_empty() && self.published.is_empty())
            || self.exposed.iter().any(exposed)
            || self.published.iter().any(published)
    }
}

/// Whether it is on a network of this name, or whose id begins so.
fn on_network(engine: &Engine, container: &Container, row: &Row, wanted: &str) -> bool {
    let named = &row.fixed.networks;
    if named.contains_key(wanted) || (wanted.is_empty() && !named.is_empty()) {
        return true;
    }
    let was_on = named.keys().any(|name| {
        let id = super::list::asked(engine, row, name).network_id;
        !id.is_empty() && id.starts_with(wanted)
    });
    let joined = || engine.networks.of_container(&container.id);
    was_on
        || joined()
            .iter()
            .any(|e| e.network_name == wanted || e.network.as_str().starts_with(wanted))
}

fn invalid(key: &str, value: &str, why: &str) -> ApiError {
    ApiError::bad_request(format!("invalid filter '{key}={value}': {why}"))
}

fn exit_code(value: &str) -> Result<i64, ApiError> {
    value.parse().map_err(|e: std::num::ParseIntError| {
        let why = format!("strconv.Atoi: parsing {value:?}: {}", number_error(*e.kind()));
        invalid("exited", value, &why)
    })
}

fn number_error(kind: IntErrorKind) -> &'static str {
    match kind {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

fn words(filters: &Filters, key: &str, what: &str, allowed: &[&str]) -> Result<(), ApiError> {
    let Some(value) = filters.get(key).find(|value| !allowed.contains(value)) else {
        return Ok(());
    };
    let all = allowed.join(", ");
    Err(invalid(key, value, &format!("invalid value for {what} ({value}): must be one of {all}")))
}

/// `80`, `80/udp`, `80-90/tcp`.
fn ranges(filters: &Filters, key: &str) -> Result<Vec<Range>, ApiError> {
    let parse = |value: &str| {
        if value.contains(':') {
            return Err(format!("filter for '{key}' should not contain ':': {value}"));
        }
        range(value).map_err(|why| format!("error while looking up for {key} {value}: {why}"))
    };
    filters.get(key).map(|value| parse(value).map_err(ApiError::internal)).collect()
}

fn range(value: &str) -> Result<Range, String> {
    let mut parts = value.split('/');
    let (ports, protocol) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let protocol = if protocol.is_empty() { "tcp" } else { protocol }.to_owned();
    if ports.is_empty() {
        return Err("Empty string specified for ports.".into());
    }
    let number = |text: &str| {
        // Go takes no sign here.
        let parsed = if text.starts_with('+') { "x".parse() } else { text.parse::<u16>() };
        parsed.map_err(|e| {
            format!("strconv.ParseUint: parsing {text:?}: {}", number_error(*e.kind()))
        })
    };
    let mut ends = ports.split('-');
    let first = number(ends.next().unwrap_or_default())?;
    let last = ends.next().map_or(Ok(first), number)?;
    if last < first {
        return Err(format!("Invalid range specified for the Port: {ports}"));
    }
    Ok(Range { first, last, protocol })
}
