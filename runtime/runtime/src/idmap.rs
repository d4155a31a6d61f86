//! User namespaces' maps: written for a container, and held by a short-lived process for idmapped
//! mounts.

use crate::error::{At, Error, Result};
use crate::launch::{Launch, MountPlan};
use oci::runtime::IdMapping;
use rustix::fs::{Mode, OFlags};
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::clone::{Forked, SingleThreaded};
use sys::ns::flag;

fn lines(mappings: &[IdMapping]) -> String {
    mappings.iter().fold(String::new(), |mut text, m| {
        let _ = writeln!(text, "{} {} {}", m.container_id, m.host_id, m.size);
        text
    })
}

fn write(pid: i32, file: &str, text: &str) -> Result<()> {
    let path = format!("/proc/{pid}/{file}");
    rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|fd| rustix::io::write(&fd, text.as_bytes()))
        .at(|| format!("write {path}"))?;
    Ok(())
}

/// Maps the ids of a process in a new user namespace. Without rights only one's own ids can be
/// mapped, and groups can't be set afterwards.
///
/// # Errors
/// As user_namespaces(7).
pub(crate) fn write_maps(pid: i32, uids: &[IdMapping], gids: &[IdMapping]) -> Result<()> {
    if rustix::process::geteuid().is_root() {
        write(pid, "uid_map", &lines(uids))?;
        return write(pid, "gid_map", &lines(gids));
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if is_own(uids, uid) {
        write(pid, "uid_map", &lines(uids))?;
    } else {
        helped(pid, "newuidmap", uids)?;
    }
    if is_own(gids, gid) {
        write(pid, "setgroups", "deny")?;
        write(pid, "gid_map", &lines(gids))
    } else {
        helped(pid, "newgidmap", gids)
    }
}

/// Whether the mapping is the one that the kernel allows everybody: one's own id.
fn is_own(mappings: &[IdMapping], id: u32) -> bool {
    matches!(mappings, [one] if one.size == 1 && one.host_id == id)
}

/// Has the set-user-id helper of the shadow suite write a map, by what `/etc/subuid` allows us.
fn helped(pid: i32, program: &str, mappings: &[IdMapping]) -> Result<()> {
    let refused = |why: String| {
        Error::Start(format!("error during container init: {program} of process {pid}: {why}"))
    };
    let path = find_helper(program).ok_or_else(|| {
        refused("not installed, and more than one's own id is to be mapped".into())
    })?;
    let (output, stderr) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).at(|| "pipe".into())?;
    let numbers = mappings.iter().flat_map(|m| [m.container_id, m.host_id, m.size]);
    let command = sys::spawn::Command::new(path)
        .arg(pid.to_string())
        .args(numbers.map(|n| n.to_string()))
        .fd(stderr.as_fd(), 2);
    let child = command.spawn().map_err(|e| refused(e.to_string()))?;
    drop(stderr);
    let mut said = [0u8; 1024];
    let got = rustix::io::read(&output, &mut said[..]).unwrap_or(0);
    match child.wait().at(|| format!("wait for {program}"))?.code() {
        0 => Ok(()),
        code => Err(refused(format!(
            "exit status {code}: {}",
            String::from_utf8_lossy(&said[..got]).trim_end()
        ))),
    }
}

/// A program of the search path, or of the usual folders.
pub(crate) fn find_helper(program: &str) -> Option<PathBuf> {
    let search = std::env::var("PATH").unwrap_or_default();
    search
        .split(':')
        .chain(["/usr/bin", "/bin", "/usr/sbin", "/sbin"])
        .filter(|folder| folder.starts_with('/'))
        .map(|folder| Path::new(folder).join(program))
        .find(|path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok())
}

/// A user namespace with the ids of an idmapped mount, its own or else the container's.
pub(crate) fn namespace(launch: &Launch, mount: &MountPlan) -> Result<OwnedFd> {
    let own = !mount.uid_mappings.is_empty();
    let (uids, gids) = if own {
        (&mount.uid_mappings, &mount.gid_mappings)
    } else {
        (&launch.linux.uid_mappings, &launch.linux.gid_mappings)
    };
    if uids.is_empty() || gids.is_empty() {
        return Err(Error::Spec(format!(
            "id-mapped mount {:?} has no mappings of its own, nor has the container",
            mount.destination
        )));
    }
    let one = SingleThreaded::check().at(|| "fork".into())?;
    let (alive, keep) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).at(|| "pipe".into())?;
    match sys::clone::clone3(flag::USER, None, &one).at(|| "clone user namespace".into())? {
        Forked::Child => {
            drop(keep);
            let mut byte = [0u8; 1];
            let _ = rustix::io::read(&alive, &mut byte[..]);
            sys::clone::exit_now(0)
        }
        Forked::Parent(pid, _) => {
            let open = || {
                write_maps(pid, uids, gids)?;
                let path = format!("/proc/{pid}/ns/user");
                rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                    .at(|| format!("open {path}"))
            };
            let namespace = open();
            drop(keep);
            sys::clone::wait(pid, true).at(|| "wait".into())?;
            namespace
        }
    }
}
