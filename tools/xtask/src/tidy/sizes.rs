//! Small by habit: 500 lines a file, 70 a function, but for a list that only shrinks.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

use super::sources::Source;

const EXCEPTIONS: &str = "tools/xtask/exceptions.txt";
const FILE_LINES: usize = 500;
const FUNCTION_LINES: usize = 70;

/// Everything too long that the list does not allow, and entries that are no longer needed.
/// `TIDY_WRITE=1` writes the list anew, to start from what stands.
pub fn check(sources: &[Source]) -> Result<Vec<String>> {
    let found: BTreeMap<String, usize> = sources.iter().flat_map(too_long).collect();
    if std::env::var_os("TIDY_WRITE").is_some() {
        let list: String = found.iter().map(|(what, lines)| format!("{what} {lines}\n")).collect();
        fs::write(EXCEPTIONS, list).context(EXCEPTIONS)?;
    }
    let allowed = read_exceptions()?;
    for (what, lines) in &found {
        println!("tidy: long: {what} ({lines} lines)");
    }
    let beyond = found.iter().filter(|(what, lines)| allowed.get(*what).is_none_or(|a| *lines > a));
    let stale = allowed.keys().filter(|what| !found.contains_key(*what));
    Ok(beyond
        .map(|(what, lines)| format!("{what}: {lines} lines, not in {EXCEPTIONS}"))
        .chain(stale.map(|what| format!("{what}: no longer too long, strike it from {EXCEPTIONS}")))
        .collect())
}

fn read_exceptions() -> Result<BTreeMap<String, usize>> {
    let text = fs::read_to_string(EXCEPTIONS).context(EXCEPTIONS)?;
    text.lines()
        .map(|line| {
            let (what, lines) = line.rsplit_once(' ').context("an entry is `WHAT LINES`")?;
            Ok((what.to_owned(), lines.parse()?))
        })
        .collect()
}

/// `path` for a long file, `path::function` for a long function.
fn too_long(source: &Source) -> Vec<(String, usize)> {
    let mut long = functions(&source.text)
        .into_iter()
        .filter(|(_, lines)| *lines > FUNCTION_LINES)
        .map(|(name, lines)| (format!("{}::{name}", source.path), lines))
        .collect::<Vec<_>>();
    let lines = source.text.lines().count();
    if lines > FILE_LINES {
        long.push((source.path.clone(), lines));
    }
    long
}

/// Name and length of each function. Formatted code closes a function with a brace at the
/// indentation of its `fn` line, so no parser is needed.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(name) = function_name(line) else { continue };
        let indent = line.len() - line.trim_start().len();
        let close = format!("{}}}", " ".repeat(indent));
        let body = &lines[start..];
        let opens = body.iter().position(|l| l.ends_with('{') || l.ends_with(';')).unwrap_or(0);
        if body[opens].ends_with(';') {
            continue;
        }
        if let Some(end) = body.iter().position(|line| *line == close) {
            found.push((name, end + 1));
        }
    }
    found
}

fn function_name(line: &str) -> Option<String> {
    let code = line.trim_start();
    let head = code.split("fn ").next()?;
    let qualifiers =
        ["pub", "pub(crate)", "pub(super)", "const", "async", "unsafe", "extern", "\"C\""];
    if !code.contains("fn ") || !head.split_whitespace().all(|word| qualifiers.contains(&word)) {
        return None;
    }
    let name: String =
        code[head.len() + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::functions;

    #[test]
    fn functions_are_measured_from_their_first_line_to_their_brace() {
        let text = "pub fn one(\n    a: u8,\n) {\n    body();\n}\n\nimpl X {\n    fn two() {\n    }\n    fn none();\n}\n";
        assert_eq!(functions(text), [("one".to_owned(), 5), ("two".to_owned(), 2)]);
    }
}
