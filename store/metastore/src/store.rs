//! The store: opening with replay, committing, reading.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use redb::{Database, ReadableDatabase, TableDefinition, TableError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::journal::{Journal, Replayed};
use crate::overlay::Overlay;
use crate::{Batch, StoreError, Table, fold};

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("_meta");
/// Cache of redb in bytes: its default held 20 MiB.
const CACHE: usize = 1 << 20;
/// Below this size a file is never compacted, in bytes.
const COMPACT_FROM: u64 = 8 << 20;

/// What a commit must survive before it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The end of this process; a power cut only after some 50 ms.
    Crash,
    /// A power cut.
    Power,
}

/// Which record formats a program writes, and who may read them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Format {
    /// The format that this program writes.
    pub version: u32,
    /// The oldest `version` of a program that can read it.
    pub min_reader: u32,
}

#[derive(Serialize, Deserialize)]
struct StoredFormat {
    format: u32,
    min_reader: u32,
}

/// Where a commit stands in the sequence of all commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(pub(crate) u64);

/// An open store: cheap to clone, shared between threads.
#[derive(Clone)]
pub struct Store(Arc<Handle>);

struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

pub(crate) struct Shared {
    pub path: PathBuf,
    pub database: Database,
    pub state: Mutex<State>,
    /// Wakes the folding thread.
    pub work: Condvar,
    /// Wakes those who wait until something is durable.
    pub durable: Condvar,
}

