//! A JSON value that loses nothing: members in order, duplicates kept, numbers
//! as they were written. What it means is for `wire` to say.

use std::fmt;

/// A number's literal text, always valid JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number(pub(crate) String);

impl Number {
    /// The text as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The number as Go's `int64`, if the literal is a plain integer in range.
    pub fn as_i64(&self) -> Option<i64> {
        self.0.parse().ok()
    }
    /// The number as Go's `uint64`, if the literal is a plain one in range.
    pub fn as_u64(&self) -> Option<u64> {
        self.0.parse().ok()
    }
    /// The number as a float.
    pub fn as_f64(&self) -> Option<f64> {
        self.0.parse().ok().filter(|f: &f64| f.is_finite())
    }
}

impl From<i64> for Number {
    fn from(n: i64) -> Self {
        Self(n.to_string())
    }
}

impl From<u64> for Number {
    fn from(n: u64) -> Self {
        Self(n.to_string())
    }
}

/// Any JSON value.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(Number),
    /// A string.
    String(String),
    /// A list.
    Array(Vec<Value>),
    /// Members in order, duplicates included.
    Object(Vec<(String, Value)>),
}

impl Value {
    /// The member called exactly `key`; of duplicates the last.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Object(members) => members.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v),
            _ => None,
        }
    }
    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(s) => Some(s),
            _ => None,
        }
    }
    /// The items of a list.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Array(items) => Some(items),
            _ => None,
        }
    }
    /// The members of an object.
    pub fn as_object(&self) -> Option<&[(String, Value)]> {
        match self {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }
    /// A number as `i64`.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Value::Number(n) => n.as_i64(),
            _ => None,
        }
    }
    /// A boolean.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(b) => Some(*b),
            _ => None,
        }
    }
    /// Go's word for the kind of value, as its error texts use it.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "bool",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        }
    }
    /// Sorts the members of every object by name and drops all but the last of
    /// duplicates: what a trip through Go's `map[string]any` does.
    #[must_use]
    pub fn sorted(self) -> Value {
        match self {
            Value::Array(items) => Value::Array(items.into_iter().map(Value::sorted).collect()),
            Value::Object(members) => {
                let map: std::collections::BTreeMap<_, _> =
                    members.into_iter().map(|(k, v)| (k, v.sorted())).collect();
                Value::Object(map.into_iter().collect())
            }
            other => other,
        }
    }
}

impl From<&str> for Value {
    fn from(s: &str) -> Self {
        Value::String(s.into())
    }
}
impl From<String> for Value {
    fn from(s: String) -> Self {
        Value::String(s)
    }
}
impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Value::Bool(b)
    }
}
impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Value::Number(n.into())
    }
}

impl fmt::Display for Value {
    /// Compact JSON, without a newline and without HTML escapes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut e = super::Encoder::new(crate::ApiVersion::MAX);
        e.value(self);
        f.write_str(&e.finish())
    }
}
