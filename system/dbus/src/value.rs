//! Values: what the arguments of calls, replies and signals are made of.

use crate::error::Invalid;
use crate::signature;

/// How deep values may nest, variants included.
pub(crate) const MAX_DEPTH: u8 = 64;

/// One value of any type but a descriptor.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `y`
    Byte(u8),
    /// `b`
    Bool(bool),
    /// `n`
    I16(i16),
    /// `q`
    U16(u16),
    /// `i`
    I32(i32),
    /// `u`
    U32(u32),
    /// `x`
    I64(i64),
    /// `t`
    U64(u64),
    /// `d`
    F64(f64),
    /// `s`
    Text(String),
    /// `o`
    Path(String),
    /// `g`
    Signature(String),
    /// `ay`: an array of bytes always comes as this.
    Bytes(Vec<u8>),
    /// `a…`: make it with [`Value::array`].
    Array {
        /// The signature of every item.
        of: String,
        /// The items; of a dictionary, all [`Value::Entry`].
        items: Vec<Value>,
    },
    /// `(…)`; at least one field.
    Struct(Vec<Value>),
    /// `{..}`, an item of a dictionary: key, value.
    Entry(Box<(Value, Value)>),
    /// `v`
    Variant(Box<Value>),
}

impl Value {
    /// A string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// An array of strings.
    pub fn texts<T: Into<String>>(all: impl IntoIterator<Item = T>) -> Self {
        Self::array("s", all.into_iter().map(Self::text))
    }

    /// A variant of `value`.
    pub fn variant(value: Value) -> Self {
        Self::Variant(Box::new(value))
    }

    /// An array whose items have the signature `of`; that they have is checked when it is sent.
    pub fn array(of: &str, items: impl IntoIterator<Item = Value>) -> Self {
        let items: Vec<Value> = items.into_iter().collect();
        if of == "y" && items.iter().all(|item| matches!(item, Self::Byte(_))) {
            let byte = |item: &Value| if let Self::Byte(b) = item { Some(*b) } else { None };
            return Self::Bytes(items.iter().filter_map(byte).collect());
        }
        Self::Array { of: of.to_owned(), items }
    }

    /// `(sv)`: a name and a variant of `value`, as systemd takes a unit's properties.
    pub fn pair(name: &str, value: Value) -> Self {
        Self::Struct(vec![Self::text(name), Self::variant(value)])
    }

    /// An item of a dictionary.
    pub fn entry(key: Value, value: Value) -> Self {
        Self::Entry(Box::new((key, value)))
    }

    /// The text of a string or an object path.
    pub fn as_text(&self) -> Option<&str> {
        match self.inner() {
            Self::Text(text) | Self::Path(text) => Some(text),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self.inner() { Some(*value) } else { None }
    }

    /// An unsigned number of any width.
    pub fn as_u64(&self) -> Option<u64> {
        match self.inner() {
            Self::Byte(n) => Some(u64::from(*n)),
            Self::U16(n) => Some(u64::from(*n)),
            Self::U32(n) => Some(u64::from(*n)),
            Self::U64(n) => Some(*n),
            _ => None,
        }
    }

    /// A signed number of any width.
    pub fn as_i64(&self) -> Option<i64> {
        match self.inner() {
            Self::I16(n) => Some(i64::from(*n)),
            Self::I32(n) => Some(i64::from(*n)),
            Self::I64(n) => Some(*n),
            _ => None,
        }
    }

    /// The items of an array (not of bytes), or the fields of a struct.
    pub fn items(&self) -> &[Value] {
        match self.inner() {
            Self::Array { items, .. } | Self::Struct(items) => items,
            _ => &[],
        }
    }

    /// The value of a dictionary's entry by a text key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.items().iter().find_map(|item| match item {
            Self::Entry(pair) if pair.0.as_text() == Some(key) => Some(pair.1.inner()),
            _ => None,
        })
    }

    /// What is inside, when it is a variant (of a variant …), else itself.
    pub fn inner(&self) -> &Value {
        let mut value = self;
        while let Self::Variant(inside) = value {
            value = inside;
        }
        value
    }

    /// Appends the value's signature.
    pub(crate) fn sign(&self, out: &mut String) {
        match self {
            Self::Byte(_) => out.push('y'),
            Self::Bool(_) => out.push('b'),
            Self::I16(_) => out.push('n'),
            Self::U16(_) => out.push('q'),
            Self::I32(_) => out.push('i'),
            Self::U32(_) => out.push('u'),
            Self::I64(_) => out.push('x'),
            Self::U64(_) => out.push('t'),
            Self::F64(_) => out.push('d'),
            Self::Text(_) => out.push('s'),
            Self::Path(_) => out.push('o'),
            Self::Signature(_) => out.push('g'),
            Self::Bytes(_) => out.push_str("ay"),
            Self::Array { of, .. } => {
                out.push('a');
                out.push_str(of);
            }
            Self::Struct(fields) => {
                out.push('(');
                for field in fields {
                    field.sign(out);
                }
                out.push(')');
            }
            Self::Entry(pair) => {
                out.push('{');
                pair.0.sign(out);
                pair.1.sign(out);
                out.push('}');
            }
            Self::Variant(_) => out.push('v'),
        }
    }

    /// The signature of a list of values, checked.
    pub(crate) fn signature_of(all: &[Value]) -> Result<String, Invalid> {
        let mut out = String::new();
        for value in all {
            value.sign(&mut out);
        }
        signature::check(&out)?;
        Ok(out)
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),*) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}
from!(u8 => Byte, bool => Bool, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64,
    u64 => U64, f64 => F64, &str => Text, String => Text, Vec<u8> => Bytes);
