//! The container's cgroup: found, made and limited, through files or as a unit of systemd; with
//! fewer rights, as far as they go.
//!
//! On v2 the cgroup exists before the process, which is born into it. A v1 cgroup has a folder in
//! each hierarchy: they are made beside the mounts of the process, which enters them on its way. A
//! unit of systemd needs a process: that one is born outside and waits, the unit is made around it,
//! and only then it goes on.

use crate::create::Create;
use crate::dev;
use crate::error::{At, Error, Result};
use crate::launch::Launch;
use crate::lifecycle;
use crate::record::Record;
use cgroup::systemd::{self, Manager, Property, Unit};
use cgroup::{Cgroup, Host, RdtGroup, Resctrl};
use oci::runtime::{DeviceRule, IntelRdt, Resources};
use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

/// Where a container's cgroup is and what its limits are.
#[derive(Debug)]
pub(crate) struct Place {
    /// The folders.
    pub group: Cgroup,
    /// The unit, with the systemd driver.
    pub unit: Option<Unit>,
    manager: Option<Manager>,
    properties: Vec<Property>,
    resources: Resources,
    /// `None` where the configuration has no limits at all.
    devices: Option<Vec<DeviceRule>>,
    rootless: bool,
    /// Whether the configuration names the place.
    named: bool,
    /// The group in the resctrl file system.
    pub rdt: Option<RdtGroup>,
    /// Whether the unit is somebody else's, who must not suffer from our failure.
    foreign: Rc<Cell<bool>>,
}

impl Place {
    /// Finds out where; changes nothing.
    ///
    /// # Errors
    /// When the path makes no sense, or there is no service manager to ask.
    pub(crate) fn find(launch: &Launch, request: &Create) -> Result<Self> {
        let path = &launch.linux.cgroups_path;
        let rootless = request.flags.rootless;
        let mut place = Self {
            group: Cgroup::default(),
            unit: None,
            manager: None,
            properties: Vec::new(),
            resources: launch.linux.resources.clone().unwrap_or_default(),
            devices: None,
            rootless,
            named: !path.is_empty(),
            rdt: None,
            foreign: Rc::default(),
        };
        if let (Some(rdt), Some(root)) = (&launch.linux.intel_rdt, Resctrl::find()) {
            place.rdt = Some(root.plan(rdt, &request.id).map_err(rdt_error)?);
        }
        let mut devices = std::mem::take(&mut place.resources.devices);
        devices.extend(dev::default_rules());
        place.devices = launch.linux.resources.as_ref().map(|_| devices);
        if !request.systemd_cgroup {
            place.group = match Host::detect() {
                Ok(host) => host.cgroup(path, &request.id),
                Err(_) if rootless => Cgroup::default(),
                Err(error) => return Err(error.into()),
            };
            return Ok(place);
        }
        if !systemd::is_running() {
            return Err(Error::Refused(
                "systemd not running on this host, cannot use systemd cgroups manager".into(),
            ));
        }
        let plain = |error: cgroup::Error| Error::Refused(error.to_string());
        let host = Host::detect()?;
        let unit = Unit::parse(path, &request.id, rootless && host.is_unified()).map_err(plain)?;
        place.properties = systemd::from_annotations(&launch.spec.annotations).map_err(plain)?;
        let mut manager = Manager::connect(unit.user).map_err(plain)?;
        let above = if unit.user { manager.own_cgroup().map_err(plain)? } else { String::new() };
        place.group = unit.cgroup(&host, &above).map_err(plain)?;
        place.resources = systemd::as_systemd_rounds(&place.resources);
        place.unit = Some(unit);
        place.manager = Some(manager);
        Ok(place)
    }

    /// Refuses a cgroup that has processes, or that would freeze its first one: two containers in one
    /// would share limits, and the end of one would be the end of both.
    ///
    /// # Errors
    /// runc's texts.
    pub(crate) fn refuse_occupied(&self) -> Result<()> {
        let refused = |why: String| Err(Error::Refused(format!("container's cgroup {why}")));
        // Whose a unit is, systemd says when it is asked for it.
        if self.unit.is_some() || !self.group.exists() {
            return Ok(());
        }
        match self.group.pids().len() {
            0 if self.group.is_frozen() => refused("unexpectedly frozen".into()),
            0 => Ok(()),
            count => refused(format!("is not empty: {count} process(es) found")),
        }
    }

