//! The parent's side of `create` and `run`. The whole exchange is drawn at the head of `init`.

use crate::attend;
use crate::caps::{self, Sets};
use crate::console;
use crate::error::{At, Error, Result};
use crate::foreground;
use crate::group::{self, Place};
use crate::hooks;
use crate::idmap;
use crate::init::{Entry, Flags, Init};
use crate::launch::Launch;
use crate::lifecycle;
use crate::mounts::Sources;
use crate::notify::{self, Notify};
use crate::proc_root::ProcRoot;
use crate::process;
use crate::record::{self, Home, Record};
use crate::spaces::{new_clocks, own_namespace};
use crate::sync::{self, Channel, Message};
use oci::runtime::{State, Status};
use rustix::fs::{Mode, OFlags};
use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use sys::clone::{Forked, SingleThreaded};
use sys::ns::flag;

/// What `create` and `run` are asked for.
#[derive(Debug, Clone, Default)]
pub struct Create {
    /// Folder of all containers' state.
    pub root: PathBuf,
    /// Id.
    pub id: String,
    /// Bundle.
    pub bundle: PathBuf,
    /// Where the process id is written.
    pub pid_file: Option<PathBuf>,
    /// Unix socket that gets the terminal.
    pub console_socket: Option<PathBuf>,
    /// Unix socket that gets a pidfd.
    pub pidfd_socket: Option<PathBuf>,
    /// Return when the program runs instead of when it has ended (`run` alone).
    pub detach: bool,
    /// Keep the state of a container that has ended (`run` alone).
    pub keep: bool,
    /// Don't adopt orphans (`run` alone).
    pub no_subreaper: bool,
    /// The cgroup is a unit of systemd.
    pub systemd_cgroup: bool,
    /// Further choices.
    pub flags: Flags,
}

/// A container that is set up, its program not yet executed.
struct Created {
    home: Home,
    record: Record,
    pid: i32,
    pidfd: OwnedFd,
    channel: Channel,
    launch: Launch,
    /// Whether it was told already to execute it.
    ahead: bool,
}

/// Who gets the container's terminal.
pub(crate) enum Terminal {
    /// `create`: the console socket alone.
    BySocket,
    /// `run`: the console socket, or we ourselves over this one.
    Ours(Option<OwnedFd>),
}

/// Undoes what was done, newest first, unless committed.
#[derive(Default)]
pub(crate) struct Undo<'a>(Vec<Box<dyn FnOnce() + 'a>>);

impl<'a> Undo<'a> {
    /// Adds a step that takes back what was just done.
    pub(crate) fn push(&mut self, step: impl FnOnce() + 'a) {
        self.0.push(Box::new(step));
    }
    /// Nothing is taken back.
    pub(crate) fn commit(mut self) {
        self.0.clear();
    }
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        while let Some(step) = self.0.pop() {
            step();
        }
    }
}

