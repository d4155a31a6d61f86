//! `system df`: what everything takes, as sums or each thing by itself.

mod details;

use engine_api::{DiskUsage, Sums};
use engine_client::Query;

use crate::error::{CliError, Result};
use crate::session::Session;
use crate::show::list::{Cell, List, Row};
use crate::show::units::human_size;

const HEADINGS: &[(&str, &str)] = &[
    ("Type", "TYPE"),
    ("TotalCount", "TOTAL"),
    ("Active", "ACTIVE"),
    ("Size", "SIZE"),
    ("Reclaimable", "RECLAIMABLE"),
];
const TABLE: &str = "table {{.Type}}\t{{.TotalCount}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";
const RAW: &str = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\nreclaimable: {{.Reclaimable}}\n";

fn row(name: &str, sums: &Sums, has_percent: bool) -> Row {
    let mut free = human_size(sums.reclaimable as f64);
    if has_percent && sums.total_size > 0 {
        free = format!("{free} ({}%)", sums.reclaimable * 100 / sums.total_size);
    }
    let cell = |text: String| Cell::Text(text);
    Row {
        kind: "formatter.diskUsageContext",
        cells: vec![
            ("Type", cell(name.to_owned())),
            ("TotalCount", cell(sums.total_count.to_string())),
            ("Active", cell(sums.active_count.to_string())),
            ("Size", cell(human_size(sums.total_size as f64))),
            ("Reclaimable", cell(free)),
        ],
        labels: std::collections::BTreeMap::new(),
    }
}

pub(super) async fn usage(s: &Session) -> Result<()> {
    let m = &s.matches;
    let usage: DiskUsage = s.get("/system/df", &Query::new()).await?;
    if usage.build_cache.as_ref().is_some_and(|caches| !caches.is_empty()) {
        return Err(CliError::new("build caches are not shown by Ferry yet"));
    }
    if m.on("verbose") {
        return details::print(s, &usage);
    }
    let rows = [
        row(
            "Images",
            &Sums::of_images(usage.images.as_deref().unwrap_or_default(), usage.layers_size),
            true,
        ),
        row(
            "Containers",
            &Sums::of_containers(usage.containers.as_deref().unwrap_or_default()),
            true,
        ),
        row("Local Volumes", &Sums::of_volumes(usage.volumes.as_deref().unwrap_or_default()), true),
        row("Build Cache", &Sums::default(), false),
    ];
    let format = match m.text("format") {
        "" | "table" => TABLE,
        "raw" => RAW,
        text => text,
    };
    let list = List { format: format.to_owned(), headings: HEADINGS };
    s.print(&list.render(&rows)?);
    Ok(())
}
