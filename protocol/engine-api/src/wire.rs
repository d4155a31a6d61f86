//! The one trait behind every type of the API: decoding by Go's rules,
//! encoding for a version, and what templates see. Implementations for plain
//! types are here; structs get theirs from `declare`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::ApiVersion;
use crate::json::{Encoder, SyntaxError, Value, parse_prefix};
use crate::view::{Nil, Shown};

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

macro_rules! integers {
    ($($ty:ty, $go:literal, $shown:ident, $wide:ty;)*) => {$(
        impl Wire for $ty {
            fn go_type() -> String {
                $go.into()
            }
            fn decode(&mut self, value: &Value, d: &mut Decoder) {
                match value {
                    Value::Null => {}
                    Value::Number(n) => match n.as_str().parse() {
                        Ok(number) => *self = number,
                        Err(_) => d.unfit(n.as_str(), $go),
                    },
                    other => d.mismatch(other, $go),
                }
            }
            fn encode(&self, e: &mut Encoder) {
                e.integer(self);
            }
            fn is_empty(&self) -> bool {
                *self == 0
            }
            fn show(&self) -> Shown<'_> {
                Shown::$shown(<$wide>::from(*self))
            }
            fn zero<'a>() -> Shown<'a> {
                Shown::$shown(0)
            }
        }
    )*};
}

integers! {
    i64, "int64", Int, i64;
    i32, "int32", Int, i64;
    u64, "uint64", Uint, u64;
    u32, "uint32", Uint, u64;
    u16, "uint16", Uint, u64;
    u8, "uint8", Uint, u64;
}

impl Wire for bool {
    fn go_type() -> String {
        "bool".into()
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => {}
            Value::Bool(b) => *self = *b,
            other => d.mismatch(other, "bool"),
        }
    }
    fn encode(&self, e: &mut Encoder) {
        e.bool(*self);
    }
    fn is_empty(&self) -> bool {
        !*self
    }
    fn show(&self) -> Shown<'_> {
        Shown::Bool(*self)
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Bool(false)
    }
}

impl Wire for f64 {
    fn go_type() -> String {
        "float64".into()
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => {}
            Value::Number(n) => match n.as_f64() {
                Some(f) => *self = f,
                None => d.unfit(n.as_str(), "float64"),
            },
            other => d.mismatch(other, "float64"),
        }
    }
    fn encode(&self, e: &mut Encoder) {
        e.float(*self);
    }
    fn is_empty(&self) -> bool {
        *self == 0.0
    }
    fn show(&self) -> Shown<'_> {
        Shown::Float(*self)
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Float(0.0)
    }
}

impl Wire for String {
    fn go_type() -> String {
        "string".into()
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => {}
            Value::String(s) => self.clone_from(s),
            other => d.mismatch(other, "string"),
        }
    }
    fn encode(&self, e: &mut Encoder) {
        e.string(self);
    }
    fn is_empty(&self) -> bool {
        self.as_str().is_empty()
    }
    fn show(&self) -> Shown<'_> {
        Shown::Text(Cow::Borrowed(self))
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Text(Cow::Borrowed(""))
    }
}

/// The empty struct, as in `{"80/tcp": {}}`.
impl Wire for () {
    fn go_type() -> String {
        "struct {}".into()
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        d.object(value, "struct {}", |_, _, _, _| true);
    }
    fn encode(&self, e: &mut Encoder) {
        e.begin_object();
        e.end_object();
    }
    fn show(&self) -> Shown<'_> {
        Shown::Text(Cow::Borrowed("{}"))
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Text(Cow::Borrowed("{}"))
    }
}

