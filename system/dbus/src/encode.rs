//! Values into bytes, in the machine's usual order (little-endian). What the other side would
//! refuse is refused here.

use crate::error::Invalid;
use crate::value::{MAX_DEPTH, Value};
use crate::{name, signature};

/// The longest array, by the specification.
const MAX_ARRAY: usize = 1 << 26;

/// Bytes so far; alignment counts from their start.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn align(&mut self, to: usize) {
        self.0.resize(self.0.len().next_multiple_of(to), 0);
    }

    fn fixed(&mut self, bytes: &[u8]) {
        self.align(bytes.len());
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.fixed(&value.to_le_bytes());
    }

    fn text(&mut self, text: &str) -> Result<(), Invalid> {
        if text.contains('\0') {
            return Err(Invalid::new("a string contains a NUL"));
        }
        let len = u32::try_from(text.len()).map_err(|_| Invalid::new("a string is too long"))?;
        self.u32(len);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
        Ok(())
    }

    fn signature(&mut self, text: &str) {
        // Checked: at most 255 bytes.
        self.0.push(text.len() as u8);
        self.0.extend_from_slice(text.as_bytes());
        self.0.push(0);
    }

    /// Appends a value.
    pub(crate) fn value(&mut self, value: &Value) -> Result<(), Invalid> {
        self.at(value, 0)
    }

    fn at(&mut self, value: &Value, depth: u8) -> Result<(), Invalid> {
        if depth > MAX_DEPTH {
            return Err(Invalid::new("a value is nested too deeply"));
        }
        match value {
            Value::Byte(n) => self.0.push(*n),
            Value::Bool(on) => self.u32(u32::from(*on)),
            Value::I16(n) => self.fixed(&n.to_le_bytes()),
            Value::U16(n) => self.fixed(&n.to_le_bytes()),
            Value::I32(n) => self.fixed(&n.to_le_bytes()),
            Value::U32(n) => self.u32(*n),
            Value::I64(n) => self.fixed(&n.to_le_bytes()),
            Value::U64(n) => self.fixed(&n.to_le_bytes()),
            Value::F64(n) => self.fixed(&n.to_le_bytes()),
            Value::Text(text) => self.text(text)?,
            Value::Path(path) => {
                name::check_path(path)?;
                self.text(path)?;
            }
            Value::Signature(text) => {
                signature::check(text)?;
                self.signature(text);
            }
            Value::Bytes(bytes) => self.array("y", |w| {
                w.0.extend_from_slice(bytes);
                Ok(())
            })?,
            Value::Array { of, items } => self.items(of, items, depth)?,
            Value::Struct(fields) => {
                if fields.is_empty() {
                    return Err(Invalid::new("a struct without fields"));
                }
                self.align(8);
                fields.iter().try_for_each(|field| self.at(field, depth + 1))?;
            }
            Value::Entry(pair) => {
                self.align(8);
                self.at(&pair.0, depth + 1)?;
                self.at(&pair.1, depth + 1)?;
            }
            Value::Variant(inside) => {
                let mut text = String::new();
                inside.sign(&mut text);
                signature::check_one(&text)?;
                self.signature(&text);
                self.at(inside, depth + 1)?;
            }
        }
        Ok(())
    }

    fn items(&mut self, of: &str, items: &[Value], depth: u8) -> Result<(), Invalid> {
        signature::check_one(&format!("a{of}"))?;
        let mut text = String::new();
        self.array(of, |writer| {
            for item in items {
                text.clear();
                item.sign(&mut text);
                if text != of {
                    return Err(Invalid::new(format!("an item {text} in an array of {of}")));
                }
                writer.at(item, depth + 1)?;
            }
            Ok(())
        })
    }

    /// The length first, which does not count the padding before the first item.
    fn array(
        &mut self,
        of: &str,
        fill: impl FnOnce(&mut Self) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        self.u32(0);
        let length = self.0.len() - 4;
        self.align(signature::alignment(of.as_bytes().first().copied().unwrap_or(b'y')));
        let start = self.0.len();
        fill(self)?;
        let len = self.0.len() - start;
        if len > MAX_ARRAY {
            return Err(Invalid::new("an array is longer than 64 MiB"));
        }
        self.0[length..length + 4].copy_from_slice(&(len as u32).to_le_bytes());
        Ok(())
    }
}
