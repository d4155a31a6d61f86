//! The functions of templates: Go's own and those that docker adds.

use std::cmp::Ordering;
use std::rc::Rc;

use engine_api::view::{Nil, Shown};
use engine_api::{ApiVersion, Encoder, Value};

use super::print::{duration, float, quoted, shown, to_json, verb_v};
use super::value::Val;

/// Why a call failed: not callable that way, or failed while it ran.
pub(super) enum Wrong {
    Arguments(String),
    Call(String),
}

const NAMES: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "index", "slice", "len", "print",
    "printf", "println", "html", "js", "urlquery", "json", "split", "join", "title", "lower",
    "upper", "pad", "truncate",
];

/// Whether a template may call `name`.
pub(super) fn is_function(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function with evaluated arguments.
pub(super) fn call<'a>(name: &str, args: Vec<Val<'a>>) -> Result<Val<'a>, Wrong> {
    let (least, most) = arity(name);
    if args.len() < least || args.len() > most {
        let want = if most == usize::MAX { format!("at least {least}") } else { least.to_string() };
        return Err(Wrong::Arguments(format!(
            "wrong number of args for {name}: want {want} got {}",
            args.len()
        )));
    }
    let text = |at: usize| {
        args[at].as_text().ok_or_else(|| {
            Wrong::Arguments(format!(
                "wrong type for value; expected string; got {}",
                args[at].type_name()
            ))
        })
    };
    let number = |at: usize| {
        args[at].as_int().ok_or_else(|| {
            Wrong::Arguments(format!(
                "wrong type for value; expected int; got {}",
                args[at].type_name()
            ))
        })
    };
    Ok(match name {
        "not" => Val::bool(!args[0].truth()),
        "eq" => Val::bool(any_equal(&args)?),
        "ne" => Val::bool(!equal(&args[0], &args[1])?),
        "lt" => Val::bool(order(&args[0], &args[1])? == Ordering::Less),
        "le" => Val::bool(order(&args[0], &args[1])? != Ordering::Greater),
        "gt" => Val::bool(order(&args[0], &args[1])? == Ordering::Greater),
        "ge" => Val::bool(order(&args[0], &args[1])? != Ordering::Less),
        "len" => Val::int(
            args[0]
                .len()
                .ok_or_else(|| Wrong::Call(format!("len of type {}", args[0].type_name())))?,
        ),
        "index" => index(&args)?,
        "slice" => slice(&args)?,
        "print" => Val::text(print(&args)),
        "println" => Val::text(
            args.iter().map(|arg| verb_v(arg, false)).collect::<Vec<_>>().join(" ") + "\n",
        ),
        "printf" => Val::text(printf(&text(0)?, &args[1..])),
        "html" => Val::text(escape_html(&print(&args))),
        "js" => Val::text(escape_js(&print(&args))),
        "urlquery" => Val::text(escape_query(&print(&args))),
        "json" => Val::text(json(&args[0])),
        "split" => Val::Words(Rc::new(split(&text(0)?, &text(1)?))),
        "join" => Val::text(words(&args[0])?.join(&text(1)?)),
        "title" => Val::text(title(&text(0)?)),
        "lower" => Val::text(text(0)?.to_lowercase()),
        "upper" => Val::text(text(0)?.to_uppercase()),
        "pad" => Val::text(pad(&text(0)?, number(1)?, number(2)?)),
        "truncate" => {
            let kept = usize::try_from(number(1)?).unwrap_or(0);
            Val::text(text(0)?.chars().take(kept).collect::<String>())
        }
        _ => return Err(Wrong::Arguments(format!("\"{name}\" is not a defined function"))),
    })
}

fn json(value: &Val<'_>) -> String {
    let mut out = Encoder::new(ApiVersion::MAX);
    out.value(&to_json(value));
    out.finish()
}

fn arity(name: &str) -> (usize, usize) {
    match name {
        "not" | "len" | "json" | "title" | "lower" | "upper" => (1, 1),
        "ne" | "lt" | "le" | "gt" | "ge" | "split" | "join" | "truncate" => (2, 2),
        "eq" | "index" | "slice" | "printf" | "and" | "or" => (1, usize::MAX),
        "pad" => (3, 3),
        _ => (0, usize::MAX),
    }
}

/// Values that Go compares with each other.
enum Basic {
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    Nil,
}

fn basic(value: &Val<'_>) -> Result<Basic, Wrong> {
    Ok(match value.clone().simple() {
        Val::Missing | Val::Shown(Shown::Nil(Nil::Interface | Nil::Pointer)) => Basic::Nil,
        Val::Shown(Shown::Bool(value)) => Basic::Bool(value),
        Val::Shown(Shown::Int(value) | Shown::Duration(value)) => Basic::Int(value.into()),
        Val::Shown(Shown::Uint(value)) => Basic::Int(value.into()),
        Val::Shown(Shown::Float(value)) => Basic::Float(value),
        Val::Shown(Shown::Text(text)) => Basic::Text(text.into_owned()),
        Val::Shown(Shown::Json(Value::Number(number))) => Basic::Text(number.as_str().to_owned()),
        _ => return Err(Wrong::Call("invalid type for comparison".to_owned())),
    })
}

