//! Commands that remove what is not in use, after asking.

use super::lists::{filter_query, filters};
use crate::error::Result;
use crate::session::Session;
use crate::show::units::human_size;
use engine_api::filters::Filters;
use engine_api::{ContainersPruneReport, ImagesPruneReport, NetworksPruneReport, Value};
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

pub(super) async fn containers(s: &Session) -> Result<()> {
    if !confirmed(s, "WARNING! This will remove all stopped containers.") {
        return Ok(());
    }
    let query = filter_query(Query::new(), &conditions(s));
    let client = s.client().await?;
    let report: ContainersPruneReport =
        client.json("POST", "/containers/prune", &query, Payload::Empty).await?;
    let gone = report.containers_deleted.unwrap_or_default();
    if !gone.is_empty() {
        s.line(&format!("Deleted Containers:\n{}\n", gone.join("\n")));
    }
    reclaimed(s, report.space_reclaimed);
    Ok(())
}

pub(super) async fn images(s: &Session) -> Result<()> {
    let all = s.matches.on("all");
    let warning = if all {
        "WARNING! This will remove all images without at least one container associated to them."
    } else {
        "WARNING! This will remove all dangling images."
    };
    if !confirmed(s, warning) {
        return Ok(());
    }
    let conditions = conditions(s).with("dangling", if all { "false" } else { "true" });
    let query = filter_query(Query::new(), &conditions);
    let client = s.client().await?;
    let report: ImagesPruneReport =
        client.json("POST", "/images/prune", &query, Payload::Empty).await?;
    let gone = report.images_deleted.unwrap_or_default();
    if !gone.is_empty() {
        let lines: Vec<String> = gone
            .iter()
            .map(|item| match item.untagged.as_str() {
                "" => format!("deleted: {}", item.deleted),
                name => format!("untagged: {name}"),
            })
            .collect();
        s.line(&format!("Deleted Images:\n{}\n", lines.join("\n")));
    }
    reclaimed(s, report.space_reclaimed);
    Ok(())
}

pub(super) async fn networks(s: &Session) -> Result<()> {
    let warning =
        "WARNING! This will remove all custom networks not used by at least one container.";
    if !confirmed(s, warning) {
        return Ok(());
    }
    let query = filter_query(Query::new(), &conditions(s));
    let client = s.client().await?;
    let report: NetworksPruneReport =
        client.json("POST", "/networks/prune", &query, Payload::Empty).await?;
    let gone = report.networks_deleted.unwrap_or_default();
    if !gone.is_empty() {
        s.line(&format!("Deleted Networks:\n{}\n", gone.join("\n")));
    }
    Ok(())
}
