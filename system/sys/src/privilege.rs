//! Rights of the calling process: ids, capabilities, seccomp, no_new_privs, limits, scheduling.
//! Names are translated by the caller; here are numbers and the calls.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

fn check(got: libc::c_long) -> io::Result<()> {
    if got == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn prctl(option: i32, two: u64, three: u64) -> io::Result<i32> {
    // SAFETY: only options whose arguments are plain numbers are passed below.
    let got = unsafe { libc::prctl(option, two, three, 0u64, 0u64) };
    if got == -1 { Err(io::Error::last_os_error()) } else { Ok(got) }
}

/// Has the kernel send `signal` (0: none) when the parent ends.
///
/// # Errors
/// As prctl(2).
pub fn parent_death_signal(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as u64, 0).map(drop)
}

/// Whether other processes may look into this one (`/proc/PID/exe`, ptrace).
///
/// # Errors
/// As prctl(2).
pub fn set_dumpable(yes: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(yes), 0).map(drop)
}

/// Makes orphans below this process its children.
///
/// # Errors
/// As prctl(2).
pub fn set_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0).map(drop)
}

/// From now on no execve gains rights.
///
/// # Errors
/// As prctl(2).
pub fn set_no_new_privs() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Whether capabilities survive a change of user id, until the next execve.
///
/// # Errors
/// As prctl(2).
pub fn set_keep_caps(yes: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(yes), 0).map(drop)
}

/// Whether the bounding set holds capability `number`; `None` when the kernel doesn't know it.
pub fn in_bounding_set(number: u32) -> Option<bool> {
    prctl(libc::PR_CAPBSET_READ, u64::from(number), 0).ok().map(|got| got == 1)
}

/// Takes capability `number` out of the bounding set.
///
/// # Errors
/// As prctl(2).
pub fn drop_from_bounding_set(number: u32) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(number), 0).map(drop)
}

/// Empties the ambient set.
///
/// # Errors
/// As prctl(2).
pub fn clear_ambient() -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).map(drop)
}

/// Adds capability `number` to the ambient set.
///
/// # Errors
/// As prctl(2).
pub fn raise_ambient(number: u32) -> io::Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, u64::from(number)).map(drop)
}

/// Three capability sets, a bit a capability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CapSets {
    /// In force.
    pub effective: u64,
    /// May be put in force.
    pub permitted: u64,
    /// Kept over execve of a file that agrees.
    pub inheritable: u64,
}

const CAP_VERSION_3: u32 = 0x2008_0522;

/// The calling thread's sets.
///
/// # Errors
/// As capget(2).
pub fn capabilities() -> io::Result<CapSets> {
    let header = [CAP_VERSION_3, 0];
    let mut data = [0u32; 6];
    // SAFETY: header and data have the layout of version 3.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    let join = |i: usize| u64::from(data[i]) | u64::from(data[i + 3]) << 32;
    Ok(CapSets { effective: join(0), permitted: join(1), inheritable: join(2) })
}

/// Sets the calling thread's sets.
///
/// # Errors
/// As capset(2).
pub fn set_capabilities(sets: CapSets) -> io::Result<()> {
    let header = [CAP_VERSION_3, 0];
    let (e, p, i) = (sets.effective, sets.permitted, sets.inheritable);
    let data = [e as u32, p as u32, i as u32, (e >> 32) as u32, (p >> 32) as u32, (i >> 32) as u32];
    // SAFETY: header and data have the layout of version 3.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) })
}

/// Sets real, effective and saved user id of the calling (only) thread.
///
/// # Errors
/// As setresuid(2).
pub fn set_uid(uid: u32) -> io::Result<()> {
    // SAFETY: no memory is passed; the raw call acts on the calling thread alone.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) })
}

/// Sets real, effective and saved group id of the calling (only) thread.
///
/// # Errors
/// As setresgid(2).
pub fn set_gid(gid: u32) -> io::Result<()> {
    // SAFETY: no memory is passed; the raw call acts on the calling thread alone.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })
}

/// Sets the supplementary groups of the calling (only) thread.
///
/// # Errors
/// As setgroups(2).
pub fn set_groups(groups: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length are of one live slice.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })
}

/// Sets the file mode creation mask and returns the old one.
pub fn set_umask(mask: u32) -> u32 {
    // SAFETY: umask always succeeds.
    unsafe { libc::umask(mask as libc::mode_t) as u32 }
}