/// Who is told of what is no error; from several places, so it can't be borrowed by one.
type Warn<'a, 'b> = &'a RefCell<&'b mut (dyn FnMut(&str) + 'b)>;

/// Sets a container up; its process waits for `start`.
///
/// # Errors
/// When anything fails; nothing is left behind then.
pub fn create(request: &Create, warn: &mut dyn FnMut(&str)) -> Result<()> {
    set_up(request, Terminal::BySocket, &RefCell::new(warn)).map(drop)
}

/// Creates a container and executes its program; waits for its end and answers its exit code,
/// unless detached.
///
/// # Errors
/// When anything fails; nothing is left behind then.
pub fn run(request: &Create, warn: &mut dyn FnMut(&str)) -> Result<i32> {
    let pair = if request.detach || request.console_socket.is_some() {
        None
    } else {
        Some(foreground::socket_pair()?)
    };
    let (ours, theirs) = pair.map_or((None, None), |(a, b)| (Some(a), Some(b)));
    if !request.detach && !request.no_subreaper {
        sys::privilege::set_subreaper().at(|| "become subreaper".into())?;
    }
    let signals = if request.detach { None } else { Some(foreground::signals()?) };
    let created = set_up(request, Terminal::Ours(theirs), &RefCell::new(&mut *warn))?;
    let result = Notify::bind(&created.home).and_then(|notify| {
        execute(&created)?;
        match (signals, notify) {
            (None, None) => Ok(0),
            (None, Some(notify)) => notify.wait(created.pid, &created.pidfd).map(|()| 0),
            (Some(signals), notify) => {
                let console = ours.filter(|_| created.launch.process.terminal);
                foreground::follow(created.pid, &created.pidfd, &signals, console, notify)
            }
        }
    });
    if (result.is_err() || !request.detach)
        && !(request.keep && result.is_ok())
        && let Err(why) = lifecycle::destroy_now(&created.home, &created.record)
    {
        warn(&format!("unable to destroy container: {why}"));
    }
    result
}

/// Lets the program be executed and waits until it is.
fn execute(created: &Created) -> Result<()> {
    if !created.ahead {
        created.channel.say(&Message::Ready)?;
    }
    loop {
        match created.channel.hear()? {
            Message::Closed => break,
            Message::Failed(text) => return Err(Error::Start(text)),
            Message::Listener(Some(fd)) => {
                attend::send_listener(&created.launch, &created.record, fd.as_fd())?;
                created.channel.say(&Message::Listener(None))?;
            }
            _ => {}
        }
    }
    let state = lifecycle::state(&created.record, Status::Running);
    hooks::run_all("poststart", &created.record.poststart, &state)
}

fn set_up<'a>(request: &Create, console: Terminal, warn: Warn<'a, 'a>) -> Result<Created> {
    record::check_id(&request.id)?;
    let mut launch = Launch::read(&request.bundle)?;
    let running = matches!(console, Terminal::Ours(_));
    let console = terminal_socket(request, &launch, console)?;
    let caps = match &launch.process.capabilities {
        Some(wanted) => {
            let mut missing = Vec::new();
            let sets = Sets::resolve(wanted, launch.in_user_namespace(), &mut missing)?;
            if !missing.is_empty() {
                (warn.borrow_mut())(&caps::warning(&missing));
            }
            Some(sets)
        }
        None => None,
    };
    let rootless = request.flags.rootless;
    let home = Home::create(&request.root, &request.id)?;
    let mut undo = Undo::default();
    let home_path = home.path.clone();
    undo.push(move || drop(std::fs::remove_dir_all(home_path)));
    let ended: Rc<Cell<Option<State>>> = Rc::default();
    undo.push(end_of_what_never_began(&launch, Rc::clone(&ended), warn));

    let mut place = Place::find(&launch, request)?;
    let mut record = new_record(request, &launch, &place);
    home.begin(&record)?;
    notify::prepare(&home, &mut launch)?;
    undo.push(place.undo(false));
    if place.is_beside(&launch) {
        place.group.create_v2()?;
    } else {
        place.make(&launch)?;
    }
    record.cgroup_paths.clone_from(&place.group);

    let (ours, theirs) = sync::pair()?;
    let fifo = if running { None } else { Some(make_fifo(&home)?) };
    let (pid, pidfd) = {
        let init = prepare(&launch, &place, console, fifo, caps, request)?;
        launch_child(init, &theirs, &launch, &place, rootless)?
    };
    drop(theirs);
    undo.push(move || {
        let _ = sys::clone::kill(pid, 9);
        let _ = sys::clone::wait(pid, true);
    });
    record.pid = pid;
    if place.is_beside(&launch) {
        place.make(&launch)?;
        record.cgroup_paths.clone_from(&place.group);
        // One that failed meanwhile has said why, which `attend` hears.
        let _ = ours.say(&Message::Grouped);
    }
    ended.set(Some(lifecycle::state(&record, Status::Stopped)));
    record.start_time = record::process_stat(pid).map_or(0, |(_, start)| start);
    home.save(&record)?;
    // Beside the child's mounting: nothing before `exec` reads it.
    home.keep_config(&launch.text)?;
    adjust_oom(&launch, pid, rootless)?;
    place.divide(launch.linux.intel_rdt.as_ref(), pid)?;
    let ahead = running && attend::nothing_remains(request, &launch, &place);
    if ahead {
        // It finds the word when it comes to wait for it: two switches less.
        let _ = ours.say(&Message::Ready);
    }
    attend::attend(&ours, &launch, &record, &mut place)?;
    if let Some(path) = &request.pid_file {
        write_pid(path, pid)?;
        let path = path.clone();
        undo.push(move || drop(std::fs::remove_file(path)));
    }
    if let Some(path) = &request.pidfd_socket {
        let socket = console::connect(path)?;
        sys::tty::send_fd(socket.as_fd(), b"pidfd", pidfd.as_fd()).at(|| "send pidfd".into())?;
    }
    undo.commit();
    Ok(Created { home, record, pid, pidfd, channel: ours, launch, ahead })
}

