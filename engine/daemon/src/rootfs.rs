//! Looking into a container's root file system without mounting it: the folders of its
//! layers, read from the top down. Nothing is written here.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use containerd_api::types::Mount;
use images::SnapshotMount;
use rustix::fs::{Mode, OFlags, ResolveFlags};

/// The largest file that is read for its text, in bytes.
const MAX_TEXT: u64 = 4 << 20;

/// The folders that make up a root file system, topmost first.
pub fn layers(mounts: &[Mount]) -> Vec<PathBuf> {
    let Some(mount) = mounts.first() else { return Vec::new() };
    if mount.r#type != "overlay" {
        return vec![PathBuf::from(&mount.source)];
    }
    let option = |key: &'static str| {
        mount.options.iter().filter_map(move |o| o.strip_prefix(key)?.strip_prefix('='))
    };
    let upper = option("upperdir").map(PathBuf::from);
    let lower =
        option("lowerdir").flat_map(|l| l.split(':')).map(PathBuf::from).collect::<Vec<_>>();
    let single = option("lowerdir+").map(PathBuf::from);
    upper.chain(lower).chain(single).collect()
}

/// What the files of each layer of an image take, lowest first, as `images` shows it; from the
/// mounts of a view of the image. `None` where layers do not lie apart.
pub fn layer_sizes(mounts: &[SnapshotMount], count: usize) -> Option<Vec<u64>> {
    let mounts: Vec<Mount> = mounts
        .iter()
        .map(|m| Mount {
            r#type: m.kind.clone(),
            source: m.source.clone(),
            target: m.target.clone(),
            options: m.options.clone(),
        })
        .collect();
    let layers = layers(&mounts);
    if layers.len() != count {
        return None;
    }
    layers.iter().rev().map(|layer| sys::tree::size(layer).ok()).collect()
}

enum Found {
    Yes(File),
    /// Deleted by this layer, or no file.
    Hidden,
    No,
}

fn open_in(layer: &Path, path: &str) -> Found {
    let Ok(root) =
        rustix::fs::open(layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    else {
        return Found::No;
    };
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let opened = rustix::fs::openat2(
        &root,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    );
    if let Ok(fd) = opened {
        let file = File::from(fd);
        let kind = file.metadata().map(|m| m.file_type());
        match kind {
            Ok(kind) if kind.is_file() || kind.is_dir() => Found::Yes(file),
            _ => Found::Hidden,
        }
    } else {
        // A whiteout is a character device 0:0, which can't be opened.
        let whiteout = std::fs::symlink_metadata(layer.join(path))
            .is_ok_and(|m| m.file_type().is_char_device());
        if whiteout { Found::Hidden } else { Found::No }
    }
}

/// The text of a file in the root file system; `None` where there is none.
pub fn read_text(layers: &[PathBuf], path: &str) -> Option<String> {
    for layer in layers {
        match open_in(layer, path) {
            Found::Yes(file) => {
                let mut bytes = Vec::new();
                file.take(MAX_TEXT).read_to_end(&mut bytes).ok()?;
                return Some(String::from_utf8_lossy(&bytes).into_owned());
            }
            Found::Hidden => return None,
            Found::No => {}
        }
    }
    None
}

/// The folders that hold `path` in the layers, topmost first, down to one that hides the rest.
pub fn folders(layers: &[PathBuf], path: &str) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for layer in layers {
        match open_in(layer, path.trim_start_matches('/')) {
            Found::Yes(file) if file.metadata().is_ok_and(|m| m.is_dir()) => {
                // Through the descriptor, so that a symlink can't lead outside the layer.
                if let Ok(place) = std::fs::read_link(format!(
                    "/proc/self/fd/{}",
                    std::os::fd::AsRawFd::as_raw_fd(&file)
                )) {
                    out.push(place);
                }
            }
            Found::Yes(_) | Found::Hidden => break,
            Found::No => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_from_the_topmost_layer_and_links_stay_inside() {
        let temp = tempfile::tempdir().unwrap();
        let (top, low) = (temp.path().join("top"), temp.path().join("low"));
        for layer in [&top, &low] {
            std::fs::create_dir_all(layer.join("etc")).unwrap();
        }
        std::fs::write(low.join("etc/passwd"), "low").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", low.join("etc/link")).unwrap();
        let mount = Mount {
            r#type: "overlay".into(),
            options: vec![
                format!("upperdir={}", top.display()),
                format!("lowerdir={}", low.display()),
            ],
            ..Mount::default()
        };
        let layers = layers(&[mount]);
        assert_eq!(layers.len(), 2);
        assert_eq!(read_text(&layers, "etc/passwd").as_deref(), Some("low"));
        assert_eq!(read_text(&layers, "etc/link").as_deref(), Some("low"));
        std::fs::write(top.join("etc/passwd"), "top").unwrap();
        assert_eq!(read_text(&layers, "etc/passwd").as_deref(), Some("top"));
        assert!(read_text(&layers, "etc/none").is_none());
    }
}
