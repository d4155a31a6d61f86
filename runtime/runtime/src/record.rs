//! What is remembered about a container: one folder below the runtime root, with `state.json`
//! (replaced whole), a copy of the configuration, and the FIFO that `start` writes to. What can't
//! be read from the kernel is written before the effect, so that `delete --force` always finds it.

use crate::error::{At, Error, Result};
use crate::seccomp::{self, Filter};
use cgroup::Cgroup;
use oci::runtime::{Hook, Process, Status};
use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Longest file that is read whole; a configuration with thousands of mounts stays far below.
const FILE_LIMIT: u64 = 64 << 20;

/// The state of one container, as `state.json` holds it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Version of the specification that config.json follows.
    #[serde(rename = "ociVersion")]
    pub oci_version: String,
    /// Id.
    pub id: String,
    /// Process id of the container's first process; 0 before there is one.
    #[serde(rename = "init_process_pid")]
    pub pid: i32,
    /// Its start time in clock ticks after boot, against a reused pid.
    #[serde(rename = "init_process_start")]
    pub start_time: u64,
    /// RFC 3339, nanoseconds, UTC.
    pub created: String,
    /// Absolute path.
    pub bundle: PathBuf,
    /// Absolute path.
    pub rootfs: PathBuf,
    /// Folders in the hierarchies.
    pub cgroup_paths: Cgroup,
    /// The unit of systemd that the cgroup belongs to.
    pub systemd: Option<cgroup::systemd::Unit>,
    /// The group in the resctrl file system.
    pub rdt: Option<cgroup::RdtGroup>,
    /// Annotations of the configuration.
    pub annotations: BTreeMap<String, String>,
    /// Hooks that `start` runs.
    pub poststart: Vec<Hook>,
    /// Hooks that `delete` runs.
    pub poststop: Vec<Hook>,
    /// Whether lacking rights on cgroups is no error.
    pub rootless: bool,
    /// Whether the container shares somebody else's pid namespace, so that the end of its first
    /// process does not end the others.
    pub shared_pids: bool,
}

/// The folder of one container.
#[derive(Debug)]
pub struct Home {
    /// Its path.
    pub path: PathBuf,
    /// Lock, held while the state changes.
    #[allow(dead_code, reason = "held, not read")]
    lock: Option<OwnedFd>,
}

/// The file of the compiled filter.
const FILTER: &str = "filter";

/// The part of a container's configuration that a further process needs.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The container's own process.
    pub process: Process,
    /// The filter.
    pub filter: Option<Filter>,
    /// Who gets the filter's listener.
    pub listener_path: String,
    /// What is told along with it.
    pub listener_metadata: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Document {
    process: Option<Process>,
    linux: Option<DocumentLinux>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct DocumentLinux {
    seccomp: Option<Listener>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Listener {
    listener_path: String,
    listener_metadata: String,
}

/// Checks an id: letters, digits and `_+-.`, neither `.` nor `..`.
///
/// # Errors
/// runc's texts.
pub fn check_id(id: &str) -> Result<()> {
    if id.is_empty() {
        return Err(Error::Refused("container id cannot be empty".into()));
    }
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'+' | b'-' | b'.');
    if id == "." || id == ".." || !id.bytes().all(fits) || id.len() > 1024 {
        return Err(Error::Refused("invalid container ID format".into()));
    }
    Ok(())
}

/// Reads a whole file, with its name in the error.
///
/// # Errors
/// As open(2) and read(2); a file above 64 MiB is refused.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let size = rustix::fs::fstat(&file)?.st_size as u64;
        if size > FILE_LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        // One byte more than it holds: the read that fills less than that has seen its end.
        let mut bytes = vec![0; size as usize + 1];
        let mut held = 0;
        while held < bytes.len() {
            let got = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut bytes[held..]))?;
            held += got;
            if got == 0 {
                break;
            }
        }
        bytes.truncate(held);
        Ok(bytes)
    };
    read().at(|| format!("open {}", path.display()))
}

impl Home {
    /// Makes the folder of a new container.
    ///
    /// # Errors
    /// When the id is taken.
    pub fn create(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = root.join(id);
        let mode = Mode::from_raw_mode(0o711);
        let mut made = rustix::fs::mkdir(&path, mode);
        if made == Err(rustix::io::Errno::NOENT) {
            std::fs::create_dir_all(root).at(|| format!("mkdir {}", root.display()))?;
            rustix::fs::chmod(root, Mode::from_raw_mode(0o700)).at(|| "chmod".into())?;
            made = rustix::fs::mkdir(&path, mode);
        }
        match made {
            Err(rustix::io::Errno::EXIST) => Err(Error::Exists),
            other => {
                other.at(|| format!("mkdir {}", path.display()))?;
                Ok(Self { path, lock: None })
            }
        }
    }

