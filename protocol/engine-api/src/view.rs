//! What a template sees of a value: fields by their Go names, lists, maps in
//! sorted order, typed nils. The executor of templates lives with the CLI.

use std::borrow::Cow;
use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::json::Value;
use crate::wire::Wire;

/// Which kind of nothing a nil is: templates print and test them differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nil {
    /// A nil pointer: prints `<nil>`, and its fields fail.
    Pointer,
    /// A nil slice: prints `[]`, ranges over nothing.
    List,
    /// A nil map: prints `map[]`, any key is absent.
    Map,
    /// A nil interface, as JSON's `null` in untyped data.
    Interface,
}

/// A value as a template sees it, borrowed where it can be.
#[derive(Clone)]
pub enum Shown<'a> {
    /// Nothing, of some kind.
    Nil(Nil),
    /// A boolean.
    Bool(bool),
    /// A signed integer.
    Int(i64),
    /// An unsigned integer.
    Uint(u64),
    /// A float.
    Float(f64),
    /// A string.
    Text(Cow<'a, str>),
    /// A duration in nanoseconds; prints as Go's `time.Duration`.
    Duration(i64),
    /// A point in time; prints as Go's `time.Time`.
    Time(Timestamp),
    /// A list.
    List(&'a dyn Items),
    /// A map.
    Map(&'a dyn Entries),
    /// A struct.
    Struct(&'a dyn Fields),
    /// Untyped data: numbers are floats, maps sorted.
    Json(&'a Value),
}

/// Anything that a template can be run over.
pub trait View {
    /// This value as the template sees it.
    fn view(&self) -> Shown<'_>;
}

impl<T: Wire> View for T {
    fn view(&self) -> Shown<'_> {
        self.show()
    }
}

/// A list of values.
pub trait Items {
    /// How many there are.
    fn len(&self) -> usize;
    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The value at `index`, counted from 0.
    fn at(&self, index: usize) -> Option<Shown<'_>>;
}

/// A map from strings to values.
pub trait Entries {
    /// The keys, sorted.
    fn keys(&self) -> Vec<&str>;
    /// The value of `key`.
    fn get(&self, key: &str) -> Option<Shown<'_>>;
    /// What Go's map gives for an absent key.
    fn zero(&self) -> Shown<'_>;
}

/// A struct, and with it whatever has methods.
pub trait Fields {
    /// Go's name for the type, such as `container.HostConfig`.
    fn type_name(&self) -> &str;
    /// The field called `name` in Go, fields of embedded structs included.
    fn field(&self, name: &str) -> Option<Shown<'_>>;
    /// All fields in order, with their Go names.
    fn fields(&self) -> Vec<(&'static str, Shown<'_>)>;
    /// The result of method `name`, or `None` when there is no such method.
    fn method(&self, name: &str, args: &[Shown<'_>]) -> Option<Result<Shown<'_>, String>> {
        let _ = (name, args);
        None
    }
    /// The value as JSON, as `{{json .}}` prints it.
    fn json(&self) -> Value;
}

impl<T: Wire> Items for Vec<T> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }
    fn at(&self, index: usize) -> Option<Shown<'_>> {
        self.get(index).map(Wire::show)
    }
}

impl<T: Wire, const N: usize> Items for [T; N] {
    fn len(&self) -> usize {
        N
    }
    fn at(&self, index: usize) -> Option<Shown<'_>> {
        self.get(index).map(Wire::show)
    }
}

impl<T: Wire> Entries for BTreeMap<String, T> {
    fn keys(&self) -> Vec<&str> {
        self.keys().map(String::as_str).collect()
    }
    fn get(&self, key: &str) -> Option<Shown<'_>> {
        self.get(key).map(Wire::show)
    }
    fn zero(&self) -> Shown<'_> {
        T::zero()
    }
}
