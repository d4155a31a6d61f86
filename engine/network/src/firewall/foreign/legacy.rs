//! Legacy iptables, beside nftables: its filter tables are replaced as a whole, under the lock
//! that its own programs take. It tells nobody of changes, but whoever makes one closes that lock
//! file, and that is an event.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sys::xtables::{Control, FILTER, Family, Rule, Table};

use super::{PREFIX, Pattern, Seen, missing, patterns};

const LOCK: &str = "/run/xtables.lock";
/// A table that others changed this often between reading and replacing is left until they tell.
const TRIES: usize = 4;

/// Whether a table is as it should be.
enum Kept {
    Yes,
    /// Somebody else is changing it; the end of that is an event.
    Busy,
}

/// The two filter tables, of IPv4 and IPv6.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    controls: [Option<Control>; 2],
    /// Tells when somebody closed the lock.
    watch: Option<OwnedFd>,
    /// What we put in, and no prefix pair.
    put: BTreeSet<Pattern>,
    warnings: Vec<String>,
}

impl Legacy {
    /// Inserts what is missing and takes out what is no longer wanted.
    pub(super) fn keep(&mut self, links: &BTreeSet<String>) {
        self.warnings.clear();
        if self.watch.is_none() && !links.is_empty() {
            // Before looking, so that nothing is missed in between.
            self.watch = watch().ok();
        }
        let wanted = patterns(links);
        let mut stale: Vec<Pattern> = self.put.iter().cloned().collect();
        stale.extend([true, false].map(|incoming| (incoming, PREFIX.into())));
        stale.retain(|pattern| !wanted.contains(pattern));
        let mut kept = true;
        for (control, family) in self.controls.iter_mut().zip([Family::V4, Family::V6]) {
            if !family.has(FILTER) {
                continue;
            }
            match keep(control, family, &wanted, &stale) {
                Ok(Kept::Yes) => {}
                Ok(Kept::Busy) => kept = false,
                Err(error) => {
                    kept = false;
                    self.warnings.push(format!(
                        "containers may be cut off: no accept rule could be added to legacy iptables' chain FORWARD: {error}"
                    ));
                }
            }
        }
        if kept {
            self.put.clear();
        }
        self.put.extend(wanted);
    }

    /// Where it failed.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether somebody has changed something, or may have.
    pub(super) fn hear(&mut self) -> bool {
        let Some(fd) = &self.watch else { return false };
        let mut space = [std::mem::MaybeUninit::uninit(); 1024];
        let mut reader = inotify::Reader::new(fd, &mut space);
        let (mut heard, mut moved) = (false, false);
        // Bounded: events of one kind on one file are merged while they wait.
        for _ in 0..64 {
            match reader.next() {
                Ok(event) => {
                    heard = true;
                    let lost = ReadFlags::ATTRIB | ReadFlags::IGNORED;
                    moved |= event.events().intersects(lost);
                }
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        if moved {
            // The file may have been removed; the next is another.
            self.watch = watch().ok();
        }
        heard
    }

    pub(super) fn waker(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(AsFd::as_fd)
    }
}

fn open_lock() -> io::Result<OwnedFd> {
    // Iptables' own programs open it for reading only: our closing is another kind of event.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(LOCK, flags, Mode::from_raw_mode(0o600))?)
}

fn watch() -> io::Result<OwnedFd> {
    drop(open_lock()?);
    let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    inotify::add_watch(&fd, LOCK, WatchFlags::CLOSE_NOWRITE | WatchFlags::ATTRIB)?;
    Ok(fd)
}

/// What must be done to a table.
struct Change {
    remove: Vec<usize>,
    insert: Vec<Pattern>,
}

fn seen(rule: &Rule) -> Seen<'_> {
    Seen { links: &rule.links, end: rule.end, more: rule.more }
}

fn plan(table: &Table, wanted: &[Pattern], stale: &[Pattern]) -> Change {
    let rules = table.forward();
    let single = |rule: &Rule| match rule.links.as_slice() {
        [one] if rule.end == sys::nft::End::Accept && !rule.more => Some(one.clone()),
        _ => None,
    };
    let ours =
        |rule: &Rule| single(rule).is_some_and(|one| wanted.contains(&one) || stale.contains(&one));
    // A chain that lets everything pass needs nothing of us.
    let needed = table.forward_drops() || !rules.iter().all(ours);
    let wanted = if needed { wanted } else { &[] };
    let (lacks, _) = missing(rules.iter().map(seen), wanted);
    let remove = rules
        .iter()
        .filter(|rule| {
            single(rule).is_some_and(|one| {
                // Behind one that drops everything it is of no use.
                lacks.contains(&&one) || (ours(rule) && !wanted.contains(&one))
            })
        })
        .map(|rule| rule.offset)
        .collect();
    Change { remove, insert: lacks.into_iter().cloned().collect() }
}

fn keep(
    control: &mut Option<Control>,
    family: Family,
    wanted: &[Pattern],
    stale: &[Pattern],
) -> io::Result<Kept> {
    let control = match control {
        Some(control) => control,
        none => none.insert(Control::open(family)?),
    };
    let mut lock = None;
    for _ in 0..TRIES {
        let old = control.read(FILTER)?;
        let change = plan(&old, wanted, stale);
        if change.remove.is_empty() && change.insert.is_empty() {
            return Ok(Kept::Yes);
        }
        if lock.is_none() {
            let file = open_lock()?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => lock = Some(file),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Kept::Busy),
                Err(error) => return Err(error.into()),
            }
            // What was read before the lock may be old.
            continue;
        }
        let mut new = old.clone();
        // From the end on: what is removed moves only what is behind it.
        for offset in change.remove.iter().rev() {
            new.remove(*offset);
        }
        for (incoming, bytes) in change.insert.iter().rev() {
            new.insert_accept(*incoming, bytes);
        }
        match control.replace(&old, &new) {
            Ok(()) => return Ok(Kept::Yes),
            Err(error) if error.raw_os_error() == Some(Errno::AGAIN.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Kept::Busy)
}