/// The hooks of the end, for a container whose creation fails once it has a process.
fn end_of_what_never_began<'a>(
    launch: &Launch,
    ended: Rc<Cell<Option<State>>>,
    warn: Warn<'a, 'a>,
) -> impl FnOnce() + use<'a> {
    let poststop = launch.spec.hooks.as_ref().map(|h| h.poststop.clone()).unwrap_or_default();
    move || {
        let Some(state) = ended.take() else { return };
        if let Err(why) = hooks::run_each("poststop", &poststop, &state) {
            (warn.borrow_mut())(&why.to_string());
        }
    }
}

/// runc's rules on who may have a terminal how.
pub(crate) fn terminal_socket(
    request: &Create,
    launch: &Launch,
    console: Terminal,
) -> Result<Option<OwnedFd>> {
    let terminal = launch.process.terminal;
    let detached = matches!(console, Terminal::BySocket) || request.detach;
    let refused = |why: &str| Err(Error::Refused(why.into()));
    match (&request.console_socket, terminal) {
        (None, true) if detached => {
            refused("cannot allocate tty if runc will detach without setting console socket")
        }
        (Some(_), _) if !detached || !terminal => {
            refused("cannot use console socket if runc will not detach or allocate tty")
        }
        (Some(path), true) => console::connect(path).map(Some),
        (None, true) => Ok(match console {
            Terminal::Ours(socket) => socket,
            Terminal::BySocket => None,
        }),
        (_, false) => Ok(None),
    }
}

pub(crate) fn new_record(request: &Create, launch: &Launch, place: &Place) -> Record {
    let hooks = launch.spec.hooks.clone().unwrap_or_default();
    Record {
        oci_version: launch.spec.oci_version.clone(),
        id: request.id.clone(),
        created: record::now(),
        bundle: launch.bundle.clone(),
        rootfs: launch.rootfs.clone(),
        cgroup_paths: place.group.clone(),
        systemd: place.unit.clone(),
        rdt: place.rdt.clone(),
        annotations: launch.spec.annotations.clone(),
        poststart: hooks.poststart,
        poststop: hooks.poststop,
        rootless: request.flags.rootless,
        shared_pids: launch.new & flag::PID == 0,
        ..Record::default()
    }
}

fn make_fifo(home: &Home) -> Result<OwnedFd> {
    let path = home.fifo();
    let what = || format!("mkfifo {}", path.display());
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o622),
        0,
    )
    .at(what)?;
    // Open both ways, so that neither opening nor reading it ever meets an end of file.
    rustix::fs::open(&path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).at(what)
}

fn prepare<'a>(
    launch: &'a Launch,
    place: &'a Place,
    console: Option<OwnedFd>,
    fifo: Option<OwnedFd>,
    caps: Option<Sets>,
    request: &Create,
) -> Result<Init<'a>> {
    let mut join = Vec::new();
    for (bit, path) in &launch.join {
        let text = path.to_string_lossy().into_owned();
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .at(|| format!("lstat {text}"))?;
        join.push((*bit, fd, text));
    }
    // A user namespace first, since it gives the rights over the others; the mount namespace last,
    // since it changes what paths mean.
    join.sort_by_key(|(bit, _, _)| match *bit {
        flag::USER => 0,
        flag::MOUNT => 2,
        _ => 1,
    });
    let privileged = rustix::process::geteuid().is_root() && launch.new & flag::MOUNT != 0;
    let sources = if privileged {
        Some(Sources::open(launch, &|mount| idmap::namespace(launch, mount))?)
    } else {
        None
    };
    let state = State {
        oci_version: launch.spec.oci_version.clone(),
        id: request.id.clone(),
        status: Status::Creating,
        bundle: launch.bundle.to_string_lossy().into_owned(),
        pid: 0,
        annotations: launch.spec.annotations.clone(),
    };
    let proc_root = if !launch.linux.sysctl.is_empty() || process::is_labelled(&launch.process) {
        Some(ProcRoot::open()?)
    } else {
        None
    };
    let flags = request.flags;
    let entry = if place.unit.is_some() {
        Entry::InUnit
    } else if place.is_beside(launch) {
        Entry::Beside
    } else {
        Entry::AtOnce
    };
    let group = &place.group;
    Ok(Init { launch, sources, group, entry, proc_root, join, console, fifo, caps, flags, state })
}

