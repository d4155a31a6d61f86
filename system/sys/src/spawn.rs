//! Starting a program: one way, cheap in a process of any size (clone with CLONE_VM and
//! CLONE_VFORK, so no page table is copied), with a closed set of descriptors and a clean
//! environment. No PATH search, no fork-like children (`clone`), no waiting loops.

use crate::process::{self, Exit};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec};
use std::ffi::{CString, OsStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

/// Stack of the child until its execve; the code on it makes only system calls.
const STACK: usize = 16 * 1024;

/// Why a program was not started.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The program must be named by an absolute path.
    #[error("spawn {0}: the path is not absolute")]
    Relative(PathBuf),
    /// A NUL byte in an argument, an environment entry or a path.
    #[error("spawn {0}: a NUL byte in an argument")]
    Nul(PathBuf),
    /// A step failed before or at execve.
    #[error("spawn {program}: {step}: {source}")]
    Step {
        /// The program.
        program: PathBuf,
        /// The step's name: `clone`, `exec`, `chdir`, ….
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

impl SpawnError {
    /// The kernel's reason, where there is one (ENOENT of `exec`, for example).
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Step { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

/// A program to be started: everything the child will have is named here, nothing is inherited
/// but the user and the cgroup. Unmapped descriptors 0, 1, 2 are `/dev/null`.
#[derive(Debug)]
pub struct Command<'a> {
    program: PathBuf,
    args: Vec<CString>,
    env: Vec<CString>,
    cwd: Option<CString>,
    fds: Vec<(BorrowedFd<'a>, RawFd)>,
    cgroups: Vec<BorrowedFd<'a>>,
    session: bool,
    death_signal: Option<i32>,
    nul: bool,
}

impl<'a> Command<'a> {
    /// A program by its absolute path, which becomes argument 0.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        let mut command = Self {
            args: Vec::new(),
            env: Vec::new(),
            cwd: None,
            fds: Vec::new(),
            cgroups: Vec::new(),
            session: false,
            death_signal: None,
            nul: false,
            program,
        };
        let name = command.text(command.program.clone().as_os_str());
        command.args.push(name);
        command
    }

    fn text(&mut self, text: &OsStr) -> CString {
        CString::new(text.as_bytes()).unwrap_or_else(|_| {
            self.nul = true;
            CString::default()
        })
    }

    /// Appends an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        let arg = self.text(arg.as_ref());
        self.args.push(arg);
        self
    }

    /// Appends arguments.
    pub fn args<T: AsRef<OsStr>>(self, args: impl IntoIterator<Item = T>) -> Self {
        args.into_iter().fold(self, Self::arg)
    }

    /// Adds `key=value` to the environment, which is empty to begin with.
    pub fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        let mut entry = key.as_bytes().to_vec();
        entry.push(b'=');
        entry.extend_from_slice(value.as_ref().as_bytes());
        let entry = self.text(OsStr::from_bytes(&entry));
        self.env.push(entry);
        self
    }

    /// Copies this process's environment.
    pub fn inherit_env(mut self) -> Self {
        for (key, value) in std::env::vars_os() {
            let mut entry = key.as_bytes().to_vec();
            entry.push(b'=');
            entry.extend_from_slice(value.as_bytes());
            let entry = self.text(OsStr::from_bytes(&entry));
            self.env.push(entry);
        }
        self
    }

    /// Takes a variable out again.
    pub fn without_env(mut self, key: &str) -> Self {
        let is_it = |entry: &CString| {
            entry.as_bytes().strip_prefix(key.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
        };
        self.env.retain(|entry| !is_it(entry));
        self
    }

    /// The working folder; without it, this process's.
    pub fn cwd(mut self, folder: &Path) -> Self {
        let folder = self.text(folder.as_os_str());
        self.cwd = Some(folder);
        self
    }

    /// Gives the child a descriptor under a number.
    pub fn fd(mut self, fd: BorrowedFd<'a>, number: RawFd) -> Self {
        self.fds.push((fd, number));
        self
    }

    /// Makes the child the leader of a new session.
    pub fn new_session(mut self) -> Self {
        self.session = true;
        self
    }

    /// Moves the child into a cgroup before it runs: an open `cgroup.procs`, or on v1 `tasks`
    /// (cheaper after quiet). May be given once a hierarchy.
    pub fn cgroup(mut self, file: BorrowedFd<'a>) -> Self {
        self.cgroups.push(file);
        self
    }

    /// A signal that the child gets when the *thread* that starts it ends.
    pub fn death_signal(mut self, signal: i32) -> Self {
        self.death_signal = Some(signal);
        self
    }

    fn step(&self, step: &'static str, source: io::Error) -> SpawnError {
        SpawnError::Step { program: self.program.clone(), step, source }
    }

    /// Starts the program; returns when it has been executed. Errors: nothing runs.
    pub fn spawn(&self) -> Result<Child, SpawnError> {
        if !self.program.is_absolute() {
            return Err(SpawnError::Relative(self.program.clone()));
        }
        if self.nul {
            return Err(SpawnError::Nul(self.program.clone()));
        }
        let fds = self.map_fds().map_err(|e| self.step("map descriptors", e))?;
        let map: Vec<(RawFd, RawFd)> = fds.iter().map(|(fd, to)| (fd.as_raw_fd(), *to)).collect();
        let argv = pointers(&self.args);
        let envp = pointers(&self.env);
        let cgroups: Vec<RawFd> = self.cgroups.iter().map(AsRawFd::as_raw_fd).collect();
        let mut plan = Plan {
            program: self.args[0].as_ptr(),
            argv: argv.as_ptr(),
            envp: envp.as_ptr(),
            cwd: self.cwd.as_ref().map_or(ptr::null(), |c| c.as_ptr()),
            fds: &map,
            cgroups: &cgroups,
            session: self.session,
            death_signal: self.death_signal.unwrap_or(0),
            failed: ("", 0),
        };
        let (pid, pidfd) = run(&mut plan).map_err(|e| self.step("clone", e))?;
        let child = Child { pid, pidfd };
        if plan.failed.1 != 0 {
            // The child has ended by itself; only its status is to be collected.
            let _ = child.wait();
            return Err(self.step(plan.failed.0, io::Error::from_raw_os_error(plan.failed.1)));
        }
        Ok(child)
    }

    /// Descriptors to duplicate onto their numbers. Sources are first moved above all numbers, so
    /// that no duplication overwrites one still needed.
    fn map_fds(&self) -> io::Result<Vec<(OwnedFd, RawFd)>> {
        let top = self.fds.iter().map(|(_, to)| *to).max().unwrap_or(2).max(2);
        let mut map = Vec::with_capacity(self.fds.len() + 3);
        for (fd, to) in &self.fds {
            map.push((fcntl_dupfd_cloexec(fd, top + 1)?, *to));
        }
        let free = |n: &RawFd| !self.fds.iter().any(|(_, to)| to == n);
        let missing: Vec<RawFd> = (0..=2).filter(free).collect();
        if !missing.is_empty() {
            let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
            for number in missing {
                map.push((fcntl_dupfd_cloexec(&null, top + 1)?, number));
            }
        }
        debug_assert!(
            map.iter().all(|(fd, _)| rustix::io::fcntl_getfd(fd) == Ok(FdFlags::CLOEXEC))
        );
        map.sort_by_key(|(_, to)| *to);
        Ok(map)
    }
}

fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|t| t.as_ptr()).chain([ptr::null()]).collect()
}

