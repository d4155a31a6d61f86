//! The folder of our shim and our runtime, seen through an overlay that can't be written: one for
//! the boot, at `<state>/bin`. A runtime started from a read-only superblock has nothing to do to
//! keep its own binary out of a container's hands; from elsewhere it makes such an overlay for
//! itself at every call.
//!
//! It is a matter of speed only: whatever fails here, the programs are run from where they lie.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::CWD;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

/// What the runtime is called, beside the shim.
const RUNTIME: &str = "ferry-runc";

/// Where the shim should be run from: sealed below `state` if that can be had, else `shim` itself.
pub(crate) fn program(state: &Path, shim: &Path) -> PathBuf {
    match seal(state, shim) {
        Ok(sealed) => sealed,
        Err(error) => {
            tracing::debug!(%error, "the runtime will protect its binary by itself");
            shim.to_owned()
        }
    }
}

/// Takes the overlay away; for a stop after which no shim needs it.
pub(crate) fn release(state: &Path) {
    let place = place(state);
    unmount_all(&place);
    let _ = std::fs::remove_dir(&place);
    let _ = std::fs::remove_dir(empty(state));
}

fn place(state: &Path) -> PathBuf {
    state.join("bin")
}

// The overlay's second lower folder: with one alone the kernel wants an upper folder too.
fn empty(state: &Path) -> PathBuf {
    state.join("bin-empty")
}

fn seal(state: &Path, shim: &Path) -> io::Result<PathBuf> {
    let (Some(folder), Some(name)) = (shim.parent(), shim.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let place = place(state);
    let sealed = place.join(name);
    // Shims of before are running from there: what is as it should be stays.
    if is_sealed(&sealed) && same(folder, &place, name.as_ref()) {
        return Ok(sealed);
    }
    for folder in [&place, &empty(state)] {
        crate::state::make_folder(folder, 0o711).map_err(io::Error::other)?;
    }
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, c"source", "ferry")?;
    let lower = format!("{}:{}", escaped(folder)?, escaped(&empty(state))?);
    fsconfig_set_string(&context, c"lowerdir", lower.as_str())?;
    fsconfig_create(&context)?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // Only now that there is a new one: a running shim's next call must find a program there.
    unmount_all(&place);
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(&mount, c"", CWD, &place, flags)?;
    if is_sealed(&sealed) && same(folder, &place, name.as_ref()) {
        return Ok(sealed);
    }
    unmount_all(&place);
    Err(io::Error::other("the overlay does not show what it should, or can be written"))
}

// Colons and commas part what the kernel reads there.
fn escaped(path: &Path) -> io::Result<String> {
    let text = path.to_str().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(text.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,"))
}

fn unmount_all(place: &Path) {
    while unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).is_ok() {}
}

fn is_sealed(program: &Path) -> bool {
    let read_only = |file: File| sys::mount::superblock_is_read_only(file.as_fd());
    File::open(program).and_then(read_only).unwrap_or(false)
}

// Whether the shim and the runtime are the same files in both folders; a runtime may be absent.
fn same(plain: &Path, sealed: &Path, shim: &Path) -> bool {
    [shim, RUNTIME.as_ref()].into_iter().all(|name| {
        match (plain.join(name).metadata(), sealed.join(name).metadata()) {
            (Ok(a), Ok(b)) => same_file(&a, &b),
            (Err(_), Err(_)) => name == Path::new(RUNTIME),
            _ => false,
        }
    })
}

/// Whether two files are one, though seen through different mounts.
pub(crate) fn same_file(a: &Metadata, b: &Metadata) -> bool {
    let key = |m: &Metadata| (m.ino(), m.size(), m.mtime(), m.mtime_nsec());
    key(a) == key(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_programs_can_not_be_written_follow_an_upgrade_and_go_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (state, bin) = (folder.path().join("state"), folder.path().join("a:b"));
        std::fs::create_dir_all(&bin).unwrap();
        let shim = bin.join("shim");
        std::fs::write(&shim, "one").unwrap();
        let sealed = program(&state, &shim);
        if sealed == shim {
            println!("SKIPPED: no overlay can be mounted here, or the kernel has no statmount");
            return;
        }
        assert_eq!(std::fs::read(&sealed).unwrap(), b"one");
        assert!(std::fs::write(&sealed, "two").is_err());
        let mounts = || {
            let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            let mut lines = table.lines();
            lines.by_ref().filter(|l| l.contains(state.to_str().unwrap())).count()
        };
        assert_eq!(program(&state, &shim), sealed);
        assert_eq!(mounts(), 1);
        let newer = bin.join("new");
        std::fs::write(&newer, "three").unwrap();
        std::fs::rename(&newer, &shim).unwrap();
        assert_eq!(program(&state, &shim), sealed);
        assert_eq!(std::fs::read(&sealed).unwrap(), b"three");
        assert_eq!(mounts(), 1);
        release(&state);
        assert_eq!(mounts(), 0);
        assert!(!place(&state).exists());
    }

    #[test]
    fn without_a_shim_to_seal_its_plain_path_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let absent = folder.path().join("bin/shim");
        assert_eq!(program(&folder.path().join("state"), &absent), absent);
        assert!(!place(folder.path()).exists());
    }
}
