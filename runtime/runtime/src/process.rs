//! The last steps of a process before it becomes the program: limits, rights, working folder,
//! environment, execve. Shared by the container's first process and by exec.

use crate::caps::Sets;
use crate::error::{At, Error, Lower, Result};
use crate::proc_root::ProcRoot;
use crate::seccomp::Filter;
use oci::runtime::Process;
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use sys::privilege;

/// Everything that the last steps need.
#[derive(Debug)]
pub(crate) struct Last<'a> {
    /// The process as configured.
    pub process: &'a Process,
    /// Its filter.
    pub filter: Option<&'a Filter>,
    /// Its limits: number, soft, hard.
    pub rlimits: &'a [(u32, u64, u64)],
    /// Its capabilities; `None` keeps those of the runtime.
    pub caps: Option<Sets>,
    /// Descriptors above the standard streams that stay open.
    pub keep_fds: u32,
    /// How many of them are the service manager's.
    pub listen_fds: u32,
    /// Lacking rights to set groups is no error.
    pub rootless: bool,
    /// What else is needed until the execve.
    pub talks: Vec<BorrowedFd<'a>>,
}

/// What is executed.
#[derive(Debug)]
pub(crate) struct Program {
    path: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    late_filter: bool,
}

fn c_strings(all: &[String]) -> Result<Vec<CString>> {
    all.iter()
        .map(|s| CString::new(s.as_str()).map_err(|_| Error::Spec("null byte in a string".into())))
        .collect()
}

impl Last<'_> {
    /// Everything up to, but without, the execve; a filter is loaded here when no_new_privs is off
    /// (loading it needs a capability that the process is about to lose), and its listener handed
    /// to `listener`.
    ///
    /// # Errors
    /// In runc's words.
    pub(crate) fn prepare(
        &self,
        listener: &mut dyn FnMut(OwnedFd) -> Result<()>,
    ) -> Result<Program> {
        // Not only at the execve: until then the working folder and the program are looked up, which
        // must not lead through a folder of the host's (CVE-2024-21626).
        sys::clone::close_all_but(3 + self.keep_fds, &self.talks).at(|| "close_range".into())?;
        for &(number, soft, hard) in self.rlimits {
            privilege::set_rlimit(number, soft, hard).at(|| {
                format!(
                    "error setting rlimits for ready process: error setting rlimit type {number}"
                )
            })?;
        }
        scheduling(self.process)?;
        if self.process.no_new_privileges {
            privilege::set_no_new_privs().at(|| "error setting no_new_privs".into())?;
        }
        if let Some(caps) = &self.caps {
            caps.apply_bounding()?;
        }
        own_stdio(self.process.user.uid);
        let late_filter = self.process.no_new_privileges;
        if let (None, Some(filter), false) = (&self.caps, self.filter, late_filter) {
            // Another user than root has no right to it any more.
            load(filter, listener)?;
        }
        self.become_user()?;
        match (&self.caps, self.filter) {
            (Some(caps), Some(filter)) if !late_filter => {
                caps.apply_for_seccomp()?;
                load(filter, listener)?;
                caps.apply()?;
            }
            (Some(caps), _) => caps.apply()?,
            (None, _) => {}
        }
        // The kernel forgets it whenever rights change. A filter may forbid asking again; then the
        // end of the parent shows when `Ready` can't be said.
        let _ = privilege::parent_death_signal(9);
        enter_folder(&self.process.cwd)?;
        self.program(late_filter && self.filter.is_some())
    }

    fn become_user(&self) -> Result<()> {
        let user = &self.process.user;
        privilege::set_keep_caps(true).at(|| "keep capabilities".into())?;
        match privilege::set_groups(&user.additional_gids) {
            // A user namespace may forbid it; then there are none to drop either.
            Err(e) if user.additional_gids.is_empty() && e.raw_os_error() == Some(1) => {}
            Err(e) if self.rootless && e.raw_os_error() == Some(1) => {}
            other => other.at(|| "setgroups".into())?,
        }
        privilege::set_gid(user.gid).at(|| format!("unable to setup user: setgid {}", user.gid))?;
        privilege::set_uid(user.uid).at(|| format!("unable to setup user: setuid {}", user.uid))?;
        privilege::set_keep_caps(false).at(|| "keep capabilities".into())?;
        privilege::set_umask(user.umask.unwrap_or(0o022));
        Ok(())
    }

    fn program(&self, late_filter: bool) -> Result<Program> {
        let mut env = unique(&self.process.env)?;
        if self.listen_fds > 0 {
            env.retain(|e| !e.starts_with("LISTEN_FDS=") && !e.starts_with("LISTEN_PID="));
            env.push(format!("LISTEN_FDS={}", self.listen_fds));
            env.push("LISTEN_PID=1".into());
        }
        if !env.iter().any(|e| e.starts_with("HOME=") && e.len() > 5) {
            env.retain(|e| !e.starts_with("HOME="));
            env.push(format!("HOME={}", home_of(self.process.user.uid)));
        }
        let search = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
        let path = find_program(&self.process.args[0], search)?;
        sys::clone::cloexec_from(3 + self.keep_fds).at(|| "close_range".into())?;
        Ok(Program {
            path: CString::new(path).map_err(|_| Error::Spec("null byte in a path".into()))?,
            args: c_strings(&self.process.args)?,
            env: c_strings(&env)?,
            late_filter,
        })
    }

    /// Becomes the program. Returns only on failure.
    pub(crate) fn execute(
        &self,
        program: &Program,
        listener: &mut dyn FnMut(OwnedFd) -> Result<()>,
    ) -> Error {
        if program.late_filter
            && let Some(filter) = self.filter
            && let Err(error) = load(filter, listener)
        {
            return error;
        }
        let error = sys::clone::execve(&program.path, &program.args, &program.env);
        Error::Start(format!("exec {}: {}", program.path.to_string_lossy(), Lower(&error)))
    }
}