/// A pointer, or a slice or map that may be nil.
impl<T: Wire + Default> Wire for Option<T> {
    fn go_type() -> String {
        T::go_type()
    }
    fn root_name() -> String {
        T::root_name()
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => *self = None,
            value => self.get_or_insert_default().decode(value, d),
        }
    }
    fn decode_words(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => *self = None,
            value => self.get_or_insert_default().decode_words(value, d),
        }
    }
    fn decode_member(&mut self, key: &str, fold: bool, value: &Value, d: &mut Decoder) -> bool {
        // An embedded pointer comes to exist with its first member.
        if let Some(inner) = self {
            return inner.decode_member(key, fold, value, d);
        }
        let mut inner = T::default();
        let taken = inner.decode_member(key, fold, value, d);
        if taken {
            *self = Some(inner);
        }
        taken
    }
    fn encode(&self, e: &mut Encoder) {
        match self {
            None => e.null(),
            Some(value) => value.encode(e),
        }
    }
    fn encode_members(&self, e: &mut Encoder) {
        if let Some(value) = self {
            value.encode_members(e);
        }
    }
    fn is_empty(&self) -> bool {
        match self {
            None => true,
            // A pointer to zero is not empty, an empty slice or map is.
            Some(value) => T::nil() != Nil::Pointer && value.is_empty(),
        }
    }
    fn nil() -> Nil {
        T::nil()
    }
    fn show(&self) -> Shown<'_> {
        match self {
            None => Shown::Nil(T::nil()),
            Some(value) => value.show(),
        }
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Nil(T::nil())
    }
}

impl<T: Wire> Wire for Box<T> {
    fn go_type() -> String {
        T::go_type()
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        T::decode(self, value, d);
    }
    fn decode_member(&mut self, key: &str, fold: bool, value: &Value, d: &mut Decoder) -> bool {
        T::decode_member(self, key, fold, value, d)
    }
    fn encode(&self, e: &mut Encoder) {
        T::encode(self, e);
    }
    fn encode_members(&self, e: &mut Encoder) {
        T::encode_members(self, e);
    }
    fn is_empty(&self) -> bool {
        T::is_empty(self)
    }
    fn show(&self) -> Shown<'_> {
        T::show(self)
    }
    fn zero<'a>() -> Shown<'a> {
        T::zero()
    }
}

impl<T: Wire + Default> Wire for Vec<T> {
    fn go_type() -> String {
        format!("[]{}", T::go_type())
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => self.clear(),
            Value::Array(items) => {
                self.clear();
                for (index, item) in items.iter().enumerate() {
                    d.enter(&index.to_string(), None);
                    let mut out = T::default();
                    out.decode(item, d);
                    self.push(out);
                    d.leave();
                }
            }
            other => d.mismatch(other, &Self::go_type()),
        }
    }
    fn decode_words(&mut self, value: &Value, d: &mut Decoder) {
        let plain = |v: &Value| matches!(v, Value::String(_) | Value::Null);
        match value {
            Value::String(_) => {
                let mut one = T::default();
                one.decode(value, d);
                *self = vec![one];
            }
            Value::Array(items) if items.iter().all(plain) => self.decode(value, d),
            Value::Null => self.clear(),
            other => d.mismatch_bare(other, &T::go_type()),
        }
    }
    fn encode(&self, e: &mut Encoder) {
        e.begin_array();
        for item in self {
            e.item();
            item.encode(e);
        }
        e.end_array();
    }
    fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
    fn nil() -> Nil {
        Nil::List
    }
    fn show(&self) -> Shown<'_> {
        Shown::List(self)
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Nil(Nil::List)
    }
}

impl<T: Wire + Default + Copy, const N: usize> Wire for [T; N] {
    fn go_type() -> String {
        format!("[{N}]{}", T::go_type())
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => {}
            Value::Array(items) => {
                for (index, slot) in self.iter_mut().enumerate() {
                    *slot = T::default();
                    if let Some(item) = items.get(index) {
                        d.enter(&index.to_string(), None);
                        slot.decode(item, d);
                        d.leave();
                    }
                }
            }
            other => d.mismatch(other, &Self::go_type()),
        }
    }
    fn encode(&self, e: &mut Encoder) {
        e.begin_array();
        for item in self {
            e.item();
            item.encode(e);
        }
        e.end_array();
    }
    fn show(&self) -> Shown<'_> {
        Shown::List(self)
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Nil(Nil::List)
    }
}

