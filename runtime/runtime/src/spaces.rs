//! Namespaces that the parent changes on behalf of its child, before the clone.

use crate::error::{At, Result};
use crate::launch::Launch;
use rustix::fs::{Mode, OFlags};
use std::os::fd::OwnedFd;
use sys::ns::flag;

/// The file of a namespace of our own.
///
/// # Errors
/// As open(2).
pub(crate) fn own_namespace(bit: u64) -> Result<OwnedFd> {
    let name = match bit {
        flag::PID => "pid",
        flag::NET => "net",
        flag::IPC => "ipc",
        flag::UTS => "uts",
        flag::TIME => "time",
        _ => "cgroup",
    };
    let path = format!("/proc/self/ns/{name}");
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at(|| format!("open {path}"))
}

/// New clocks for the next child, with their offsets, which must be set before it exists.
///
/// # Errors
/// As unshare(2) and write(2).
pub(crate) fn new_clocks(launch: &Launch) -> Result<()> {
    sys::ns::unshare(flag::TIME).at(|| "unshare time namespace".into())?;
    for (clock, offset) in &launch.linux.time_offsets {
        let line = format!("{clock} {} {}\n", offset.secs, offset.nanosecs);
        std::fs::write("/proc/self/timens_offsets", line)
            .at(|| format!("failed to set time offset of {clock}"))?;
    }
    Ok(())
}
