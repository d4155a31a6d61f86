//! `system df`: what everything takes.

use engine_api::{ContainerSummary, DiskUsage, ImageSummary, Volume};
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

/// One kind of objects.
struct Kind {
    name: &'static str,
    total: usize,
    active: usize,
    size: i64,
    reclaimable: i64,
    has_percent: bool,
}

impl Kind {
    fn row(&self) -> Row {
        let mut free = human_size(self.reclaimable as f64);
        if self.has_percent && self.size > 0 {
            free = format!("{free} ({}%)", self.reclaimable * 100 / self.size);
        }
        let cell = |text: String| Cell::Text(text);
        Row {
            kind: "formatter.diskUsageContext",
            cells: vec![
                ("Type", cell(self.name.to_owned())),
                ("TotalCount", cell(self.total.to_string())),
                ("Active", cell(self.active.to_string())),
                ("Size", cell(human_size(self.size as f64))),
                ("Reclaimable", cell(free)),
            ],
            labels: std::collections::BTreeMap::new(),
        }
    }
}

fn of_images(images: &[ImageSummary], layers: i64) -> Kind {
    let active = images.iter().filter(|image| image.containers > 0);
    let sized = images.iter().filter(|i| i.containers != 0 && i.size != -1 && i.shared_size != -1);
    let used: i64 = sized.map(|image| image.size - image.shared_size).sum();
    Kind {
        name: "Images",
        total: images.len(),
        active: active.count(),
        size: layers,
        reclaimable: layers - used,
        has_percent: true,
    }
}

fn is_active(container: &ContainerSummary) -> bool {
    matches!(container.state.as_str(), "running" | "paused" | "restarting")
}

fn of_containers(containers: &[ContainerSummary]) -> Kind {
    let idle = containers.iter().filter(|container| !is_active(container));
    Kind {
        name: "Containers",
        total: containers.len(),
        active: containers.iter().filter(|container| is_active(container)).count(),
        size: containers.iter().map(|container| container.size_rw).sum(),
        reclaimable: idle.map(|container| container.size_rw).sum(),
        has_percent: true,
    }
}

fn of_volumes(volumes: &[Volume]) -> Kind {
    let usage = volumes.iter().filter_map(|volume| volume.usage_data.as_ref());
    let sized = usage.clone().filter(|usage| usage.size != -1);
    let idle = sized.clone().filter(|usage| usage.ref_count == 0);
    Kind {
        name: "Local Volumes",
        total: volumes.len(),
        active: usage.filter(|usage| usage.ref_count > 0).count(),
        size: sized.map(|usage| usage.size).sum(),
        reclaimable: idle.map(|usage| usage.size).sum(),
        has_percent: true,
    }
}

pub(super) async fn usage(s: &Session) -> Result<()> {
    let m = &s.matches;
    let format = match m.text("format") {
        "" | "table" => TABLE,
        text => text,
    };
    let usage: DiskUsage = s.get("/system/df", &Query::new()).await?;
    let caches = usage.build_cache.unwrap_or_default();
    if !caches.is_empty() {
        return Err(CliError::new("build caches are not shown by Ferry yet"));
    }
    let images = usage.images.unwrap_or_default();
    let containers = usage.containers.unwrap_or_default();
    let volumes = usage.volumes.unwrap_or_default();
    let rows = [
        of_images(&images, usage.layers_size),
        of_containers(&containers),
        of_volumes(&volumes),
        Kind {
            name: "Build Cache",
            total: 0,
            active: 0,
            size: 0,
            reclaimable: 0,
            has_percent: false,
        },
    ];
    let rows: Vec<Row> = rows.iter().map(Kind::row).collect();
    let list = List { format: format.to_owned(), headings: HEADINGS };
    s.print(&list.render(&rows)?);
    Ok(())
}
