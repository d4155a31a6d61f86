//! What the options of the json-file driver mean for one container: sizes, counts, and
//! what every line carries. Pure; the texts are those that a failed start tells.

use std::collections::BTreeMap;

use regex::Regex;
use shim_api::sink::{DEFAULT_MAX_BUFFER, DEFAULT_MAX_FILE, DEFAULT_MAX_SIZE, Mode};

use crate::records::Spec;

type Options = BTreeMap<String, String>;

/// The options, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// The size at which a file is rotated, in bytes; `None`: never.
    pub max_size: Option<u64>,
    /// How many files are kept.
    pub max_file: u32,
    /// Whether a slow disk holds the container up.
    pub mode: Mode,
    /// What every line carries, as a JSON object; empty: nothing.
    pub attrs: String,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            max_size: Some(DEFAULT_MAX_SIZE),
            max_file: DEFAULT_MAX_FILE,
            mode: Mode::Blocking,
            attrs: String::new(),
        }
    }
}

/// Reads a container's options.
///
/// # Errors
/// dockerd's text for an option that has no meaning.
pub fn read(spec: &Spec) -> Result<LogOptions, String> {
    let none = Options::new();
    let config = spec.host.log_config.config.as_ref().unwrap_or(&none);
    let mut out = LogOptions::default();
    if config.get("mode").is_some_and(|mode| mode == "non-blocking") {
        let size = config.get("max-buffer-size").map(|text| size(text, 1024)).transpose()?;
        out.mode = Mode::NonBlocking { max_buffer: size.unwrap_or(DEFAULT_MAX_BUFFER) };
    }
    if spec.host.log_config.driver != "json-file" {
        return Ok(out);
    }
    match config.get("max-size").map(String::as_str) {
        None => {}
        // Docker's default; Ferry's is to rotate.
        Some("-1") => out.max_size = None,
        Some(text) => match size(text, 1000)? {
            0 => return Err("max-size must be a positive number".into()),
            size => out.max_size = Some(size),
        },
    }
    if let Some(text) = config.get("max-file") {
        let number: i64 =
            text.parse().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))?;
        let number = u32::try_from(number).ok().filter(|n| *n >= 1);
        out.max_file = number.ok_or("max-file cannot be less than 1")?;
    }
    if let Some(text) = config.get("compress") {
        boolean(text)?;
    }
    let mut attrs = attributes(spec, config)?;
    if let Some(template) = config.get("tag").filter(|t| !t.is_empty()) {
        attrs.insert("tag".into(), tag(spec, template)?);
    }
    if !attrs.is_empty() {
        out.attrs = serde_json::to_string(&attrs).unwrap_or_default();
    }
    Ok(out)
}

/// Go's `strconv.ParseBool`.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// A size such as `10m`, `1.5 GB` or `20KiB`, with its units to `base`.
pub fn size(text: &str, base: u64) -> Result<u64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let at =
        text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let suffix = text[at + 1..].to_ascii_lowercase();
    let number = text[..=at].strip_suffix(' ').unwrap_or(&text[..=at]);
    let number: f64 = number
        .parse()
        .map_err(|_| format!("strconv.ParseFloat: parsing {number:?}: invalid syntax"))?;
    if number < 0.0 {
        return Err(invalid());
    }
    let bare = suffix.strip_suffix("ib").or_else(|| suffix.strip_suffix('b')).unwrap_or(&suffix);
    let power = match (bare, suffix.as_str()) {
        ("", "" | "b") => 0,
        ("k", _) => 1,
        ("m", _) => 2,
        ("g", _) => 3,
        ("t", _) => 4,
        ("p", _) => 5,
        _ => return Err(format!("invalid suffix: '{}'", &text[at + 1..])),
    };
    Ok((number * base.pow(power) as f64) as u64)
}

