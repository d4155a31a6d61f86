//! A further process in a running container.
//!
//! ```text
//! pidfd of init, start time checked; procfs and cgroup descriptors of the host opened
//! setns(pidfd, pid) in the parent, so that the one fork is born inside; back afterwards. An ordinary
//!     user has that right inside the container's user namespace alone: joined first, for good
//! clone3, on v2 into the cgroup ──▶ v1 cgroups, setns(pidfd) of exactly the namespaces that differ
//!                                   terminal, limits, ids, capabilities, filter, execve
//! pid file; waits, unless detached
//! ```

use crate::caps::{self, Sets};
use crate::console;
use crate::create::write_pid;
use crate::error::{At, Error, Result};
use crate::foreground;
use crate::init::Flags;
use crate::launch;
use crate::lifecycle;
use crate::proc_root::ProcRoot;
use crate::process::{self, Last};
use crate::record::{self, Home, Kept, Record};
use crate::seccomp::Filter;
use crate::sync::{self, Channel, Message};
use crate::tree::Root;
use cgroup::Cgroup;
use oci::runtime::{Capabilities, ContainerProcessState, Process, Status};
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::clone::{Forked, SingleThreaded};
use sys::ns::flag;

/// What `exec` is asked for.
#[derive(Debug, Clone, Default)]
pub struct Exec {
    /// Folder of all containers' state.
    pub root: PathBuf,
    /// Id.
    pub id: String,
    /// The process, from a file; the fields below are then not used.
    pub process: Option<Process>,
    /// Program and arguments.
    pub args: Vec<String>,
    /// Working folder.
    pub cwd: Option<String>,
    /// Variables added to the environment.
    pub env: Vec<String>,
    /// Whether there is a terminal.
    pub tty: bool,
    /// User and group.
    pub user: Option<(u32, Option<u32>)>,
    /// Supplementary groups added.
    pub additional_gids: Vec<u32>,
    /// Capabilities added.
    pub caps: Vec<String>,
    /// Sets no_new_privs.
    pub no_new_privs: Option<bool>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// SELinux label.
    pub process_label: Option<String>,
    /// Return when the program runs.
    pub detach: bool,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// Unix socket that gets the terminal.
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// Go ahead in a frozen container.
    pub ignore_paused: bool,
    /// Cgroups below the container's: (controllers, path).
    pub cgroups: Vec<(Vec<String>, String)>,
    /// Further choices.
    pub flags: Flags,
}

const NAMES: [(&str, u64); 8] = [
    ("user", flag::USER),
    ("ipc", flag::IPC),
    ("uts", flag::UTS),
    ("net", flag::NET),
    ("pid", flag::PID),
    ("cgroup", flag::CGROUP),
    ("time", flag::TIME),
    ("mnt", flag::MOUNT),
];

/// Runs a process in a container and answers its exit code, 0 when detached.
///
/// # Errors
/// When the container does not run, or the process can't be started.
pub fn exec(request: &Exec, warn: &mut dyn FnMut(&str)) -> Result<i32> {
    let home = Home::open(&request.root, &request.id)?;
    let record = home.load()?;
    match home.status(&record) {
        Status::Stopped => {
            return Err(Error::Refused("cannot exec in a stopped container".into()));
        }
        Status::Paused if !request.ignore_paused => {
            return Err(Error::Refused(
                "cannot exec in a paused container (use --ignore-paused to override)".into(),
            ));
        }
        _ => {}
    }
    let kept = home.kept()?;
    let process = resolve(request, &kept.process);
    launch::check_process(&process)?;
    let own_terminal = process.terminal && request.console_socket.is_none();
    if own_terminal && request.detach {
        return Err(Error::Refused(
            "cannot allocate tty if runc will detach without setting console socket".into(),
        ));
    }
    if request.console_socket.is_some() && !(process.terminal && request.detach) {
        return Err(Error::Refused(
            "cannot use console socket if runc will not detach or allocate tty".into(),
        ));
    }
    let (ours, theirs) = match &request.console_socket {
        Some(path) => (None, Some(console::connect(path)?)),
        None if own_terminal => {
            let (ours, theirs) = foreground::socket_pair()?;
            (Some(ours), Some(theirs))
        }
        None => (None, None),
    };
    let signals = if request.detach { None } else { Some(foreground::signals()?) };
    let (pid, pidfd) = launch(request, &record, kept, &process, theirs, warn)?;
    let named = request.pid_file.as_ref().map_or(Ok(()), |path| write_pid(path, pid));
    if let Err(error) = named {
        let _ = sys::clone::kill(pid, 9);
        return Err(error);
    }
    if let Some(path) = &request.pidfd_socket {
        let socket = console::connect(path)?;
        sys::tty::send_fd(socket.as_fd(), b"pidfd", pidfd.as_fd()).at(|| "send pidfd".into())?;
    }
    match signals {
        None => Ok(0),
        Some(signals) => foreground::follow(pid, &pidfd, &signals, ours, None),
    }
}