/// One instruction of classic BPF.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BpfInsn {
    /// Operation.
    pub code: u16,
    /// Offset when the comparison holds.
    pub jt: u8,
    /// Offset when it doesn't.
    pub jf: u8,
    /// Constant.
    pub k: u32,
}

/// Installs a seccomp filter; with the flag `SECCOMP_FILTER_FLAG_NEW_LISTENER` (8) returns the
/// listener.
///
/// # Errors
/// As seccomp(2).
pub fn set_seccomp(program: &[BpfInsn], flags: u64) -> io::Result<Option<OwnedFd>> {
    #[repr(C)]
    struct Program {
        len: u16,
        filter: *const BpfInsn,
    }
    let program = Program { len: program.len() as u16, filter: program.as_ptr() };
    // SAFETY: `program` describes a live slice of instructions; the kernel checks them.
    let got = unsafe { libc::syscall(libc::SYS_seccomp, 1, flags, &raw const program) };
    check(got)?;
    // SAFETY: with that flag the answer is a new descriptor that nobody else owns.
    Ok((flags & 8 != 0).then(|| unsafe { OwnedFd::from_raw_fd(got as RawFd) }))
}

/// Which seccomp filter flags this kernel knows, of those in `candidates`.
pub fn seccomp_flag_is_known(flag: u64) -> bool {
    // SAFETY: a null program makes the call fail with EFAULT when the flag is known, with EINVAL
    // when it is not; nothing is installed.
    unsafe { libc::syscall(libc::SYS_seccomp, 1, flag, std::ptr::null::<u8>()) };
    io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
}

/// Sets a resource limit; `u64::MAX` is unlimited.
///
/// # Errors
/// As prlimit(2).
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = [soft, hard];
    // SAFETY: two 64-bit numbers are what the raw call reads.
    check(unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), std::ptr::null::<u64>())
    })
}

/// Gives the process a new session keyring.
///
/// # Errors
/// As keyctl(2).
pub fn new_session_keyring(name: &std::ffi::CStr) -> io::Result<i32> {
    // SAFETY: KEYCTL_JOIN_SESSION_KEYRING reads one C string.
    let got = unsafe { libc::syscall(libc::SYS_keyctl, 1, name.as_ptr()) };
    check(got)?;
    Ok(got as i32)
}

/// Lets the owner of a key search it too, as runc does for a container's session keyring.
///
/// # Errors
/// As keyctl(2).
pub fn allow_key_search(key: i32) -> io::Result<()> {
    const KEYCTL_SETPERM: i32 = 5;
    const DEFAULT_AND_USER_SEARCH: u32 = 0x3f13_0000 | 0x0008_0000;
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, key, DEFAULT_AND_USER_SEARCH) })
}

/// Sets the execution domain (personality(2)).
///
/// # Errors
/// As personality(2).
pub fn set_personality(domain: u64) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_personality, domain) })
}

/// Sets the I/O priority of the process: class and level.
///
/// # Errors
/// As ioprio_set(2).
pub fn set_io_priority(class: u32, level: u32) -> io::Result<()> {
    // SAFETY: no memory is passed.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, 1, 0, class << 13 | level) })
}

/// What sched_setattr(2) takes.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct SchedAttr {
    /// Size of this structure; filled by `set_scheduler`.
    pub size: u32,
    /// Policy number.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value.
    pub nice: i32,
    /// Static priority.
    pub priority: u32,
    /// Nanoseconds of SCHED_DEADLINE.
    pub runtime: u64,
    /// Nanoseconds of SCHED_DEADLINE.
    pub deadline: u64,
    /// Nanoseconds of SCHED_DEADLINE.
    pub period: u64,
}

/// Sets the scheduling policy of the calling thread.
///
/// # Errors
/// As sched_setattr(2).
pub fn set_scheduler(mut attr: SchedAttr) -> io::Result<()> {
    attr.size = size_of::<SchedAttr>() as u32;
    // SAFETY: `attr` is live and says its own size.
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) })
}

/// Restricts the calling thread to the processors whose bits are set.
///
/// # Errors
/// As sched_setaffinity(2).
pub fn set_affinity(mask: &[u64]) -> io::Result<()> {
    // SAFETY: pointer and length are of one live slice.
    check(unsafe {
        libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(mask), mask.as_ptr())
    })
}

/// Sets the NUMA memory policy: mode with its flags, and nodes as a bit mask.
///
/// # Errors
/// As set_mempolicy(2).
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let pointer = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: the mask is null or as long as said (the kernel reads one bit less).
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, bits) })
}
