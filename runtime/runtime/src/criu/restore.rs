//! `restore`: a container brought back from what `checkpoint` saved.
//!
//! CRIU makes the processes; the bundle, the record and the cgroup are made here as for a new
//! container. It works in a mount namespace of its own, where the root file system is mounted the
//! way it wants it, so that nothing shows on the host or stays there.

use super::service::{FIRST_EXTRA, Service, Start, errors_of, version};
use super::wire::{Answer, Message, kind};
use super::{Criu, DESCRIPTORS, OLDEST, Options, field, joined, outer_mounts, refuse};
use crate::create::{Create, Terminal, Undo, new_record, terminal_socket, write_pid};
use crate::error::{At, Error, Result};
use crate::foreground;
use crate::group::Place;
use crate::hooks;
use crate::launch::Launch;
use crate::lifecycle;
use crate::record::{self, Home, Record};
use crate::tree::{self, Root};
use oci::runtime::Status;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::ns::flag;

/// Fewest versions of CRIU that take a label.
const HAS_LABELS: u64 = 31_600;

/// Brings a container back; waits for its end and answers its exit code, unless detached.
///
/// # Errors
/// When CRIU is missing or fails; nothing is left behind then. Warnings are what its log says.
pub fn restore(request: &Create, criu: &Criu, warn: &mut dyn FnMut(&str)) -> Result<i32> {
    record::check_id(&request.id)?;
    if request.flags.no_pivot {
        return Err(Error::Refused(
            "--no-pivot is not supported by restore: CRIU always pivots".into(),
        ));
    }
    let version = version()?;
    if version < OLDEST {
        return Err(Error::Refused(format!("CRIU version {version} must be {OLDEST} or higher")));
    }
    if criu.lsm_profile.is_some() && version < HAS_LABELS {
        return Err(Error::Refused("--lsm-profile requires at least CRIU 3.16".into()));
    }
    if criu.lsm_mount_context.is_some() && version < HAS_LABELS {
        return Err(Error::Refused("--lsm-mount-context requires at least CRIU 3.16".into()));
    }
    let launch = Launch::read(&request.bundle)?;
    refuse(&launch)?;
    let own = if request.detach || request.console_socket.is_some() {
        None
    } else {
        Some(foreground::socket_pair()?)
    };
    let (ours, theirs) = own.map_or((None, None), |(a, b)| (Some(a), Some(b)));
    let console = terminal_socket(request, &launch, Terminal::Ours(theirs))?;
    if !request.detach && !request.no_subreaper {
        sys::privilege::set_subreaper().at(|| "become subreaper".into())?;
    }
    let signals = if request.detach { None } else { Some(foreground::signals()?) };
    let (home, record) = bring_back(request, criu, &launch, console, warn)?;
    let Some(signals) = signals else { return Ok(0) };
    let pidfd = sys::clone::pidfd_open(record.pid).at(|| "open container init".into())?;
    let console = ours.filter(|_| launch.process.terminal);
    let code = foreground::follow(record.pid, &pidfd, &signals, console, None);
    if let Err(why) = lifecycle::destroy_now(&home, &record) {
        warn(&format!("unable to destroy container: {why}"));
    }
    code
}

fn bring_back(
    request: &Create,
    criu: &Criu,
    launch: &Launch,
    console: Option<OwnedFd>,
    warn: &mut dyn FnMut(&str),
) -> Result<(Home, Record)> {
    let home = Home::create(&request.root, &request.id)?;
    let mut undo = Undo::default();
    let folder = home.path.clone();
    undo.push(move || drop(std::fs::remove_dir_all(folder)));
    let mut place = Place::find(launch, request)?;
    let mut record = new_record(request, launch, &place);
    home.begin(&record)?;
    home.keep_config(&launch.text)?;
    // Its processes first: CRIU's own are in the cgroup as well.
    undo.push(place.undo(true));
    place.make(launch)?;
    record.cgroup_paths.clone_from(&place.group);

    let path = home.path.join("criu-root");
    let at = path.clone();
    undo.push(move || give_back(&at));
    let root = own_root(launch, &path)?;
    let mut options = Options::new(criu, &launch.spec.annotations, "restore.log")?;
    let log = options.log.clone();
    let extra = describe(&mut options, criu, launch, &place.group, &root)?;
    let join = if place.unit.is_some() { Vec::new() } else { place.group.open_joins()? };
    let service = Service::start(&Start { extra: &extra, join: &join, streams: true })?;
    let pid = service.pid();
    place.adopt(launch, pid)?;
    place.divide(launch.linux.intel_rdt.as_ref(), pid)?;
    name_cgroups(&mut options, pid)?;
    let mut message = Message::default();
    message.number(1, kind::RESTORE).message(2, &options.message);
    let ran = service.run(&message, &mut |step, fd| {
        at_step(step, fd, launch, console.as_ref(), &mut record, &home)
    });
    if let Err(error) = ran {
        for line in errors_of(&log) {
            warn(&format!("{}: {line}", log.display()));
        }
        return Err(error);
    }
    give_back(&path);
    if record.pid == 0 {
        return Err(Error::Refused("criu told of no restored process".into()));
    }
    if let Some(path) = &request.pid_file {
        write_pid(path, record.pid)?;
    }
    undo.commit();
    Ok((home, record))
}

