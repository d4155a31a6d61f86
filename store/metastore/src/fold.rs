//! The folding thread: the journal's pending writes into redb, in groups.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use redb::{Database, ReadableDatabase, TableDefinition, TableError, WriteTransaction};

use crate::fault;
use crate::overlay::Overlay;
use crate::store::{Shared, State};

const APPLIED: TableDefinition<'_, &str, u64> = TableDefinition::new("_applied");
/// How long pending writes may wait for company.
const GATHER: Duration = Duration::from_millis(40);

/// Folds until the store is closed and nothing is pending.
pub(crate) fn run(shared: &Shared) {
    let mut state = shared.lock();
    loop {
        while state.fresh.is_empty() && !state.closing {
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.fresh.is_empty() || state.broken.is_some() {
            return;
        }
        // A condition variable's time-out is no poll: the store's end cuts it short.
        let (gathered, _) = shared
            .work
            .wait_timeout_while(state, GATHER, |s| !s.closing)
            .unwrap_or_else(PoisonError::into_inner);
        state = gathered;
        state = fold(shared, state);
    }
}

fn fold<'a>(
    shared: &'a Shared,
    mut state: std::sync::MutexGuard<'a, State>,
) -> std::sync::MutexGuard<'a, State> {
    let overlay = Arc::new(std::mem::take(&mut state.fresh));
    state.folding = Arc::clone(&overlay);
    state.journal.turn();
    let upto = state.last;
    drop(state);
    fault::point("fold-before");
    let result = write(&shared.database, &overlay, upto);
    fault::point("fold-committed");
    let mut state = shared.lock();
    match result {
        Ok(()) => {
            state.folded = upto;
            state.folding = Arc::default();
            if let Err(error) = state.journal.cut() {
                state.broken = Some(error.to_string());
            }
            fault::point("fold-cut");
        }
        Err(error) => {
            // The journal keeps what was promised; readers keep the folding overlay.
            tracing::error!(store = %shared.path.display(), %error, "folding the journal failed");
            state.broken = Some(error.to_string());
        }
    }
    shared.durable.notify_all();
    state
}

fn write(database: &Database, overlay: &Overlay, upto: u64) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    for (name, keys) in overlay.tables() {
        let mut table = transaction.open_table(TableDefinition::<&[u8], &[u8]>::new(name))?;
        for (key, entry) in keys {
            match entry {
                Some(value) => table.insert(key.as_slice(), &**value)?,
                None => table.remove(key.as_slice())?,
            };
        }
    }
    set_applied(&transaction, upto)?;
    fault::point("fold-uncommitted");
    Ok(transaction.commit()?)
}

/// The sequence number up to which redb holds everything.
pub(crate) fn applied(database: &Database) -> Result<u64, redb::Error> {
    match database.begin_read()?.open_table(APPLIED) {
        Ok(table) => Ok(table.get("seq")?.map_or(0, |guard| guard.value())),
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Notes within `transaction` up to where it folds.
pub(crate) fn set_applied(transaction: &WriteTransaction, seq: u64) -> Result<(), redb::Error> {
    transaction.open_table(APPLIED)?.insert("seq", seq)?;
    Ok(())
}
