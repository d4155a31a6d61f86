//! The terminal and what streams through it: raw mode, sizes, detach keys,
//! signals, the copying of a container's streams, progress of transfers.

pub(crate) mod detach;
pub(crate) mod progress;
pub(crate) mod raw;
pub(crate) mod signals;
pub(crate) mod stream;