fn load(filter: &Filter, listener: &mut dyn FnMut(OwnedFd) -> Result<()>) -> Result<()> {
    let fd = privilege::set_seccomp(&filter.program, filter.flags)
        .at(|| "unable to init seccomp: error loading seccomp filter into kernel".into())?;
    fd.map_or(Ok(()), listener)
}

/// The last of several values of a variable wins.
fn unique(env: &[String]) -> Result<Vec<String>> {
    let refused = |why: &str| Err(Error::Start(format!("invalid environment variable: {why}")));
    for entry in env {
        match entry.find('=') {
            None => return refused("missing '='"),
            Some(0) => return refused("name cannot be empty"),
            Some(_) => {}
        }
    }
    let name = |e: &str| e.split('=').next().unwrap_or_default().to_owned();
    let mut kept: Vec<String> = Vec::with_capacity(env.len() + 3);
    for (at, entry) in env.iter().enumerate() {
        let own = name(entry);
        if !env[at + 1..].iter().any(|later| name(later) == own) {
            kept.push(entry.clone());
        }
    }
    Ok(kept)
}

/// Gives the standard streams to the user, so that `/dev/stdout` can be opened again. The host's
/// `/dev/null` becomes the container's own: nothing of the host's mounts stays open, and CRIU could
/// not save it.
fn own_stdio(uid: u32) {
    let streams: [BorrowedFd<'_>; 3] =
        [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()];
    let is_null = |stat: &rustix::fs::Stat| {
        stat.st_mode & 0o170_000 == 0o020_000 && stat.st_rdev == rustix::fs::makedev(1, 3)
    };
    let mut own: Option<OwnedFd> = None;
    for (number, stream) in streams.into_iter().enumerate() {
        let Ok(stat) = rustix::fs::fstat(stream) else { continue };
        if is_null(&stat) {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            if own.is_none() {
                own = rustix::fs::open("/dev/null", flags, Mode::empty())
                    .ok()
                    .filter(|fd| rustix::fs::fstat(fd).is_ok_and(|stat| is_null(&stat)));
            }
            if let Some(fd) = &own {
                // An image without the device keeps what it was given.
                let _ = sys::clone::dup_onto(fd.as_fd(), number as i32);
            }
        } else if stat.st_uid != uid {
            // A read-only file system, an unmapped owner: the program still has the stream itself.
            let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None);
        }
    }
}

/// Enters the working folder and makes sure that it lies below the root (CVE-2024-21626): the
/// kernel answers with a path that begins with a slash only then.
fn enter_folder(path: &str) -> Result<()> {
    rustix::process::chdir(path)
        .at(|| format!("chdir to cwd ({path:?}) set in config.json failed"))?;
    let outside = || {
        Error::Start(
            "current working directory is outside of container mount namespace root -- possible container breakout detected".into(),
        )
    };
    let real = rustix::process::getcwd(Vec::new()).map_err(|_| outside())?;
    if real.as_bytes().first() == Some(&b'/') { Ok(()) } else { Err(outside()) }
}

/// The home folder of a user, from the container's own `/etc/passwd`.
fn home_of(uid: u32) -> String {
    let read = || -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = rustix::fs::open("/etc/passwd", flags, Mode::empty())?;
        if rustix::fs::fstat(&file)?.st_mode & 0o170_000 != 0o100_000 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let size = rustix::fs::fstat(&file)?.st_size.clamp(0, 256 * 1024) as usize;
        let mut buffer = vec![0u8; size];
        let got = rustix::io::read(&file, &mut buffer[..])?;
        Ok(String::from_utf8_lossy(&buffer[..got]).into_owned())
    };
    let text = read().unwrap_or_default();
    let wanted = uid.to_string();
    let entry = text.lines().find(|l| l.split(':').nth(2) == Some(wanted.as_str()));
    let home = entry.and_then(|l| l.split(':').nth(5)).unwrap_or_default();
    if home.is_empty() { "/".into() } else { home.into() }
}