/// The labels and variables that were asked for, by name or by pattern.
fn attributes(spec: &Spec, config: &Options) -> Result<Options, String> {
    let none = Options::new();
    let labels = spec.config.labels.as_ref().unwrap_or(&none);
    let env: Options = spec
        .config
        .env
        .iter()
        .flatten()
        .filter_map(|e| e.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let mut out = Options::new();
    for (from, names, pattern) in [(labels, "labels", "labels-regex"), (&env, "env", "env-regex")] {
        let text = |key: &str| config.get(key).filter(|text| !text.is_empty());
        let listed = text(names).into_iter().flat_map(|list| list.split(','));
        out.extend(listed.filter_map(|name| Some((name.to_owned(), from.get(name)?.clone()))));
        if let Some(pattern) = text(pattern) {
            let pattern = Regex::new(pattern).map_err(|e| wrong_pattern(pattern, &e))?;
            let found = from.iter().filter(|(key, _)| pattern.is_match(key));
            out.extend(found.map(|(key, value)| (key.clone(), value.clone())));
        }
    }
    Ok(out)
}

/// The text that Go has for a pattern that does not compile.
fn wrong_pattern(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let why = if text.contains("unclosed character class") {
        "missing closing ]"
    } else if text.contains("unclosed group") {
        "missing closing )"
    } else if text.contains("unopened group") {
        "unexpected )"
    } else if text.contains("repetition operator missing expression") {
        "missing argument to repetition operator"
    } else {
        "invalid or unsupported Perl syntax"
    };
    format!("error parsing regexp: {why}: `{pattern}`")
}

/// A tag: a text with fields of the container in double braces.
fn tag(spec: &Spec, template: &str) -> Result<String, String> {
    let command = || {
        let words: Vec<&str> =
            std::iter::once(&spec.path).chain(&spec.args).map(String::as_str).collect();
        words.join(" ")
    };
    let short = |id: &str| id.get(..12).unwrap_or(id).to_owned();
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let at = template.len() - after.len();
        out.push_str(before);
        let Some((inner, tail)) = after.split_once("}}") else {
            return Err("template: log-tag:1: unclosed action".into());
        };
        let value = match inner.trim() {
            ".ID" => short(&spec.id),
            ".FullID" | ".ContainerID" => spec.id.clone(),
            ".Name" => spec.name.clone(),
            ".ContainerName" => format!("/{}", spec.name),
            ".ImageID" => short(&spec.image),
            ".ImageFullID" | ".ContainerImageID" => spec.image.clone(),
            ".ImageName" | ".ContainerImageName" => spec.config.image.clone(),
            ".DaemonName" => "docker".into(),
            ".Command" => command(),
            field
                if field.starts_with('.')
                    && field[1..].bytes().all(|b| b.is_ascii_alphanumeric()) =>
            {
                return Err(format!(
                    "template: log-tag:1:{at}: executing \"log-tag\" at <{field}>: can't evaluate field {} in type *logger.Info",
                    &field[1..]
                ));
            }
            other => {
                return Err(format!("log opt tag: {{{{{other}}}}} is not supported by Ferry yet"));
            }
        };
        out.push_str(&value);
        rest = tail;
    }
    Ok(out + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<LogOptions, String> {
        let mut spec = Spec { id: "0123456789abcdef".into(), name: "n".into(), ..Spec::default() };
        spec.host.log_config.driver = "json-file".into();
        spec.config.labels = Some([("a.b".to_owned(), "1".to_owned())].into());
        spec.config.env = Some(vec!["AX=2".into(), "B=3".into()]);
        let config = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        spec.host.log_config.config = Some(config.collect());
        read(&spec)
    }

    #[test]
    fn sizes_and_counts_are_read_or_refused_as_dockerd_does() {
        assert_eq!(with(&[("max-size", "10m")]).unwrap().max_size, Some(10_000_000));
        assert_eq!(with(&[("max-size", "-1")]).unwrap().max_size, None);
        assert_eq!(with(&[("max-file", "3")]).unwrap().max_file, 3);
        let text = |key: &str, value: &str| with(&[(key, value)]).unwrap_err();
        assert_eq!(text("max-size", "x"), "invalid size: 'x'");
        assert_eq!(text("max-size", "0"), "max-size must be a positive number");
        assert_eq!(text("max-file", "0"), "max-file cannot be less than 1");
        assert_eq!(text("max-file", "x"), "strconv.Atoi: parsing \"x\": invalid syntax");
        assert_eq!(text("compress", "x"), "strconv.ParseBool: parsing \"x\": invalid syntax");
        let buffer = with(&[("mode", "non-blocking"), ("max-buffer-size", "1m")]).unwrap();
        assert_eq!(buffer.mode, Mode::NonBlocking { max_buffer: 1 << 20 });
    }

    #[test]
    fn sizes_have_any_unit() {
        for (text, bytes) in
            [("5", 5), ("1k", 1000), ("1.5 kB", 1500), ("2KiB", 2000), ("7b", 7), ("1T", 1 << 40)]
        {
            let base = if text == "1T" { 1024 } else { 1000 };
            assert_eq!(size(text, base), Ok(bytes), "{text}");
        }
        assert_eq!(size("5x", 1000), Err("invalid suffix: 'x'".into()));
        assert_eq!(size("5kx", 1000), Err("invalid suffix: 'kx'".into()));
        assert!(size("", 1000).is_err() && size("-1", 1000).is_err());
    }

    #[test]
    fn lines_carry_what_was_asked_for() {
        let attrs = |pairs: &[(&str, &str)]| with(pairs).unwrap().attrs;
        assert_eq!(attrs(&[("labels", "a.b,c"), ("env", "B")]), r#"{"B":"3","a.b":"1"}"#);
        assert_eq!(
            attrs(&[("labels-regex", "^a"), ("env-regex", "X$")]),
            r#"{"AX":"2","a.b":"1"}"#
        );
        assert_eq!(attrs(&[("tag", "{{.Name}}/{{.ID}}!")]), r#"{"tag":"n/0123456789ab!"}"#);
        assert_eq!(
            with(&[("env-regex", "[")]).unwrap_err(),
            "error parsing regexp: missing closing ]: `[`"
        );
        assert!(with(&[("tag", "{{.Nope}}")]).unwrap_err().ends_with(
            "executing \"log-tag\" at <.Nope>: can't evaluate field Nope in type *logger.Info"
        ));
    }
}
