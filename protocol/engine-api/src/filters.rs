//! The `filters` parameter: both wire forms, the allowed keys per endpoint,
//! dockerd's error texts, and matching of the general kinds.

use std::collections::{BTreeMap, BTreeSet};

use crate::json::{Value, parse};

/// Filter keys of `GET /containers/json`.
pub const CONTAINERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
/// Filter keys of `GET /images/json`.
pub const IMAGES: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];
/// Filter keys of `POST /images/prune`.
pub const IMAGES_PRUNE: &[&str] = &["dangling", "label", "label!", "until"];
/// Filter keys of `POST /containers/prune`.
pub const CONTAINERS_PRUNE: &[&str] = &["label", "label!", "until"];
/// Filter keys of `POST /networks/prune`.
pub const NETWORKS_PRUNE: &[&str] = &["label", "label!", "until"];
/// Filter keys of `POST /volumes/prune`.
pub const VOLUMES_PRUNE: &[&str] = &["all", "label", "label!"];
/// Filter keys of `GET /volumes`.
pub const VOLUMES: &[&str] = &["dangling", "driver", "label", "name"];
/// Filter keys of `GET /networks`.
pub const NETWORKS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

/// A filter that can't be used; the text is dockerd's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// Not the JSON that filters are.
    #[error("invalid filter")]
    Malformed,
    /// No such key for this endpoint, or one that needs a value and has none.
    #[error("invalid filter '{0}'")]
    Unknown(String),
    /// A value that the key doesn't take.
    #[error("invalid filter '{key}={values}'")]
    Value {
        /// The key.
        key: String,
        /// The values as Go prints them: `[a b]`.
        values: String,
    },
}

/// Keys with their values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, BTreeSet<String>>);

impl Filters {
    /// Reads the parameter; an empty one holds no filter.
    ///
    /// # Errors
    /// `Malformed` for anything but lists of strings or maps to booleans.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let value = parse(text.as_bytes()).map_err(|_| FilterError::Malformed)?;
        let members = match &value {
            Value::Null => return Ok(Self::default()),
            Value::Object(members) => members,
            _ => return Err(FilterError::Malformed),
        };
        let mut out = Self::default();
        for (key, values) in members {
            let set = out.0.entry(key.clone()).or_default();
            match values {
                Value::Null => {}
                Value::Array(items) => {
                    for item in items {
                        set.insert(item.as_str().ok_or(FilterError::Malformed)?.to_owned());
                    }
                }
                Value::Object(items) => {
                    for (item, flag) in items {
                        // What the flag says counts for nothing.
                        flag.as_bool().ok_or(FilterError::Malformed)?;
                        set.insert(item.clone());
                    }
                }
                _ => return Err(FilterError::Malformed),
            }
        }
        Ok(out)
    }

    /// Adds a value.
    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.0.entry(key.into()).or_default().insert(value.into());
        self
    }

    /// The parameter's text, in the form that every version reads.
    pub fn to_json(&self) -> String {
        let map = |values: &BTreeSet<String>| {
            Value::Object(values.iter().map(|v| (v.clone(), Value::Bool(true))).collect())
        };
        Value::Object(self.0.iter().map(|(k, v)| (k.clone(), map(v))).collect()).to_string()
    }

    /// Checks the keys.
    ///
    /// # Errors
    /// `Unknown` with the first key that isn't allowed.
    pub fn only(&self, allowed: &[&str]) -> Result<(), FilterError> {
        match self.0.keys().find(|key| !allowed.contains(&key.as_str())) {
            Some(key) => Err(FilterError::Unknown(key.clone())),
            None => Ok(()),
        }
    }

    /// Whether there is no filter at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `key` is there, if without values.
    pub fn contains(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// All keys with their values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &BTreeSet<String>)> {
        self.0.iter().map(|(key, values)| (key.as_str(), values))
    }

    /// The values of `key`, sorted.
    pub fn get(&self, key: &str) -> impl Iterator<Item = &str> {
        self.0.get(key).into_iter().flatten().map(String::as_str)
    }

    /// Whether `key` isn't used or holds exactly `value`.
    pub fn exact(&self, key: &str, value: &str) -> bool {
        self.0.get(key).is_none_or(|values| values.is_empty() || values.contains(value))
    }

    /// A boolean filter: `None` when it isn't used.
    ///
    /// # Errors
    /// `Value` for anything but one of 1, true, 0, false.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>, FilterError> {
        let Some(values) = self.0.get(key) else { return Ok(None) };
        let has = |words: [&str; 2]| words.iter().any(|w| values.contains(*w));
        match (has(["1", "true"]), has(["0", "false"])) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => Err(self.bad_value(key)),
        }
    }

    /// The error for the values of `key`.
    pub fn bad_value(&self, key: &str) -> FilterError {
        let values: Vec<&str> = self.get(key).collect();
        if values.is_empty() {
            return FilterError::Unknown(key.into());
        }
        FilterError::Value { key: key.into(), values: format!("[{}]", values.join(" ")) }
    }

    /// Whether `labels` have everything that `key` (`label`) asks for: names,
    /// or names with values.
    pub fn labels(&self, key: &str, labels: &BTreeMap<String, String>) -> bool {
        self.get(key).all(|want| has_label(labels, want))
    }

    /// Whether `labels` have none of what `label!` names.
    pub fn without_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        !self.get("label!").any(|unwanted| has_label(labels, unwanted))
    }
}

fn has_label(labels: &BTreeMap<String, String>, want: &str) -> bool {
    match want.split_once('=') {
        Some((name, value)) => labels.get(name).is_some_and(|v| v == value),
        None => labels.contains_key(want),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_wire_forms_mean_the_same() {
        let list = Filters::parse(r#"{"label":["a=b","c","d"]}"#).unwrap();
        let map = Filters::parse(r#"{"label":{"a=b":true,"c":true,"d":true}}"#).unwrap();
        assert_eq!(list, map);
        assert_eq!(list.to_json(), r#"{"label":{"a=b":true,"c":true,"d":true}}"#);
        assert_eq!(Filters::parse("null").unwrap(), Filters::default());
    }

    #[test]
    fn bad_filters_have_the_texts_of_dockerd() {
        for bad in ["{x", "[]", "5", r#"{"label":5}"#, r#"{"label":{"a":1}}"#, r#"{"label":[5]}"#] {
            assert_eq!(Filters::parse(bad).unwrap_err().to_string(), "invalid filter", "{bad}");
        }
        let f = Filters::parse(r#"{"nope":["x"],"dangling":["true","false"]}"#).unwrap();
        assert_eq!(f.only(IMAGES).unwrap_err().to_string(), "invalid filter 'nope'");
        let text = f.boolean("dangling").unwrap_err().to_string();
        assert_eq!(text, "invalid filter 'dangling=[false true]'");
    }

    #[test]
    fn labels_match_by_name_or_by_name_and_value() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let f = |text: &str| Filters::parse(text).unwrap();
        assert!(f(r#"{"label":["a"]}"#).labels("label", &labels));
        assert!(!f(r#"{"label":["a=c"]}"#).labels("label", &labels));
        assert!(!f(r#"{"label!":["a"]}"#).without_labels(&labels));
    }
}
