//! Booleans, numbers, strings, and the empty struct of Go's sets.

use std::borrow::Cow;

use super::{Decoder, Wire};
use crate::json::{Encoder, Value};
use crate::view::Shown;

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