/// The process to run: the given one, or the container's with what the flags change.
fn resolve(request: &Exec, own: &Process) -> Process {
    let base = own.clone();
    if let Some(process) = &request.process {
        return completed(process.clone(), base);
    }
    let mut process = Process { args: request.args.clone(), terminal: request.tty, ..base };
    if let Some(cwd) = &request.cwd {
        process.cwd.clone_from(cwd);
    }
    process.env.extend(request.env.iter().cloned());
    if let Some((uid, gid)) = request.user {
        process.user.uid = uid;
        if let Some(gid) = gid {
            process.user.gid = gid;
        }
    }
    process.user.additional_gids.extend(&request.additional_gids);
    if let Some(value) = request.no_new_privs {
        process.no_new_privileges = value;
    }
    if let Some(profile) = &request.apparmor {
        process.apparmor_profile.clone_from(profile);
    }
    if let Some(label) = &request.process_label {
        process.selinux_label.clone_from(label);
    }
    if !request.caps.is_empty() {
        let sets = process.capabilities.get_or_insert_default();
        for cap in &request.caps {
            add_capability(sets, cap);
        }
    }
    process
}

/// What a process from a file does not say is as the container has it.
fn completed(mut process: Process, base: Process) -> Process {
    process.capabilities = process.capabilities.or(base.capabilities);
    process.io_priority = process.io_priority.or(base.io_priority);
    process.scheduler = process.scheduler.or(base.scheduler);
    if process.rlimits.is_empty() {
        process.rlimits = base.rlimits;
    }
    if process.apparmor_profile.is_empty() {
        process.apparmor_profile = base.apparmor_profile;
    }
    if process.selinux_label.is_empty() {
        process.selinux_label = base.selinux_label;
    }
    process
}

/// To every set but the ambient one, whose members need an inheritable set that was asked for.
fn add_capability(sets: &mut Capabilities, cap: &str) {
    let had_ambient = !sets.ambient.is_empty();
    let Capabilities { bounding, effective, permitted, inheritable, ambient } = sets;
    for set in [bounding, effective, permitted] {
        if !set.iter().any(|c| c == cap) {
            set.push(cap.to_owned());
        }
    }
    if had_ambient {
        for set in [inheritable, ambient] {
            if !set.iter().any(|c| c == cap) {
                set.push(cap.to_owned());
            }
        }
    }
}

/// What the child needs, all opened while the host is still what paths mean.
struct Child<'a> {
    process: &'a Process,
    filter: Option<Filter>,
    rlimits: Vec<(u32, u64, u64)>,
    caps: Option<Sets>,
    group: Cgroup,
    frozen_allowed: bool,
    /// Whether the service manager puts us into the cgroup, since only it may.
    attached: bool,
    init: OwnedFd,
    init_pid: i32,
    namespaces: u64,
    cpus: [Vec<u64>; 2],
    console: Option<OwnedFd>,
    flags: Flags,
    in_user_namespace: bool,
}

