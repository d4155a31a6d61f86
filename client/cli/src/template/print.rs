//! How values print: Go's `%v`, `%q`, `%d` and friends, and JSON.

use engine_api::json::{Number, Value};
use engine_api::view::{Items, Nil, Shown};

use super::value::Val;

/// What an action prints: `%v`, but `<no value>` for what is not there.
pub(super) fn shown(value: &Val<'_>) -> String {
    match value {
        Val::Missing | Val::Shown(Shown::Nil(Nil::Interface) | Shown::Json(Value::Null)) => {
            "<no value>".to_owned()
        }
        other => verb_v(other, false),
    }
}

/// `%v`; with `names`, `%+v`.
pub(super) fn verb_v(value: &Val<'_>, names: bool) -> String {
    match value {
        Val::Missing => "<nil>".to_owned(),
        Val::Words(words) => format!("[{}]", words.join(" ")),
        Val::Part { list, from, to } => {
            list_of((*from..*to).filter_map(|at| list.at(at)).map(Val::Shown), names)
        }
        Val::Array(items) => list_of(items.iter().map(|item| Val::Shown(Shown::Json(item))), names),
        Val::Shown(value) => shown_v(value, names),
    }
}

fn shown_v(value: &Shown<'_>, names: bool) -> String {
    match value {
        Shown::Nil(Nil::List) => "[]".to_owned(),
        Shown::Nil(Nil::Map) => "map[]".to_owned(),
        Shown::Nil(Nil::Pointer | Nil::Interface) | Shown::Json(Value::Null) => "<nil>".to_owned(),
        Shown::Bool(value) => value.to_string(),
        Shown::Int(value) => value.to_string(),
        Shown::Uint(value) => value.to_string(),
        Shown::Float(value) => float(*value),
        Shown::Text(text) => text.clone().into_owned(),
        Shown::Duration(value) => duration(*value),
        Shown::Time(time) => {
            let text = time.strftime("%Y-%m-%d %H:%M:%S%.f").to_string();
            format!("{text} +0000 UTC")
        }
        Shown::List(list) => {
            list_of((0..list.len()).filter_map(|at| list.at(at)).map(Val::Shown), names)
        }
        Shown::Map(_) | Shown::Json(Value::Object(_)) => map_of(&Val::Shown(value.clone()), names),
        Shown::Struct(fields) => {
            let parts = fields.fields().into_iter().map(|(name, field)| {
                let text = shown_v(&field, names);
                if names { format!("{name}:{text}") } else { text }
            });
            format!("{{{}}}", parts.collect::<Vec<_>>().join(" "))
        }
        Shown::Json(Value::Bool(value)) => value.to_string(),
        Shown::Json(Value::Number(number)) => number.as_str().to_owned(),
        Shown::Json(Value::String(text)) => text.clone(),
        Shown::Json(Value::Array(items)) => verb_v(&Val::Array(items), names),
    }
}

fn list_of<'a>(items: impl Iterator<Item = Val<'a>>, names: bool) -> String {
    let parts: Vec<String> = items.map(|item| verb_v(&item, names)).collect();
    format!("[{}]", parts.join(" "))
}

fn map_of(map: &Val<'_>, names: bool) -> String {
    let keys = map.keys().unwrap_or_default();
    let parts = keys.iter().map(|key| {
        let value =
            map.entry(key).map_or_else(|| "<nil>".to_owned(), |value| verb_v(&value, names));
        format!("{key}:{value}")
    });
    format!("map[{}]", parts.collect::<Vec<_>>().join(" "))
}

/// Go's shortest form: exponents from 1e21 on and below 1e-4.
pub(super) fn float(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 || (1e-4..1e21).contains(&size) {
        return value.to_string();
    }
    if !value.is_finite() {
        return if value.is_nan() {
            "NaN".to_owned()
        } else if value > 0.0 {
            "+Inf".to_owned()
        } else {
            "-Inf".to_owned()
        };
    }
    let text = format!("{value:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Go's `time.Duration`: `1h2m3.5s`, `1.5ms`, `0s`.
pub(super) fn duration(nanoseconds: i64) -> String {
    let size = nanoseconds.unsigned_abs();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let fraction = |value: u64, unit: u64| {
        let text =
            format!("{}.{:0width$}", value / unit, value % unit, width = unit.ilog10() as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match size {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{size}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(size, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(size, 1_000_000)),
        _ => {
            let (minutes, seconds) = (size / 60_000_000_000, size % 60_000_000_000);
            let seconds = format!("{}s", fraction(seconds, 1_000_000_000));
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    };
    format!("{sign}{text}")
}

/// Go's `%q`.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value as JSON.
pub(super) fn to_json(value: &Val<'_>) -> Value {
    match value {
        Val::Missing => Value::Null,
        Val::Words(words) => Value::Array(words.iter().cloned().map(Value::String).collect()),
        Val::Part { list, from, to } => items_json(*list, *from, *to),
        Val::Array(items) => Value::Array(items.to_vec()).sorted(),
        Val::Shown(shown) => shown_json(shown),
    }
}

fn items_json(list: &dyn Items, from: usize, to: usize) -> Value {
    Value::Array((from..to).filter_map(|at| list.at(at)).map(|item| shown_json(&item)).collect())
}

fn shown_json(value: &Shown<'_>) -> Value {
    match value {
        Shown::Nil(_) => Value::Null,
        Shown::Bool(value) => Value::Bool(*value),
        Shown::Int(value) | Shown::Duration(value) => Value::Number(Number::from(*value)),
        Shown::Uint(value) => Value::Number(Number::from(*value)),
        Shown::Float(value) => {
            engine_api::json::parse(float(*value).as_bytes()).unwrap_or_default()
        }
        Shown::Text(text) => Value::String(text.clone().into_owned()),
        Shown::Time(time) => Value::String(time.to_string()),
        Shown::List(list) => items_json(*list, 0, list.len()),
        Shown::Map(map) => {
            let member =
                |key: &str| (key.to_owned(), map.get(key).map_or(Value::Null, |v| shown_json(&v)));
            Value::Object(map.keys().into_iter().map(member).collect())
        }
        Shown::Struct(fields) => fields.json(),
        Shown::Json(value) => (*value).clone().sorted(),
    }
}
