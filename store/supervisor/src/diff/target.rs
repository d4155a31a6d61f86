//! What mounts stand for: folders to work on, layer by layer, or one tree to read.

use crate::Error;
use archive::{Applied, Decompressor, Root, Whiteouts};
use containerd_api::types::Mount;
use oci::Algorithm;
use std::io::Read;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::PathBuf;

/// Folders behind mounts.
#[derive(Debug)]
pub(super) struct Target {
    /// Where writes go, or the whole tree of a view.
    pub(super) folder: PathBuf,
    /// What lies below, topmost first; empty unless it is an overlay.
    pub(super) lowers: Vec<PathBuf>,
    /// How whiteouts are to be treated there.
    pub(super) whiteouts: Whiteouts,
    /// Keeps a detached mount alive, which `folder` then names.
    _mount: Option<OwnedFd>,
}

fn option<'a>(mount: &'a Mount, name: &str) -> Option<&'a str> {
    mount.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
}

fn lowers(mount: &Mount) -> Vec<PathBuf> {
    // containerd writes no escapes: its folders hold no colons.
    option(mount, "lowerdir")
        .map(|list| list.split(':').map(PathBuf::from).collect())
        .unwrap_or_default()
}

fn is_bind(mount: &Mount) -> bool {
    mount.r#type == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind")
}

fn one(mounts: &[Mount]) -> Result<&Mount, Error> {
    match mounts {
        [mount] if mount.target.is_empty() || mount.target == "/" => Ok(mount),
        [] => Err(Error::InvalidArgument("no mounts were given".into())),
        _ => Err(Error::Unimplemented("a stack of several mounts".into())),
    }
}

impl Target {
    /// The folders to write to. Errors: a read-only view, a mount that is neither overlay nor bind.
    pub(super) fn of(mounts: &[Mount]) -> Result<Self, Error> {
        let mount = one(mounts)?;
        if mount.r#type == "overlay" {
            let upper = option(mount, "upperdir");
            let upper =
                upper.ok_or_else(|| Error::InvalidArgument("a read-only overlay".into()))?;
            let (folder, lowers) = (PathBuf::from(upper), lowers(mount));
            return Ok(Self { folder, lowers, whiteouts: Whiteouts::Overlay, _mount: None });
        }
        if is_bind(mount) {
            let folder = PathBuf::from(&mount.source);
            let whiteouts = Whiteouts::Remove;
            return Ok(Self { folder, lowers: Vec::new(), whiteouts, _mount: None });
        }
        Err(Error::Unimplemented(format!("applying to a mount of type {:?}", mount.r#type)))
    }

    /// One tree to read. An overlay is mounted detached: no entry in any mount table.
    pub(super) fn view(mounts: &[Mount]) -> Result<Self, Error> {
        let mount = one(mounts)?;
        if mount.r#type != "overlay" {
            return Self::of(mounts);
        }
        let mut stack = lowers(mount);
        stack.splice(0..0, option(mount, "upperdir").map(PathBuf::from));
        if let [only] = stack.as_slice() {
            let folder = only.clone();
            return Ok(Self {
                folder,
                lowers: Vec::new(),
                whiteouts: Whiteouts::Keep,
                _mount: None,
            });
        }
        let fd = sys::mount::read_only_overlay(&stack).map_err(|source| Error::Io {
            what: "mounting an overlay to read it".into(),
            source,
        })?;
        let folder = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Ok(Self { folder, lowers: Vec::new(), whiteouts: Whiteouts::Keep, _mount: Some(fd) })
    }

    /// The folders that a read-only view consists of, topmost first.
    pub(super) fn layers(mounts: &[Mount]) -> Result<Vec<PathBuf>, Error> {
        let mount = one(mounts)?;
        if mount.r#type != "overlay" {
            return Ok(vec![PathBuf::from(&mount.source)]);
        }
        let upper = option(mount, "upperdir").map(PathBuf::from);
        Ok(upper.into_iter().chain(lowers(mount)).collect())
    }

    pub(super) fn is_overlay(&self) -> bool {
        self.whiteouts == Whiteouts::Overlay
    }

    /// Opens the folder.
    pub(super) fn open(&self) -> Result<Root, Error> {
        Root::open(&self.folder).map_err(|e| Error::Other(e.to_string()))
    }
}

/// Unpacks a possibly compressed layer into the folder of a fresh snapshot without parent, as a
/// layer of an overlay: what lies below is joined later. Returns the folder.
pub(crate) fn extract(
    mounts: &[Mount],
    source: impl Read,
    digest: Option<Algorithm>,
) -> Result<(PathBuf, Applied), Error> {
    let target = Target::of(mounts)?;
    let failed = |e| Error::Other(format!("unpacking a layer: {e}"));
    let stream = Decompressor::new(source).map_err(failed)?;
    let options = archive::Options { digest, ..archive::Options::default() };
    let applied = archive::apply(stream, target.open()?, &options).map_err(failed)?;
    Ok((target.folder, applied))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_is_its_upper_over_its_lowers() {
        let mount = Mount {
            r#type: "overlay".into(),
            source: "overlay".into(),
            options: vec![
                "index=off".into(),
                "upperdir=/u".into(),
                "workdir=/w".into(),
                "lowerdir=/b:/a".into(),
            ],
            ..Mount::default()
        };
        let target = Target::of(std::slice::from_ref(&mount)).unwrap();
        assert!(target.is_overlay());
        assert_eq!(target.lowers, [PathBuf::from("/b"), PathBuf::from("/a")]);
        assert_eq!(Target::layers(&[mount]).unwrap().len(), 3);
    }
}
