//! Commands that remove what is not in use, after asking.

use super::lists::{filter_query, filters};
use crate::error::Result;
use crate::session::Session;
use crate::show::units::human_size;
use engine_api::filters::Filters;
use engine_api::{
    BuildCachePruneReport, ContainersPruneReport, ImagesPruneReport, NetworksPruneReport, Value,
    VolumesPruneReport,
};
use engine_client::{Payload, Query};

/// Asks whether to go on; the end of input means no.
fn confirmed(s: &Session, warning: &str) -> bool {
    if s.matches.on("force") {
        return true;
    }
    s.print(&format!("{warning}\nAre you sure you want to continue? [y/N] "));
    let mut answer = String::new();
    let _ = std::io::stdin().read_line(&mut answer);
    answer.trim().eq_ignore_ascii_case("y")
}

/// The conditions: the flags' and, where they name no such key, the configuration's.
fn conditions(s: &Session) -> Filters {
    let configured = s.config.get("pruneFilters").and_then(Value::as_array).unwrap_or_default();
    configured.iter().filter_map(Value::as_str).filter_map(|t| t.split_once('=')).fold(
        filters(s),
        |found, (key, value)| {
            let opposite = if key == "label" { "label!" } else { "label" };
            let taken = key.starts_with("label")
                && found.exact(opposite, value)
                && found.contains(opposite);
            if taken { found } else { found.with(key, value) }
        },
    )
}

fn reclaimed(s: &Session, bytes: u64) {
    s.line(&format!("Total reclaimed space: {}", human_size(bytes as f64)));
}

/// What a prune removed, in words, and the bytes that became free.
struct Gone {
    text: String,
    bytes: u64,
}

async fn post<T: engine_api::Wire + Default>(
    s: &Session,
    path: &str,
    conditions: &Filters,
) -> Result<T> {
    let query = filter_query(Query::new(), conditions);
    Ok(s.client().await?.json("POST", path, &query, Payload::Empty).await?)
}

fn listed(heading: &str, lines: &[String]) -> String {
    if lines.is_empty() { String::new() } else { format!("{heading}:\n{}\n", lines.join("\n")) }
}

async fn of_containers(s: &Session, conditions: &Filters) -> Result<Gone> {
    let report: ContainersPruneReport = post(s, "/containers/prune", conditions).await?;
    let gone = report.containers_deleted.unwrap_or_default();
    Ok(Gone { text: listed("Deleted Containers", &gone), bytes: report.space_reclaimed })
}

async fn of_images(s: &Session, conditions: Filters, all: bool) -> Result<Gone> {
    let conditions = conditions.with("dangling", if all { "false" } else { "true" });
    let report: ImagesPruneReport = post(s, "/images/prune", &conditions).await?;
    let gone = report.images_deleted.unwrap_or_default();
    let lines: Vec<String> = gone
        .iter()
        .map(|item| match item.untagged.as_str() {
            "" => format!("deleted: {}", item.deleted),
            name => format!("untagged: {name}"),
        })
        .collect();
    Ok(Gone { text: listed("Deleted Images", &lines), bytes: report.space_reclaimed })
}

async fn of_networks(s: &Session, conditions: &Filters) -> Result<Gone> {
    let report: NetworksPruneReport = post(s, "/networks/prune", conditions).await?;
    let gone = report.networks_deleted.unwrap_or_default();
    Ok(Gone { text: listed("Deleted Networks", &gone), bytes: 0 })
}

async fn of_volumes(s: &Session, conditions: &Filters) -> Result<Gone> {
    let report: VolumesPruneReport = post(s, "/volumes/prune", conditions).await?;
    let gone = report.volumes_deleted.unwrap_or_default();
    Ok(Gone { text: listed("Deleted Volumes", &gone), bytes: report.space_reclaimed })
}

async fn of_build_cache(s: &Session, all: bool) -> Result<Gone> {
    let client = s.client().await?;
    let query = Query::new().flag("all", all);
    let report: BuildCachePruneReport =
        client.json("POST", "/build/prune", &query, Payload::Empty).await?;
    let gone = report.caches_deleted.unwrap_or_default();
    Ok(Gone { text: listed("Deleted build cache objects", &gone), bytes: report.space_reclaimed })
}

fn tell(s: &Session, gone: &Gone) {
    if !gone.text.is_empty() {
        s.line(&gone.text);
    }
}

pub(super) async fn containers(s: &Session) -> Result<()> {
    if confirmed(s, "WARNING! This will remove all stopped containers.") {
        let gone = of_containers(s, &conditions(s)).await?;
        tell(s, &gone);
        reclaimed(s, gone.bytes);
    }
    Ok(())
}

pub(super) async fn images(s: &Session) -> Result<()> {
    let all = s.matches.on("all");
    let warning = if all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    if confirmed(s, warning) {
        let gone = of_images(s, conditions(s), all).await?;
        tell(s, &gone);
        reclaimed(s, gone.bytes);
    }
    Ok(())
}

pub(super) async fn networks(s: &Session) -> Result<()> {
    let warning =
        "WARNING! This will remove all custom networks not used by at least one container.";
    if confirmed(s, warning) {
        tell(s, &of_networks(s, &conditions(s)).await?);
    }
    Ok(())
}

/// The question of `system prune`.
fn warning(conditions: &Filters, all: bool, volumes: bool) -> String {
    let mut lines =
        vec!["all stopped containers", "all networks not used by at least one container"];
    if volumes {
        lines.push("all anonymous volumes not used by at least one container");
    }
    lines.push(if all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    });
    lines.push(if all { "all build cache" } else { "unused build cache" });
    let mut text = String::from("WARNING! This will remove:\n");
    lines.iter().for_each(|line| text.push_str(&format!("  - {line}\n")));
    if !conditions.is_empty() {
        text.push_str("\n  Items to be pruned will be filtered with:\n");
        for (key, values) in conditions.iter() {
            values.iter().for_each(|value| text.push_str(&format!("  - {key}={value}\n")));
        }
    }
    text
}

pub(super) async fn system(s: &Session) -> Result<()> {
    let (all, volumes) = (s.matches.on("all"), s.matches.on("volumes"));
    let conditions = conditions(s);
    if volumes && conditions.contains("until") {
        let text = "ERROR: The \"until\" filter is not supported with \"--volumes\"";
        return Err(crate::error::CliError::new(text));
    }
    if !confirmed(s, &warning(&conditions, all, volumes)) {
        return Ok(());
    }
    let mut bytes = 0;
    let mut add = |gone: Gone| {
        tell(s, &gone);
        bytes += gone.bytes;
    };
    add(of_containers(s, &conditions).await?);
    add(of_networks(s, &conditions).await?);
    if volumes {
        add(of_volumes(s, &conditions).await?);
    }
    add(of_images(s, conditions, all).await?);
    add(of_build_cache(s, all).await?);
    reclaimed(s, bytes);
    Ok(())
}
