//! `org.systemd.property.NAME` annotations: properties that the configuration gives the unit itself,
//! their values in GLib's text format. Pure.

use crate::Error;
use dbus::Value;
use std::collections::BTreeMap;

/// Name and value of a property of a unit.
pub type Property = (String, Value);

const PREFIX: &str = "org.systemd.property.";

/// The properties among a configuration's annotations.
///
/// # Errors
/// When a name or a value can't be one.
pub fn from_annotations(all: &BTreeMap<String, String>) -> Result<Vec<Property>, Error> {
    let mut properties = Vec::new();
    for (key, text) in all {
        let Some(name) = key.strip_prefix(PREFIX) else { continue };
        let letters = |name: &str| name.bytes().all(|b| b.is_ascii_alphabetic());
        if name.len() < 3 || !letters(name) {
            return Err(Error::Invalid(format!(
                "annotation {key} name incorrect: {}",
                if name.len() < 3 { "too short" } else { "contains unexpected characters" }
            )));
        }
        let failed =
            |why| Error::Invalid(format!("annotation {key}={text} value parse error: {why}"));
        let mut value = parse(text).map_err(failed)?;
        let mut name = name.to_owned();
        // A time is in microseconds on the bus, whatever it is called in unit files.
        if let Some(start) = name.strip_suffix("Sec")
            && start.ends_with(|c: char| c.is_ascii_lowercase())
        {
            name = format!("{start}USec");
            value = in_microseconds(&value).map_err(failed)?;
        }
        properties.push((name, value));
    }
    Ok(properties)
}

fn in_microseconds(value: &Value) -> Result<Value, String> {
    let seconds = match value {
        Value::Byte(n) => f64::from(*n),
        Value::I16(n) => f64::from(*n),
        Value::U16(n) => f64::from(*n),
        Value::I32(n) => f64::from(*n),
        Value::U32(n) => f64::from(*n),
        Value::I64(n) => *n as f64,
        Value::U64(n) => *n as f64,
        Value::F64(n) => *n,
        _ => return Err("not a number".into()),
    };
    Ok(Value::U64((seconds * 1e6) as u64))
}

/// Reads a value: `true`, `'text'`, `42`, `uint64 42`, `1.5`, `['a', 'b']`, `@as []`.
fn parse(text: &str) -> Result<Value, String> {
    let mut reader = Reader { rest: text.trim(), depth: 0 };
    let value = reader.value(None)?;
    match reader.rest.trim() {
        "" => Ok(value),
        rest => Err(format!("unexpected {rest:?} after the value")),
    }
}

struct Reader<'a> {
    rest: &'a str,
    depth: u8,
}

const TYPES: [(&str, char); 10] = [
    ("boolean", 'b'),
    ("byte", 'y'),
    ("int16", 'n'),
    ("uint16", 'q'),
    ("int32", 'i'),
    ("uint32", 'u'),
    ("int64", 'x'),
    ("uint64", 't'),
    ("double", 'd'),
    ("string", 's'),
];

