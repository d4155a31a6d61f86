//! Talking to the service manager: units started, changed, stopped, each awaited.

use super::annotation::Property;
use super::{Unit, properties};
use crate::{Cgroup, Error};
use dbus::{Address, Connection, Message, Rule, Value};
use oci::runtime::{DeviceRule, Resources};
use std::time::{Duration, Instant};

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const PRIVATE: &str = "/run/systemd/private";
/// How long an answer may take.
const CALL: Duration = Duration::from_secs(25);
/// How long a job may take.
const JOB: Duration = Duration::from_secs(30);

/// A connection to the service manager of the machine or of the user.
#[derive(Debug)]
pub struct Manager {
    bus: Connection,
    /// The manager's version, asked once.
    version: Option<u32>,
}

fn text(error: &dbus::Error) -> String {
    match error {
        dbus::Error::Remote { text, .. } if !text.is_empty() => text.clone(),
        other => other.to_string(),
    }
}

impl Manager {
    /// Connects: as root to the machine's manager, for `user` to one's own.
    ///
    /// # Errors
    /// When there is none, or no bus to it.
    pub fn connect(user: bool) -> Result<Self, Error> {
        let opened = if user { open_user() } else { open_system() };
        let mut bus = opened.map_err(|why| {
            Error::Systemd(format!(
                "failed to connect to dbus (hint: for rootless containers, maybe you need to install dbus-user-session package): {why}"
            ))
        })?;
        // Without a bus between, the manager tells everything to everybody.
        if bus.unique_name().is_some() {
            let rule = Rule::signals().from(NAME).of(PATH).on(INTERFACE).member("JobRemoved");
            bus.subscribe(&rule, CALL)
                .and_then(|()| bus.call(call("Subscribe"), CALL).map(drop))
                .map_err(|e| Error::Systemd(text(&e)))?;
        }
        Ok(Self { bus, version: None })
    }

    fn property(&mut self, name: &str) -> Result<Value, Error> {
        let get = Message::call(PATH, "Get").to(NAME).on("org.freedesktop.DBus.Properties");
        let reply = self.bus.call(get.with(INTERFACE).with(name), CALL);
        let reply = reply.map_err(|e| Error::Systemd(text(&e)))?;
        reply
            .body
            .first()
            .map(|value| value.inner().clone())
            .ok_or_else(|| Error::Systemd(format!("the service manager told no {name}")))
    }

    /// The cgroup of the manager itself, below which all of its units are; empty for root's.
    ///
    /// # Errors
    /// When the manager does not answer.
    pub fn own_cgroup(&mut self) -> Result<String, Error> {
        let value = self.property("ControlGroup")?;
        Ok(value.as_text().unwrap_or_default().to_owned())
    }

    fn version(&mut self) -> Result<u32, Error> {
        if let Some(version) = self.version {
            return Ok(version);
        }
        let value = self.property("Version")?;
        let said = value.as_text().unwrap_or_default().trim_start_matches('v');
        let digits = said.find(|c: char| !c.is_ascii_digit()).map_or(said, |end| &said[..end]);
        let version =
            digits.parse().map_err(|_| Error::Systemd(format!("can't parse version: {said:?}")))?;
        self.version = Some(version);
        Ok(version)
    }

    /// Makes the unit around a process that waits, with all its limits, and awaits that it is.
    ///
    /// # Errors
    /// In the manager's words.
    pub fn start(
        &mut self,
        unit: &Unit,
        pid: i32,
        group: &Cgroup,
        limits: (&Resources, Option<&[DeviceRule]>),
        own: &[Property],
    ) -> Result<(), Error> {
        let version = self.version()?;
        let (resources, devices) = limits;
        let unified = group.is_unified();
        let mut all = properties::of_unit(unit, pid, unified);
        all.extend_from_slice(own);
        all.extend(properties::at_start(resources, version));
        all.extend(devices.map(|d| properties::of_devices(d, version)).unwrap_or_default());
        all.extend(limits_of(resources, unified, version)?);
        let failed =
            |why: &str| Error::Systemd(format!("unable to start unit {:?}: {why}", unit.name));
        let message = call("StartTransientUnit")
            .with(unit.name.as_str())
            .with("replace")
            .with(pairs(all))
            .with(Value::array("(sa(sv))", []));
        let mut answer = self.bus.call(message.clone(), CALL);
        if answer.as_ref().err().and_then(|e| e.name()) == Some(EXISTS) {
            // It may be the rest of one that failed, which only this clears.
            self.forget(unit);
            answer = self.bus.call(message, CALL);
        }
        let answer = match answer {
            Err(error) if error.name() == Some(EXISTS) => {
                return Err(Error::UnitExists { name: unit.name.clone(), text: text(&error) });
            }
            other => other.map_err(|e| failed(&text(&e)))?,
        };
        match self.await_job(&answer) {
            Ok(result) if result == "done" => Ok(()),
            Ok(result) => {
                self.forget(unit);
                let name = &unit.name;
                Err(Error::Systemd(format!("error creating systemd unit `{name}`: got `{result}`")))
            }
            Err(why) => {
                self.forget(unit);
                Err(failed(&why))
            }
        }
    }

