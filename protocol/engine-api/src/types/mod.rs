//! The types, a file per kind of object. Each is declared once, in wire order.

mod container;
mod events;
mod exec;
mod host_config;
mod image;
mod inspect;
mod message;
mod mount;
mod network;
mod seccomp;
mod stats;
mod summary;
mod system;
mod usage;
mod volume;

pub use container::*;
pub use events::*;
pub use exec::*;
pub use host_config::*;
pub use image::*;
pub use inspect::*;
pub use message::*;
pub use mount::*;
pub use network::*;
pub use seccomp::*;
pub use stats::*;
pub use summary::*;
pub use system::*;
pub use usage::*;
pub use volume::*;

use std::collections::BTreeMap;

/// A map of strings, written in sorted order.
pub type StringMap = BTreeMap<String, String>;
/// A set of names as Go writes it: `{"80/tcp": {}}`.
pub type StringSet = BTreeMap<String, ()>;
