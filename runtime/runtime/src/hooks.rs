//! Hooks: programs that config.json names, run in order with the state on their standard input.

use crate::error::{At, Error, Lower, Result};
use oci::runtime::{Hook, State};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use sys::clone::{Ended, Forked, SingleThreaded};

/// How much of a hook's stderr is quoted when it fails.
const QUOTE: usize = 4096;

/// Runs hooks one after the other; the first that fails ends it.
///
/// # Errors
/// When a hook can't be started, fails, or exceeds its timeout.
pub(crate) fn run_all(kind: &str, hooks: &[Hook], state: &State) -> Result<()> {
    for (number, hook) in hooks.iter().enumerate() {
        run(hook, state)
            .map_err(|why| Error::Hook(format!("error running {kind} hook #{number}: {why}")))?;
    }
    Ok(())
}

/// Runs every hook, whatever becomes of the others, as the specification wants it after the end.
///
/// # Errors
/// The first failure.
pub(crate) fn run_each(kind: &str, hooks: &[Hook], state: &State) -> Result<()> {
    let mut first = Ok(());
    for (number, hook) in hooks.iter().enumerate() {
        if let Err(why) = run(hook, state) {
            let error = Error::Hook(format!("error running {kind} hook #{number}: {why}"));
            first = first.and(Err(error));
        }
    }
    first
}

fn run(hook: &Hook, state: &State) -> Result<(), String> {
    let c = |s: &str| CString::new(s).map_err(|_| "null byte in a string".to_owned());
    let path = c(&hook.path)?;
    let args = if hook.args.is_empty() { vec![hook.path.clone()] } else { hook.args.clone() };
    let args: Vec<CString> = args.iter().map(|a| c(a)).collect::<Result<_, _>>()?;
    let env: Vec<CString> = hook.env.iter().map(|a| c(a)).collect::<Result<_, _>>()?;
    let input = serde_json::to_vec(state).map_err(|e| e.to_string())?;
    let start = || -> Result<(i32, OwnedFd, OwnedFd, OwnedFd)> {
        let pipe =
            || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).at(|| "pipe".into());
        let ((stdin, feed), (output, stderr)) = (pipe()?, pipe()?);
        let one = SingleThreaded::check().at(|| "fork".into())?;
        match sys::clone::clone3(0, None, &one).at(|| "fork".into())? {
            Forked::Parent(pid, pidfd) => Ok((pid, pidfd, feed, output)),
            Forked::Child => {
                sys::clone::reset_signals();
                let wired = sys::clone::dup_onto(stdin.as_fd(), 0)
                    .and_then(|()| sys::clone::dup_onto(stderr.as_fd(), 1))
                    .and_then(|()| sys::clone::dup_onto(stderr.as_fd(), 2))
                    .and_then(|()| sys::clone::cloexec_from(3));
                let error = match wired {
                    Ok(()) => sys::clone::execve(&path, &args, &env),
                    Err(error) => error,
                };
                let text = format!("exec {}: {}", hook.path, Lower(&error));
                let _ = rustix::io::write(&stderr, text.as_bytes());
                sys::clone::exit_now(127)
            }
        }
    };
    let (pid, pidfd, feed, output) = start().map_err(|e| e.to_string())?;
    watch(hook, pid, &pidfd, feed, &output, &input)
}

/// Feeds the state, collects what the hook says, and waits for its end, all with one poll.
fn watch(
    hook: &Hook,
    pid: i32,
    pidfd: &OwnedFd,
    feed: OwnedFd,
    output: &OwnedFd,
    input: &[u8],
) -> Result<(), String> {
    // A state document fits a pipe (64 KiB) but for huge annotations; the hook may ignore it.
    let flags = rustix::fs::OFlags::NONBLOCK;
    let _ = rustix::fs::fcntl_setfl(&feed, flags);
    let mut left = input;
    let mut feed = Some(feed);
    let mut said = Vec::new();
    let start = std::time::Instant::now();
    let limit = hook.timeout.filter(|t| *t > 0).map(|t| std::time::Duration::from_secs(t as u64));
    loop {
        if let Some(pipe) = &feed {
            match rustix::io::write(pipe, left) {
                Ok(sent) => left = &left[sent..],
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
                Err(_) => left = &[],
            }
            if left.is_empty() {
                feed = None;
            }
        }
        let rest = limit.map(|limit| limit.saturating_sub(start.elapsed()));
        if rest.is_some_and(|rest| rest.is_zero()) {
            let _ = sys::clone::pidfd_kill(pidfd.as_fd(), 9);
            let _ = sys::clone::wait(pid, true);
            return Err(format!(
                "hook ran past specified timeout of {}s",
                hook.timeout.unwrap_or(0)
            ));
        }
        let rest = rest
            .map(|r| Timespec { tv_sec: r.as_secs() as i64, tv_nsec: i64::from(r.subsec_nanos()) });
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN), PollFd::new(output, PollFlags::IN)];
        if let Some(pipe) = &feed {
            fds.push(PollFd::new(pipe, PollFlags::OUT));
        }
        let _ = poll(&mut fds, rest.as_ref());
        let (ended, talks) =
            (!fds[0].revents().is_empty(), fds[1].revents().contains(PollFlags::IN));
        drop(fds);
        if talks {
            let mut part = [0u8; 1024];
            let got = rustix::io::read(output, &mut part[..]).unwrap_or(0);
            said.extend_from_slice(&part[..got.min(QUOTE.saturating_sub(said.len()))]);
            continue;
        }
        if ended {
            return match sys::clone::wait(pid, true).map_err(|e| e.to_string())? {
                Some((_, Ended::Exited(0))) => Ok(()),
                Some((_, Ended::Exited(code))) => Err(format!(
                    "exit status {code}, stdout: , stderr: {}",
                    String::from_utf8_lossy(&said).trim_end()
                )),
                Some((_, Ended::Signalled(signal))) => Err(format!("signal: {signal}")),
                None => Err("the hook vanished".into()),
            };
        }
    }
}
