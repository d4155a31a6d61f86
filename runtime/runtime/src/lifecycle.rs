//! start, kill, pause, resume, delete: what is done to a container that exists.

use crate::error::{At, Error, Result};
use crate::group::Remains;
use crate::hooks;
use crate::notify::Notify;
use crate::record::{self, Home, Record};
use oci::runtime::{State, Status};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

/// How long a killed process may take to vanish.
const KILL_SECONDS: i64 = 10;

/// The state document of a container.
pub(crate) fn state(record: &Record, status: Status) -> State {
    State {
        oci_version: record.oci_version.clone(),
        id: record.id.clone(),
        status,
        pid: record.pid,
        bundle: record.bundle.to_string_lossy().into_owned(),
        annotations: record.annotations.clone(),
    }
}

/// Lets the program of a created container be executed.
///
/// # Errors
/// When the container is in another status.
pub fn start(root: &Path, id: &str) -> Result<()> {
    let home = Home::lock(root, id)?;
    let record = home.load()?;
    let refused = |why: &str| Err(Error::Refused(why.into()));
    match home.status(&record) {
        Status::Created => {}
        Status::Stopped => return refused("cannot start a container that has stopped"),
        Status::Creating => return refused("cannot start a container that is being created"),
        Status::Running | Status::Paused => {
            return refused("cannot start an already running container");
        }
    }
    let path = home.fifo();
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fifo = match rustix::fs::open(&path, flags, Mode::empty()) {
        Err(rustix::io::Errno::NXIO) => {
            return refused("cannot start a container that has stopped");
        }
        other => other.at(|| format!("open exec fifo {}", path.display()))?,
    };
    let notify = Notify::bind(&home)?;
    // The name goes first: a runtime killed in between leaves a container that waits and counts as
    // running; the other order could leave one that runs and counts as created.
    rustix::fs::unlink(&path).at(|| "remove exec fifo".into())?;
    rustix::io::write(&fifo, b"0").at(|| "write exec fifo".into())?;
    let running = state(&record, Status::Running);
    if let Err(error) = hooks::run_all("poststart", &record.poststart, &running) {
        let _ = signal_init(&record, 9);
        return Err(error);
    }
    match (notify, open_init(&record)) {
        (Some(notify), Some(pidfd)) => notify.wait(record.pid, &pidfd),
        _ => Ok(()),
    }
}

/// A pidfd of the container's first process, checked against reuse of the pid.
fn open_init(record: &Record) -> Option<OwnedFd> {
    let pidfd = sys::clone::pidfd_open(record.pid).ok()?;
    record::is_alive(record.pid, record.start_time).then_some(pidfd)
}

fn signal_init(record: &Record, signal: i32) -> Result<()> {
    let gone = || Error::Refused("container not running".into());
    let pidfd = open_init(record).ok_or_else(gone)?;
    match sys::clone::pidfd_kill(pidfd.as_fd(), signal) {
        Err(e) if e.raw_os_error() == Some(3) => Err(gone()),
        other => other.at(|| "unable to signal init".into()),
    }
}

/// Sends a signal to the first process, or with `all` (or when killing a container that has no pid
/// namespace of its own) to every process of the container.
///
/// # Errors
/// When the container does not run.
pub fn kill(root: &Path, id: &str, signal: i32, all: bool) -> Result<()> {
    let home = Home::open(root, id)?;
    let record = home.load()?;
    let group = &record.cgroup_paths;
    let stopped = home.status(&record) == Status::Stopped;
    if all || (signal == 9 && record.shared_pids && !stopped) {
        signal_all(&record, signal);
        return Ok(());
    }
    if stopped {
        return Err(Error::Refused("container not running".into()));
    }
    signal_init(&record, signal)?;
    if signal == 9 && group.is_frozen() {
        group.freeze(false)?;
    }
    Ok(())
}

