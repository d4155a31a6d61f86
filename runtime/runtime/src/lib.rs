//! OCI bundle to process: the library of ferry-runc.
//!
//! `create` is the way in; `init` draws the whole start of a container at its head. Synchronous and
//! single-threaded throughout: one clone3 makes a container. What must not be here: the command
//! line, and anything about images, networks or daemons.

mod attend;
mod caps;
mod console;
mod create;
mod criu;
mod dev;
mod error;
mod exec;
mod features;
mod foreground;
mod group;
mod hooks;
mod idmap;
mod init;
mod launch;
mod lifecycle;
mod mounts;
mod netdev;
mod notify;
mod numa;
mod options;
mod proc_root;
mod process;
mod protect;
mod record;
mod report;
pub mod seccomp;
mod signals;
mod spaces;
mod sync;
mod tree;
mod update;

pub use create::{Create, create, run};
pub use criu::{Criu, checkpoint, restore};
pub use error::{Error, Lower, Result};
pub use exec::{Exec, exec};
pub use features::features;
pub use init::Flags;
pub use launch::check;
pub use lifecycle::{delete, kill, pause, resume, start};
pub use protect::protect;
pub use record::{Home, Record, check_id, format_time};
pub use report::{Listed, event_stats, follow_events, list, pids, state_document, state_of};
pub use signals::parse_signal;
pub use update::{Update, update};
