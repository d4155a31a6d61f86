//! Changing the limits of a running container.

use crate::error::{Error, Result};
use crate::record::Home;
use cgroup::systemd::{self, Manager};
use oci::runtime::{Resources, Status};
use std::path::Path;

/// Limits to change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Update {
    /// What is set; absent fields stay as they are.
    pub resources: Resources,
}

/// Applies new limits. Device rules are no part of an update.
///
/// # Errors
/// When the container does not run or the kernel refuses a limit.
pub fn update(root: &Path, id: &str, update: &Update) -> Result<()> {
    let home = Home::lock(root, id)?;
    let record = home.load()?;
    if home.status(&record) == Status::Stopped {
        return Err(Error::Refused("container not running".into()));
    }
    let group = &record.cgroup_paths;
    let Some(unit) = &record.systemd else { return Ok(group.apply(&update.resources)?) };
    let resources = systemd::as_systemd_rounds(&update.resources);
    Manager::connect(unit.user).and_then(|mut manager| manager.set(unit, group, &resources))?;
    Ok(group.apply(&resources)?)
}
