//! Records that survive: an append journal in front of redb.
//!
//! A [`Store`] is a set of named tables of bytes. A [`Batch`] is committed as one:
//! with [`Class::Crash`] through one `write(2)` into the journal, which outlives the
//! process but not a power cut; with [`Class::Power`] the call returns after that file
//! was synced. One thread folds the journal into redb in groups and durably, within
//! 50 ms. Reads see a batch as soon as its commit has returned.
//!
//! Absent here: what a record means, any async runtime, any lock over callers'
//! read-then-write (the owner of a table has that).

mod batch;
mod error;
pub mod fault;
mod fold;
mod journal;
mod overlay;
mod store;

pub use batch::{Batch, Table};
pub use error::StoreError;
pub use store::{Class, Format, Position, Store};
