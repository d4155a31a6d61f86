//! The systemd driver: a container is a transient unit of the service manager, which makes its
//! cgroup and knows its limits. What systemd has no property for is written to the files as always.

mod annotation;
mod manager;
mod properties;
mod unit;

pub use annotation::{Property, from_annotations};
pub use manager::Manager;
pub use properties::as_systemd_rounds;
pub use unit::Unit;

/// Whether the machine was booted with systemd, as sd_booted(3) tells.
pub fn is_running() -> bool {
    rustix::fs::lstat("/run/systemd/system").is_ok_and(|stat| stat.st_mode & 0o170_000 == 0o040_000)
}