/// CRIU wants the root to be a mount below one that nothing covers. Where it is mounted is ours
/// alone, and its mount points are made as for a new container.
fn own_root(launch: &Launch, path: &Path) -> Result<PathBuf> {
    rustix::fs::mkdir(path, Mode::from_raw_mode(0o700))
        .at(|| format!("mkdir {}", path.display()))?;
    let path = std::path::absolute(path).at(|| "absolute path".into())?;
    sys::ns::unshare(flag::MOUNT).at(|| "unshare mount namespace".into())?;
    let slave = crate::options::propagation::SLAVE | 1 << 14;
    sys::mount::set_propagation(c"/", slave).at(|| "make / a slave".into())?;
    let rootfs = launch.rootfs.to_string_lossy();
    let tree = tree::copy_path(&rootfs, true).at(|| format!("bind {rootfs}"))?;
    let root = Root { dir: rustix::io::fcntl_dupfd_cloexec(&tree, 3).at(|| "dup".into())? };
    let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, c"", rustix::fs::CWD, &path, flags)
        .at(|| format!("mount {}", path.display()))?;
    let on_tmpfs = |destination: &str| {
        launch.mounts.iter().any(|mount| {
            mount.kind == "tmpfs"
                && destination
                    .strip_prefix(mount.destination.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
        })
    };
    for mount in &launch.mounts {
        // What lies on a tmpfs comes back with it; a cgroup's folder comes with sysfs.
        if mount.kind.starts_with("cgroup") || on_tmpfs(&mount.destination) {
            continue;
        }
        let is_file = mount.kind == "bind"
            && rustix::fs::stat(&mount.source)
                .is_ok_and(|stat| stat.st_mode & 0o170_000 != tree::DIRECTORY);
        if is_file {
            root.file(&mount.destination)?;
        } else {
            root.folder(&mount.destination)?;
        }
    }
    Ok(path)
}

/// Takes our view of the root away again, so that the state folder can go.
fn give_back(path: &Path) {
    let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
    let _ = rustix::fs::rmdir(path);
}

/// Everything but the cgroups. Answers the descriptors that CRIU gets.
fn describe(
    options: &mut Options,
    criu: &Criu,
    launch: &Launch,
    group: &cgroup::Cgroup,
    root: &Path,
) -> Result<Vec<OwnedFd>> {
    let message = &mut options.message;
    message.number(field::EVASIVE_DEVICES, 1).number(field::SIBLING, 1);
    message.text(field::ROOT, &root.to_string_lossy());
    if let Some(profile) = &criu.lsm_profile {
        message.text(field::LSM_PROFILE, profile);
    }
    if let Some(context) = &criu.lsm_mount_context {
        message.text(field::LSM_MOUNT_CONTEXT, context);
    }
    let mut extra: Vec<OwnedFd> = Vec::new();
    for (word, name, path) in joined(&launch.linux) {
        let mut one = Message::default();
        if name.is_empty() {
            one.text(1, word).text(2, path);
            message.message(field::JOIN_NS, &one);
            continue;
        }
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|_| {
                Error::Refused(format!("Requested network namespace {path} does not exist"))
            })?;
        one.text(1, name).number(2, (FIRST_EXTRA + extra.len() as i32) as u64);
        message.message(field::INHERIT_FD, &one);
        extra.push(file);
    }
    for (inside, source) in outer_mounts(&launch.mounts, &launch.linux, group) {
        options.external_mount(&inside, &source);
    }
    if !launch.linux.masked_paths.is_empty() {
        options.external_mount("/dev/null", "/dev/null");
    }
    let path = criu.images.join(DESCRIPTORS);
    let names: Vec<String> = serde_json::from_slice(&record::read_file(&path)?)
        .map_err(|e| Error::Spec(format!("{}: {e}", path.display())))?;
    for (number, name) in names.iter().take(3).enumerate() {
        if name.contains("pipe:") {
            let mut one = Message::default();
            one.text(1, name).number(2, number as u64);
            options.message.message(field::INHERIT_FD, &one);
        }
    }
    Ok(extra)
}

/// The cgroups that CRIU itself is in are the restored processes' too.
fn name_cgroups(options: &mut Options, pid: i32) -> Result<()> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = record::read_file(&path)?;
    for line in String::from_utf8_lossy(&text).lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        if let (Some(controllers), Some(path)) = (parts.next(), parts.next()) {
            let mut one = Message::default();
            one.text(1, controllers).text(2, path);
            options.message.message(field::CGROUP_ROOT, &one);
        }
    }
    Ok(())
}

fn at_step(
    step: &Answer,
    fd: Option<OwnedFd>,
    launch: &Launch,
    console: Option<&OwnedFd>,
    record: &mut Record,
    home: &Home,
) -> Result<()> {
    match step.script.as_str() {
        "setup-namespaces" => {
            let mut state = lifecycle::state(record, Status::Creating);
            state.pid = step.pid;
            let all = launch.spec.hooks.clone().unwrap_or_default();
            hooks::run_all("prestart", &all.prestart, &state)?;
            hooks::run_all("createRuntime", &all.create_runtime, &state)
        }
        // They exist and do not run yet: recorded before they do anything.
        "post-restore" => {
            record.pid = step.pid;
            record.start_time = record::process_stat(step.pid).map_or(0, |(_, start)| start);
            record.created = record::now();
            home.save(record)
        }
        "orphan-pts-master" => match (fd, console) {
            (Some(master), Some(console)) => {
                sys::tty::send_fd(console.as_fd(), b"/dev/ptmx", master.as_fd())
                    .at(|| "send terminal".into())
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
