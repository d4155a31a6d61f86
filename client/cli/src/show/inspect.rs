//! `inspect`: the daemon's own bytes laid out over lines, or a template run over
//! the typed value first and over the raw one where that fails.

use crate::error::{CliError, Result};
use crate::session::write_out;
use crate::template::{self, Template};
use engine_api::view::View;
use engine_api::{Value, Wire, decode, json};
use engine_client::indent_json;

/// One thing that was found.
pub(crate) struct Found {
    /// The daemon's answer.
    pub(crate) raw: Vec<u8>,
    /// Reads it as its type of the API, for templates.
    pub(crate) typed: fn(&[u8]) -> Box<dyn View>,
}

impl Found {
    /// Of a type of the API.
    pub(crate) fn of<T: Wire + Default + 'static>(raw: Vec<u8>) -> Self {
        Self { raw, typed: |raw| Box::new(decode::<T>(raw).unwrap_or_default()) }
    }
}

/// Prints what was found and collects what was not.
pub(crate) fn print(format: &str, results: Vec<Result<Found>>) -> Result<()> {
    let templates = match format {
        "" | "json" => None,
        text => Some((parse(text)?, parse(text)?.missing_key_fails())),
    };
    let mut errors: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for result in results {
        match result {
            Ok(one) => found.push(one),
            Err(error) => errors.push(error.to_string()),
        }
    }
    let mut out = String::new();
    match templates {
        None => out = whole(&found, format == "json"),
        Some((template, strict)) => {
            for one in &found {
                match run(&template, &strict, one) {
                    Ok(text) => out.push_str(&text),
                    Err(error) => {
                        errors.insert(0, format!("template parsing error: {error}"));
                        out.push('\n');
                        break;
                    }
                }
                out.push('\n');
            }
            if found.is_empty() {
                out.push('\n');
            }
        }
    }
    write_out(out.as_bytes());
    if errors.is_empty() { Ok(()) } else { Err(CliError::new(errors.join("\n"))) }
}

/// Reads a template that comes from a flag.
pub(crate) fn parse(text: &str) -> Result<Template> {
    template::parse(text).map_err(|e| CliError::coded(64, format!("template parsing error: {e}")))
}

fn run(
    template: &Template,
    strict: &Template,
    found: &Found,
) -> std::result::Result<String, String> {
    if let Ok(text) = template.execute(&*(found.typed)(&found.raw)) {
        return Ok(text);
    }
    let raw: Value = json::parse(&found.raw).map_err(|e| e.to_string())?;
    strict.execute(&raw).map_err(|e| e.to_string())
}

fn whole(found: &[Found], compact: bool) -> String {
    let bodies: Vec<String> =
        found.iter().map(|f| String::from_utf8_lossy(&f.raw).trim().to_owned()).collect();
    let list = format!("[{}]", bodies.join(","));
    if found.is_empty() {
        return "[]\n".into();
    }
    if compact { list + "\n" } else { indent_json(&list, "    ") + "\n" }
}
