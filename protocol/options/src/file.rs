//! The configuration file: keys checked against the table, types by Go's texts, and no option
//! in both places.

use std::io::ErrorKind;

use serde_json::Value;

use crate::{Kind, Table, Values};

impl Table {
    /// Reads the text of a configuration file beside what the flags said.
    ///
    /// # Errors
    /// A sentence in dockerd's words that names the key.
    pub fn read_file(&self, text: &str, from_flags: &Values) -> Result<Values, String> {
        if text.trim().is_empty() {
            return Ok(Values::new());
        }
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
            object.keys().map(String::as_str).filter(|key| self.by_key(key).is_none()).collect();
        if let Some(key) = unknown.iter().find(|key| self.is_not_yet(key)) {
            return Err(format!("the following directive is not supported by Ferry yet: {key}"));
        }
        if !unknown.is_empty() {
            let list = unknown.join(", ");
            return Err(format!(
                "the following directives don't match any configuration option: {list}"
            ));
        }
        let (mut values, mut twice) = (Values::new(), Vec::new());
        for (key, value) in object {
            let Some(option) = self.by_key(&key) else { continue };
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
    fn is_not_yet(&self, key: &str) -> bool {
        let singular = key.strip_suffix('s').unwrap_or(key);
        self.not_yet.iter().any(|flag| *flag == key || *flag == singular)
            || self.keys_not_yet.contains(&key)
    }
}

fn check_type(key: &str, kind: Kind, value: &Value) -> Result<(), String> {
    let odd_item = |wanted: &'static str| match value {
        Value::Object(map) => map
            .iter()
            .find(|(_, item)| go_type(item) != wanted)
            .map(|(name, item)| (format!("{key}.{name}"), item, wanted)),
        Value::Array(list) => {
            list.iter().find(|i| go_type(i) != wanted).map(|item| (key.to_owned(), item, wanted))
        }
        _ => None,
    };
    let odd = match (kind, value) {
        (_, Value::Null)
        | (Kind::Bool, Value::Bool(_))
        | (Kind::Int | Kind::Size, Value::Number(_))
        | (Kind::Text | Kind::Size, Value::String(_)) => None,
        (Kind::List, Value::Array(_)) | (Kind::Map, Value::Object(_)) => odd_item("string"),
        (Kind::Switches, Value::Object(_)) => odd_item("bool"),
        (Kind::Form(form), value) if form.is_array == value.is_array() && !is_plain(value) => None,
        (kind, value) => Some((key.to_owned(), value, go_kind(kind))),
    };
    let Some((field, value, wanted)) = odd else { return Ok(()) };
    let got = go_type(value);
    Err(format!(
        "invalid JSON: json: cannot unmarshal {got} into Go struct field Config.{field} of type {wanted}"
    ))
}

fn is_plain(value: &Value) -> bool {
    !value.is_array() && !value.is_object()
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
        Kind::Text | Kind::Size => "string",
        Kind::List => "[]string",
        Kind::Map => "map[string]string",
        Kind::Switches => "map[string]bool",
        Kind::Form(form) => form.file,
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

/// Why a file could not be read, as Go says it.
pub fn go_error(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "no such file or directory".to_owned(),
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::IsADirectory => "is a directory".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Form, row};

    const POOLS: Form = Form {
        flag: "pool",
        file: "opts.PoolsOpt",
        is_array: true,
        read: |text| Ok((String::new(), text.into())),
    };
    const TABLE: Table = Table {
        program: "prog",
        about: "",
        options: &[
            row("debug", None, "debug", Kind::Bool, ""),
            row("size", None, "size", Kind::Size, ""),
            row("label", None, "labels", Kind::Map, ""),
            row("feature", None, "features", Kind::Switches, ""),
            row("pool", None, "pools", Kind::Form(&POOLS), ""),
        ],
        not_yet: &["later"],
        keys_not_yet: &["builder"],
    };

    fn error(text: &str) -> String {
        TABLE.read_file(text, &Values::from([("debug", true.into())])).unwrap_err()
    }

    #[test]
    fn every_key_has_its_type() {
        let text = r#"{"size":1,"labels":{"a":"b"},"features":{"x":true},"pools":[{}]}"#;
        assert_eq!(TABLE.read_file(text, &Values::new()).unwrap().len(), 4);
        assert!(TABLE.read_file(" \n", &Values::new()).unwrap().is_empty());
        assert!(error(r#"{"labels":{"a":1}}"#).ends_with("Config.labels.a of type string"));
        assert!(error(r#"{"features":{"a":1}}"#).ends_with("Config.features.a of type bool"));
        assert!(
            error(r#"{"pools":{}}"#)
                .ends_with("object into Go struct field Config.pools of type opts.PoolsOpt")
        );
        assert!(error(r#"{"pools":1}"#).contains("cannot unmarshal number"));
    }

    #[test]
    fn keys_that_nobody_has_or_that_come_twice_are_named() {
        assert!(error(r#"{"x":1,"y":1}"#).ends_with("any configuration option: x, y"));
        assert!(error(r#"{"laters":1}"#).ends_with("not supported by Ferry yet: laters"));
        assert!(error(r#"{"builder":1}"#).ends_with("not supported by Ferry yet: builder"));
        assert!(
            error(r#"{"debug":false}"#).ends_with("debug: (from flag: true, from file: false)")
        );
        assert_eq!(error("{"), "invalid JSON: unexpected end of JSON input");
        assert_eq!(error("[]"), "invalid JSON: a configuration is an object");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[{}\\[\\]\":,a-z0-9 ]{0,40}") {
            let _ = TABLE.read_file(&text, &Values::new());
        }
    }
}