fn any_equal(args: &[Val<'_>]) -> Result<bool, Wrong> {
    if args.len() < 2 {
        return Err(Wrong::Call("missing argument for comparison".to_owned()));
    }
    for other in &args[1..] {
        if equal(&args[0], other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(one: &Val<'_>, other: &Val<'_>) -> Result<bool, Wrong> {
    match (basic(one)?, basic(other)?) {
        (Basic::Bool(one), Basic::Bool(other)) => Ok(one == other),
        (Basic::Int(one), Basic::Int(other)) => Ok(one == other),
        (Basic::Float(one), Basic::Float(other)) => Ok(one.total_cmp(&other) == Ordering::Equal),
        (Basic::Text(one), Basic::Text(other)) => Ok(one == other),
        (Basic::Nil, Basic::Nil) => Ok(true),
        (Basic::Nil, _) | (_, Basic::Nil) => Ok(false),
        _ => Err(Wrong::Call("incompatible types for comparison".to_owned())),
    }
}

fn order(one: &Val<'_>, other: &Val<'_>) -> Result<Ordering, Wrong> {
    match (basic(one)?, basic(other)?) {
        (Basic::Int(one), Basic::Int(other)) => Ok(one.cmp(&other)),
        (Basic::Float(one), Basic::Float(other)) => Ok(one.total_cmp(&other)),
        (Basic::Text(one), Basic::Text(other)) => Ok(one.cmp(&other)),
        (Basic::Bool(_) | Basic::Nil, _) => {
            Err(Wrong::Call("invalid type for comparison".to_owned()))
        }
        _ => Err(Wrong::Call("incompatible types for comparison".to_owned())),
    }
}

fn index<'a>(args: &[Val<'a>]) -> Result<Val<'a>, Wrong> {
    let mut value = args[0].clone();
    for key in &args[1..] {
        if matches!(
            value.clone().simple(),
            Val::Missing | Val::Shown(Shown::Nil(Nil::Interface | Nil::Pointer))
        ) {
            return Err(Wrong::Call("index of untyped nil".to_owned()));
        }
        value = if value.keys().is_some() {
            let key = key.as_text().ok_or_else(|| {
                Wrong::Call(format!("value has type {}; should be string", key.type_name()))
            })?;
            match (value.entry(&key), &value) {
                (Some(found), _) => found,
                (None, Val::Shown(Shown::Map(map))) => Val::Shown(map.zero()),
                (None, _) => Val::Missing,
            }
        } else {
            element(&value, key)?
        };
    }
    Ok(value)
}

fn element<'a>(value: &Val<'a>, key: &Val<'_>) -> Result<Val<'a>, Wrong> {
    let at = key.as_int().ok_or_else(|| {
        Wrong::Call(format!("cannot index slice/array with type {}", key.type_name()))
    })?;
    if let Some(text) = value.as_text() {
        let byte = usize::try_from(at).ok().and_then(|at| text.as_bytes().get(at).copied());
        let byte = byte.ok_or_else(|| Wrong::Call(format!("index out of range: {at}")))?;
        return Ok(Val::Shown(Shown::Uint(byte.into())));
    }
    if value.len().is_none() {
        return Err(Wrong::Call(format!("can't index item of type {}", value.type_name())));
    }
    let found = usize::try_from(at).ok().and_then(|at| value.at(at));
    found.ok_or_else(|| Wrong::Call(format!("index out of range: {at}")))
}

fn slice<'a>(args: &[Val<'a>]) -> Result<Val<'a>, Wrong> {
    let value = args[0].clone().simple();
    let length = value
        .len()
        .ok_or_else(|| Wrong::Call(format!("can't slice item of type {}", value.type_name())))?;
    let bound = |at: usize, default: usize| match args.get(at) {
        None => Ok(default),
        Some(arg) => {
            let bound = arg.as_int().and_then(|bound| usize::try_from(bound).ok());
            bound
                .filter(|bound| *bound <= length)
                .ok_or_else(|| Wrong::Call(format!("index out of range: {}", shown(arg))))
        }
    };
    let (from, to) = (bound(1, 0)?, bound(2, length)?);
    if from > to {
        return Err(Wrong::Call(format!("invalid slice index: {from} > {to}")));
    }
    Ok(match value {
        Val::Words(words) => Val::Words(Rc::new(words[from..to].to_vec())),
        Val::Array(items) => Val::Array(&items[from..to]),
        Val::Shown(Shown::List(list)) => Val::Part { list, from, to },
        Val::Part { list, from: start, .. } => {
            Val::Part { list, from: start + from, to: start + to }
        }
        Val::Shown(Shown::Text(text)) => {
            Val::text(String::from_utf8_lossy(&text.as_bytes()[from..to]).into_owned())
        }
        other => other,
    })
}

