//! Commands that print lists.

use crate::error::{CliError, Result};
use crate::session::Session;
use crate::show::list::{List, Row};
use crate::show::{rows, tree};
use engine_api::filters::Filters;
use engine_api::{ContainerSummary, ImageHistoryItem, ImageSummary, NetworkInspect};
use engine_client::Query;

/// The `--filter` conditions as a parameter.
pub(super) fn filters(s: &Session) -> Filters {
    s.matches.texts("filter").into_iter().fold(Filters::default(), |found, text| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        found.with(key, value)
    })
}

pub(super) fn filter_query(query: Query, filters: &Filters) -> Query {
    if filters.is_empty() { query } else { query.with("filters", &filters.to_json()) }
}

/// The format: the flag's, else the configuration's, else a table.
fn format_of(s: &Session, key: &str, table: &str, quiet: &str) -> String {
    let m = &s.matches;
    let configured = s.config.text(key);
    let text = match m.text("format") {
        "" if !configured.is_empty() && !m.on("quiet") => configured,
        text => text,
    };
    match (text, m.on("quiet")) {
        ("" | "table", true) => quiet.to_owned(),
        ("" | "table", false) => table.to_owned(),
        (text, _) => text.to_owned(),
    }
}

fn print(s: &Session, list: &List, rows: &[Row]) -> Result<()> {
    s.print(&list.render(rows)?);
    Ok(())
}

pub(super) async fn containers(s: &Session) -> Result<()> {
    let m = &s.matches;
    let size_column = if m.on("size") { "\t{{.Size}}" } else { "" };
    let table = format!(
        "table {{{{.ID}}}}\t{{{{.Image}}}}\t{{{{.Command}}}}\t{{{{.RunningFor}}}}\t{{{{.Status}}}}\t{{{{.Ports}}}}\t{{{{.Names}}}}{size_column}"
    );
    let mut format = format_of(s, "psFormat", &table, "{{.ID}}");
    if format == "raw" {
        format = "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n".into();
    }
    let list = List { format, headings: rows::CONTAINER };
    list.rehearse(&rows::container(&ContainerSummary::default(), false))?;
    let wants_size = m.on("size") || !m.given("size") && list.uses("Size") && !m.on("quiet");
    let limit = if m.on("latest") { 1 } else { m.number("last") };
    let all = m.on("all") || m.on("latest") || m.number("last") > 0;
    let mut query = Query::new().flag("all", all);
    if limit > 0 {
        query = query.with("limit", &limit.to_string());
    }
    let query = filter_query(query.flag("size", wants_size), &filters(s));
    let found: Vec<ContainerSummary> = s.get("/containers/json", &query).await?;
    let rows: Vec<Row> = found.iter().map(|c| rows::container(c, m.on("no-trunc"))).collect();
    print(s, &list, &rows)
}

/// Images with their platforms.
async fn image_tree(s: &Session) -> Result<()> {
    let m = &s.matches;
    let other = [
        ("quiet", m.on("quiet")),
        ("no-trunc", m.on("no-trunc")),
        ("show-digest", m.on("digests")),
        ("format", !m.text("format").is_empty()),
    ];
    if let Some((flag, _)) = other.iter().find(|(_, given)| *given) {
        return Err(CliError::new(format!("--{flag} is not yet supported with --tree")));
    }
    let query = Query::new().flag("all", m.on("all")).flag("manifests", true);
    let found: Vec<ImageSummary> = s.get("/images/json", &image_query(s, query)).await?;
    s.print(&tree::draw(&found, m.on("all")));
    Ok(())
}

/// The conditions of a list of images.
fn image_query(s: &Session, query: Query) -> Query {
    let mut filters = filters(s);
    if !s.matches.arg(0).is_empty() {
        filters = filters.with("reference", s.matches.arg(0));
    }
    filter_query(query, &filters)
}

pub(super) async fn images(s: &Session) -> Result<()> {
    let m = &s.matches;
    if m.on("tree") {
        return image_tree(s).await;
    }
    let digests = m.on("digests");
    let table = if digests {
        "table {{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    } else {
        "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
    };
    let mut format = format_of(s, "imagesFormat", table, "{{.ID}}");
    if format == "raw" {
        format = "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n".into();
    }
    let query = image_query(s, Query::new().flag("all", m.on("all")));
    let found: Vec<ImageSummary> = s.get("/images/json", &query).await?;
    let needs_digest = digests || format.contains("{{.Digest}}");
    let list = List { format, headings: rows::IMAGE };
    let full = m.on("no-trunc");
    let rows: Vec<Row> = found.iter().flat_map(|i| rows::images(i, full, needs_digest)).collect();
    print(s, &list, &rows)
}

pub(super) async fn history(s: &Session) -> Result<()> {
    let m = &s.matches;
    let human = m.on("human");
    let table = if human {
        "table {{.ID}}\t{{.CreatedSince}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
    } else {
        "table {{.ID}}\t{{.CreatedAt}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}"
    };
    let format = format_of(s, "", table, "{{.ID}}");
    let query = super::images::for_platform(s, Query::new())?;
    let path = format!("/images/{}/history", m.arg(0));
    let found: Vec<ImageHistoryItem> = s.get(&path, &query).await?;
    let list = List { format, headings: rows::HISTORY };
    let rows: Vec<Row> = found.iter().map(|i| rows::history(i, m.on("no-trunc"), human)).collect();
    print(s, &list, &rows)
}

pub(super) async fn networks(s: &Session) -> Result<()> {
    let m = &s.matches;
    let table = "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}";
    let mut format = format_of(s, "networksFormat", table, "{{.ID}}");
    if format == "raw" {
        format =
            "network_id: {{.ID}}\nname: {{.Name}}\ndriver: {{.Driver}}\nscope: {{.Scope}}\n".into();
    }
    let query = filter_query(Query::new(), &filters(s));
    let mut found: Vec<NetworkInspect> = s.get("/networks", &query).await?;
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let list = List { format, headings: rows::NETWORK };
    let rows: Vec<Row> = found.iter().map(|n| rows::network(n, m.on("no-trunc"))).collect();
    print(s, &list, &rows)
}
