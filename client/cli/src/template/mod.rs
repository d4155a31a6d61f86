//! Go's text/template, as far as `--format` can tell: parsed once, run over any
//! [`View`]. Error texts, spaces and printed forms are Go's (package documentation of
//! text/template and fmt).
//!
//! Begin at [`parse`]. Nothing here knows what is printed or by which command.

mod exec;
mod functions;
mod lex;
mod literal;
mod parse;
mod print;
mod value;

use engine_api::View;
use thiserror::Error;

/// A template that parsed.
#[derive(Debug)]
pub struct Template {
    source: String,
    tree: parse::Tree,
    missing_key_fails: bool,
}

/// Why a template does not parse or does not run. The text begins with `template: `.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("template: {0}")]
pub struct TemplateError(String);

/// Parses a template.
///
/// # Errors
/// Go's text with the line, such as `template: :1: unclosed action`.
pub fn parse(source: &str) -> Result<Template, TemplateError> {
    let tree = parse::parse(source).map_err(TemplateError)?;
    Ok(Template { source: source.to_owned(), tree, missing_key_fails: false })
}

impl Template {
    /// Makes an absent key of a map an error (Go's option `missingkey=error`).
    #[must_use]
    pub fn missing_key_fails(mut self) -> Template {
        self.missing_key_fails = true;
        self
    }

    /// Runs over `data` and returns what it prints.
    ///
    /// # Errors
    /// Go's text with line, column and the piece that failed.
    pub fn execute(&self, data: &dyn View) -> Result<String, TemplateError> {
        exec::run(self, data.view()).map_err(TemplateError)
    }

    /// The fields that the template reads from its data: `Size` for `{{.Size}}`.
    pub fn fields_used(&self) -> Vec<&str> {
        self.tree.fields_used()
    }
}

#[cfg(test)]
mod tests;