    /// Changes the limits of the unit.
    ///
    /// # Errors
    /// In the manager's words.
    pub fn set(&mut self, unit: &Unit, group: &Cgroup, resources: &Resources) -> Result<(), Error> {
        let version = self.version()?;
        let all = limits_of(resources, group.is_unified(), version)?;
        if all.is_empty() {
            return Ok(());
        }
        // For as long as the machine is up, not on disk.
        let message =
            call("SetUnitProperties").with(unit.name.as_str()).with(true).with(pairs(all));
        let answer = self.bus.call(message, CALL);
        answer
            .map(drop)
            .map_err(|e| Error::Systemd(format!("unable to set unit properties: {}", text(&e))))
    }

    /// Ends the unit and has its name forgotten. That it is gone already is no error.
    ///
    /// # Errors
    /// When the manager does not get it done in time.
    pub fn stop(&mut self, unit: &Unit) -> Result<(), Error> {
        let message = call("StopUnit").with(unit.name.as_str()).with("replace");
        if let Ok(answer) = self.bus.call(message, CALL)
            && let Err(why) = self.await_job(&answer)
        {
            let name = &unit.name;
            return Err(Error::Systemd(format!("unable to stop unit {name:?}: {why}")));
        }
        self.forget(unit);
        Ok(())
    }

    /// Moves a process into the unit's cgroup, or below it: for who may not write to its files.
    ///
    /// # Errors
    /// In the manager's words.
    pub fn attach(&mut self, unit: &Unit, below: &str, pid: i32) -> Result<(), Error> {
        let below = format!("/{}", below.trim_matches('/'));
        let message = call("AttachProcessesToUnit")
            .with(unit.name.as_str())
            .with(below)
            .with(Value::array("u", [Value::U32(pid as u32)]));
        self.bus.call(message, CALL).map(drop).map_err(|e| Error::Systemd(text(&e)))
    }

    /// A failed unit keeps its name until this.
    fn forget(&mut self, unit: &Unit) {
        let _ = self.bus.call(call("ResetFailedUnit").with(unit.name.as_str()), CALL);
    }

    fn await_job(&mut self, answer: &Message) -> Result<String, String> {
        let job = answer.body.first().and_then(Value::as_text).ok_or("no job was told")?;
        let end = Instant::now() + JOB;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Some(signal) = self.bus.receive(left).map_err(|e| text(&e))? else {
                if left.is_zero() {
                    return Err("the service manager took too long".into());
                }
                continue;
            };
            let ours = signal.member.as_deref() == Some("JobRemoved")
                && signal.body.get(1).and_then(Value::as_text) == Some(job);
            if ours {
                return Ok(signal.body.get(3).and_then(Value::as_text).unwrap_or("").to_owned());
            }
        }
    }
}

fn call(member: &str) -> Message {
    Message::call(PATH, member).to(NAME).on(INTERFACE)
}

fn pairs(all: Vec<Property>) -> Value {
    Value::array("(sv)", all.into_iter().map(|(name, value)| Value::pair(&name, value)))
}

fn limits_of(resources: &Resources, unified: bool, version: u32) -> Result<Vec<Property>, Error> {
    if unified {
        properties::of_v2(resources, version)
    } else {
        properties::of_v1(resources, version)
    }
}

fn open_system() -> Result<Connection, String> {
    Connection::system(CALL).or_else(|error| {
        // The manager's own socket, for root alone, serves where there is no bus.
        Connection::open_peer(&Address::path(PRIVATE), CALL).map_err(|_| error.to_string())
    })
}

fn open_user() -> Result<Connection, String> {
    let address = Address::session().map_err(|e| e.to_string())?.ok_or(
        "could not detect DBUS_SESSION_BUS_ADDRESS from the environment; make sure you have installed the dbus-user-session or dbus-daemon package; note you may need to re-login",
    )?;
    Connection::open(&address, CALL).map_err(|e| e.to_string())
}