    /// Opens the folder of an existing container.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(root: &Path, id: &str) -> Result<Self> {
        check_id(id)?;
        let path = root.join(id);
        match rustix::fs::access(&path, rustix::fs::Access::EXISTS) {
            Ok(()) => Ok(Self { path, lock: None }),
            Err(_) => Err(Error::NotFound),
        }
    }

    /// The same, waiting until nobody else changes the container.
    ///
    /// # Errors
    /// When there is none or it can't be locked.
    pub fn lock(root: &Path, id: &str) -> Result<Self> {
        let mut home = Self::open(root, id)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(dir) = rustix::fs::open(&home.path, flags, Mode::empty()) else {
            return Err(Error::NotFound);
        };
        rustix::fs::flock(&dir, FlockOperation::LockExclusive).at(|| "lock container".into())?;
        // Deleted while we waited?
        if rustix::fs::access(&home.path, rustix::fs::Access::EXISTS).is_err() {
            return Err(Error::NotFound);
        }
        home.lock = Some(dir);
        Ok(home)
    }

    /// Writes the first `state.json`, before any effect: without it, or with half of it, there is
    /// nothing but this folder to remove.
    ///
    /// # Errors
    /// As open(2), write(2).
    pub fn begin(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|e| Error::Spec(e.to_string()))?;
        let path = self.path.join("state.json");
        write_new(&path, &text).at(|| format!("write {}", path.display()))
    }

    /// Writes `state.json` anew, whole or not at all.
    ///
    /// # Errors
    /// As open(2), write(2), rename(2).
    pub fn save(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|e| Error::Spec(e.to_string()))?;
        let (temporary, path) = (self.path.join("state.json.tmp"), self.path.join("state.json"));
        write_new(&temporary, &text)
            .and_then(|()| Ok(rustix::fs::rename(&temporary, &path)?))
            .at(|| format!("write {}", path.display()))
    }

    /// Reads `state.json`.
    ///
    /// # Errors
    /// When it is missing (a runtime died before its first write) or broken.
    pub fn load(&self) -> Result<Record> {
        let bytes = read_file(&self.path.join("state.json"))?;
        serde_json::from_slice(&bytes)
            .map_err(|e| Error::Spec(format!("{}/state.json: {e}", self.path.display())))
    }

    /// Keeps a copy of the configuration for `exec`.
    ///
    /// # Errors
    /// As open(2), write(2).
    pub(crate) fn keep_config(&self, bytes: &[u8]) -> Result<()> {
        write_new(&self.path.join("config.json"), bytes).at(|| "keep config.json".into())
    }

    /// What `exec` needs of the kept configuration. The rest is not built in memory.
    ///
    /// # Errors
    /// When it is missing or broken.
    pub(crate) fn kept(&self) -> Result<Kept> {
        let bytes = read_file(&self.path.join("config.json"))?;
        let broken = |e: serde_json::Error| Error::Spec(format!("config.json: {e}"));
        let document: Document = serde_json::from_slice(&bytes).map_err(broken)?;
        let seccomp = document.linux.unwrap_or_default().seccomp;
        let filter = seccomp.as_ref().map(|_| self.kept_filter(&bytes)).transpose()?.flatten();
        let Listener { listener_path, listener_metadata } = seccomp.unwrap_or_default();
        Ok(Kept {
            process: document.process.unwrap_or_default(),
            filter,
            listener_path,
            listener_metadata,
        })
    }

    /// The filter of the kept configuration. The first `exec` compiles it, and keeps it for the next.
    fn kept_filter(&self, config: &[u8]) -> Result<Option<Filter>> {
        let path = self.path.join(FILTER);
        if let Some(filter) = read_file(&path).ok().and_then(|kept| Filter::from_bytes(&kept)) {
            return Ok(Some(filter));
        }
        let spec: oci::runtime::Spec =
            serde_json::from_slice(config).map_err(|e| Error::Spec(format!("config.json: {e}")))?;
        let seccomp = spec.linux.unwrap_or_default().seccomp;
        let Some(filter) = seccomp.as_ref().map(seccomp::compile).transpose()? else {
            return Ok(None);
        };
        // Others may do the same just now. Where it can't be kept, the next one compiles again.
        let temporary = self.path.join(format!("{FILTER}.{}", std::process::id()));
        let kept = write_new(&temporary, &filter.to_bytes())
            .and_then(|()| Ok(rustix::fs::rename(&temporary, &path)?));
        if kept.is_err() {
            let _ = rustix::fs::unlink(&temporary);
        }
        Ok(Some(filter))
    }

    /// The kept configuration.
    ///
    /// # Errors
    /// When it is missing or broken.
    pub fn config(&self) -> Result<oci::runtime::Spec> {
        let bytes = read_file(&self.path.join("config.json"))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Spec(format!("config.json: {e}")))
    }

    /// The FIFO on which the set-up process waits for `start`.
    pub fn fifo(&self) -> PathBuf {
        self.path.join("exec.fifo")
    }

    /// The folder that holds the container's notification socket, when it has one.
    pub fn notify(&self) -> PathBuf {
        self.path.join("notify")
    }

    /// Removes the folder.
    ///
    /// # Errors
    /// As unlink(2) and rmdir(2).
    pub fn remove(&self) -> Result<()> {
        // What is there as a rule, without listing the folder.
        for name in ["state.json", "config.json"] {
            let _ = rustix::fs::unlink(self.path.join(name));
        }
        if rustix::fs::rmdir(&self.path).is_ok() {
            return Ok(());
        }
        match std::fs::remove_dir_all(&self.path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e)
                .at(|| format!("unable to remove container state dir {}", self.path.display())),
            _ => Ok(()),
        }
    }

    /// What the kernel and the folder say about the container now.
    pub fn status(&self, record: &Record) -> Status {
        if record.pid == 0 {
            return if record.created.is_empty() { Status::Creating } else { Status::Stopped };
        }
        if !is_alive(record.pid, record.start_time) {
            return Status::Stopped;
        }
        if rustix::fs::access(self.fifo(), rustix::fs::Access::EXISTS).is_ok() {
            return Status::Created;
        }
        if record.cgroup_paths.is_frozen() { Status::Paused } else { Status::Running }
    }
}