/// What the child needs, in place before the clone: it must not allocate.
struct Plan<'a> {
    program: *const c_char,
    argv: *const *const c_char,
    envp: *const *const c_char,
    cwd: *const c_char,
    fds: &'a [(RawFd, RawFd)],
    cgroups: &'a [RawFd],
    session: bool,
    death_signal: c_int,
    /// Written by the child in shared memory: the failed step and its errno.
    failed: (&'static str, i32),
}

fn run(plan: &mut Plan<'_>) -> io::Result<(i32, OwnedFd)> {
    let mut stack = vec![0u128; STACK / size_of::<u128>()];
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: plain-old-data for the kernel to fill; all zeros is a valid value.
    let (mut all, mut old): (libc::sigset_t, libc::sigset_t) = unsafe { std::mem::zeroed() };
    // SAFETY: both sets are live. Signals stay blocked until the child has executed, so that no
    // handler runs in the shared memory.
    unsafe {
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
    }
    // SAFETY: the child runs `child` on a stack of its own that outlives it: CLONE_VFORK suspends
    // this thread until it executes or exits; `plan` and `pidfd` outlive it for the same reason,
    // and the child only makes async-signal-safe calls.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(stack.len());
        libc::clone(child, top.cast(), flags, ptr::from_mut(plan).cast(), &raw mut pidfd)
    };
    let error = io::Error::last_os_error();
    // SAFETY: `old` was filled above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old, ptr::null_mut()) };
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: CLONE_PIDFD stored a new descriptor that nobody else owns.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// Runs in the child, on the parent's memory: system calls only, no allocation, no locks.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: the parent passes its live `Plan` and is suspended until this process executes.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    let step = prepare(plan);
    // SAFETY: reading errno of this thread right after the failed call.
    plan.failed = (step, unsafe { *libc::__errno_location() }.max(1));
    // SAFETY: ends the child without running anything of the parent's at exit.
    unsafe { libc::_exit(127) }
}

