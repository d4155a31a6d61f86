//! Queries, encoded as they grow.

use std::fmt::Write as _;

/// A request's query, encoded as it grows.
#[derive(Debug, Default, Clone)]
pub struct Query(pub(crate) String);

impl Query {
    /// An empty query.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.0.push(if self.0.is_empty() { '?' } else { '&' });
        self.0.push_str(key);
        self.0.push('=');
        encode_into(&mut self.0, value, false);
        self
    }

    /// Adds a parameter unless its value is empty.
    pub fn maybe(self, key: &str, value: &str) -> Self {
        if value.is_empty() { self } else { self.with(key, value) }
    }

    /// Adds a switch if it is on.
    pub fn flag(self, key: &str, on: bool) -> Self {
        if on { self.with(key, "1") } else { self }
    }
}

/// Appends a text, percent-encoded; slashes stay in paths.
pub(crate) fn encode_into(out: &mut String, text: &str, path: bool) {
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric()
            || b"-_.~".contains(&byte)
            || path && b"/:@,+=&$!'()*;".contains(&byte);
        if plain {
            out.push(byte as char);
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}