pub(crate) struct State {
    pub journal: Journal,
    /// The last sequence number given out.
    pub last: u64,
    /// The last one that is durable in redb.
    pub folded: u64,
    /// The last one that is durable in the journal.
    pub synced: u64,
    /// Somebody is syncing the journal.
    pub syncing: bool,
    /// Pending, not yet taken by the folding thread.
    pub fresh: Overlay,
    /// Taken by the folding thread, not yet committed.
    pub folding: Arc<Overlay>,
    pub closing: bool,
    /// Why no more writes are taken.
    pub broken: Option<String>,
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held leaves at worst an unpublished record.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Opens or creates the store at `path` and replays its journal (the two files
    /// `path` with extensions `journal0` and `journal1`).
    ///
    /// # Errors
    /// [`StoreError::TooNew`] when the stored `min_reader` is above `format.version`.
    pub fn open(path: &Path, format: Format) -> Result<Self, StoreError> {
        let mut database = redb::Builder::new()
            .set_cache_size(CACHE)
            .create(path)
            .map_err(StoreError::db("opening", path))?;
        check_format(&mut database, path, format)?;
        let (mut journal, records) = Journal::open(path)?;
        let durable = replay(&database, path, records)?;
        journal.clear()?;
        compact(&mut database, path)?;
        let shared = Arc::new(Shared {
            path: path.to_owned(),
            database,
            state: Mutex::new(State {
                journal,
                last: durable,
                folded: durable,
                synced: durable,
                syncing: false,
                fresh: Overlay::default(),
                folding: Arc::default(),
                closing: false,
                broken: None,
            }),
            work: Condvar::new(),
            durable: Condvar::new(),
        });
        let folder = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .stack_size(256 << 10)
            .spawn(move || fold::run(&folder))
            .map_err(StoreError::io("starting the folding thread of", path))?;
        Ok(Self(Arc::new(Handle { shared, thread: Mutex::new(Some(thread)) })))
    }

    /// Commits `batch` as one; an empty one is no work.
    pub fn commit(&self, class: Class, batch: Batch) -> Result<(), StoreError> {
        let position = self.append(batch)?;
        match class {
            Class::Crash => Ok(()),
            Class::Power => self.wait_durable(position),
        }
    }

    /// Commits `batch` with [`Class::Crash`] and says where it stands, so that a caller can
    /// give up its own locks before it waits with [`wait_durable`](Self::wait_durable).
    pub fn append(&self, batch: Batch) -> Result<Position, StoreError> {
        let shared = &self.0.shared;
        let mut state = shared.lock();
        if batch.is_empty() {
            return Ok(Position(state.last));
        }
        shared.check(&state)?;
        let seq = state.last + 1;
        state.journal.append(seq, &batch)?;
        state.last = seq;
        let first = state.fresh.is_empty();
        state.fresh.apply(batch);
        if first {
            shared.work.notify_one();
        }
        Ok(Position(seq))
    }

    /// Where the last commit stands: equal means that nothing was written in between.
    pub fn position(&self) -> Position {
        Position(self.0.shared.lock().last)
    }

    /// Returns once everything up to `position` would survive a power cut: one sync of the
    /// journal, shared by all who wait meanwhile. (A commit of redb is two.)
    pub fn wait_durable(&self, position: Position) -> Result<(), StoreError> {
        let shared = &self.0.shared;
        let mut state = shared.lock();
        while state.folded.max(state.synced) < position.0 {
            shared.check(&state)?;
            if state.syncing {
                state = shared.durable.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.syncing = true;
            let upto = state.last;
            let files = state.journal.files();
            drop(state);
            let result = files.sync();
            state = shared.lock();
            state.syncing = false;
            match result {
                Ok(()) => state.synced = upto,
                // What the kernel could not write once it may have dropped: nothing may be
                // promised on top of that.
                Err(error) => state.broken = Some(error.to_string()),
            }
            shared.durable.notify_all();
        }
        Ok(())
    }

    /// The value of `key`.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let shared = &self.0.shared;
        let transaction = {
            let state = shared.lock();
            let pending = state.fresh.get(table, key).or_else(|| state.folding.get(table, key));
            if let Some(entry) = pending {
                return Ok(entry.as_ref().map(|value| value.to_vec()));
            }
            shared.read()?
        };
        let db = |e: redb::Error| StoreError::db("reading", &shared.path)(e);
        let definition = TableDefinition::<&[u8], &[u8]>::new(table.0);
        let found = match transaction.open_table(definition) {
            Ok(found) => found,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(db(error.into())),
        };
        let value = found.get(key).map_err(|e| db(e.into()))?;
        Ok(value.map(|guard| guard.value().to_vec()))
    }

    /// All keys that begin with `prefix`, with their values, sorted by key.
    #[allow(clippy::type_complexity)]
    pub fn scan(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let shared = &self.0.shared;
        let (transaction, pending) = {
            let state = shared.lock();
            let mut pending = BTreeMap::new();
            for overlay in [&*state.folding, &state.fresh] {
                pending.extend(
                    overlay.prefix(table, prefix).map(|(key, entry)| (key.clone(), entry.clone())),
                );
            }
            (shared.read()?, pending)
        };
        let db = |e: redb::Error| StoreError::db("reading", &shared.path)(e);
        let definition = TableDefinition::<&[u8], &[u8]>::new(table.0);
        let mut rows = Vec::new();
        match transaction.open_table(definition) {
            Ok(found) => {
                for row in found.range(prefix..).map_err(|e| db(e.into()))? {
                    let (key, value) = row.map_err(|e| db(e.into()))?;
                    if !key.value().starts_with(prefix) {
                        break;
                    }
                    if !pending.contains_key(key.value()) {
                        rows.push((key.value().to_vec(), value.value().to_vec()));
                    }
                }
            }
            Err(TableError::TableDoesNotExist(_)) => {}
            Err(error) => return Err(db(error.into())),
        }
        let merge = !pending.is_empty() && !rows.is_empty();
        rows.extend(
            pending.into_iter().filter_map(|(key, e)| e.map(|value| (key, value.to_vec()))),
        );
        if merge {
            rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        }
        Ok(rows)
    }

    /// The record of `key`, decoded from JSON.
    pub fn get_json<T: DeserializeOwned>(
        &self,
        table: Table,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        self.get(table, key)?.map(|value| decode(table, key, &value)).transpose()
    }

    /// All records whose keys begin with `prefix`, decoded from JSON, sorted by key.
    pub fn scan_json<T: DeserializeOwned>(
        &self,
        table: Table,
        prefix: &[u8],
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let rows = self.scan(table, prefix)?.into_iter();
        rows.map(|(key, value)| decode(table, &key, &value).map(|value| (key, value))).collect()
    }
}

fn decode<T: DeserializeOwned>(table: Table, key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(value).map_err(|source| StoreError::Decode {
        table: table.0.into(),
        key: String::from_utf8_lossy(key).into_owned(),
        source,
    })
}

impl Shared {
    fn check(&self, state: &State) -> Result<(), StoreError> {
        match &state.broken {
            Some(reason) => {
                Err(StoreError::Broken { path: self.path.clone(), reason: reason.clone() })
            }
            None => Ok(()),
        }
    }