impl<'a> Reader<'a> {
    /// Takes letters, digits and what else a bare word has.
    fn word(&mut self) -> &'a str {
        let fits = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
        let end = self.rest.find(|c| !fits(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn take(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// A value; `kind` is the type of an item that stands in an array of known type.
    fn value(&mut self, kind: Option<&str>) -> Result<Value, String> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next() {
            Some('\'' | '"') => self.text(),
            Some('[') => self.array(kind.and_then(|k| k.strip_prefix('a'))),
            Some('@') => {
                self.rest = &self.rest[1..];
                let kind = self.word();
                if kind.is_empty() || kind.len() > 255 {
                    return Err("a type is expected after @".into());
                }
                self.value(Some(kind))
            }
            Some(_) => {
                let word = self.word();
                match TYPES.iter().find(|(name, _)| *name == word) {
                    Some((_, letter)) => self.value(Some(letter.to_string().as_str())),
                    None => simple(word, kind),
                }
            }
            None => Err("a value is expected".into()),
        }
    }

    fn text(&mut self) -> Result<Value, String> {
        let mut letters = self.rest.char_indices();
        let quote = letters.next().map_or('\'', |(_, c)| c);
        let mut text = String::new();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => text.push(match letters.next().map(|(_, c)| c) {
                    Some('n') => '\n',
                    Some('t') => '\t',
                    Some(other) => other,
                    None => break,
                }),
                end if end == quote => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(Value::text(text));
                }
                other => text.push(other),
            }
        }
        Err("a text has no end".into())
    }

    fn array(&mut self, of: Option<&str>) -> Result<Value, String> {
        if self.depth >= 8 {
            return Err("arrays nest too deep".into());
        }
        self.depth += 1;
        self.take('[');
        let mut items = Vec::new();
        if !self.take(']') {
            loop {
                items.push(self.value(of)?);
                if self.take(']') {
                    break;
                }
                if !self.take(',') {
                    return Err("an array has no end".into());
                }
            }
        }
        self.depth -= 1;
        let first = items.first().map(signature);
        let of = of.map(str::to_owned).or(first).ok_or("an empty array needs its type")?;
        if items.iter().any(|item| signature(item) != of) {
            return Err("the items of an array differ in type".into());
        }
        if of == "y" {
            let byte = |item: &Value| if let Value::Byte(byte) = item { *byte } else { 0 };
            return Ok(Value::Bytes(items.iter().map(byte).collect()));
        }
        Ok(Value::array(&of, items))
    }
}

fn signature(value: &Value) -> String {
    match value {
        Value::Bool(_) => "b".into(),
        Value::Byte(_) => "y".into(),
        Value::I16(_) => "n".into(),
        Value::U16(_) => "q".into(),
        Value::I32(_) => "i".into(),
        Value::U32(_) => "u".into(),
        Value::I64(_) => "x".into(),
        Value::U64(_) => "t".into(),
        Value::F64(_) => "d".into(),
        Value::Array { of, .. } => format!("a{of}"),
        Value::Bytes(_) => "ay".into(),
        _ => "s".into(),
    }
}

fn simple(word: &str, kind: Option<&str>) -> Result<Value, String> {
    fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
        word.parse().map_err(|_| format!("{word:?} is no such number"))
    }
    Ok(match (kind, word) {
        (None | Some("b"), "true") => Value::Bool(true),
        (None | Some("b"), "false") => Value::Bool(false),
        (Some("y"), _) => Value::Byte(number(word)?),
        (Some("n"), _) => Value::I16(number(word)?),
        (Some("q"), _) => Value::U16(number(word)?),
        (Some("u"), _) => Value::U32(number(word)?),
        (Some("x"), _) => Value::I64(number(word)?),
        (Some("t"), _) => Value::U64(number(word)?),
        (Some("d"), _) => Value::F64(number(word)?),
        (None, _) if word.contains(['.', 'e']) => Value::F64(number(word)?),
        (None | Some("i"), _) => Value::I32(number(word)?),
        (Some(kind), _) => return Err(format!("{word:?} is no value of type {kind}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_read_as_glib_writes_them() {
        assert_eq!(parse("'inactive-or-failed'"), Ok(Value::text("inactive-or-failed")));
        assert_eq!(parse("uint64 123456789"), Ok(Value::U64(123_456_789)));
        assert_eq!(parse(" true "), Ok(Value::Bool(true)));
        assert_eq!(parse("-7"), Ok(Value::I32(-7)));
        assert_eq!(parse("['a', \"b\"]"), Ok(Value::texts(["a", "b"])));
        assert_eq!(parse("@as []"), Ok(Value::texts(Vec::<String>::new())));
        for bad in ["", "'a", "[", "[]", "['a', 1]", "nonsense", "uint64 x", "1 2", "@ 1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_become_microseconds_under_the_buss_name() {
        let all = |key: &str, value: &str| {
            from_annotations(&BTreeMap::from([(format!("{PREFIX}{key}"), value.to_owned())]))
        };
        let stop = ("TimeoutStopUSec".to_owned(), Value::U64(1_500_000));
        assert_eq!(all("TimeoutStopSec", "1.5").unwrap(), [stop]);
        assert!(all("A1", "1").is_err());
        assert!(all("TimeoutStopSec", "'x'").is_err());
        assert!(
            from_annotations(&BTreeMap::from([("other".into(), "x".into())])).unwrap().is_empty()
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,64}") {
            let _ = parse(&text);
        }
    }
}
