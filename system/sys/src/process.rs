//! Processes that exist: reaping, pidfds, identity, and becoming a daemon. Starting programs is in
//! `spawn`, fork-like clones in `clone`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with a code from 0 to 255.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

impl Exit {
    /// The code as shells and container engines show it: 128 + signal for a killed one.
    pub fn code(self) -> u32 {
        match self {
            Self::Code(code) => code as u32 & 0xff,
            Self::Signal(signal) => 128 + signal as u32,
        }
    }
}

/// waitid(2); `None`: nobody has ended (with WNOHANG).
fn waitid(kind: libc::idtype_t, id: u32, flags: i32) -> io::Result<Option<(i32, Exit)>> {
    // SAFETY: plain-old-data for the kernel to fill; all zeros is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` is live and of the kernel's layout.
        if unsafe { libc::waitid(kind, id, &raw mut info, flags | libc::WEXITED) } == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    // SAFETY: after waitid succeeded, the child fields are filled, or zero when nobody ended.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let exit =
        if info.si_code == libc::CLD_EXITED { Exit::Code(status) } else { Exit::Signal(status) };
    Ok(Some((pid, exit)))
}

/// Reaps any child that has ended; `None`: none has. Without children: `None` too.
pub fn reap_any() -> io::Result<Option<(i32, Exit)>> {
    no_child(waitid(libc::P_ALL, 0, libc::WNOHANG))
}

/// As [`reap_any`], but leaves the child a zombie, so that its pid stays taken.
pub fn peek_any() -> io::Result<Option<(i32, Exit)>> {
    no_child(waitid(libc::P_ALL, 0, libc::WNOHANG | libc::WNOWAIT))
}

/// Reaps one child that has ended; `None`: it lives.
pub fn reap(pid: i32) -> io::Result<Option<Exit>> {
    Ok(waitid(libc::P_PID, pid as u32, libc::WNOHANG)?.map(|(_, exit)| exit))
}

fn no_child(result: io::Result<Option<(i32, Exit)>>) -> io::Result<Option<(i32, Exit)>> {
    match result {
        Err(e) if e.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        other => other,
    }
}

/// Reaps the child of a pidfd; with `block`, waits for its end. `None`: it lives.
pub fn wait_pidfd(pidfd: BorrowedFd<'_>, block: bool) -> io::Result<Option<Exit>> {
    let flags = if block { 0 } else { libc::WNOHANG };
    Ok(waitid(libc::P_PIDFD, pidfd.as_raw_fd() as u32, flags)?.map(|(_, exit)| exit))
}

/// A pidfd of a process. Errors: ESRCH when there is none.
pub fn pidfd(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: a system call on plain numbers; the result is checked.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel returned a new descriptor (close-on-exec) that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal through a pidfd.
pub fn signal_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let (fd, none) = (pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
    // SAFETY: a system call on plain numbers and a null pointer, which the kernel allows.
    match unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, none, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends a signal by pid: only to an own child that was not reaped, whose pid can't be another's.
pub fn signal_child(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 1 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: a system call on plain numbers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// When a process started, in clock ticks since boot: with the pid, its identity.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = fields.split_ascii_whitespace().nth(19).and_then(|f| f.parse().ok());
    field.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed stat of a process"))
}

/// Makes orphans below this process its children.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: a system call on plain numbers.
    match unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What [`fork_alone`] came back as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fork {
    /// The caller, with the child's pid.
    Parent(i32),
    /// The new process.
    Child,
}

/// fork(2), for a process that becomes a daemon. Errors: the process has several threads, whose
/// locks would stay held in the child.
pub fn fork_alone() -> io::Result<Fork> {
    // A folder has a link for itself, one for its name, and one for each folder below it.
    if rustix::fs::stat("/proc/self/task")?.st_nlink != 3 {
        return Err(io::Error::other("fork: the process has more than one thread"));
    }
    // SAFETY: there is one thread, so no lock can be held by another one in the child.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => Ok(Fork::Parent(pid)),
    }
}

/// Cuts the ties to whoever started this process: a session of its own, `/dev/null` as standard
/// input, output and error. Whoever reads our output sees its end.
pub fn detach() -> io::Result<()> {
    rustix::process::setsid()?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawn::Command;
    use std::os::fd::AsFd;

    #[test]
    fn a_killed_child_is_told_from_one_that_exits() {
        let child = Command::new("/bin/sleep").arg("60").spawn().unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        let again = pidfd(child.pid()).unwrap();
        assert!(start_time(child.pid()).unwrap() > 0);
        signal_pidfd(again.as_fd(), libc::SIGKILL).unwrap();
        assert_eq!(child.wait().unwrap(), Exit::Signal(libc::SIGKILL));
        assert_eq!(Exit::Signal(9).code(), 137);
        assert!(pidfd(child.pid()).is_err());
    }
}
