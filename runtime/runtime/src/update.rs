//! Changing the limits of a running container.

use crate::error::{Error, Result};
use crate::record::Home;
use cgroup::Cgroup;
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
    let resources = with_whole_quota(&update.resources, group);
    let Some(unit) = &record.systemd else { return Ok(group.apply(&resources)?) };
    let resources = systemd::as_systemd_rounds(&resources);
    Manager::connect(unit.user).and_then(|mut manager| manager.set(unit, group, &resources))?;
    Ok(group.apply(&resources)?)
}

/// Quota and period belong together: the one that is not named keeps its value.
fn with_whole_quota(resources: &Resources, group: &Cgroup) -> Resources {
    let mut whole = resources.clone();
    if let Some(cpu) = &mut whole.cpu
        && cpu.quota.is_some_and(|q| q != 0) != cpu.period.is_some_and(|p| p != 0)
    {
        let (quota, period) = group.cpu_quota();
        cpu.quota = cpu.quota.filter(|q| *q != 0).or(quota);
        cpu.period = cpu.period.filter(|p| *p != 0).or(period);
    }
    whole
}
