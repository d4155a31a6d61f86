//! What holds other values: pointers, lists, maps, untyped JSON.

use std::collections::BTreeMap;

use super::{Decoder, Wire};
use crate::json::{Encoder, Value};
use crate::view::{Nil, Shown};

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
