//! The mount calls that rustix lacks, and paths resolved inside a root. Option strings are parsed
//! elsewhere.

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

/// How often an openat2 that met a rename is tried again before it counts as an attack.
const RETRIES: usize = 128;

/// Opens `path` as if `root` were `/`: no symbolic link, magic link or `..` leads out. EAGAIN, the
/// answer when something was renamed meanwhile, is retried with a bound.
///
/// # Errors
/// As openat2(2) (kernel 5.6).
pub fn open_in_root(
    root: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    mode: Mode,
) -> io::Result<OwnedFd> {
    resolve(root, path, flags, mode, ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` below `dir`, following no link and crossing no mount.
///
/// # Errors
/// As openat2(2).
pub fn open_beneath(
    dir: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    same_mount: bool,
) -> io::Result<OwnedFd> {
    let mut how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    if same_mount {
        how |= ResolveFlags::NO_XDEV;
    }
    resolve(dir, path, flags, Mode::empty(), how)
}

fn resolve(
    dir: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    mode: Mode,
    how: ResolveFlags,
) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { "." } else { path };
    for _ in 0..RETRIES {
        match rustix::fs::openat2(dir, path, flags | OFlags::CLOEXEC, mode, how) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            other => return other.map_err(io::Error::from),
        }
    }
    Err(rustix::io::Errno::AGAIN.into())
}

/// Attribute bits of mount_setattr(2).
pub mod attr {
    /// Read-only.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-id bits are ignored.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes are ignored.
    pub const NODEV: u64 = 0x4;
    /// Nothing is executed.
    pub const NOEXEC: u64 = 0x8;
    /// The field of the access time mode.
    pub const ATIME: u64 = 0x70;
    /// Access times are not written.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always written.
    pub const STRICTATIME: u64 = 0x20;
    /// Access times of folders are not written.
    pub const NODIRATIME: u64 = 0x80;
    /// Ids are mapped by a user namespace.
    pub const IDMAP: u64 = 0x10_0000;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

#[repr(C)]
#[derive(Debug, Default, Clone, Copy)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Changes attributes and propagation (an `MS_SHARED`-like bit, or 0) of a mount, given by a descriptor on its root (kernel 5.12).
///
/// # Errors
/// As mount_setattr(2).
pub fn set_attributes(
    mount: BorrowedFd<'_>,
    recursive: bool,
    set: u64,
    clear: u64,
    propagation: u64,
    idmap: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: set | if idmap.is_some() { attr::IDMAP } else { 0 },
        attr_clr: clear,
        propagation,
        userns_fd: idmap.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { 0x8000 } else { 0 };
    // SAFETY: the path is a C string, `attr` is live and its size is passed.
    let got = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    if got == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Changes propagation of the mount at `path`, which a `MS_SHARED`-like bit of mount(2) names.
///
/// # Errors
/// As mount(2).
pub fn set_propagation(path: &CStr, flags: u64) -> io::Result<()> {
    raw_mount(None, path, None, flags, None)
}

/// mount(2) itself, for what the new calls can't express.
///
/// # Errors
/// As mount(2).
pub fn raw_mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: u64,
    data: Option<&CStr>,
) -> io::Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: every pointer is null or a live C string.
    let got = unsafe {
        libc::mount(
            pointer(source),
            target.as_ptr(),
            pointer(kind),
            flags as libc::c_ulong,
            pointer(data).cast(),
        )
    };
    if got == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A read-only overlay of `stack`, topmost first and two at least, attached nowhere. `lowerdir+`
/// (kernel 6.7) has no limit on length; older kernels take one list.
///
/// # Errors
/// As fsopen(2) and its relatives.
pub fn read_only_overlay(stack: &[PathBuf]) -> io::Result<OwnedFd> {
    let context = || fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC);
    let mut fs = context()?;
    let each = |fs: &OwnedFd| {
        stack.iter().try_for_each(|l| fsconfig_set_string(fs, "lowerdir+", l.as_path()))
    };
    if each(&fs).is_err() {
        fs = context()?;
        let list: Vec<&[u8]> = stack.iter().map(|l| l.as_os_str().as_encoded_bytes()).collect();
        fsconfig_set_string(&fs, "lowerdir", list.join(&b':'))?;
    }
    fsconfig_set_flag(&fs, "ro")?;
    fsconfig_create(&fs)?;
    Ok(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)?)
}

/// Makes the current folder the root of the mount namespace and detaches the old root, which ends
/// up mounted over it (`pivot_root(".", ".")`, as pivot_root(2) describes).
///
/// # Errors
/// As pivot_root(2) and umount2(2).
pub fn pivot_here() -> io::Result<()> {
    // SAFETY: constant C strings.
    unsafe {
        if libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) != 0
            || libc::umount2(c".".as_ptr(), libc::MNT_DETACH) != 0
            || libc::chdir(c"/".as_ptr()) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Moves the current folder's mount over `/` and changes root to it, where pivot_root is impossible.
///
/// # Errors
/// As mount(2) and chroot(2).
pub fn move_root_here() -> io::Result<()> {
    raw_mount(Some(c"."), c"/", None, libc::MS_MOVE, None)?;
    // SAFETY: constant C strings.
    let got = unsafe { libc::chroot(c".".as_ptr()) | libc::chdir(c"/".as_ptr()) };
    if got == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the file system (the superblock, not just this mount of it) is read-only, from
/// statmount(2) (kernel 6.8).
///
/// # Errors
/// ENOSYS before that kernel; ENOENT for a mount outside this namespace.
pub fn superblock_is_read_only(file: BorrowedFd<'_>) -> io::Result<bool> {
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    const STATMOUNT_SB_BASIC: u64 = 1;
    const SYS_STATMOUNT: libc::c_long = 457;
    let flags = rustix::fs::StatxFlags::from_bits_retain(STATX_MNT_ID_UNIQUE);
    let id = rustix::fs::statx(file, c"", rustix::fs::AtFlags::EMPTY_PATH, flags)?.stx_mnt_id;
    let request: [u64; 3] = [24, id, STATMOUNT_SB_BASIC];
    let mut answer = [0u32; 128];
    // SAFETY: `request` is a struct mnt_id_req of its first version; `answer` is live and its size
    // is passed.
    let got = unsafe {
        libc::syscall(SYS_STATMOUNT, request.as_ptr(), answer.as_mut_ptr(), size_of_val(&answer), 0)
    };
    if got != 0 {
        return Err(io::Error::last_os_error());
    }
    // struct statmount: size, mnt_opts, mask(u64), sb_dev_major, sb_dev_minor, sb_magic(u64), sb_flags.
    Ok(answer[8] & libc::MS_RDONLY as u32 != 0)
}

/// An anonymous file that nobody can change any more, holding `bytes`.
///
/// # Errors
/// As memfd_create(2), write(2) and fcntl(2).
pub fn sealed_copy(name: &CStr, from: BorrowedFd<'_>, size: u64) -> io::Result<OwnedFd> {
    // SAFETY: a constant C string; the descriptor is new.
    let file = unsafe {
        let fd = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let mut left = size;
    while left > 0 {
        let sent = rustix::fs::sendfile(&file, from, None, left as usize)?;
        if sent == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        left -= sent as u64;
    }
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: no memory is passed.
    if unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

/// Whether a file is a memfd that was sealed against writing.
pub fn is_sealed(file: BorrowedFd<'_>) -> bool {
    // SAFETY: no memory is passed.
    let seals = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    seals > 0 && seals & libc::F_SEAL_WRITE != 0
}