/// Looks a program up as Go's `exec.LookPath` does, with its texts, as the user it will run as.
///
/// # Errors
/// When it is missing, a folder, or not executable.
pub(crate) fn find_program(name: &str, search: &str) -> Result<String> {
    let fail =
        |why: &str| Error::Start(format!("error during container init: exec: {name:?}: {why}"));
    if name.contains('/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_owned()),
            Err(Why::Missing(e)) => Err(fail(&format!("stat {name}: {}", Lower(&e)))),
            Err(Why::Folder) => Err(fail("is a directory")),
            Err(Why::Denied) => Err(fail("permission denied")),
        };
    }
    for folder in search.split(':') {
        let folder = if folder.is_empty() { "." } else { folder };
        let path = format!("{folder}/{name}");
        if executable(&path).is_ok() {
            return Ok(path);
        }
    }
    Err(fail("executable file not found in $PATH"))
}

enum Why {
    Missing(io::Error),
    Folder,
    Denied,
}

fn executable(path: &str) -> Result<(), Why> {
    let stat = rustix::fs::stat(path).map_err(|e| Why::Missing(e.into()))?;
    if stat.st_mode & 0o170_000 == 0o040_000 {
        return Err(Why::Folder);
    }
    let flags = rustix::fs::AtFlags::EACCESS;
    let allowed = rustix::fs::accessat(rustix::fs::CWD, path, rustix::fs::Access::EXEC_OK, flags);
    // A kernel or filter without faccessat2 leaves the permission bits.
    match allowed {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) if stat.st_mode & 0o111 != 0 => {
            Ok(())
        }
        Err(_) => Err(Why::Denied),
    }
}

fn scheduling(process: &Process) -> Result<()> {
    if let Some(priority) = &process.io_priority {
        let class = match priority.class.as_str() {
            "IOPRIO_CLASS_RT" => 1,
            "IOPRIO_CLASS_BE" => 2,
            "IOPRIO_CLASS_IDLE" => 3,
            other => return Err(Error::Spec(format!("invalid ioPriority.class {other:?}"))),
        };
        if !(0..=7).contains(&priority.priority) {
            return Err(Error::Spec("ioPriority.priority must be between 0 and 7".into()));
        }
        privilege::set_io_priority(class, priority.priority as u32)
            .at(|| "failed to set io priority".into())?;
    }
    let Some(scheduler) = &process.scheduler else { return Ok(()) };
    let policy = match scheduler.policy.as_str() {
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => 4,
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return Err(Error::Spec(format!("invalid scheduler policy: {other}"))),
    };
    let names = [
        "SCHED_FLAG_RESET_ON_FORK",
        "SCHED_FLAG_RECLAIM",
        "SCHED_FLAG_DL_OVERRUN",
        "SCHED_FLAG_KEEP_POLICY",
        "SCHED_FLAG_KEEP_PARAMS",
        "SCHED_FLAG_UTIL_CLAMP_MIN",
        "SCHED_FLAG_UTIL_CLAMP_MAX",
    ];
    let mut flags = 0;
    for flag in &scheduler.flags {
        let number = names.iter().position(|n| n == flag);
        let number =
            number.ok_or_else(|| Error::Spec(format!("invalid scheduler flag: {flag}")))?;
        flags |= 1 << number;
    }
    privilege::set_scheduler(privilege::SchedAttr {
        size: 0,
        policy,
        flags,
        nice: scheduler.nice,
        priority: scheduler.priority as u32,
        runtime: scheduler.runtime,
        deadline: scheduler.deadline,
        period: scheduler.period,
    })
    .at(|| "error setting scheduler".into())
}

/// Whether a security module has something to do, for which procfs is needed.
pub(crate) fn is_labelled(process: &Process) -> bool {
    let profile = process.apparmor_profile.as_str();
    !process.selinux_label.is_empty() || !(profile.is_empty() || profile == "unconfined")
}

/// Has the security module label the program at its execve.
///
/// # Errors
/// As write(2) of the attribute.
pub(crate) fn label(process: &Process, proc_root: Option<&ProcRoot>) -> Result<()> {
    let Some(proc_root) = proc_root.filter(|_| is_labelled(process)) else { return Ok(()) };
    if !process.selinux_label.is_empty() {
        proc_root.write("self/attr/exec", &process.selinux_label)?;
    }
    let profile = &process.apparmor_profile;
    if profile.is_empty() || profile == "unconfined" {
        return Ok(());
    }
    // Before other modules could be active beside it (kernel 5.8) it had no folder of its own.
    let own = "self/attr/apparmor/exec";
    let file = if proc_root.has(own) { own } else { "self/attr/exec" };
    proc_root
        .write(file, &format!("exec {profile}"))
        .map_err(|e| Error::Start(format!("apparmor failed to apply profile: {e}")))
}