/// Returns the name of the step that failed; does not return at all when the program runs.
fn prepare(plan: &Plan<'_>) -> &'static str {
    // SAFETY: system calls on pointers and descriptors that the parent keeps alive; the signal
    // table is the child's own copy.
    unsafe {
        if plan.session && libc::setsid() < 0 {
            return "setsid";
        }
        if plan.death_signal != 0 && libc::prctl(libc::PR_SET_PDEATHSIG, plan.death_signal) != 0 {
            return "set the death signal";
        }
        for file in plan.cgroups {
            if libc::write(*file, c"0".as_ptr().cast(), 1) != 1 {
                return "join the cgroup";
            }
        }
        let mut top = 0;
        for (from, to) in plan.fds {
            if libc::dup2(*from, *to) < 0 {
                return "map descriptors";
            }
            // What lies between mapped numbers is not the child's.
            for gap in top..*to {
                libc::close(gap);
            }
            top = *to + 1;
        }
        libc::syscall(libc::SYS_close_range, top, libc::c_uint::MAX, 0);
        if !plan.cwd.is_null() && libc::chdir(plan.cwd) != 0 {
            return "chdir";
        }
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
        libc::execve(plan.program, plan.argv, plan.envp);
        "exec"
    }
}

/// A started program. Dropping it neither ends nor reaps it.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    pidfd: OwnedFd,
}

impl Child {
    /// Its pid; stable until it is reaped.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its pidfd: readable once it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Gives the pidfd away.
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }

    /// Waits until it ends, and reaps it.
    pub fn wait(&self) -> io::Result<Exit> {
        loop {
            if let Some(exit) = process::wait_pidfd(self.pidfd.as_fd(), true)? {
                return Ok(exit);
            }
        }
    }

    /// Reaps it if it has ended.
    pub fn try_wait(&self) -> io::Result<Option<Exit>> {
        process::wait_pidfd(self.pidfd.as_fd(), false)
    }

    /// Sends it a signal.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        process::signal_pidfd(self.pidfd.as_fd(), signal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Seek};

    fn output(command: Command<'_>) -> (String, Exit) {
        let memory = rustix::fs::memfd_create("out", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let mut file = std::fs::File::from(memory);
        let dup = file.try_clone().unwrap();
        let exit = command.fd(dup.as_fd(), 1).spawn().unwrap().wait().unwrap();
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        (text, exit)
    }

    fn shell(script: &str) -> Command<'static> {
        Command::new("/bin/sh").arg("-c").arg(script)
    }

    #[test]
    fn a_child_has_exactly_the_named_descriptors_and_environment() {
        let extra = std::fs::File::open("/dev/zero").unwrap();
        let command = shell("ls /proc/$$/fd; echo $A; env | grep -c B").env("A", "x y");
        let (text, exit) = output(command.fd(extra.as_fd(), 5));
        let fds: Vec<&str> = text.lines().take_while(|l| *l != "x y").collect();
        assert_eq!(fds, ["0", "1", "2", "5"], "{text}");
        assert!(text.ends_with("x y\n0\n"), "{text}");
        assert_eq!(exit.code(), 1);
    }

    #[test]
    fn a_variable_taken_out_is_gone_and_its_namesakes_stay() {
        let command = shell("echo $A,$AB").env("A", "1").env("AB", "2").without_env("A");
        assert_eq!(output(command).0, ",2\n");
    }

    #[test]
    fn descriptors_can_swap_numbers() {
        let (r, w) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (a, b) = (r.as_raw_fd(), w.as_raw_fd());
        let command = shell(&format!("echo crossed >&{a}"));
        let child = command.fd(w.as_fd(), a).fd(r.as_fd(), b).spawn().unwrap();
        drop(w);
        assert_eq!(child.wait().unwrap().code(), 0);
        let mut text = String::new();
        std::fs::File::from(r).read_to_string(&mut text).unwrap();
        assert_eq!(text, "crossed\n");
    }

    #[test]
    fn a_failed_exec_names_program_and_reason() {
        let error = Command::new("/no/such/program").spawn().unwrap_err();
        assert_eq!(error.io_kind(), Some(io::ErrorKind::NotFound));
        assert!(error.to_string().starts_with("spawn /no/such/program: exec: No such file"));
        assert!(matches!(Command::new("sh").spawn(), Err(SpawnError::Relative(_))));
    }

    #[test]
    fn a_new_session_and_a_folder_are_the_childs() {
        let command = shell("pwd; cut -d' ' -f1,6 /proc/$$/stat").cwd(Path::new("/usr"));
        let (text, _) = output(command.new_session());
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("/usr"));
        let (pid, session) = lines.next().unwrap().split_once(' ').unwrap();
        assert_eq!(pid, session);
    }
}
