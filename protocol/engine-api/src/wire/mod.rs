//! The one trait behind every type of the API: decoding by Go's rules,
//! encoding for a version, and what templates see. Plain types are in `plain`, pointers,
//! lists and maps in `nested`, times in `time`; structs get theirs from `declare`.

mod nested;
mod plain;
mod time;

use crate::ApiVersion;
use crate::json::{Encoder, SyntaxError, Value, parse_prefix};
use crate::view::{Nil, Shown};

pub use time::{GoDuration, Time};

/// Why a body could not be read, in dockerd's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Nothing there.
    #[error("invalid JSON: got EOF while reading request body")]
    Empty,
    /// No JSON.
    #[error("invalid JSON: {0}")]
    Syntax(SyntaxError),
    /// JSON of another shape; the text is what Go's decoder says.
    #[error("invalid JSON: {0}")]
    Type(String),
    /// More after the value.
    #[error("unexpected content after JSON")]
    Trailing,
}

impl DecodeError {
    /// What Go's decoder says, without dockerd's prefix.
    pub fn go_text(&self) -> String {
        match self {
            DecodeError::Empty => "EOF".into(),
            DecodeError::Syntax(e) => e.to_string(),
            DecodeError::Type(text) => text.clone(),
            DecodeError::Trailing => self.to_string(),
        }
    }
}

/// Reads a request's body. Members match in any case, of duplicates the last
/// wins, `null` leaves things as they are, unknown members are ignored.
///
/// # Errors
/// The text that dockerd answers with status 400.
pub fn decode<T: Wire + Default>(bytes: &[u8]) -> Result<T, DecodeError> {
    let (value, end) = parse_prefix(bytes).map_err(|e| match e {
        SyntaxError::Empty => DecodeError::Empty,
        e => DecodeError::Syntax(e),
    })?;
    // dockerd asks Go's decoder whether there is more, and that looks past
    // closing brackets.
    let rest = bytes[end..].iter().find(|b| !b.is_ascii_whitespace());
    if rest.is_some_and(|b| !matches!(b, b'}' | b']')) {
        return decode_at::<T>(&value).and(Err(DecodeError::Trailing));
    }
    decode_at(&value)
}

/// Reads a value that is already parsed.
///
/// # Errors
/// The first thing whose type is wrong.
pub fn decode_at<T: Wire + Default>(value: &Value) -> Result<T, DecodeError> {
    let mut out = T::default();
    let mut d = Decoder { root: T::root_name(), path: Vec::new(), error: None };
    out.decode(value, &mut d);
    match d.error {
        Some(text) => Err(DecodeError::Type(text)),
        None => Ok(out),
    }
}

/// A reply's body: encoded for `version`, with the newline that Go adds.
pub fn encode<T: Wire + ?Sized>(value: &T, version: ApiVersion) -> String {
    let mut e = Encoder::new(version);
    value.encode(&mut e);
    let mut out = e.finish();
    out.push('\n');
    out
}

/// A reply's body that is a list, encoded item by item: the items need not all exist at once.
#[derive(Debug)]
pub struct ListBody(Encoder);

impl ListBody {
    /// An empty list for `version`.
    pub fn new(version: ApiVersion) -> Self {
        let mut e = Encoder::new(version);
        e.begin_array();
        Self(e)
    }

    /// Appends an item.
    pub fn push<T: Wire + ?Sized>(&mut self, item: &T) {
        self.0.item();
        item.encode(&mut self.0);
    }

    /// The text, with the newline that Go adds.
    pub fn finish(mut self) -> String {
        self.0.end_array();
        let mut out = self.0.finish();
        out.push('\n');
        out
    }
}

/// The same with HTML escapes and without newline: one message of a stream.
pub fn encode_html<T: Wire + ?Sized>(value: &T, version: ApiVersion) -> String {
    let mut e = Encoder::html(version);
    value.encode(&mut e);
    e.finish()
}

