//! Seam suites: the whole of Ferry against the real programs.
//!
//! Each suite in `tests/` is one promise. A suite that compares also runs on the real
//! peer, so that the suite itself is known to be right: what the reference fails is a
//! wrong test. This library holds what several suites share: making outputs comparable,
//! and looking for what a container left behind.

mod leftovers;
mod normal;

pub use leftovers::Leftovers;
pub use normal::normal;
