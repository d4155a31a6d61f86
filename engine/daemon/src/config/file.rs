//! `daemon.json`: keys checked against the table, types by Go's texts, and no option in
//! both places.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ConfigError;
use super::options::{Kind, NOT_YET, by_key};

const DEFAULT: &str = "/etc/ferry/daemon.json";

/// Reads the file that the flags name; without one, the default file if there is one.
pub(super) fn read(
    named: Option<&str>,
    from_flags: &BTreeMap<&'static str, Value>,
) -> Result<BTreeMap<&'static str, Value>, ConfigError> {
    let path = PathBuf::from(named.unwrap_or(DEFAULT));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => String::new(),
        Err(error) => {
            return Err(failed(&path, format!("open {}: {}", path.display(), go_text(&error))));
        }
    };
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    parse(&text, from_flags).map_err(|why| failed(&path, why))
}

fn parse(
    text: &str,
    from_flags: &BTreeMap<&'static str, Value>,
) -> Result<BTreeMap<&'static str, Value>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| {
        let why = if error.is_eof() {
            "unexpected end of JSON input".to_owned()
        } else {
            error.to_string()
        };
        format!("invalid JSON: {why}")
    })?;
    let Value::Object(object) = value else {
        return Err("invalid JSON: a configuration is an object".to_owned());
    };
    let unknown: Vec<&str> =
        object.keys().map(String::as_str).filter(|key| by_key(key).is_none()).collect();
    if let Some(key) = unknown.iter().find(|key| not_yet(key)) {
        return Err(format!("the following directive is not supported by Ferry yet: {key}"));
    }
    if !unknown.is_empty() {
        let list = unknown.join(", ");
        return Err(format!(
            "the following directives don't match any configuration option: {list}"
        ));
    }
    let mut values = BTreeMap::new();
    let mut twice = Vec::new();
    for (key, value) in object {
        let Some(option) = by_key(&key) else { continue };
        check_type(option.key, option.kind, &value)?;
        if let Some(flag) = from_flags.get(option.key) {
            twice.push(format!(
                "{key}: (from flag: {}, from file: {})",
                go_value(flag),
                go_value(&value)
            ));
        }
        values.insert(option.key, value);
    }
    if !twice.is_empty() {
        let list = twice.join(", ");
        return Err(format!(
            "the following directives are specified both as a flag and in the configuration file: {list}"
        ));
    }
    Ok(values)
}

/// Keys are flags' names, some in the plural.
fn not_yet(key: &str) -> bool {
    let singular = key.strip_suffix('s').unwrap_or(key);
    NOT_YET.iter().any(|flag| *flag == key || *flag == singular)
        || matches!(key, "builder" | "proxies" | "resolv-conf" | "min-api-version" | "nri-opts")
}

fn check_type(key: &str, kind: Kind, value: &Value) -> Result<(), String> {
    let (field, value, wanted) = match (kind, value) {
        (_, Value::Null)
        | (Kind::Bool, Value::Bool(_))
        | (Kind::Int, Value::Number(_))
        | (Kind::Text, Value::String(_))
        | (Kind::Runtimes | Kind::Ulimits, Value::Object(_))
        | (Kind::Pools, Value::Array(_)) => return Ok(()),
        (Kind::List, Value::Array(list)) => match list.iter().find(|item| !item.is_string()) {
            Some(item) => (key.to_owned(), item, "string"),
            None => return Ok(()),
        },
        (Kind::Map, Value::Object(map)) => {
            let wanted = if key == "features" { "bool" } else { "string" };
            match map.iter().find(|(_, item)| go_type(item) != wanted) {
                Some((name, item)) => (format!("{key}.{name}"), item, wanted),
                None => return Ok(()),
            }
        }
        // The size of /dev/shm may be a number of bytes.
        (Kind::Text, Value::Number(_)) if key == "default-shm-size" => return Ok(()),
        (kind, value) => (key.to_owned(), value, go_kind(kind)),
    };
    let got = go_type(value);
    Err(format!(
        "invalid JSON: json: cannot unmarshal {got} into Go struct field Config.{field} of type {wanted}"
    ))
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn go_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int => "int",
        Kind::Text => "string",
        Kind::List => "[]string",
        Kind::Map => "map[string]string",
        Kind::Runtimes => "map[string]system.Runtime",
        Kind::Ulimits => "map[string]*container.Ulimit",
        Kind::Pools => "opts.PoolsOpt",
    }
}

/// A value as Go prints it with `%v`.
fn go_value(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            format!("[{}]", list.iter().map(go_value).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let pairs = map.iter().map(|(name, item)| format!("{name}:{}", go_value(item)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

fn go_text(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

fn failed(path: &Path, why: String) -> ConfigError {
    ConfigError::File { path: path.to_owned(), why }
}
