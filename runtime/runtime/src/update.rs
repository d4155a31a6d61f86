//! Changing the limits of a running container.

use crate::error::{Error, Result};
use crate::record::{Home, Record};
use cgroup::systemd::{self, Manager};
use cgroup::{Cgroup, Resctrl};
use oci::runtime::{IntelRdt, Resources, Status};
use std::path::Path;

/// Limits to change.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Update {
    /// What is set; absent fields stay as they are.
    pub resources: Resources,
    /// New share of the cache.
    pub l3_cache_schema: Option<String>,
    /// New share of memory bandwidth.
    pub mem_bw_schema: Option<String>,
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
    let rdt = divide(&record, update)?;
    apply(&record, update, rdt).map_err(|why| match why {
        // It is not the container's start that failed.
        Error::Cgroup(why) => Error::Refused(why.to_string()),
        other => other,
    })
}

fn apply(record: &Record, update: &Update, rdt: Option<IntelRdt>) -> Result<()> {
    let group = &record.cgroup_paths;
    let resources = with_whole_quota(&update.resources, group);
    if let Some(unit) = &record.systemd {
        let resources = systemd::as_systemd_rounds(&resources);
        Manager::connect(unit.user).and_then(|mut manager| manager.set(unit, group, &resources))?;
        group.apply(&resources)?;
    } else {
        group.apply(&resources)?;
    }
    match (rdt, &record.rdt) {
        (Some(rdt), Some(group)) => Ok(group.set(&rdt)?),
        _ => Ok(()),
    }
}

/// The new shares, when there are any and the container has a group for them.
fn divide(record: &Record, update: &Update) -> Result<Option<IntelRdt>> {
    let refused = |why: &str| Err(Error::Refused(why.into()));
    if update.l3_cache_schema.is_none() && update.mem_bw_schema.is_none() {
        return Ok(None);
    }
    let root = Resctrl::find();
    if update.l3_cache_schema.is_some() && !root.as_ref().is_some_and(Resctrl::has_cache) {
        return refused("Intel RDT/CAT: l3 cache schema is not enabled");
    }
    if update.mem_bw_schema.is_some() && !root.as_ref().is_some_and(Resctrl::has_bandwidth) {
        return refused("Intel RDT/MBA: memory bandwidth schema is not enabled");
    }
    if record.rdt.is_none() {
        return refused("updating a non-existent Intel RDT configuration is not supported");
    }
    Ok(Some(IntelRdt {
        l3_cache_schema: update.l3_cache_schema.clone().unwrap_or_default(),
        mem_bw_schema: update.mem_bw_schema.clone().unwrap_or_default(),
        ..IntelRdt::default()
    }))
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
