//! Device programs of cgroup v2: load, attach, replace, find. What they say is decided elsewhere.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const PROG_LOAD: i32 = 5;
const PROG_ATTACH: i32 = 8;
const PROG_DETACH: i32 = 9;
const PROG_GET_FD_BY_ID: i32 = 13;
const PROG_QUERY: i32 = 16;
const TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// `union bpf_attr`, as far as the calls here need it.
#[repr(C, align(8))]
struct Attr([u32; 32]);

impl Attr {
    fn new() -> Self {
        Self([0; 32])
    }
    fn pointer(&mut self, at: usize, value: u64) {
        self.0[at] = value as u32;
        self.0[at + 1] = (value >> 32) as u32;
    }
}

fn bpf(command: i32, attr: &mut Attr) -> io::Result<i64> {
    // SAFETY: `attr` is live and as large as said; pointers in it are live for the call (callers).
    let got = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<Attr>())
    };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(got) }
}

fn own(fd: i64) -> OwnedFd {
    // SAFETY: callers pass a descriptor that the kernel has just made.
    unsafe { OwnedFd::from_raw_fd(fd as RawFd) }
}

/// Loads a device program of eBPF instructions, eight bytes each.
///
/// # Errors
/// As bpf(2).
pub fn load_device_program(instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut attr = Attr::new();
    attr.0[0] = TYPE_CGROUP_DEVICE;
    attr.0[1] = instructions.len() as u32;
    attr.pointer(2, instructions.as_ptr() as u64);
    attr.pointer(4, c"Apache-2.0".as_ptr() as u64);
    bpf(PROG_LOAD, &mut attr).map(own)
}

/// Attaches a device program to a cgroup folder.
///
/// # Errors
/// As bpf(2).
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr::new();
    attr.0[0] = cgroup.as_raw_fd() as u32;
    attr.0[1] = program.as_raw_fd() as u32;
    attr.0[2] = ATTACH_CGROUP_DEVICE;
    attr.0[3] = ALLOW_MULTI;
    bpf(PROG_ATTACH, &mut attr).map(drop)
}

/// Detaches a device program.
///
/// # Errors
/// As bpf(2).
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = Attr::new();
    attr.0[0] = cgroup.as_raw_fd() as u32;
    attr.0[1] = program.as_raw_fd() as u32;
    attr.0[2] = ATTACH_CGROUP_DEVICE;
    bpf(PROG_DETACH, &mut attr).map(drop)
}

/// The device programs attached to a cgroup folder, 64 at most.
///
/// # Errors
/// As bpf(2).
pub fn device_programs(cgroup: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut attr = Attr::new();
    attr.0[0] = cgroup.as_raw_fd() as u32;
    attr.0[1] = ATTACH_CGROUP_DEVICE;
    attr.pointer(4, ids.as_mut_ptr() as u64);
    attr.0[6] = ids.len() as u32;
    bpf(PROG_QUERY, &mut attr)?;
    let count = attr.0[6] as usize;
    ids.iter()
        .take(count)
        .map(|&id| {
            let mut attr = Attr::new();
            attr.0[0] = id;
            bpf(PROG_GET_FD_BY_ID, &mut attr).map(own)
        })
        .collect()
}
