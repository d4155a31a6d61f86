//! What is told about containers: state, list, processes, figures.

use crate::error::{At, Error, Result};
use crate::record::{Home, Record};
use oci::runtime::Status;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// One container as `state` and `list` show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listed {
    /// Version of the specification.
    pub oci_version: String,
    /// Id.
    pub id: String,
    /// Process id on the host; 0 when there is none.
    pub pid: i32,
    /// Status.
    pub status: Status,
    /// Bundle.
    pub bundle: String,
    /// Root file system.
    pub rootfs: String,
    /// When it was created, RFC 3339.
    pub created: String,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Owner of the state, `list` alone.
    pub owner: String,
}

fn listed(home: &Home, record: &Record, owner: String) -> Listed {
    let status = home.status(record);
    let version = if record.oci_version.is_empty() {
        oci::runtime::SPEC_VERSION.into()
    } else {
        record.oci_version.clone()
    };
    Listed {
        oci_version: version,
        id: record.id.clone(),
        pid: if status == Status::Stopped { 0 } else { record.pid },
        status,
        bundle: record.bundle.to_string_lossy().into_owned(),
        rootfs: record.rootfs.to_string_lossy().into_owned(),
        created: record.created.clone(),
        annotations: record.annotations.clone(),
        owner,
    }
}

/// State of a container.
///
/// # Errors
/// When there is none.
pub fn state_of(root: &Path, id: &str) -> Result<Listed> {
    let home = Home::open(root, id)?;
    let record = home.load()?;
    Ok(listed(&home, &record, String::new()))
}

/// The same as the document that `state` prints: two spaces of indentation.
///
/// # Errors
/// When there is no such container.
pub fn state_document(root: &Path, id: &str) -> Result<String> {
    serde_json::to_string_pretty(&state_of(root, id)?).map_err(|e| Error::Spec(e.to_string()))
}

/// All containers, by id.
///
/// # Errors
/// When the root can't be read.
pub fn list(root: &Path) -> Result<Vec<Listed>> {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(root).at(|| format!("open {}", root.display()))?;
    let mut all = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let Some(id) = entry.file_name().to_str().map(str::to_owned) else { continue };
        let Ok(home) = Home::open(root, &id) else { continue };
        // One that is being created or deleted right now is skipped, as runc does with a warning.
        let Ok(record) = home.load() else { continue };
        let uid = entry.metadata().map_or(0, |m| m.uid());
        all.push(listed(&home, &record, user_name(uid)));
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(all)
}

fn user_name(uid: u32) -> String {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let wanted = uid.to_string();
    let entry = text.lines().find(|l| l.split(':').nth(2) == Some(wanted.as_str()));
    entry.and_then(|l| l.split(':').next()).map_or(format!("#{uid}"), str::to_owned)
}

/// Process ids of a container, on the host.
///
/// # Errors
/// When there is no such container.
pub fn pids(root: &Path, id: &str) -> Result<Vec<i32>> {
    Ok(Home::open(root, id)?.load()?.cgroup_paths.pids())
}

/// The line of `events --stats`, and whether the container still runs.
///
/// # Errors
/// When there is no such container, or it is stopped.
pub fn event_stats(root: &Path, id: &str) -> Result<String> {
    #[derive(Serialize)]
    struct Event<'a> {
        #[serde(rename = "type")]
        kind: &'a str,
        id: &'a str,
        data: cgroup::Stats,
    }
    let home = Home::open(root, id)?;
    let record = home.load()?;
    if home.status(&record) == Status::Stopped {
        return Err(Error::Refused(format!("container with id {id} is not running")));
    }
    let mut data = record.cgroup_paths.stats();
    if let Some(rdt) = &record.rdt {
        data.intel_rdt = rdt.stats();
    }
    let event = Event { kind: "stats", id, data };
    serde_json::to_string(&event).map_err(|e| Error::Spec(e.to_string()))
}

/// Tells of a container until it ends: figures at every interval, and each time that its memory
/// runs out; one JSON line an event.
///
/// # Errors
/// When there is no such container, it is stopped, or its memory can't be watched.
pub fn follow_events(
    root: &Path,
    id: &str,
    interval: Duration,
    each: &mut dyn FnMut(&str),
) -> Result<()> {
    let record = Home::open(root, id)?.load()?;
    let stopped = || Error::Refused(format!("container with id {id} is not running"));
    let pidfd = sys::clone::pidfd_open(record.pid).map_err(|_| stopped())?;
    if !crate::record::is_alive(record.pid, record.start_time) {
        return Err(stopped());
    }
    let mut oom = cgroup::OomWatch::begin(&record.cgroup_paths)?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let left =
            Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        if let Some(oom) = &oom {
            fds.push(PollFd::from_borrowed_fd(oom.fd(), PollFlags::IN));
        }
        let polled = poll(&mut fds, Some(&left));
        let ended = polled.is_ok() && !fds[0].revents().is_empty();
        let told = polled.is_ok() && fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        drop(fds);
        if told && oom.as_mut().is_some_and(cgroup::OomWatch::happened) {
            let id = serde_json::Value::from(id);
            each(&format!("{{\"type\":\"oom\",\"id\":{id}}}"));
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            each(&event_stats(root, id)?);
            next += interval;
        }
    }
}
