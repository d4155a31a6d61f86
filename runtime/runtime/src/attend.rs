//! What the parent does for the child between its birth and `Ready`. The whole exchange is drawn at
//! the head of `init`.

use crate::console;
use crate::create::Create;
use crate::error::{At, Error, Result};
use crate::group::Place;
use crate::hooks;
use crate::idmap;
use crate::launch::Launch;
use crate::lifecycle;
use crate::netdev;
use crate::notify;
use crate::record::Record;
use crate::seccomp::Filter;
use crate::sync::{Channel, Message};
use oci::runtime::{ContainerProcessState, Status};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

/// Answers the child until it is ready.
pub(crate) fn attend(
    channel: &Channel,
    launch: &Launch,
    record: &Record,
    place: &mut Place,
) -> Result<()> {
    let pid = record.pid;
    loop {
        match channel.hear()? {
            Message::Ready => return Ok(()),
            Message::Grouped => {
                place.adopt(launch, pid)?;
                channel.say(&Message::Grouped)?;
            }
            Message::Mapped => {
                idmap::write_maps(pid, &launch.linux.uid_mappings, &launch.linux.gid_mappings)?;
                channel.say(&Message::Mapped)?;
            }
            Message::Hooks => {
                let state = lifecycle::state(record, Status::Creating);
                let all = launch.spec.hooks.clone().unwrap_or_default();
                netdev::move_in(launch, pid)?;
                hooks::run_all("prestart", &all.prestart, &state).map_err(during_init)?;
                hooks::run_all("createRuntime", &all.create_runtime, &state)
                    .map_err(during_init)?;
                channel.say(&Message::Hooks)?;
            }
            Message::Listener(Some(fd)) => {
                send_listener(launch, record, fd.as_fd())?;
                channel.say(&Message::Listener(None))?;
            }
            Message::Failed(text) => return Err(Error::Start(text)),
            Message::Listener(None) => {}
            Message::Closed => {
                let how = sys::clone::wait(pid, true).ok().flatten();
                return Err(Error::Start(match how {
                    Some((_, end)) => format!("container init ended early: {end:?}"),
                    None => "container init ended early".into(),
                }));
            }
        }
    }
}

/// runc says so of hooks that run before the container is made.
fn during_init(error: Error) -> Error {
    Error::Start(format!("error during container init: {error}"))
}

/// Hands a filter's listener to who wants it.
///
/// # Errors
/// As connect(2) and sendmsg(2).
pub(crate) fn send_listener(launch: &Launch, record: &Record, fd: BorrowedFd<'_>) -> Result<()> {
    let Some(seccomp) = &launch.linux.seccomp else { return Ok(()) };
    let socket = console::connect(Path::new(&seccomp.listener_path))?;
    let document = ContainerProcessState {
        oci_version: record.oci_version.clone(),
        fds: vec!["seccompFd".into()],
        pid: record.pid,
        state: lifecycle::state(record, Status::Creating),
        metadata: seccomp.listener_metadata.clone(),
    };
    let text = serde_json::to_vec(&document).map_err(|e| Error::Spec(e.to_string()))?;
    sys::tty::send_fd(socket.as_fd(), &text, fd).at(|| "send seccomp listener".into())
}

/// Whether the program may be executed as soon as the child is ready: nothing that the caller, or the
/// child on its way there, waits for remains to be done then.
pub(crate) fn nothing_remains(request: &Create, launch: &Launch, place: &Place) -> bool {
    let asks = launch.in_user_namespace()
        || place.unit.is_some()
        || launch.has_steps_of_parent()
        || launch.filter.as_ref().is_some_and(Filter::has_listener);
    !asks && request.pid_file.is_none() && request.pidfd_socket.is_none() && !notify::is_asked_for()
}