    /// Whether v1 folders are made while the process already mounts: it must see the host's mounts
    /// and have the host's rights until it enters them.
    pub(crate) fn is_beside(&self, launch: &Launch) -> bool {
        use sys::ns::flag;
        let joins = |bit: u64| launch.join.iter().any(|(kind, _)| *kind == bit);
        self.unit.is_none()
            && !self.rootless
            && !self.group.is_unified()
            && !launch.in_user_namespace()
            && !joins(flag::MOUNT)
            && !joins(flag::CGROUP)
    }

    /// Makes what a process is born into: the cgroup, or the v2 part of one whose v1 folders are made
    /// beside its mounts.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn make_before(&mut self, launch: &Launch) -> Result<()> {
        if self.is_beside(launch) { Ok(self.group.create_v2()?) } else { self.make(launch) }
    }

    /// Makes the cgroup, for a process that enters it later. A unit's is made by [`Self::adopt`].
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn make(&mut self, launch: &Launch) -> Result<()> {
        if self.unit.is_some() {
            return Ok(());
        }
        if !self.rootless {
            self.group.create()?;
        } else if self.group.is_unified() {
            match self.group.create() {
                Err(error) if error.is_denied() && !self.named => {
                    if self.resources != Resources::default() {
                        return Err(cgroup::Error::Invalid(format!(
                            "rootless needs no limits + no cgrouppath when no permission is granted for cgroups: {error}"
                        ))
                        .into());
                    }
                    self.group = Cgroup::default();
                }
                other => other?,
            }
        } else {
            self.group = self.group.create_where_allowed(self.named)?;
        }
        self.limit()?;
        self.give_away(launch)
    }

    /// Takes back what was made so far; with `kill` after ending what runs in it.
    pub(crate) fn undo(&self, kill: bool) -> impl FnOnce() + use<> {
        let (unit, rdt) = (self.unit.clone(), self.rdt.clone());
        let remains = Remains { unit, group: self.group.clone(), rdt };
        let foreign = Rc::clone(&self.foreign);
        move || {
            if foreign.get() {
                return;
            }
            if kill {
                lifecycle::kill_all(&remains.group);
            }
            drop(remains.remove());
        }
    }

    /// Makes the unit around the waiting process, and what of its cgroup systemd does not make.
    ///
    /// # Errors
    /// When systemd or the kernel refuses.
    pub(crate) fn adopt(&mut self, launch: &Launch, pid: i32) -> Result<()> {
        let (Some(unit), Some(manager)) = (&self.unit, &mut self.manager) else { return Ok(()) };
        let limits = (&self.resources, self.devices.as_deref());
        let started = manager.start(unit, pid, &self.group, limits, &self.properties);
        self.foreign.set(matches!(started, Err(cgroup::Error::UnitExists { .. })));
        started?;
        if self.rootless && !self.group.is_unified() {
            self.group = self.group.create_where_allowed(true)?;
        } else {
            self.group.create()?;
        }
        self.limit()?;
        self.give_away(launch)
    }

    /// Whether a process that may not enter the cgroup is none the worse outside of it.
    pub(crate) fn may_be_outside(&self) -> bool {
        self.rootless && !self.named && self.resources == Resources::default()
    }

    fn limit(&self) -> Result<()> {
        match self.group.apply(&self.resources) {
            Err(cgroup::Error::NoController { controller, .. }) if self.rootless => {
                return Err(cgroup::Error::Invalid(format!(
                    "cannot set {controller} limit: container could not join or create cgroup"
                ))
                .into());
            }
            other => other?,
        }
        let Some(rules) = &self.devices else { return Ok(()) };
        match self.group.apply_devices(rules) {
            // Only root may say it, and who has no rights over devices needs no limit to them.
            Err(cgroup::Error::Io { .. } | cgroup::Error::Write { .. }) if self.rootless => Ok(()),
            other => Ok(other?),
        }
    }

    /// Puts the first process into its resctrl group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn divide(&self, rdt: Option<&IntelRdt>, pid: i32) -> Result<()> {
        let (Some(group), Some(rdt)) = (&self.rdt, rdt) else { return Ok(()) };
        group.create(pid).map_err(rdt_error)?;
        group.set(rdt).map_err(|why| {
            let what = "error setting Intel RDT config for procHooks process";
            Error::Refused(format!("{what}: {why}"))
        })
    }

    /// Gives the cgroup to who is root inside, so that it can be divided there: only on v2, with a
    /// cgroup namespace and a writable mount of the cgroup in it.
    ///
    /// # Errors
    /// As chown(2).
    fn give_away(&self, launch: &Launch) -> Result<()> {
        use sys::ns::flag;
        let delegated = launch.new & flag::CGROUP != 0 && launch.in_user_namespace();
        let writable = |mount: &crate::launch::MountPlan| {
            mount.is_of_cgroups()
                && mount.destination == "/sys/fs/cgroup"
                && !mount.options.read_only()
        };
        if !delegated || self.rootless || !launch.mounts.iter().any(writable) {
            return Ok(());
        }
        let uid = launch.process.user.uid;
        let inside = |map: &&oci::runtime::IdMapping| {
            (map.container_id..map.container_id.saturating_add(map.size)).contains(&uid)
        };
        let Some(map) = launch.linux.uid_mappings.iter().find(inside) else { return Ok(()) };
        self.group.give_to(map.host_id.saturating_add(uid - map.container_id)).map_err(Error::from)
    }
}