fn launch(
    request: &Exec,
    record: &Record,
    mut kept: Kept,
    process: &Process,
    console: Option<OwnedFd>,
    warn: &mut dyn FnMut(&str),
) -> Result<(i32, OwnedFd)> {
    let init = sys::clone::pidfd_open(record.pid).at(|| "open container init".into())?;
    if !record::is_alive(record.pid, record.start_time) {
        return Err(Error::Refused("cannot exec in a stopped container".into()));
    }
    let mut missing = Vec::new();
    let namespaces = differing(record.pid)?;
    let mapped = namespaces & flag::USER != 0;
    let caps = process.capabilities.as_ref();
    let caps = caps.map(|c| Sets::resolve(c, mapped, &mut missing)).transpose()?;
    if !missing.is_empty() {
        warn(&caps::warning(&missing));
    }
    let mut group = record.cgroup_paths.clone();
    for (controllers, path) in &request.cgroups {
        if let Some(name) = controllers.iter().find(|name| !group.has(name)) {
            let why = format!("unknown controller {name} in SubCgroupPaths");
            return Err(Error::Refused(format!("unable to create new parent process: {why}")));
        }
        group = group.child(path, controllers);
    }
    let affinity = process.exec_cpu_affinity.clone().unwrap_or_default();
    let child = Child {
        process,
        filter: kept.filter.take(),
        rlimits: launch::rlimits(process)?,
        caps,
        group,
        frozen_allowed: request.ignore_paused,
        attached: record.systemd.as_ref().is_some_and(|unit| unit.user),
        init,
        init_pid: record.pid,
        namespaces,
        cpus: [crate::numa::mask(&affinity.initial)?, crate::numa::mask(&affinity.last)?],
        console,
        flags: request.flags,
        in_user_namespace: mapped,
    };
    let inside = child.group.v2().map(Path::to_owned).unwrap_or_default();
    let (ours, theirs) = sync::pair()?;
    let (pid, pidfd) = fork(child, &theirs)?;
    drop(theirs);
    let end = |error: Error| {
        let _ = sys::clone::kill(pid, 9);
        let _ = sys::clone::wait(pid, true);
        error
    };
    adjust(process, pid, request.flags.rootless).map_err(end)?;
    if let Some(rdt) = &record.rdt {
        let failed = |why| Error::Refused(format!("error adding pid {pid} to Intel RDT: {why}"));
        rdt.join(pid).map_err(failed).map_err(end)?;
    }
    attend(&ours, &kept, record, (pid, &inside)).map_err(end)?;
    Ok((pid, pidfd))
}

fn adjust(process: &Process, pid: i32, rootless: bool) -> Result<()> {
    let Some(value) = process.oom_score_adj else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    match std::fs::write(&path, value.to_string()) {
        Err(e) if rootless && e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other.at(|| format!("write {path}")),
    }
}

/// The namespaces in which the container's first process is not where we are. Joining one's own
/// user namespace again is an error, so only these are joined.
fn differing(pid: i32) -> Result<u64> {
    let mut bits = 0;
    for (name, bit) in NAMES {
        let own = rustix::fs::stat(format!("/proc/self/ns/{name}"));
        let theirs = rustix::fs::stat(format!("/proc/{pid}/ns/{name}"));
        match (own, theirs) {
            (Ok(a), Ok(b)) if (a.st_dev, a.st_ino) != (b.st_dev, b.st_ino) => bits |= bit,
            (Ok(_), Ok(_)) => {}
            // Kernels without that kind of namespace have no file for it.
            (Err(rustix::io::Errno::NOENT), _) => {}
            _ => return Err(Error::Refused("cannot exec in a stopped container".into())),
        }
    }
    Ok(bits)
}

fn fork(mut child: Child<'_>, channel: &Channel) -> Result<(i32, OwnedFd)> {
    let open = |path: &str| {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .at(|| format!("open {path}"))
    };
    let proc_root =
        if process::is_labelled(child.process) { Some(ProcRoot::open()?) } else { None };
    let own = open("/proc/self/ns/pid")?;
    let in_pids = child.namespaces & flag::PID != 0;
    let without_rights = !rustix::process::geteuid().is_root();
    // Opened before: files of the host's are not to be had with another namespace's rights.
    let folder = if child.attached {
        None
    } else {
        crate::group::open_v2(&child.group, child.flags.rootless)?
    };
    if without_rights && child.namespaces & flag::USER != 0 {
        sys::ns::setns(child.init.as_fd(), flag::USER).at(|| "setns user".into())?;
        child.namespaces &= !flag::USER;
    }
    if in_pids {
        sys::ns::setns(child.init.as_fd(), flag::PID).at(|| "setns pid".into())?;
    }
    // What is born is seen in the container at once, with all that we have open (CVE-2016-9962).
    sys::privilege::set_dumpable(false).at(|| "prctl".into())?;
    let one = SingleThreaded::check().at(|| "clone".into())?;
    let mut forked = sys::clone::clone3(0, folder.as_ref().map(AsFd::as_fd), &one);
    if forked.as_ref().is_err_and(|e| e.raw_os_error() == Some(16)) {
        // The container handed its controllers down, so its own folder takes no tasks any more:
        // where its first process is now, it does.
        let folder = beside_init(child.init_pid)?;
        forked = sys::clone::clone3(0, Some(folder.as_fd()), &one);
    }
    match forked.at(|| "clone3".into())? {
        Forked::Child => child.run(proc_root.as_ref(), channel),
        Forked::Parent(pid, pidfd) => {
            if in_pids && !without_rights {
                sys::ns::setns(own.as_fd(), flag::PID).at(|| "return to own namespace".into())?;
            }
            Ok((pid, pidfd))
        }
    }
}