/// Writes a file with one write(2) as a rule.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o600))?;
    let mut left = bytes;
    while !left.is_empty() {
        left = &left[rustix::io::write(&file, left)?..];
    }
    Ok(())
}

/// State letter and start time of a process, from `/proc/PID/stat`.
pub(crate) fn process_stat(pid: i32) -> Option<(u8, u64)> {
    let path = format!("/proc/{pid}/stat");
    let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut buffer = [0u8; 1024];
    let got = rustix::io::read(&file, &mut buffer[..]).ok()?;
    // The command's name may hold anything: the fields begin after the last parenthesis.
    let text = &buffer[..got];
    let after = text.iter().rposition(|b| *b == b')')? + 2;
    let fields = std::str::from_utf8(&text[after..]).ok()?;
    let mut fields = fields.split(' ');
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// Whether the process is the one that was started then, and no zombie.
pub(crate) fn is_alive(pid: i32, start_time: u64) -> bool {
    process_stat(pid)
        .is_some_and(|(state, start)| start == start_time && !matches!(state, b'Z' | b'X'))
}

/// Now, as RFC 3339 with nanoseconds in UTC.
pub(crate) fn now() -> String {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    format_time(time.tv_sec, time.tv_nsec as u32, true)
}

/// A time since 1970 as RFC 3339 in UTC, nanoseconds without trailing zeros or not at all.
pub fn format_time(secs: i64, nanos: u32, fraction: bool) -> String {
    let (days, rest) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    // Days to a civil date, counted in eras of 400 years that begin on 1 March.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let mut text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if fraction && nanos != 0 {
        let digits = format!(".{nanos:09}");
        text.push_str(digits.trim_end_matches('0'));
    }
    text.push('Z');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        assert_eq!(format_time(0, 0, true), "1970-01-01T00:00:00Z");
        assert_eq!(format_time(951_827_696, 120_000_000, true), "2000-02-29T12:34:56.12Z");
        assert_eq!(format_time(1_795_225_189, 5, false), "2026-11-21T01:39:49Z");
    }

    #[test]
    fn ids_that_could_leave_the_root_are_refused() {
        for id in ["", ".", "..", "a/b", "a b", "ü"] {
            assert!(check_id(id).is_err(), "{id}");
        }
        assert!(check_id("a.b-c_d+1").is_ok());
    }
}