fn rdt_error(why: cgroup::Error) -> Error {
    Error::Refused(format!("unable to apply Intel RDT configuration: {why}"))
}

/// What has to be removed with a container.
#[derive(Debug, Clone)]
pub(crate) struct Remains {
    pub unit: Option<Unit>,
    pub group: Cgroup,
    pub rdt: Option<RdtGroup>,
}

impl Remains {
    /// Of a container that exists.
    pub(crate) fn of(record: &Record) -> Self {
        let (unit, rdt) = (record.systemd.clone(), record.rdt.clone());
        Self { unit, group: record.cgroup_paths.clone(), rdt }
    }

    /// Removes a container's cgroup, its unit first, and its resctrl group.
    ///
    /// # Errors
    /// When something of it stays.
    pub(crate) fn remove(&self) -> Result<()> {
        let rdt = self.rdt.as_ref().map_or(Ok(()), RdtGroup::remove);
        remove(self.unit.as_ref(), &self.group)?;
        Ok(rdt?)
    }
}

fn remove(unit: Option<&Unit>, group: &Cgroup) -> Result<()> {
    let stopped = unit.map(|unit| Manager::connect(unit.user).and_then(|mut m| m.stop(unit)));
    // What is left of the folders goes in any case; systemd keeps no record of those.
    group.remove()?;
    stopped.unwrap_or(Ok(())).map_err(|error| Error::Refused(error.to_string()))
}

/// Has the service manager put a process into its unit's cgroup, or the folder below it.
///
/// # Errors
/// In the manager's words.
pub(crate) fn attach(record: &Record, inside: &Path, pid: i32) -> Result<()> {
    let Some(unit) = &record.systemd else { return Ok(()) };
    let top = record.cgroup_paths.v2().unwrap_or(inside);
    let below = |path: &Path| {
        path.strip_prefix(top).unwrap_or(Path::new("")).to_string_lossy().into_owned()
    };
    let mut manager = Manager::connect(unit.user)?;
    match manager.attach(unit, &below(inside), pid) {
        // The container handed its controllers down: where its first process is, others may be.
        Err(error) => match Host::detect()?.v2_of(record.pid) {
            Some(path) if path != inside => Ok(manager.attach(unit, &below(&path), pid)?),
            _ => Err(error.into()),
        },
        Ok(()) => Ok(()),
    }
}

/// Opens the v2 folder that a process is born into.
///
/// # Errors
/// As open(2), but for a lack of rights where that is tolerated.
pub(crate) fn open_v2(group: &Cgroup, rootless: bool) -> Result<Option<std::os::fd::OwnedFd>> {
    match group.open_v2() {
        Err(error) if rootless && error.is_denied() => Ok(None),
        other => other.map_err(std::io::Error::from).at(|| "open cgroup".into()),
    }
}
