//! `checkpoint`: the processes of a container saved to files.

use super::service::{Service, Start, errors_of, require, version};
use super::wire::{Message, kind};
use super::{Criu, DESCRIPTORS, OLDEST, Options, field, joined, make_folder, outer_mounts};
use crate::error::{At, Error, Result};
use crate::launch::{self, MountPlan};
use crate::lifecycle;
use crate::record::{Home, Record};
use crate::tree::{self, Root};
use oci::runtime::{Spec, Status};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

/// Saves a container. Unless it is to go on, nothing of it is left but the images.
///
/// # Errors
/// When CRIU is missing or fails; the container then goes on. Warnings are what its log says.
pub fn checkpoint(root: &Path, id: &str, request: &Criu, warn: &mut dyn FnMut(&str)) -> Result<()> {
    let home = Home::lock(root, id)?;
    let record = home.load()?;
    match home.status(&record) {
        Status::Running | Status::Paused => {}
        status => {
            let why = format!("Container cannot be checkpointed in {status} state");
            return Err(Error::Refused(why));
        }
    }
    let spec = home.config()?;
    prepare(request)?;
    let version = version()?;
    if version < OLDEST {
        return Err(Error::Refused(format!("CRIU version {version} must be {OLDEST} or higher")));
    }
    let (options, log) = describe(&record, &spec, request)?;
    let mut message = Message::default();
    let what = if request.pre_dump { kind::PRE_DUMP } else { kind::DUMP };
    message.number(1, what).message(2, &options.message);
    let ran = Service::start(&Start::default()).and_then(|service| {
        service.run(&message, &mut |step, _| {
            if step.script == "status-ready" {
                tell_ready(request);
            }
            Ok(())
        })
    });
    if let Err(error) = ran {
        for line in errors_of(&log) {
            warn(&format!("{}: {line}", log.display()));
        }
        return Err(error);
    }
    if request.leave_running || request.pre_dump {
        return Ok(());
    }
    lifecycle::destroy_now(&home, &record)
        .map_err(|why| Error::Refused(format!("unable to destroy container: {why}")))
}

/// Folders, and whether CRIU can do what the flags ask.
fn prepare(request: &Criu) -> Result<()> {
    std::fs::create_dir_all(&request.images)
        .at(|| format!("mkdir {}", request.images.display()))?;
    if let Some(parent) = &request.parent {
        if parent.is_absolute() {
            return Err(Error::Refused("--parent-path must be relative".into()));
        }
        super::open_folder(&request.images.join(parent))
            .map_err(|why| Error::Refused(format!("invalid --parent-path: {why}")))?;
    }
    if let Some(work) = &request.work {
        make_folder(work)?;
    }
    if request.pre_dump {
        require(1, "MemTrack")?;
    }
    if request.lazy_pages {
        require(2, "LazyPages")?;
    }
    if let Some(number) = request.status_fd {
        let invalid = |why: &str| {
            Err(Error::Refused(format!("invalid --status-fd argument {number}: {why}")))
        };
        match std::fs::read_link(format!("/proc/self/fd/{number}")) {
            Err(_) => return invalid("bad file descriptor"),
            Ok(_) if !is_writable(number) => return invalid("not writable"),
            Ok(_) => {}
        }
    }
    Ok(())
}

fn describe(record: &Record, spec: &Spec, request: &Criu) -> Result<(Options, PathBuf)> {
    let linux = spec.linux.clone().unwrap_or_default();
    let mut options = Options::new(request, &record.annotations, "dump.log")?;
    let root = record.rootfs.to_string_lossy();
    let message = &mut options.message;
    message.number(field::PID, record.pid as u64).text(field::ROOT, &root);
    message.flag(field::LEAVE_RUNNING, request.leave_running);
    message.flag(field::TCP_SKIP, request.tcp_skip_in_flight);
    message.flag(field::LINK_REMAP, request.link_remap);
    let group = &record.cgroup_paths;
    let freezer = if group.is_unified() { group.v2() } else { group.controller("freezer") };
    if let Some(folder) = freezer {
        message.text(field::FREEZE_CGROUP, &folder.to_string_lossy());
    }
    if let Some((address, port)) = &request.page_server {
        let mut server = Message::default();
        server.text(1, address).number(2, u64::from(*port));
        message.message(field::PAGE_SERVER, &server);
    }
    if let Some(parent) = &request.parent {
        message.text(field::PARENT, &parent.to_string_lossy()).number(field::TRACK_MEMORY, 1);
    } else if request.pre_dump {
        message.number(field::TRACK_MEMORY, 1);
    }
    for (word, name, path) in joined(&linux) {
        if name.is_empty() {
            continue;
        }
        let inode = rustix::fs::stat(path).at(|| format!("stat {path}"))?.st_ino;
        message.text(field::EXTERNAL, &format!("{word}[{inode}]:{name}"));
    }
    let log = options.log.clone();
    if request.pre_dump {
        return Ok((options, log));
    }
    let mounts: Vec<MountPlan> = spec
        .mounts
        .iter()
        .map(|mount| launch::plan_mount(mount, &record.bundle))
        .collect::<Result<_>>()?;
    for (inside, _) in outer_mounts(&mounts, &linux, group) {
        options.external_mount(&inside, &inside);
    }
    let root =
        Root { dir: super::open_folder(&PathBuf::from(format!("/proc/{}/root", record.pid)))? };
    for path in &linux.masked_paths {
        let seen = root.find(path)?.map(|fd| tree::kind(fd.as_fd())).transpose()?;
        if seen.is_some_and(|kind| kind != tree::DIRECTORY) {
            options.external_mount(path, "/dev/null");
        }
    }
    write_descriptors(record, &request.images)?;
    Ok((options, log))
}

/// What the first process's streams are: pipes from outside are given anew when it is restored.
fn write_descriptors(record: &Record, images: &Path) -> Result<()> {
    let names: Vec<String> = (0..3)
        .map(|number| {
            let link = format!("/proc/{}/fd/{number}", record.pid);
            rustix::fs::readlink(&link, Vec::new())
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default()
        })
        .collect();
    let text = serde_json::to_vec(&names).map_err(|e| Error::Spec(e.to_string()))?;
    let path = images.join(DESCRIPTORS);
    std::fs::write(&path, text).at(|| format!("write {}", path.display()))
}

/// By the flags that procfs tells of an open file.
fn is_writable(number: i32) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    let flags = flags.and_then(|text| u32::from_str_radix(text.trim(), 8).ok());
    flags.is_some_and(|flags| flags & 3 != 0)
}

/// One zero byte to who waits for the pages.
fn tell_ready(request: &Criu) {
    if let Some(number) = request.status_fd
        && let Ok(fd) = sys::clone::inherited(number)
    {
        // Nobody there to be told is not our failure.
        let _ = rustix::io::write(&fd, &[0]);
    }
}