/// Where decoding is, and the first type error it met.
#[derive(Debug)]
pub struct Decoder {
    root: String,
    path: Vec<(String, Option<&'static str>)>,
    error: Option<String>,
}

impl Decoder {
    /// Goes into member or item `name`, whose Go type is `kind` if Rust's type
    /// doesn't tell it.
    pub fn enter(&mut self, name: &str, kind: Option<&'static str>) {
        self.path.push((name.to_owned(), kind));
    }
    /// Goes back out.
    pub fn leave(&mut self) {
        self.path.pop();
    }
    /// Notes that `value` does not fit Go type `go` here.
    pub fn mismatch(&mut self, value: &Value, go: &str) {
        self.note(value.kind(), go);
    }
    /// Notes that a number's literal does not fit Go type `go` here.
    pub fn unfit(&mut self, literal: &str, go: &str) {
        self.note(&format!("number {literal}"), go);
    }
    /// Notes a failure of a type that decodes itself in Go, where the path is
    /// lost.
    pub fn mismatch_bare(&mut self, value: &Value, go: &str) {
        let text = format!("json: cannot unmarshal {} into Go value of type {go}", value.kind());
        self.error.get_or_insert(text);
    }
    fn note(&mut self, what: &str, go: &str) {
        if self.error.is_some() {
            return;
        }
        let go = self.path.last().and_then(|(_, kind)| *kind).unwrap_or(go);
        self.error = Some(match self.path.last() {
            None => format!("json: cannot unmarshal {what} into Go value of type {go}"),
            Some((last, _)) => {
                let numeric = last.bytes().all(|b| b.is_ascii_digit());
                let field = if numeric { "" } else { "Go struct field " };
                let names: Vec<String> = self
                    .path
                    .iter()
                    .map(|(name, _)| name.replace('~', "~0").replace('/', "~1"))
                    .collect();
                let path = names.join(".");
                format!(
                    "json: cannot unmarshal {what} into {field}{}.{path} of type {go}",
                    self.root
                )
            }
        });
    }
    /// Walks the members of an object: `member` is asked for the exact name
    /// first, then for any case.
    pub fn object(
        &mut self,
        value: &Value,
        go: &str,
        mut member: impl FnMut(&str, bool, &Value, &mut Decoder) -> bool,
    ) {
        match value {
            Value::Null => {}
            Value::Object(members) => {
                for (key, value) in members {
                    if !member(key, false, value, self) {
                        member(key, true, value, self);
                    }
                }
            }
            other => self.mismatch(other, go),
        }
    }
}

/// A type of the API.
pub trait Wire {
    /// Go's name of the type, for error texts.
    fn go_type() -> String
    where
        Self: Sized;
    /// How error texts name the outermost type.
    fn root_name() -> String
    where
        Self: Sized,
    {
        String::new()
    }
    /// Reads `value` into this, over what is there; errors go to `d`.
    fn decode(&mut self, value: &Value, d: &mut Decoder);
    /// Reads a list of strings that may be one string.
    fn decode_words(&mut self, value: &Value, d: &mut Decoder) {
        self.decode(value, d);
    }
    /// Offers a member of the outer object to an embedded struct.
    fn decode_member(&mut self, key: &str, fold: bool, value: &Value, d: &mut Decoder) -> bool {
        let _ = (key, fold, value, d);
        false
    }
    /// Writes this.
    fn encode(&self, e: &mut Encoder);
    /// Writes the members alone, for an embedded struct.
    fn encode_members(&self, e: &mut Encoder) {
        let _ = e;
    }
    /// Whether Go's `omitempty` leaves it out.
    fn is_empty(&self) -> bool {
        false
    }
    /// Whether an `Option` of this is a nil slice or map, and which.
    fn nil() -> Nil
    where
        Self: Sized,
    {
        Nil::Pointer
    }
    /// What templates see.
    fn show(&self) -> Shown<'_>;
    /// What templates see of Go's zero value.
    fn zero<'a>() -> Shown<'a>
    where
        Self: Sized;
}

/// Serialises for records: the newest version's form, as raw JSON.
pub(crate) fn serialize<T: Wire, S: serde::Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
    let mut e = Encoder::new(ApiVersion::MAX);
    value.encode(&mut e);
    let raw =
        serde_json::value::RawValue::from_string(e.finish()).map_err(serde::ser::Error::custom)?;
    serde::Serialize::serialize(&raw, s)
}

/// Reads from a record.
pub(crate) fn deserialize<'de, T: Wire + Default, D: serde::Deserializer<'de>>(
    d: D,
) -> Result<T, D::Error> {
    let raw: Box<serde_json::value::RawValue> = serde::Deserialize::deserialize(d)?;
    decode(raw.get().as_bytes()).map_err(serde::de::Error::custom)
}
