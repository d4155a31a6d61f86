//! `system df --verbose`: each image, container and volume with what it takes.

use engine_api::view::{Fields, Items, View};
use engine_api::{ContainerSummary, DiskUsage, ImageSummary, Shown, Value};

use crate::error::{CliError, Result};
use crate::session::Session;
use crate::show::list::{Cell, List, Row};
use crate::show::rows;
use crate::template;

const IMAGES: &str = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}\t{{.SharedSize}}\t{{.UniqueSize}}\t{{.Containers}}";
const CONTAINERS: &str = "table {{.ID}}\t{{.Image}}\t{{.Command}}\t{{.LocalVolumes}}\t{{.Size}}\t{{.RunningFor}}\t{{.Status}}\t{{.Names}}";
const VOLUMES: &str = "table {{.Name}}\t{{.Links}}\t{{.Size}}";
const CACHES: &str = "CACHE ID   CACHE TYPE   SIZE      CREATED   LAST USED   USAGE     SHARED\n";

const RAW_IMAGE: &str = "type: Image\nrepository: {{.Repository}}\ntag: {{.Tag}}\ndigest: {{.Digest}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\nvirtual_size: {{.Size}}\n";
const RAW_CONTAINER: &str = "type: Container\ncontainer_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\nsize: {{.Size}}\n";
const RAW_VOLUME: &str = "type: Volume\nname: {{.Name}}\ndriver: {{.Driver}}\n";

/// Rows of one kind, as a template ranges over them.
struct Rows(Vec<Row>);

impl Items for Rows {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn at(&self, index: usize) -> Option<Shown<'_>> {
        self.0.get(index).map(|row| Shown::Struct(row))
    }
}

/// Everything, as one template sees it.
struct Details {
    images: Rows,
    containers: Rows,
    volumes: Rows,
    caches: Rows,
}

impl Details {
    fn of(usage: &DiskUsage, full: bool) -> Self {
        let images = usage.images.iter().flatten().map(|image| image_row(image, full));
        let containers = usage.containers.iter().flatten();
        let volumes = usage.volumes.iter().flatten();
        Self {
            images: Rows(images.collect()),
            containers: Rows(containers.map(|c| container_row(c, full)).collect()),
            volumes: Rows(volumes.map(rows::volume).collect()),
            caches: Rows(Vec::new()),
        }
    }

    fn kinds(&self) -> [(&'static str, &Rows); 4] {
        [
            ("Images", &self.images),
            ("Containers", &self.containers),
            ("Volumes", &self.volumes),
            ("BuildCache", &self.caches),
        ]
    }
}

impl Fields for Details {
    fn type_name(&self) -> &'static str {
        "*formatter.diskUsageContext"
    }
    fn field(&self, name: &str) -> Option<Shown<'_>> {
        self.kinds().into_iter().find(|(n, _)| *n == name).map(|(_, rows)| Shown::List(rows))
    }
    fn fields(&self) -> Vec<(&'static str, Shown<'_>)> {
        self.kinds().into_iter().map(|(name, rows)| (name, Shown::List(rows))).collect()
    }
    fn json(&self) -> Value {
        let list = |rows: &Rows| Value::Array(rows.0.iter().map(Row::json).collect());
        let kinds = self.kinds().into_iter();
        Value::Object(kinds.map(|(name, rows)| (name.to_owned(), list(rows))).collect())
    }
}

impl View for Details {
    fn view(&self) -> Shown<'_> {
        Shown::Struct(self)
    }
}

/// An image by the first of its names: it takes its room once.
fn image_row(image: &ImageSummary, full: bool) -> Row {
    let tags = image.repo_tags.iter().flatten().take(1).cloned().collect();
    let image =
        ImageSummary { repo_tags: Some(tags), repo_digests: None, ..ImageSummary::clone(image) };
    let mut row = rows::images(&image, full, false).swap_remove(0);
    for (_, cell) in row.cells.iter_mut().filter(|(name, _)| *name == "Digest") {
        *cell = Cell::Text(String::new());
    }
    row
}

/// A container with its own room alone: its image's is told with the image.
fn container_row(container: &ContainerSummary, full: bool) -> Row {
    rows::container(&ContainerSummary { size_root_fs: 0, ..container.clone() }, full)
}

pub(super) fn print(s: &Session, usage: &DiskUsage) -> Result<()> {
    let format = s.matches.text("format");
    let table = |heading: &str, template: &str, headings, rows: &Rows| -> Result<String> {
        let list = List { format: template.to_owned(), headings };
        Ok(format!("{heading} space usage:\n\n{}\n", list.render(&rows.0)?))
    };
    match format {
        "" | "table" => {
            let d = Details::of(usage, false);
            s.print(&table("Images", IMAGES, rows::IMAGE, &d.images)?);
            s.print(&table("Containers", CONTAINERS, rows::CONTAINER, &d.containers)?);
            s.print(&table("Local Volumes", VOLUMES, rows::VOLUME, &d.volumes)?);
            s.print(&format!("Build cache usage: 0B\n\n{CACHES}"));
            Ok(())
        }
        "raw" => {
            let d = Details::of(usage, true);
            for (template, rows) in
                [(RAW_IMAGE, &d.images), (RAW_CONTAINER, &d.containers), (RAW_VOLUME, &d.volumes)]
            {
                let list = List { format: template.to_owned(), headings: &[] };
                s.print(&list.render(&rows.0)?);
            }
            Ok(())
        }
        text => {
            let text = if text == "json" { "{{json .}}" } else { text };
            let text = text.strip_prefix("table").map_or(text, str::trim);
            let failed =
                |e: &dyn std::fmt::Display| CliError::new(format!("template parsing error: {e}"));
            let template = template::parse(text).map_err(|e| failed(&e))?;
            let shown = template.execute(&Details::of(usage, true));
            s.print(&shown.map_err(|e| CliError::new(e.to_string()))?);
            Ok(())
        }
    }
}