/// Clones. What a child can't do itself (entering a pid namespace, or others once it has lost its
/// rights to a user namespace, offsets of clocks) the parent does before and takes back after.
fn launch_child(
    mut init: Init<'_>,
    theirs: &Channel,
    launch: &Launch,
    place: &Place,
    rootless: bool,
) -> Result<(i32, OwnedFd)> {
    let early = |bit: u64| {
        bit == flag::PID
            || (launch.in_user_namespace() && bit & (flag::USER | flag::MOUNT) == 0)
            || bit == flag::TIME
    };
    let mut home: Vec<(u64, OwnedFd)> = Vec::new();
    let mut later = Vec::new();
    for (bit, fd, path) in std::mem::take(&mut init.join) {
        if early(bit) {
            home.push((bit, own_namespace(bit)?));
            sys::ns::setns(fd.as_fd(), bit).at(|| format!("setns {path}"))?;
        } else {
            later.push((bit, fd, path));
        }
    }
    init.join = later;
    let mut namespaces = launch.new & !flag::TIME;
    if launch.new & flag::TIME != 0 {
        home.push((flag::TIME, own_namespace(flag::TIME)?));
        new_clocks(launch)?;
    }
    let in_unit = place.unit.is_some();
    let folder = if in_unit { None } else { group::open_v2(&place.group, rootless)? };
    if in_unit || !place.group.is_unified() {
        namespaces &= !flag::CGROUP;
    }
    if init.entry == Entry::Beside {
        // The child makes the others itself, and the parent can go on: they take a millisecond.
        namespaces &= !init.own_namespaces();
    }
    if launch.new & flag::USER != 0 {
        // Made by the child once it is root inside, so that its message queues are its own.
        namespaces &= !flag::IPC;
    }
    if rustix::process::geteuid().is_root() {
        // What is born is seen in its pid namespace at once, with all that we have open
        // (CVE-2016-9962).
        sys::privilege::set_dumpable(false).at(|| "prctl".into())?;
    }
    let one = SingleThreaded::check().at(|| "clone".into())?;
    let forked = sys::clone::clone3(namespaces, folder.as_ref().map(AsFd::as_fd), &one);
    let forked = match forked {
        Err(e) if folder.is_some() && place.may_be_outside() && e.raw_os_error() == Some(13) => {
            sys::clone::clone3(namespaces, None, &one)
        }
        other => other,
    }
    .at(|| "clone3".into())?;
    match forked {
        Forked::Child => {
            init.state.pid = std::process::id() as i32;
            init.run(theirs)
        }
        Forked::Parent(pid, pidfd) => {
            for (bit, fd) in home.iter().rev() {
                sys::ns::setns(fd.as_fd(), *bit).at(|| "return to own namespace".into())?;
            }
            Ok((pid, pidfd))
        }
    }
}

fn adjust_oom(launch: &Launch, pid: i32, rootless: bool) -> Result<()> {
    let Some(value) = launch.process.oom_score_adj else { return Ok(()) };
    let path = format!("/proc/{pid}/oom_score_adj");
    match std::fs::write(&path, value.to_string()) {
        Err(e) if rootless && e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        other => other.at(|| format!("write {path}")),
    }
}

/// Writes a pid file, whole or not at all.
pub(crate) fn write_pid(path: &Path, pid: i32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}"));
    std::fs::write(&temporary, pid.to_string())
        .and_then(|()| std::fs::rename(&temporary, path))
        .at(|| format!("open {}", temporary.display()))
}