/// Go's `fmt.Sprint`: a space between two operands when neither is a string.
fn print(args: &[Val<'_>]) -> String {
    let mut out = String::new();
    for (at, arg) in args.iter().enumerate() {
        if at > 0 && arg.as_text().is_none() && args[at - 1].as_text().is_none() {
            out.push(' ');
        }
        out.push_str(&verb_v(arg, false));
    }
    out
}

/// Go's `fmt.Sprintf` for the verbs that formats use.
fn printf(format: &str, args: &[Val<'_>]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let spec = rest.len()
            - rest.trim_start_matches(|c: char| c.is_ascii_digit() || "+-# .".contains(c)).len();
        let (flags, tail) = rest.split_at(spec);
        let Some(verb) = tail.chars().next() else {
            out.push_str("%!(NOVERB)");
            return out;
        };
        rest = &tail[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        match args.next() {
            Some(arg) => out.push_str(&padded(flags, &verb_text(verb, flags, arg))),
            None => out.push_str(&format!("%!{verb}(MISSING)")),
        }
    }
    out.push_str(rest);
    let extra: Vec<String> =
        args.map(|arg| format!("{}={}", arg.type_name(), verb_v(arg, false))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    out
}

fn verb_text(verb: char, flags: &str, arg: &Val<'_>) -> String {
    let precision = flags.split_once('.').map(|(_, digits)| digits.parse::<usize>().unwrap_or(0));
    let wrong = || format!("%!{verb}({}={})", arg.type_name(), verb_v(arg, false));
    let as_float = || match arg {
        Val::Shown(Shown::Float(value)) => Some(*value),
        Val::Shown(Shown::Json(Value::Number(number))) => number.as_f64(),
        _ => None,
    };
    match verb {
        'v' => verb_v(arg, flags.contains('+')),
        's' => match (arg.as_text(), precision) {
            (Some(text), Some(precision)) => text.chars().take(precision).collect(),
            (Some(text), None) => text,
            (None, _) => match arg {
                Val::Shown(Shown::Int(_) | Shown::Uint(_) | Shown::Float(_) | Shown::Bool(_)) => {
                    wrong()
                }
                Val::Shown(Shown::Duration(value)) => duration(*value),
                other => verb_v(other, false),
            },
        },
        'q' => arg.as_text().map_or_else(wrong, |text| quoted(&text)),
        'd' => arg.as_int().map_or_else(wrong, |value| {
            if flags.contains('+') { format!("{value:+}") } else { value.to_string() }
        }),
        'x' => match (arg.as_int(), arg.as_text()) {
            (Some(value), _) => format!("{value:x}"),
            (None, Some(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
            (None, None) => wrong(),
        },
        'o' => arg.as_int().map_or_else(wrong, |value| format!("{value:o}")),
        't' => match arg.clone().simple() {
            Val::Shown(Shown::Bool(value)) => value.to_string(),
            _ => wrong(),
        },
        'f' => as_float().map_or_else(wrong, |value| format!("{value:.*}", precision.unwrap_or(6))),
        'g' => as_float().map_or_else(wrong, float),
        'T' => arg.type_name(),
        _ => wrong(),
    }
}

fn padded(flags: &str, text: &str) -> String {
    let left = flags.contains('-');
    let digits = flags.trim_start_matches(['-', '+', '#', ' ']);
    let zeros = digits.starts_with('0') && !left;
    let width = digits.split('.').next().and_then(|width| width.parse::<usize>().ok()).unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    match (left, zeros) {
        (true, _) => format!("{text}{}", " ".repeat(missing)),
        (false, true) => format!("{}{text}", "0".repeat(missing)),
        (false, false) => format!("{}{text}", " ".repeat(missing)),
    }
}

fn split(text: &str, separator: &str) -> Vec<String> {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).map(str::to_owned).collect()
}

fn words(value: &Val<'_>) -> Result<Vec<String>, Wrong> {
    let wrong = || {
        Wrong::Arguments(format!(
            "wrong type for value; expected []string; got {}",
            value.type_name()
        ))
    };
    let length = value.len().filter(|_| value.as_text().is_none() && value.keys().is_none());
    let length = length.ok_or_else(wrong)?;
    (0..length).map(|at| value.at(at).and_then(|item| item.as_text()).ok_or_else(wrong)).collect()
}

fn title(text: &str) -> String {
    let mut start = true;
    let upper = |c: char| {
        let shown = if start { c.to_uppercase().next().unwrap_or(c) } else { c };
        start = !(c.is_alphanumeric() || c == '_' || c == '\'');
        shown
    };
    text.chars().map(upper).collect()
}

fn pad(text: &str, before: i64, after: i64) -> String {
    if text.is_empty() {
        return String::new();
    }
    let spaces = |count: i64| " ".repeat(usize::try_from(count).unwrap_or(0));
    format!("{}{text}{}", spaces(before), spaces(after))
}

fn escape_html(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn escape_js(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn escape_query(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte.into());
            }
            b' ' => out.push('+'),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