/// Signals every process of the cgroup. Frozen meanwhile, so that none forks away, unless the
/// kernel can do it at once; on v1 a frozen task can't even be killed, so it is thawed after.
fn signal_all(record: &Record, signal: i32) {
    let group = &record.cgroup_paths;
    if signal == 9 && group.kill_by_kernel() {
        return;
    }
    let was_frozen = group.is_frozen();
    let frozen = was_frozen || group.freeze(true).is_ok();
    for pid in group.pids_anywhere() {
        let _ = sys::clone::kill(pid, signal);
    }
    if frozen && (signal == 9 || !was_frozen) {
        let _ = group.freeze(false);
    }
}

/// Kills whatever is in a cgroup.
pub(crate) fn kill_all(group: &cgroup::Cgroup) {
    if !group.kill_by_kernel() {
        for pid in group.pids_anywhere() {
            let _ = sys::clone::kill(pid, 9);
        }
    }
}

/// Freezes a container.
///
/// # Errors
/// When it does not run.
pub fn pause(root: &Path, id: &str) -> Result<()> {
    let home = Home::lock(root, id)?;
    let record = home.load()?;
    match home.status(&record) {
        Status::Running | Status::Created => Ok(record.cgroup_paths.freeze(true)?),
        _ => Err(Error::Refused("container not running".into())),
    }
}

/// Thaws a container.
///
/// # Errors
/// When it is not frozen.
pub fn resume(root: &Path, id: &str) -> Result<()> {
    let home = Home::lock(root, id)?;
    let record = home.load()?;
    match home.status(&record) {
        Status::Paused => Ok(record.cgroup_paths.freeze(false)?),
        _ => Err(Error::Refused("container not paused".into())),
    }
}

/// Removes a container that has ended or was never started; with `force` also one that runs, or
/// whose creation broke off. A missing one is no error then.
///
/// # Errors
/// When it runs, or something of it stays.
pub fn delete(root: &Path, id: &str, force: bool) -> Result<()> {
    let home = match Home::lock(root, id) {
        Err(Error::NotFound) if force => return Ok(()),
        other => other?,
    };
    let Ok(record) = home.load() else {
        // The runtime died before it did anything else.
        return if force { home.remove() } else { Err(Error::NotFound) };
    };
    match home.status(&record) {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => {
            return Err(Error::Refused(format!(
                "cannot delete container {id} that is not stopped: {status}"
            )));
        }
    }
    destroy_now(&home, &record)
        .map_err(|why| Error::Refused(format!("unable to destroy container: {why}")))
}

/// Ends what still runs, removes the cgroup, runs the hooks, removes the state.
pub(crate) fn destroy_now(home: &Home, record: &Record) -> Result<()> {
    let group = &record.cgroup_paths;
    let init = open_init(record);
    if let Some(pidfd) = &init {
        let _ = sys::clone::pidfd_kill(pidfd.as_fd(), 9);
        if group.is_frozen() {
            let _ = group.freeze(false);
        }
    }
    let half_made = record.pid == 0;
    if (half_made || record.shared_pids) && !group.pids_anywhere().is_empty() {
        signal_all(record, 9);
    }
    if let Some(pidfd) = &init {
        let limit = Timespec { tv_sec: KILL_SECONDS, tv_nsec: 0 };
        let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
        if poll(&mut fds, Some(&limit)) == Ok(0) {
            return Err(Error::Refused("container init still running".into()));
        }
        // In `run` the process is our own child; elsewhere this finds nothing.
        let _ = sys::clone::wait(record.pid, false);
    }
    let remains = Remains::of(record);
    match remains.remove() {
        Err(Error::Cgroup(error)) if record.rootless && error.is_denied() => {}
        // Something stayed that was neither the first process nor in its pid namespace.
        Err(_) if !group.pids_anywhere().is_empty() => {
            signal_all(record, 9);
            remains.remove()?;
        }
        other => other?,
    }
    let hooks = hooks::run_each("poststop", &record.poststop, &state(record, Status::Stopped));
    home.remove()?;
    hooks
}
