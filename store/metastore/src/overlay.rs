//! What was journalled and is not yet in redb, in memory, for readers.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::batch::Write;
use crate::{Batch, Table};

/// A value or a deletion.
pub(crate) type Entry = Option<Arc<[u8]>>;

/// One generation of writes by table and key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overlay {
    tables: BTreeMap<&'static str, BTreeMap<Vec<u8>, Entry>>,
}

impl Overlay {
    /// Takes the writes of a batch in.
    pub(crate) fn apply(&mut self, batch: Batch) {
        for Write { table, key, value } in batch.writes {
            self.tables.entry(table.0).or_default().insert(key, value.map(Arc::from));
        }
    }

    /// Whether nothing is pending.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// What is pending for `key`; `None` when nothing is.
    pub(crate) fn get(&self, table: Table, key: &[u8]) -> Option<&Entry> {
        self.tables.get(table.0)?.get(key)
    }

    /// All pending keys that begin with `prefix`.
    pub(crate) fn prefix<'a>(
        &'a self,
        table: Table,
        prefix: &'a [u8],
    ) -> impl Iterator<Item = (&'a Vec<u8>, &'a Entry)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        self.tables
            .get(table.0)
            .into_iter()
            .flat_map(move |keys| keys.range::<[u8], _>(from))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Everything, by table.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&'static str, &BTreeMap<Vec<u8>, Entry>)> {
        self.tables.iter().map(|(name, keys)| (*name, keys))
    }
}
