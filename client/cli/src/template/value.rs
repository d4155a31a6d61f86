//! Values while a template runs: what the data shows, and what functions made.

use std::borrow::Cow;
use std::rc::Rc;

use engine_api::Value;
use engine_api::view::{Items, Nil, Shown};

/// A value in flight.
#[derive(Clone)]
pub(super) enum Val<'a> {
    /// Borrowed from the data, or a scalar.
    Shown(Shown<'a>),
    /// A list of strings that a function made.
    Words(Rc<Vec<String>>),
    /// A part of a list.
    Part { list: &'a dyn Items, from: usize, to: usize },
    /// JSON that a function took a part of.
    Array(&'a [Value]),
    /// An absent key: prints `<no value>`.
    Missing,
}

impl<'a> Val<'a> {
    pub(super) fn text(text: impl Into<Cow<'a, str>>) -> Val<'a> {
        Val::Shown(Shown::Text(text.into()))
    }

    pub(super) fn int(value: usize) -> Val<'a> {
        Val::Shown(Shown::Int(i64::try_from(value).unwrap_or(i64::MAX)))
    }

    pub(super) fn bool(value: bool) -> Val<'a> {
        Val::Shown(Shown::Bool(value))
    }

    /// Untyped JSON as the value it holds.
    pub(super) fn simple(self) -> Val<'a> {
        match self {
            Val::Shown(Shown::Json(Value::Null)) => Val::Shown(Shown::Nil(Nil::Interface)),
            Val::Shown(Shown::Json(Value::Bool(value))) => Val::bool(*value),
            Val::Shown(Shown::Json(Value::String(text))) => Val::text(text.as_str()),
            Val::Shown(Shown::Json(Value::Array(items))) => Val::Array(items),
            other => other,
        }
    }

    /// Go's truth: not zero, not empty, not nil.
    pub(super) fn truth(&self) -> bool {
        match self.clone().simple() {
            Val::Missing | Val::Shown(Shown::Nil(_)) => false,
            Val::Words(words) => !words.is_empty(),
            Val::Part { from, to, .. } => to > from,
            Val::Array(items) => !items.is_empty(),
            Val::Shown(shown) => match shown {
                Shown::Bool(value) => value,
                Shown::Int(value) | Shown::Duration(value) => value != 0,
                Shown::Uint(value) => value != 0,
                Shown::Float(value) => value != 0.0,
                Shown::Text(text) => !text.is_empty(),
                Shown::List(list) => !list.is_empty(),
                Shown::Map(map) => !map.keys().is_empty(),
                Shown::Json(Value::Object(members)) => !members.is_empty(),
                Shown::Json(Value::Number(number)) => number.as_f64() != Some(0.0),
                Shown::Json(_) | Shown::Struct(_) | Shown::Time(_) | Shown::Nil(_) => true,
            },
        }
    }

    /// Number of elements, for what has elements.
    pub(super) fn len(&self) -> Option<usize> {
        match self.clone().simple() {
            Val::Words(words) => Some(words.len()),
            Val::Part { from, to, .. } => Some(to - from),
            Val::Array(items) => Some(items.len()),
            Val::Shown(Shown::Text(text)) => Some(text.len()),
            Val::Shown(Shown::List(list)) => Some(list.len()),
            Val::Shown(Shown::Map(map)) => Some(map.keys().len()),
            Val::Shown(Shown::Json(Value::Object(members))) => Some(members.len()),
            Val::Shown(Shown::Nil(Nil::List | Nil::Map)) => Some(0),
            _ => None,
        }
    }

    /// The element at `index` of a list.
    pub(super) fn at(&self, index: usize) -> Option<Val<'a>> {
        match self.clone().simple() {
            Val::Words(words) => words.get(index).map(|word| Val::text(word.clone())),
            Val::Part { list, from, to } if from + index < to => {
                list.at(from + index).map(Val::Shown)
            }
            Val::Array(items) => items.get(index).map(|item| Val::Shown(Shown::Json(item))),
            Val::Shown(Shown::List(list)) => list.at(index).map(Val::Shown),
            _ => None,
        }
    }

    /// Keys of a map, sorted; `None` for anything else.
    pub(super) fn keys(&self) -> Option<Vec<String>> {
        match self {
            Val::Shown(Shown::Map(map)) => {
                Some(map.keys().into_iter().map(str::to_owned).collect())
            }
            Val::Shown(Shown::Json(Value::Object(members))) => {
                let mut keys: Vec<String> = members.iter().map(|(key, _)| key.clone()).collect();
                keys.sort_unstable();
                keys.dedup();
                Some(keys)
            }
            Val::Shown(Shown::Nil(Nil::Map)) => Some(Vec::new()),
            _ => None,
        }
    }

    /// The value of a map's key; `None` when absent.
    pub(super) fn entry(&self, key: &str) -> Option<Val<'a>> {
        match self {
            Val::Shown(Shown::Map(map)) => map.get(key).map(Val::Shown),
            Val::Shown(Shown::Json(value)) => {
                value.get(key).map(|value| Val::Shown(Shown::Json(value)))
            }
            _ => None,
        }
    }

    /// An integer, also from untyped data.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Val::Shown(Shown::Int(value) | Shown::Duration(value)) => Some(*value),
            Val::Shown(Shown::Uint(value)) => i64::try_from(*value).ok(),
            Val::Shown(Shown::Json(Value::Number(number))) => number.as_i64(),
            _ => None,
        }
    }

    /// A string, also from untyped data.
    pub(super) fn as_text(&self) -> Option<String> {
        match self.clone().simple() {
            Val::Shown(Shown::Text(text)) => Some(text.into_owned()),
            _ => None,
        }
    }

    /// Go's name of the type, for errors.
    pub(super) fn type_name(&self) -> String {
        match self.clone().simple() {
            Val::Missing | Val::Shown(Shown::Nil(Nil::Interface)) => "<nil>".to_owned(),
            Val::Words(_) => "[]string".to_owned(),
            Val::Part { .. } | Val::Array(_) => "[]interface {}".to_owned(),
            Val::Shown(shown) => match shown {
                Shown::Bool(_) => "bool".to_owned(),
                Shown::Int(_) => "int".to_owned(),
                Shown::Uint(_) => "uint64".to_owned(),
                Shown::Float(_) => "float64".to_owned(),
                Shown::Text(_) => "string".to_owned(),
                Shown::Duration(_) => "time.Duration".to_owned(),
                Shown::Time(_) => "time.Time".to_owned(),
                Shown::Struct(fields) => fields.type_name().to_owned(),
                Shown::List(_) | Shown::Nil(Nil::List) => "[]interface {}".to_owned(),
                Shown::Json(Value::Number(_)) => "json.Number".to_owned(),
                Shown::Map(_) | Shown::Json(_) | Shown::Nil(_) => {
                    "map[string]interface {}".to_owned()
                }
            },
        }
    }
}
