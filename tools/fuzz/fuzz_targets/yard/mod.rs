//! Where archives are unpacked: a thread whose whole file system is one small tmpfs with a secret
//! beside the root, so that whatever leaves the root is seen, an absolute path included.
//! Needs root. The tmpfs and what is in it go with the process.

use archive::{ArchiveError, Kind, Limits, Members, Options, Root, Whiteouts};
use archive::{apply, diff_trees, join};
use oci::{Algorithm, Digest};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Resource, Rlimit, chroot, getrlimit, setrlimit, umask};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

const ROOT: &str = "/root";
const AGAIN: &str = "/again";
const LOWER: &str = "/lower";
const SECRET: &str = "/secret";
/// All that may be at the top.
const TOP: [&str; 4] = [AGAIN, LOWER, ROOT, SECRET];

type Work = Box<dyn FnOnce() + Send>;

/// Runs `work` in the yard, which is made anew for it, and looks at it afterwards.
pub fn inside(work: impl FnOnce() + Send + 'static) {
    static YARD: OnceLock<(SyncSender<Work>, std::sync::Mutex<Receiver<()>>)> = OnceLock::new();
    let (todo, done) = YARD.get_or_init(|| {
        let (todo, work) = sync_channel::<Work>(0);
        let (tell, done) = sync_channel(0);
        std::thread::spawn(move || {
            enclose().expect("a thread with its own file system (as root)");
            while let Ok(work) = work.recv() {
                clear();
                work();
                untouched();
                tell.send(()).expect("somebody waits");
            }
        });
        (todo, std::sync::Mutex::new(done))
    });
    todo.send(Box::new(work)).expect("the yard is there");
    done.lock().expect("one at a time").recv().expect("it is done");
}

fn enclose() -> std::io::Result<()> {
    // Removing a deep tree holds a descriptor for each level.
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    sys::ns::unshare(sys::ns::flag::MOUNT)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount("tmpfs", "/dev/shm", "tmpfs", MountFlags::empty(), Some(c"size=256m,mode=755"))?;
    chroot("/dev/shm")?;
    std::env::set_current_dir("/")?;
    umask(rustix::fs::Mode::empty());
    Ok(())
}

fn clear() {
    for folder in [ROOT, AGAIN, LOWER] {
        // A folder without rights is none to root.
        let _ = fs::remove_dir_all(folder);
        fs::create_dir(folder).expect("an empty folder");
    }
    if !Path::new(SECRET).exists() {
        fs::write(SECRET, SECRET).expect("a secret");
    }
}

/// Nothing was made, changed or linked outside the root.
fn untouched() {
    let names: BTreeSet<_> = fs::read_dir("/").expect("the yard").flatten().collect_names();
    assert_eq!(names, TOP.iter().map(|name| (*name).to_owned()).collect(), "outside the root");
    let found = fs::symlink_metadata(SECRET).expect("the secret");
    assert_eq!((found.nlink(), found.uid(), found.mode()), (1, 0, 0o100_666), "the secret");
    assert_eq!(fs::read(SECRET).expect("the secret"), SECRET.as_bytes());
}

trait Names {
    fn collect_names(self) -> BTreeSet<String>;
}

impl<I: Iterator<Item = fs::DirEntry>> Names for I {
    fn collect_names(self) -> BTreeSet<String> {
        self.map(|entry| format!("/{}", entry.file_name().to_string_lossy())).collect()
    }
}

fn options(how: u8) -> Options {
    let whiteouts = [Whiteouts::Overlay, Whiteouts::Remove, Whiteouts::Keep];
    Options {
        whiteouts: whiteouts[usize::from(how & 3) % 3],
        limits: Limits { entries: 1000, bytes: 4 << 20 },
        digest: [Some(Algorithm::Sha256), Some(Algorithm::Sha512), None][usize::from(how >> 2) % 3],
        owners: how & 0x20 == 0,
        replace_kind: how & 0x40 == 0,
        base: if how & 0x80 == 0 { Vec::new() } else { b"base".to_vec() },
    }
}

fn open(path: &str) -> Root {
    Root::open(Path::new(path)).expect("the folder")
}

/// Unpacks `tar` in one of many ways, settles it against the layer `lower`, and holds it against
/// what it says.
pub fn unpack(how: u8, lower: &[u8], tar: &[u8]) {
    let _ = apply(lower, open(LOWER), &Options { whiteouts: Whiteouts::Remove, ..options(0) });
    let options = options(how);
    fs::create_dir(Path::new(ROOT).join("base")).expect("a base");
    let applied = apply(tar, open(ROOT), &options);
    untouched();
    let Ok(applied) = applied else { return };
    let digest = options.digest.map(|algorithm| Digest::of(algorithm, tar));
    assert_eq!((applied.diff_id, applied.stream_size), (digest, tar.len() as u64));
    assert!(applied.entries <= options.limits.entries && applied.size <= options.limits.bytes);
    let joined = join(Path::new(ROOT), &[Path::new(LOWER)], &applied.deferred);
    untouched();
    if joined.is_ok() {
        round_trip(options.whiteouts);
    }
}

/// What is packed and unpacked again is the same, and packs to the same bytes.
fn round_trip(whiteouts: Whiteouts) {
    // Too deep to be packed: refused by name.
    let Ok((first, _)) = diff_trees(None, Path::new(ROOT), Vec::new()) else { return };
    if whiteouts == Whiteouts::Overlay && has_whiteouts(&first).expect("our own archive") {
        return;
    }
    let keep = Options { whiteouts: Whiteouts::Keep, ..Options::default() };
    apply(&first[..], open(AGAIN), &keep).expect("our own archive");
    let (second, _) = diff_trees(None, Path::new(AGAIN), Vec::new()).expect("the same tree");
    assert!(first == second, "the second archive differs from the first");
    let (none, done) =
        diff_trees(Some(Path::new(ROOT)), Path::new(ROOT), Vec::new()).expect("a tree and itself");
    assert_eq!((done.entries, none.len()), (0, 1024));
}

fn has_whiteouts(tar: &[u8]) -> Result<bool, ArchiveError> {
    let mut members = Members::open(tar, Limits::default())?;
    while let Some(entry) = members.next_entry()? {
        if entry.kind == Kind::Char(0, 0) {
            return Ok(true);
        }
    }
    Ok(false)
}
