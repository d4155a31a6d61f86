//! What an overlay's upper changed over its lowers, as a list: added, modified, deleted. Only the
//! upper is walked; what lies below is looked up name by name.

use crate::ArchiveError;
use crate::pack::check_depth;
use crate::tree::{child, file_type, is_opaque, names, open, stat, subdir};
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

/// What became of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// It is another one, or something below it is.
    Modified,
    /// It was not there.
    Added,
    /// It is gone, and all that was below it.
    Deleted,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path from the root, without a slash at its beginning.
    pub path: Vec<u8>,
    /// What became of it.
    pub kind: ChangeKind,
}

/// Lists the changes in `upper` over `lowers` (topmost first) by path, a folder before what is
/// below it. `is_hidden` says which of the added ones are nobody's change.
pub fn changes(
    upper: &Path,
    lowers: &[&Path],
    is_hidden: fn(&[u8], &Stat) -> bool,
) -> Result<Vec<Change>, ArchiveError> {
    let upper = open(upper)?;
    let lowers = lowers.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let mut walk = Walk { out: Vec::new(), is_hidden };
    walk.dir(upper.as_fd(), &lowers, b"", false, 0)?;
    Ok(walk.out)
}

fn is_whiteout(found: &Stat) -> bool {
    file_type(found) == FileType::CharacterDevice && found.st_rdev == 0
}

/// What the lowers show under a name: what it is, and the folders that it consists of.
struct Below {
    found: Stat,
    folders: Vec<OwnedFd>,
}

fn look(lowers: &[OwnedFd], name: &[u8]) -> Result<Option<Below>, Errno> {
    let mut below: Option<Below> = None;
    for lower in lowers {
        let found = match stat(lower.as_fd(), name) {
            Ok(found) => found,
            Err(Errno::NOENT) => continue,
            Err(e) => return Err(e),
        };
        let is_folder = file_type(&found) == FileType::Directory;
        // A whiteout, or something else under a folder, hides what lies deeper.
        if is_whiteout(&found) || (below.is_some() && !is_folder) {
            break;
        }
        let here = below.get_or_insert(Below { found, folders: Vec::new() });
        if !is_folder {
            break;
        }
        here.folders.push(subdir(lower.as_fd(), name)?);
        if is_opaque(lower.as_fd(), name)? {
            break;
        }
    }
    Ok(below)
}

struct Walk {
    out: Vec<Change>,
    is_hidden: fn(&[u8], &Stat) -> bool,
}

impl Walk {
    fn dir(
        &mut self,
        dir: BorrowedFd<'_>,
        lowers: &[OwnedFd],
        path: &[u8],
        opaque: bool,
        depth: u32,
    ) -> Result<(), ArchiveError> {
        check_depth(path, depth)?;
        let failed = |e: Errno| ArchiveError::entry("listing", path, e);
        let here = names(dir).map_err(failed)?;
        for name in &here {
            self.entry(dir, lowers, path, name, depth)?;
        }
        if opaque {
            self.hidden_below(&here, lowers, path).map_err(failed)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        lowers: &[OwnedFd],
        path: &[u8],
        name: &[u8],
        depth: u32,
    ) -> Result<(), ArchiveError> {
        let full = child(path, name);
        let failed = |e: Errno| ArchiveError::entry("reading", &full, e);
        let found = stat(dir, name).map_err(failed)?;
        let below = look(lowers, name).map_err(failed)?;
        let at = self.out.len();
        if is_whiteout(&found) {
            if below.is_some() {
                self.out.push(Change { path: full, kind: ChangeKind::Deleted });
            }
            return Ok(());
        }
        if below.is_none() && (self.is_hidden)(&full, &found) {
            return Ok(());
        }
        let changed = match &below {
            None => Some(ChangeKind::Added),
            Some(old) if differs(&found, &old.found) => Some(ChangeKind::Modified),
            Some(_) => None,
        };
        let mut seen = false;
        if file_type(&found) == FileType::Directory {
            let sub = subdir(dir, name).map_err(failed)?;
            let folders = below.as_ref().map_or(&[][..], |below| &below.folders);
            let opaque = is_opaque(dir, name).map_err(failed)?;
            seen = !names(sub.as_fd()).map_err(failed)?.is_empty();
            self.dir(sub.as_fd(), folders, &full, opaque, depth + 1)?;
        }
        let below_changed = self.out.len() > at;
        // A folder that was made for what is hidden alone is nobody's change either.
        let kind = match changed {
            Some(ChangeKind::Added) if seen && !below_changed => return Ok(()),
            Some(kind) => kind,
            None if below_changed => ChangeKind::Modified,
            None => return Ok(()),
        };
        self.out.insert(at, Change { path: full, kind });
        Ok(())
    }

    /// An opaque folder hides all that the lowers have at its place.
    fn hidden_below(
        &mut self,
        here: &[Vec<u8>],
        lowers: &[OwnedFd],
        path: &[u8],
    ) -> Result<(), Errno> {
        let mut gone = Vec::new();
        for lower in lowers {
            gone.extend(names(lower.as_fd())?);
        }
        gone.sort_unstable();
        gone.dedup();
        for name in gone {
            if here.binary_search(&name).is_err() && look(lowers, &name)?.is_some() {
                self.out.push(Change { path: child(path, &name), kind: ChangeKind::Deleted });
            }
        }
        Ok(())
    }
}

/// Whether an object is another one. Size and time of a folder say nothing of itself.
fn differs(new: &Stat, old: &Stat) -> bool {
    let own = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_rdev);
    let content = |s: &Stat| (s.st_size, s.st_mtime, s.st_mtime_nsec);
    let is_folder = file_type(old) == FileType::Directory;
    own(new) != own(old) || (!is_folder && content(new) != content(old))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn changes_are_told_by_path_and_stubs_are_not() {
        let temp = tempfile::tempdir().unwrap();
        let (upper, lower) = (temp.path().join("u"), temp.path().join("l"));
        for folder in ["etc", "var/www", "opt"] {
            create_dir_all(lower.join(folder)).unwrap();
        }
        for file in ["etc/passwd", "etc/group", "opt/old"] {
            write(lower.join(file), "x").unwrap();
        }
        for folder in ["etc", "var/www", "new/sub", "run"] {
            create_dir_all(upper.join(folder)).unwrap();
        }
        for file in ["etc/passwd", "new/sub/f", "run/stub"] {
            write(upper.join(file), "longer").unwrap();
        }
        write(upper.join("etc/hosts"), "").unwrap();
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(upper.join("var/www"), mode).unwrap();
        let stub = |path: &[u8], _: &Stat| matches!(path, b"etc/hosts" | b"run/stub");
        let found = changes(&upper, &[&lower], stub).unwrap();
        let told: Vec<String> = found
            .iter()
            .map(|c| format!("{:?} {}", c.kind, String::from_utf8_lossy(&c.path)))
            .collect();
        let expected = [
            "Modified etc",
            "Modified etc/passwd",
            "Added new",
            "Added new/sub",
            "Added new/sub/f",
            "Modified var",
            "Modified var/www",
        ];
        assert_eq!(told, expected);
    }
}
