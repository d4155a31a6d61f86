//! `search`: what a registry finds.

use engine_api::{SearchResult, decode};
use engine_client::{ClientError, Payload, Query};

use super::images::domain;
use super::lists::{filter_query, filters};
use crate::credentials;
use crate::error::Result;
use crate::session::Session;
use crate::show::list::{List, Row};
use crate::show::rows;

const TABLE: &str = "table {{.Name}}\t{{.Description}}\t{{.StarCount}}\t{{.IsOfficial}}";

pub(super) async fn search(s: &Session) -> Result<()> {
    let m = &s.matches;
    let filters = filters(s);
    if filters.contains("is-automated") {
        s.tell(
            "WARNING: the \"is-automated\" filter is deprecated, and searching for \
             \"is-automated=true\" will not yield any results in future.",
        );
    }
    let mut query = Query::new().with("term", m.arg(0));
    if m.number("limit") > 0 {
        query = query.with("limit", &m.number("limit").to_string());
    }
    let query = filter_query(query, &filters);
    let client = s.client().await?;
    let auth = [credentials::header(&s.config, domain(m.arg(0)))];
    let path = "/images/search";
    let mut answer = client.call_with("GET", path, &query, Payload::Empty, &auth).await?;
    let found: Vec<SearchResult> =
        decode(&answer.body.all().await?).map_err(|e| ClientError::Decode(e.to_string()))?;
    let format = match m.text("format") {
        "" | "table" => TABLE,
        text => text,
    };
    let is_json = matches!(format, "json" | "{{json .}}");
    let full = m.on("no-trunc");
    let rows: Vec<Row> = found.iter().map(|hit| rows::hit(hit, full, is_json)).collect();
    s.print(&List { format: format.to_owned(), headings: rows::HIT }.render(&rows)?);
    Ok(())
}