    fn read(&self) -> Result<redb::ReadTransaction, StoreError> {
        self.database.begin_read().map_err(StoreError::db("beginning to read", &self.path))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.work.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn check_format(database: &mut Database, path: &Path, ours: Format) -> Result<(), StoreError> {
    let stored = stored_format(database, path)?;
    if let Some(stored) = &stored {
        if stored.min_reader > ours.version {
            return Err(StoreError::TooNew {
                path: path.to_owned(),
                format: stored.format,
                min_reader: stored.min_reader,
                version: ours.version,
            });
        }
        if stored.format >= ours.version {
            return Ok(());
        }
        let copy = path.with_extension(format!("format{}", stored.format));
        std::fs::copy(path, &copy).map_err(StoreError::io("copying the older store to", &copy))?;
    }
    let meta = StoredFormat { format: ours.version, min_reader: ours.min_reader };
    let json = serde_json::to_vec(&meta)
        .map_err(|source| StoreError::Encode { table: "_meta".into(), source })?;
    let write = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        transaction.open_table(META)?.insert("format", json.as_slice())?;
        Ok(transaction.commit()?)
    };
    write().map_err(StoreError::db("writing the format", path))
}

fn stored_format(database: &Database, path: &Path) -> Result<Option<StoredFormat>, StoreError> {
    let read = || -> Result<Option<Vec<u8>>, redb::Error> {
        let transaction = database.begin_read()?;
        match transaction.open_table(META) {
            Ok(table) => Ok(table.get("format")?.map(|guard| guard.value().to_vec())),
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    };
    let Some(json) = read().map_err(StoreError::db("reading the format", path))? else {
        return Ok(None);
    };
    serde_json::from_slice(&json).map(Some).map_err(|source| StoreError::NotAStore {
        path: path.to_owned(),
        what: format!("its format record is {source}"),
    })
}

// Applies what the journal holds beyond redb, up to the first gap; gives the last number.
fn replay(database: &Database, path: &Path, records: Vec<Replayed>) -> Result<u64, StoreError> {
    let run = || -> Result<u64, redb::Error> {
        let mut applied = fold::applied(database)?;
        let mut due = Vec::new();
        for record in records {
            if record.seq == applied + 1 {
                applied = record.seq;
                due.push(record);
            }
        }
        if due.is_empty() {
            return Ok(applied);
        }
        let transaction = database.begin_write()?;
        for record in &due {
            for (table, key, value) in &record.writes {
                let mut table =
                    transaction.open_table(TableDefinition::<&[u8], &[u8]>::new(table))?;
                match value {
                    Some(value) => table.insert(key.as_slice(), value.as_slice())?,
                    None => table.remove(key.as_slice())?,
                };
            }
        }
        fold::set_applied(&transaction, applied)?;
        transaction.commit()?;
        Ok(applied)
    };
    run().map_err(StoreError::db("replaying the journal", path))
}

fn compact(database: &mut Database, path: &Path) -> Result<(), StoreError> {
    let size = std::fs::metadata(path).map_err(StoreError::io("reading the size of", path))?.len();
    if size < COMPACT_FROM {
        return Ok(());
    }
    let run = |database: &mut Database| -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        let stats = transaction.stats()?;
        let live = stats.stored_bytes() + stats.metadata_bytes();
        transaction.abort()?;
        if size > live.saturating_mul(4) {
            database.compact()?;
        }
        Ok(())
    };
    run(database).map_err(StoreError::db("compacting", path))
}
