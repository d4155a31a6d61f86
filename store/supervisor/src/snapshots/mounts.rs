//! How a snapshot is mounted, in containerd's words.

use std::path::Path;
use std::sync::LazyLock;

use containerd_api::types::Mount;

use super::disk::Folders;
use super::{Kind, Snapshotter};

// Where the kernel knows the option, indexing is off, so that a layer can be shared.
static INDEX_OFF: LazyLock<bool> =
    LazyLock::new(|| Path::new("/sys/module/overlay/parameters/index").exists());

/// The mount of folder `seq` over `stack` (nearest first).
pub(super) fn of(
    folders: &Folders,
    snapshotter: Snapshotter,
    kind: Kind,
    seq: u64,
    stack: &[u64],
) -> Vec<Mount> {
    let text = |path: std::path::PathBuf| path.display().to_string();
    let access = if kind == Kind::View { "ro" } else { "rw" };
    if snapshotter == Snapshotter::Native {
        let source = match stack {
            [parent, ..] if kind == Kind::View => text(folders.fs(*parent)),
            _ => text(folders.fs(seq)),
        };
        return vec![bind(source, access)];
    }
    let mut options = Vec::new();
    match (kind, stack) {
        (_, []) => return vec![bind(text(folders.fs(seq)), access)],
        (Kind::View, [parent]) => return vec![bind(text(folders.fs(*parent)), "ro")],
        (Kind::View, _) => {}
        _ => {
            options.push(format!("workdir={}", text(folders.work(seq))));
            options.push(format!("upperdir={}", text(folders.fs(seq))));
        }
    }
    let lower: Vec<String> = stack.iter().map(|&seq| text(folders.fs(seq))).collect();
    options.push(format!("lowerdir={}", lower.join(":")));
    if *INDEX_OFF {
        options.push("index=off".into());
    }
    vec![Mount { r#type: "overlay".into(), source: "overlay".into(), options, ..Mount::default() }]
}

fn bind(source: String, access: &str) -> Mount {
    let options = vec![access.to_owned(), "rbind".to_owned()];
    Mount { r#type: "bind".into(), source, options, ..Mount::default() }
}
