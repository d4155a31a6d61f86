//! Lists: each row is run through a template; tables are laid out by the width
//! that their cells take on a terminal.

use crate::error::{CliError, Result};
use crate::template::{self, Template};
use engine_api::view::{Fields, View};
use engine_api::{ApiVersion, Encoder, Shown, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// One row: its cells by name, as templates see them.
pub(crate) struct Row {
    /// Go's name of the type, for error texts.
    pub(crate) kind: &'static str,
    /// The cells.
    pub(crate) cells: Vec<(&'static str, Cell)>,
    /// What `.Label "x"` looks in.
    pub(crate) labels: BTreeMap<String, String>,
}

/// A cell.
pub(crate) enum Cell {
    /// A text.
    Text(String),
    /// A switch.
    Bool(bool),
}

impl Fields for Row {
    fn type_name(&self) -> &str {
        self.kind
    }
    fn field(&self, name: &str) -> Option<Shown<'_>> {
        let (_, cell) = self.cells.iter().find(|(n, _)| *n == name)?;
        Some(match cell {
            Cell::Text(text) => Shown::Text(Cow::Borrowed(text)),
            Cell::Bool(on) => Shown::Bool(*on),
        })
    }
    fn fields(&self) -> Vec<(&'static str, Shown<'_>)> {
        self.cells.iter().filter_map(|(n, _)| Some((*n, self.field(n)?))).collect()
    }
    fn method(
        &self,
        name: &str,
        args: &[Shown<'_>],
    ) -> Option<std::result::Result<Shown<'_>, String>> {
        match (name, args) {
            ("Label", [Shown::Text(key)]) => {
                let found = self.labels.get(key.as_ref()).map_or("", String::as_str);
                Some(Ok(Shown::Text(Cow::Borrowed(found))))
            }
            _ => None,
        }
    }
    fn json(&self) -> Value {
        let cell = |c: &Cell| match c {
            Cell::Text(text) => Value::String(text.clone()),
            Cell::Bool(on) => Value::Bool(*on),
        };
        Value::Object(self.cells.iter().map(|(n, c)| ((*n).to_owned(), cell(c))).collect()).sorted()
    }
}

impl View for Row {
    fn view(&self) -> Shown<'_> {
        Shown::Struct(self)
    }
}

/// The headings of a table: a map, so that an unknown one is no error.
struct Headings(BTreeMap<&'static str, &'static str>);

impl Fields for Headings {
    fn type_name(&self) -> &'static str {
        "formatter.SubHeaderContext"
    }
    fn field(&self, name: &str) -> Option<Shown<'_>> {
        Some(Shown::Text(Cow::Borrowed(self.0.get(name).copied().unwrap_or("<no value>"))))
    }
    fn fields(&self) -> Vec<(&'static str, Shown<'_>)> {
        Vec::new()
    }
    fn method(
        &self,
        name: &str,
        args: &[Shown<'_>],
    ) -> Option<std::result::Result<Shown<'_>, String>> {
        match (name, args) {
            ("Label", [Shown::Text(key)]) => {
                let last = key.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " ");
                Some(Ok(Shown::Text(Cow::Owned(last))))
            }
            _ => None,
        }
    }
    fn json(&self) -> Value {
        Value::Object(Vec::new())
    }
}

impl View for Headings {
    fn view(&self) -> Shown<'_> {
        Shown::Struct(self)
    }
}

/// How a list is printed.
pub(crate) struct List {
    /// The template, perhaps with a leading `table`.
    pub(crate) format: String,
    /// The headings by the names of the cells.
    pub(crate) headings: &'static [(&'static str, &'static str)],
}

/// `\t` and `\n` as people write them in a shell.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

impl List {
    /// Runs the template over a row of nothing, so that its mistakes are told before the daemon
    /// is asked.
    pub(crate) fn rehearse(&self, probe: &Row) -> Result<()> {
        let failed = |what: &str, e: &dyn std::fmt::Display| {
            CliError::new(format!("failed to {what} template: {e}"))
        };
        let body = self.format.strip_prefix("table").map_or(self.format.as_str(), str::trim);
        if body != "json" {
            let template = template::parse(&unescape(body)).map_err(|e| failed("parse", &e))?;
            template.execute(probe).map_err(|e| failed("execute", &e))?;
        }
        Ok(())
    }

    /// Whether the template asks for a cell.
    pub(crate) fn uses(&self, cell: &str) -> bool {
        self.template().is_ok_and(|t| t.fields_used().contains(&cell))
    }

    fn is_table(&self) -> bool {
        self.format.starts_with("table")
    }

    fn template(&self) -> Result<Template> {
        let body = self.format.strip_prefix("table").map_or(self.format.as_str(), str::trim);
        let body = if self.format == "json" { "{{json .}}" } else { body };
        template::parse(&unescape(body))
            .map_err(|e| CliError::new(format!("template parsing error: {e}")))
    }

    /// The rows as text.
    pub(crate) fn render(&self, rows: &[Row]) -> Result<String> {
        let template = self.template()?;
        let mut lines = Vec::new();
        for row in rows {
            let line = if self.format == "json" || self.format == "{{json .}}" {
                escaped_json(row)
            } else {
                template
                    .execute(row)
                    .map_err(|e| CliError::new(format!("template parsing error: {e}")))?
            };
            lines.push(line);
        }
        if !self.is_table() {
            return Ok(lines.iter().map(|l| format!("{l}\n")).collect());
        }
        let headings = Headings(self.headings.iter().copied().collect());
        let head = template
            .execute(&headings)
            .map_err(|e| CliError::new(format!("template parsing error: {e}")))?;
        lines.insert(0, head);
        Ok(align(&lines.join("\n")) + "\n")
    }
}

/// A row as Go's `json.Marshal` gives it: escaped for HTML.
fn escaped_json(row: &Row) -> String {
    let mut encoder = Encoder::html(ApiVersion::MAX);
    encoder.value(&row.json());
    encoder.finish()
}

/// Aligns cells that tabs separate: columns are at least 10 wide and 3 apart. As with Go's
/// tabwriter, a column is a block of lines in a row that all have its cell.
pub(crate) fn align(text: &str) -> String {
    let width = |t: &str| unicode_width::UnicodeWidthStr::width(t);
    let lines: Vec<Vec<&str>> = text.split('\n').map(|l| l.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> =
        lines.iter().map(|cells| vec![0; cells.len().saturating_sub(1)]).collect();
    for start in 0..lines.len() {
        for column in 0..widths[start].len() {
            if widths[start][column] > 0 {
                continue;
            }
            let end =
                (start..lines.len()).find(|l| widths[*l].len() <= column).unwrap_or(lines.len());
            let widest = (start..end).map(|l| width(lines[l][column])).max().unwrap_or(0);
            let full = if widest == 0 { 0 } else { (widest + 3).max(10) };
            for row in &mut widths[start..end] {
                row[column] = full.max(1);
            }
            if full == 0 {
                for row in &mut widths[start..end] {
                    row[column] = 10;
                }
            }
        }
    }
    let mut out = Vec::new();
    for (cells, widths) in lines.iter().zip(&widths) {
        let mut line = String::new();
        for (index, cell) in cells.iter().enumerate() {
            line.push_str(cell);
            if let Some(full) = widths.get(index) {
                line.push_str(&" ".repeat(full.saturating_sub(width(cell))));
            }
        }
        out.push(line);
    }
    out.join("\n")
}