fn beside_init(pid: i32) -> Result<OwnedFd> {
    let path = cgroup::Host::detect()?
        .v2_of(pid)
        .ok_or_else(|| Error::Refused(format!("process {pid} has no v2 cgroup")))?;
    rustix::fs::open(&path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at(|| format!("open {}", path.display()))
}

fn attend(
    channel: &Channel,
    kept: &Kept,
    record: &Record,
    (pid, inside): (i32, &Path),
) -> Result<()> {
    loop {
        match channel.hear()? {
            Message::Closed => return Ok(()),
            Message::Grouped => {
                crate::group::attach(record, inside, pid)?;
                channel.say(&Message::Grouped)?;
            }
            Message::Failed(text) => {
                // runc says "during container init" of the first process only.
                let text = text.replace("error during container init: ", "");
                return Err(Error::Start(text));
            }
            Message::Listener(Some(fd)) => {
                let socket = console::connect(Path::new(&kept.listener_path))?;
                let document = ContainerProcessState {
                    oci_version: record.oci_version.clone(),
                    fds: vec!["seccompFd".into()],
                    pid,
                    state: lifecycle::state(record, Status::Running),
                    metadata: kept.listener_metadata.clone(),
                };
                let text = serde_json::to_vec(&document).map_err(|e| Error::Spec(e.to_string()))?;
                sys::tty::send_fd(socket.as_fd(), &text, fd.as_fd())
                    .at(|| "send seccomp listener".into())?;
                channel.say(&Message::Listener(None))?;
            }
            _ => {}
        }
    }
}

impl Child<'_> {
    fn run(self, proc_root: Option<&ProcRoot>, channel: &Channel) -> ! {
        let error = match self.become_program(proc_root, channel) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let text = match error {
            Error::Start(text) => text,
            other => other.to_string(),
        };
        let _ = channel.say(&Message::Failed(text));
        sys::clone::exit_now(255)
    }

    fn become_program(
        self,
        proc_root: Option<&ProcRoot>,
        channel: &Channel,
    ) -> Result<std::convert::Infallible> {
        sys::privilege::parent_death_signal(9).at(|| "prctl".into())?;
        sys::clone::reset_signals();
        if !self.cpus[0].is_empty() {
            sys::privilege::set_affinity(&self.cpus[0]).at(|| "set CPU affinity".into())?;
        }
        // A task that joins a frozen v1 cgroup hangs, beyond SIGKILL: look again just before.
        if !self.frozen_allowed && self.group.is_frozen() {
            return Err(Error::Refused(
                "cannot exec in a paused container (use --ignore-paused to override)".into(),
            ));
        }
        if self.attached {
            channel.ask(&Message::Grouped)?;
        }
        match self.group.join_v1() {
            Err(error) if self.flags.rootless && error.is_denied() => {}
            other => other?,
        }
        if !self.cpus[1].is_empty() {
            sys::privilege::set_affinity(&self.cpus[1]).at(|| "set CPU affinity".into())?;
        }
        rustix::process::setsid().at(|| "setsid".into())?;
        process::label(self.process, proc_root)?;
        let namespaces = self.namespaces & !flag::PID;
        if namespaces != 0 {
            sys::ns::setns(self.init.as_fd(), namespaces).at(|| "setns".into())?;
        }
        if self.in_user_namespace {
            sys::privilege::set_gid(0).at(|| "setgid in user namespace".into())?;
            sys::privilege::set_uid(0).at(|| "setuid in user namespace".into())?;
        }
        // Changes of ids and namespaces may have undone it.
        sys::privilege::set_dumpable(false).at(|| "prctl".into())?;
        if let Some(socket) = &self.console {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = rustix::fs::open("/", flags, Mode::empty()).at(|| "open /".into())?;
            let size = self.process.console_size.as_ref();
            let slave = console::open(&Root { dir }, size, socket.as_fd())?;
            console::become_stdio(slave.as_fd())?;
        }
        // Before `prepare` closes whatever is not kept: what is owned here must not be closed twice.
        drop((self.init, self.console));
        let last = Last {
            process: self.process,
            filter: self.filter.as_ref(),
            rlimits: &self.rlimits,
            caps: self.caps,
            keep_fds: self.flags.preserve_fds,
            listen_fds: self.flags.listen_fds,
            rootless: self.flags.rootless || self.in_user_namespace,
            talks: vec![channel.as_fd()],
        };
        let mut listener = |fd| channel.ask(&Message::Listener(Some(fd)));
        let program = last.prepare(&mut listener)?;
        sys::privilege::parent_death_signal(0).at(|| "prctl".into())?;
        Err(last.execute(&program, &mut listener))
    }
}
