//! Making processes the fork-like way: clone3, waiting, ending, and handing over to a program.
//! What the child then does to itself is in the modules beside; running a helper program from a
//! daemon belongs to `spawn`, not here.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Proof that the calling process has exactly one thread, so that a fork-like clone leaves no lock
/// held in the child.
#[derive(Debug)]
pub struct SingleThreaded(());

impl SingleThreaded {
    /// Checks it by counting the entries of `/proc/self/task`.
    ///
    /// # Errors
    /// When the folder can't be read or the process has several threads.
    pub fn check() -> io::Result<Self> {
        let tasks = rustix::fs::stat("/proc/self/task")?.st_nlink;
        if tasks == 3 {
            Ok(Self(()))
        } else {
            Err(io::Error::other("the process has more than one thread"))
        }
    }
}

/// What a fork-like clone came back as.
#[derive(Debug)]
pub enum Forked {
    /// The caller, with the child's pid and pidfd.
    Parent(i32, OwnedFd),
    /// The new process.
    Child,
}

#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Forks into new namespaces (`CLONE_NEW*` bits of clone(2)) and, when given, into a cgroup v2
/// folder (kernel 5.7).
///
/// # Errors
/// As clone3(2).
pub fn clone3(
    namespaces: u64,
    cgroup: Option<BorrowedFd<'_>>,
    _one: &SingleThreaded,
) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: namespaces | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let Some(folder) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = folder.as_raw_fd() as u64;
    }
    // SAFETY: `args` is live and correctly sized, names no stack (fork-like), `pidfd` outlives the
    // call, and `SingleThreaded` proves that no other thread can hold a lock in the child.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
    let denied = pid == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS);
    let pid = if denied && cgroup.is_none() {
        // A container's own filter hides clone3 from what runs after it was loaded.
        let flags = namespaces | libc::CLONE_PIDFD as u64 | libc::SIGCHLD as u64;
        // SAFETY: no stack is named (fork-like), the third argument receives the pidfd, and
        // `SingleThreaded` holds as above.
        unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut pidfd, 0, 0) }
    } else {
        pid
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Forked::Child),
        // SAFETY: on success the kernel stored a new descriptor that nobody else owns.
        pid => Ok(Forked::Parent(pid as i32, unsafe { OwnedFd::from_raw_fd(pidfd) })),
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signalled(i32),
}

impl Ended {
    /// The exit code a shell would show: 128 + signal for a killed process.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signalled(signal) => 128 + signal,
        }
    }
}

fn ended(status: i32) -> Ended {
    if libc::WIFSIGNALED(status) {
        Ended::Signalled(libc::WTERMSIG(status))
    } else {
        Ended::Exited(libc::WEXITSTATUS(status))
    }
}

/// Waits for a child (`-1`: any) to end and says which one did and how; `None` when `block` is
/// false and none has.
///
/// # Errors
/// As waitpid(2), EINTR apart, which is retried.
pub fn wait(pid: i32, block: bool) -> io::Result<Option<(i32, Ended)>> {
    let mut status = 0;
    loop {
        // SAFETY: `status` is a live integer.
        let got =
            unsafe { libc::waitpid(pid, &raw mut status, if block { 0 } else { libc::WNOHANG }) };
        match got {
            -1 => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            0 => return Ok(None),
            got => return Ok(Some((got, ended(status)))),
        }
    }
}

/// Ends the process at once, without running destructors or exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(std::ptr::null())).collect()
}

/// Becomes the program at `path`; returns only on failure.
pub fn execve(path: &CStr, args: &[CString], env: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays are live, end in null and point to live C strings.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

/// Becomes the program that `file` is opened on; returns only on failure.
pub fn execveat(file: BorrowedFd<'_>, args: &[CString], env: &[CString]) -> io::Error {
    let (argv, envp) = (pointers(args), pointers(env));
    // SAFETY: both arrays are live, end in null and point to live C strings; the path is empty, so
    // the descriptor itself is meant.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Marks every descriptor from `first` on close-on-exec.
///
/// # Errors
/// As close_range(2) (kernel 5.11 for this flag).
pub fn cloexec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: no memory is passed; nothing is closed now.
    let got = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    if got == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor from `first` on but those of `kept`: for a process that is about to become
/// a program and must not lead it anywhere. Whoever owns one of the others must not use it any more.
///
/// # Errors
/// As close_range(2) (kernel 5.9).
pub fn close_all_but(first: u32, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd() as u32).collect();
    numbers.retain(|number| *number >= first);
    numbers.sort_unstable();
    let mut from = first;
    for last in numbers.into_iter().map(Some).chain([None]) {
        let to = last.map_or(u32::MAX, |number| number.wrapping_sub(1));
        if last != Some(from) {
            // SAFETY: no memory is passed. A number that an owner still holds fails with EBADF from
            // now on and is not used again: nothing but those of `kept` is, until the execve.
            let got = unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
            if got != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        from = last.map_or(from, |number| number + 1);
    }
    Ok(())
}

/// Makes `fd` be the descriptor `number` too, open over execve; what `number` was before is closed.
///
/// # Errors
/// As dup2(2).
pub fn dup_onto(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: the caller names a number of the standard streams (or of a child about to exec),
    // which no owned descriptor of this process stands for.
    let got = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    if got == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Takes over a descriptor that the starter of this program handed down by number.
///
/// # Errors
/// EBADF when that number is not open.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only looks.
    if unsafe { libc::fcntl(number, libc::F_GETFD) } == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the number is open and was opened by our starter, so no owner exists in this program;
    // callers take each number once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Sends a signal to a process or (negative) a process group.
///
/// # Errors
/// As kill(2).
pub fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    if unsafe { libc::kill(pid, signal) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal through a pidfd.
///
/// # Errors
/// As pidfd_send_signal(2).
pub fn pidfd_kill(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo is allowed.
    let got = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if got == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Opens a pidfd.
///
/// # Errors
/// As pidfd_open(2).
pub fn pidfd_open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Puts every signal back to its default action and unblocks all of them.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid handler for any number; invalid numbers only fail.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an all-zero sigset is filled by sigemptyset before use.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Blocks the given signals and returns a signalfd (non-blocking, close-on-exec) that reports them.
///
/// # Errors
/// As signalfd(2).
pub fn block_into_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is read; the descriptor is new.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for &signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// Reads one signal number from such a descriptor; `None` when none is pending.
pub fn next_signal(fd: BorrowedFd<'_>) -> Option<i32> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    let got = rustix::io::read(fd, &mut info[..]).ok()?;
    (got >= 4).then(|| i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))
}
