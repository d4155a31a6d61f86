//! Tables and batches: what callers write. No file is touched here.

use serde::Serialize;

use crate::StoreError;

/// A named table, declared as a constant by the one module that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(pub(crate) &'static str);

impl Table {
    /// A table; `name` has 1 to 255 bytes and does not begin with an underscore.
    pub const fn new(name: &'static str) -> Self {
        assert!(!name.is_empty() && name.len() < 256 && name.as_bytes()[0] != b'_');
        Self(name)
    }

    /// The name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// One write: a value, or `None` to delete the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub table: Table,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// Writes that are committed together; later ones win over earlier ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    pub(crate) writes: Vec<Write>,
}

impl Batch {
    /// Sets `key` to `value`.
    pub fn put(mut self, table: Table, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.writes.push(Write { table, key: key.into(), value: Some(value.into()) });
        self
    }

    /// Sets `key` to the JSON of `value`.
    pub fn put_json<T: Serialize + ?Sized>(
        self,
        table: Table,
        key: impl Into<Vec<u8>>,
        value: &T,
    ) -> Result<Self, StoreError> {
        let json = serde_json::to_vec(value)
            .map_err(|source| StoreError::Encode { table: table.0.into(), source })?;
        Ok(self.put(table, key, json))
    }

    /// Removes `key`; removing what is not there is no error.
    pub fn delete(mut self, table: Table, key: impl Into<Vec<u8>>) -> Self {
        self.writes.push(Write { table, key: key.into(), value: None });
        self
    }

    /// Adds all writes of `other`.
    pub fn and(mut self, other: Self) -> Self {
        self.writes.extend(other.writes);
        self
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }
}
