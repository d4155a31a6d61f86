//! Bytes into values and messages. Everything is bounded: a message's size, nesting, names; what
//! the specification forbids ends the reading.

use crate::error::Invalid;
use crate::message::Message;
use crate::value::{MAX_DEPTH, Value};
use crate::{name, signature};

/// The longest message that is taken; the specification would allow 128 MiB.
pub const MAX_MESSAGE: usize = 4 << 20;

/// Reads values from one part of a message; alignment counts from its start.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    little: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8], little: bool) -> Self {
        Self { bytes, at: 0, little }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.bytes.len()
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Invalid> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| Invalid::new("a value ends behind its message"))?;
        let out = &self.bytes[self.at..end];
        self.at = end;
        Ok(out)
    }

    fn align(&mut self, to: usize) -> Result<(), Invalid> {
        let padding = self.take(self.at.next_multiple_of(to) - self.at)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(Invalid::new("padding is not zero"));
        }
        Ok(())
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Invalid> {
        self.align(N)?;
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        if !self.little {
            out.reverse();
        }
        Ok(out)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Invalid> {
        Ok(u32::from_le_bytes(self.fixed()?))
    }

    fn text(&mut self, len: usize) -> Result<String, Invalid> {
        let text = std::str::from_utf8(self.take(len)?)
            .map_err(|_| Invalid::new("a string is not UTF-8"))?;
        if self.take(1)? != [0] || text.contains('\0') {
            return Err(Invalid::new("a string does not end in its only NUL"));
        }
        Ok(text.to_owned())
    }

    pub(crate) fn signature(&mut self) -> Result<String, Invalid> {
        let len = usize::from(self.take(1)?[0]);
        let text = self.text(len)?;
        signature::check(&text)?;
        Ok(text)
    }

    /// The values of a checked signature.
    pub(crate) fn values(&mut self, signature: &str) -> Result<Vec<Value>, Invalid> {
        self.list(signature, 0)
    }

    fn list(&mut self, mut signature: &str, depth: u8) -> Result<Vec<Value>, Invalid> {
        let mut out = Vec::new();
        while !signature.is_empty() {
            let one = signature::first(signature);
            out.push(self.value(one, depth)?);
            signature = signature.get(one.len()..).unwrap_or_default();
        }
        Ok(out)
    }

    fn value(&mut self, signature: &str, depth: u8) -> Result<Value, Invalid> {
        if depth > MAX_DEPTH {
            return Err(Invalid::new("a value is nested too deeply"));
        }
        let inside = || signature.get(1..signature.len() - 1).unwrap_or_default();
        Ok(match signature.as_bytes().first() {
            Some(b'y') => Value::Byte(self.take(1)?[0]),
            Some(b'b') => match self.u32()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                _ => return Err(Invalid::new("a truth value is neither 0 nor 1")),
            },
            Some(b'n') => Value::I16(i16::from_le_bytes(self.fixed()?)),
            Some(b'q') => Value::U16(u16::from_le_bytes(self.fixed()?)),
            Some(b'i') => Value::I32(i32::from_le_bytes(self.fixed()?)),
            Some(b'u') => Value::U32(self.u32()?),
            Some(b'x') => Value::I64(i64::from_le_bytes(self.fixed()?)),
            Some(b't') => Value::U64(u64::from_le_bytes(self.fixed()?)),
            Some(b'd') => Value::F64(f64::from_le_bytes(self.fixed()?)),
            Some(b's') => {
                let len = self.u32()? as usize;
                Value::Text(self.text(len)?)
            }
            Some(b'o') => {
                let len = self.u32()? as usize;
                let path = self.text(len)?;
                name::check_path(&path)?;
                Value::Path(path)
            }
            Some(b'g') => Value::Signature(self.signature()?),
            Some(b'v') => {
                let of = self.signature()?;
                signature::check_one(&of)?;
                Value::Variant(Box::new(self.value(&of, depth + 1)?))
            }
            Some(b'(') => {
                self.align(8)?;
                Value::Struct(self.list(inside(), depth + 1)?)
            }
            Some(b'{') => {
                self.align(8)?;
                let mut both = self.list(inside(), depth + 1)?;
                match (both.pop(), both.pop()) {
                    (Some(value), Some(key)) => Value::entry(key, value),
                    _ => return Err(Invalid::new("a dictionary's entry lacks a part")),
                }
            }
            Some(b'a') => self.array(signature.get(1..).unwrap_or_default(), depth)?,
            _ => return Err(Invalid::new(format!("signature {signature:?} is not valid"))),
        })
    }

    fn array(&mut self, of: &str, depth: u8) -> Result<Value, Invalid> {
        let len = self.u32()? as usize;
        let letter = of.as_bytes().first().copied().unwrap_or(b'y');
        self.align(signature::alignment(letter))?;
        if letter == b'y' {
            return Ok(Value::Bytes(self.take(len)?.to_vec()));
        }
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| Invalid::new("an array ends behind its message"))?;
        let mut items = Vec::new();
        while self.at < end {
            items.push(self.value(of, depth + 1)?);
        }
        if self.at != end {
            return Err(Invalid::new("an array's last item ends behind it"));
        }
        Ok(Value::Array { of: of.to_owned(), items })
    }
}

/// Takes the bytes of a stream as they come and gives whole messages.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
}

impl Decoder {
    /// Takes more bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next message; `None` until the rest of it is there. Messages of types that the
    /// specification may add later are passed over. After an error the stream is of no more use.
    pub fn next_message(&mut self) -> Result<Option<Message>, Invalid> {
        loop {
            let Some(len) = Message::length(&self.buffer)? else { return Ok(None) };
            if len > MAX_MESSAGE {
                return Err(Invalid::new(format!("a message of {len} bytes is too long")));
            }
            if self.buffer.len() < len {
                return Ok(None);
            }
            let message = Message::decode(&self.buffer[..len])?;
            if self.buffer.len() == len {
                // A large message's room is not kept.
                self.buffer = Vec::new();
            } else {
                self.buffer.drain(..len);
            }
            if message.is_some() {
                return Ok(message);
            }
        }
    }
}