impl<T: Wire + Default> Wire for BTreeMap<String, T> {
    fn go_type() -> String {
        format!("map[string]{}", T::go_type())
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => self.clear(),
            Value::Object(members) => {
                for (key, item) in members {
                    d.enter(key, None);
                    let mut out = T::default();
                    out.decode(item, d);
                    self.insert(key.clone(), out);
                    d.leave();
                }
            }
            other => d.mismatch(other, &Self::go_type()),
        }
    }
    fn encode(&self, e: &mut Encoder) {
        e.begin_object();
        for (key, item) in self {
            e.key(key);
            item.encode(e);
        }
        e.end_object();
    }
    fn is_empty(&self) -> bool {
        BTreeMap::is_empty(self)
    }
    fn nil() -> Nil {
        Nil::Map
    }
    fn show(&self) -> Shown<'_> {
        Shown::Map(self)
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Nil(Nil::Map)
    }
}

impl Wire for Value {
    fn go_type() -> String {
        "interface {}".into()
    }
    fn decode(&mut self, value: &Value, _: &mut Decoder) {
        *self = value.clone();
    }
    fn encode(&self, e: &mut Encoder) {
        e.value(self);
    }
    fn is_empty(&self) -> bool {
        matches!(self, Value::Null)
    }
    fn nil() -> Nil {
        Nil::Interface
    }
    fn show(&self) -> Shown<'_> {
        Shown::Json(self)
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Nil(Nil::Interface)
    }
}

/// Nanoseconds, as Go's `time.Duration`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub i64);

impl Wire for GoDuration {
    fn go_type() -> String {
        "time.Duration".into()
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => {}
            Value::Number(n) => match n.as_i64() {
                Some(nanos) => self.0 = nanos,
                None => d.unfit(n.as_str(), "time.Duration"),
            },
            other => d.mismatch(other, "time.Duration"),
        }
    }
    fn encode(&self, e: &mut Encoder) {
        e.integer(self.0);
    }
    fn is_empty(&self) -> bool {
        self.0 == 0
    }
    fn show(&self) -> Shown<'_> {
        Shown::Duration(self.0)
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Duration(0)
    }
}

/// A point in time; Go's zero time, the year 1, when unset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Timestamp);

impl Time {
    /// Go's zero time, `0001-01-01T00:00:00Z`, in seconds of the Unix epoch.
    const ZERO_SECOND: i64 = -62_135_596_800;

    /// The current time.
    pub fn now() -> Self {
        Self(Timestamp::now())
    }
    /// Whether this is Go's zero time.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
    /// The text that Go writes: RFC 3339 in UTC, with as many digits of the
    /// second's fraction as it needs.
    pub fn rfc3339(&self) -> String {
        let nanos = self.0.subsec_nanosecond().rem_euclid(1_000_000_000);
        let seconds = self.0.as_nanosecond().div_euclid(1_000_000_000) as i64;
        let whole = Timestamp::from_second(seconds).unwrap_or_default();
        let text = whole.strftime("%Y-%m-%dT%H:%M:%S").to_string();
        if nanos == 0 {
            return format!("{text}Z");
        }
        let fraction = format!("{nanos:09}");
        format!("{text}.{}Z", fraction.trim_end_matches('0'))
    }
}

impl Default for Time {
    fn default() -> Self {
        Self(Timestamp::from_second(Self::ZERO_SECOND).unwrap_or_default())
    }
}

impl Wire for Time {
    fn go_type() -> String {
        "time.Time".into()
    }
    fn decode(&mut self, value: &Value, d: &mut Decoder) {
        match value {
            Value::Null => {}
            Value::String(s) => match s.parse() {
                Ok(time) => self.0 = time,
                Err(_) => d.mismatch(value, "time.Time"),
            },
            other => d.mismatch(other, "time.Time"),
        }
    }
    fn encode(&self, e: &mut Encoder) {
        e.string(&self.rfc3339());
    }
    fn show(&self) -> Shown<'_> {
        Shown::Time(self.0)
    }
    fn zero<'a>() -> Shown<'a> {
        Shown::Time(Self::default().0)
    }
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
