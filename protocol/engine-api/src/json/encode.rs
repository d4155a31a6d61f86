//! Writing JSON as Go writes it. The caller says when objects and lists begin
//! and end; commas, escapes and numbers are done here.

use std::fmt::Write;

use super::Value;
use crate::ApiVersion;

/// A JSON text under construction, for one API version.
#[derive(Debug)]
pub struct Encoder {
    out: String,
    version: ApiVersion,
    html: bool,
}

impl Encoder {
    /// An empty text for `version`, without HTML escapes (replies).
    pub fn new(version: ApiVersion) -> Self {
        Self { out: String::new(), version, html: false }
    }

    /// The same with `<`, `>` and `&` escaped, as Go's default is (streams of
    /// events and messages).
    pub fn html(version: ApiVersion) -> Self {
        Self { html: true, ..Self::new(version) }
    }

    /// For which version this encodes.
    pub fn version(&self) -> ApiVersion {
        self.version
    }

    /// The text.
    pub fn finish(self) -> String {
        self.out
    }

    /// Opens an object.
    pub fn begin_object(&mut self) {
        self.out.push('{');
    }
    /// Closes an object.
    pub fn end_object(&mut self) {
        self.out.push('}');
    }
    /// Opens a list.
    pub fn begin_array(&mut self) {
        self.out.push('[');
    }
    /// Closes a list.
    pub fn end_array(&mut self) {
        self.out.push(']');
    }
    /// Announces the next item of a list.
    pub fn item(&mut self) {
        if !self.out.ends_with('[') {
            self.out.push(',');
        }
    }
    /// Writes the name of the next member.
    pub fn key(&mut self, key: &str) {
        if !self.out.ends_with('{') {
            self.out.push(',');
        }
        self.string(key);
        self.out.push(':');
    }
    /// `null`.
    pub fn null(&mut self) {
        self.out.push_str("null");
    }
    /// `true` or `false`.
    pub fn bool(&mut self, b: bool) {
        self.out.push_str(if b { "true" } else { "false" });
    }
    /// An integer.
    pub fn integer(&mut self, n: impl std::fmt::Display) {
        let _ = write!(self.out, "{n}");
    }
    /// A float in Go's form: shortest, with an exponent below 1e-6 and from
    /// 1e21 on, never `.0`.
    pub fn float(&mut self, f: f64) {
        let magnitude = f.abs();
        if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
            let text = format!("{f:e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let sign = if exponent < 0 { '-' } else { '+' };
            let width = if exponent < 0 { 1 } else { 2 };
            let _ = write!(self.out, "{mantissa}e{sign}{:0width$}", exponent.abs());
        } else {
            let _ = write!(self.out, "{f}");
        }
    }

    /// A string, quoted and escaped.
    pub fn string(&mut self, s: &str) {
        self.out.push('"');
        let mut rest = s;
        while let Some(at) = rest.bytes().position(|b| self.may_need_escape(b)) {
            let (plain, from) = rest.split_at(at);
            self.out.push_str(plain);
            let mut chars = from.chars();
            if let Some(c) = chars.next() {
                self.escaped(c);
            }
            rest = chars.as_str();
        }
        self.out.push_str(rest);
        self.out.push('"');
    }

    /// Whether a character that begins with this byte may need an escape; the two separators of
    /// lines and paragraphs begin with 0xe2.
    fn may_need_escape(&self, b: u8) -> bool {
        match b {
            b'"' | b'\\' | 0xe2 => true,
            b'<' | b'>' | b'&' => self.html,
            b => b < b' ',
        }
    }

    fn escaped(&mut self, c: char) {
        match c {
            '"' => self.out.push_str("\\\""),
            '\\' => self.out.push_str("\\\\"),
            '\n' => self.out.push_str("\\n"),
            '\r' => self.out.push_str("\\r"),
            '\t' => self.out.push_str("\\t"),
            '\u{8}' => self.out.push_str("\\b"),
            '\u{c}' => self.out.push_str("\\f"),
            '\u{2028}' | '\u{2029}' | '\0'..' ' | '<' | '>' | '&' => {
                let _ = write!(self.out, "\\u{:04x}", c as u32);
            }
            // Begins like a separator and is none.
            c => self.out.push(c),
        }
    }

    /// Any value, members in the order they have.
    pub fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.null(),
            Value::Bool(b) => self.bool(*b),
            Value::Number(n) => self.out.push_str(n.as_str()),
            Value::String(s) => self.string(s),
            Value::Array(items) => {
                self.begin_array();
                for item in items {
                    self.item();
                    self.value(item);
                }
                self.end_array();
            }
            Value::Object(members) => {
                self.begin_object();
                for (key, value) in members {
                    self.key(key);
                    self.value(value);
                }
                self.end_object();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn float(f: f64) -> String {
        let mut e = Encoder::new(ApiVersion::MAX);
        e.float(f);
        e.finish()
    }

    #[test]
    fn floats_look_as_in_go() {
        assert_eq!(float(1.0), "1");
        assert_eq!(float(0.1), "0.1");
        assert_eq!(float(1e20), "100000000000000000000");
        assert_eq!(float(1e21), "1e+21");
        assert_eq!(float(1e-7), "1e-7");
        assert_eq!(float(-2.5e-9), "-2.5e-9");
    }

    #[test]
    fn strings_are_escaped_as_go_does_it() {
        let mut e = Encoder::new(ApiVersion::MAX);
        e.string("a\"\\\n\u{1}\u{8}<&>\u{2028}é");
        assert_eq!(e.finish(), r#""a\"\\\n\u0001\b<&>\u2028é""#);
        let mut e = Encoder::html(ApiVersion::MAX);
        e.string("<&>");
        assert_eq!(e.finish(), r#""\u003c\u0026\u003e""#);
    }
}
