//! Layers that GNU tar wrote in all its formats, unpacked by a stock dockerd, by podman and by us:
//! the folders must be alike in everything that a file has.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout)]

use lab::{Engine, Kind, Scratch, run};
use oci::Digest;
use serde_json::json;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Everything that is compared of one file.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Facts {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    time: (i64, i64),
    links: Vec<String>,
    attributes: Vec<(String, Vec<u8>)>,
}

type Tree = BTreeMap<String, Facts>;

fn tree(root: &Path) -> Tree {
    let (mut found, mut inodes) = (Tree::new(), HashMap::<u64, Vec<String>>::new());
    let mut queue = vec![PathBuf::new()];
    while let Some(name) = queue.pop() {
        let path = root.join(&name);
        let meta = std::fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            queue.extend(path.read_dir().unwrap().map(|e| name.join(e.unwrap().file_name())));
        }
        let text = name.display().to_string();
        if meta.nlink() > 1 && !meta.is_dir() {
            inodes.entry(meta.ino()).or_default().push(text.clone());
        }
        // The root's own attributes are the snapshot's, not the layer's, unless it says so.
        found.insert(text, facts(&path, &meta));
    }
    for mut names in inodes.into_values() {
        names.sort();
        for name in &names {
            found.get_mut(name).unwrap().links.clone_from(&names);
        }
    }
    found.remove("");
    found
}

fn facts(path: &Path, meta: &std::fs::Metadata) -> Facts {
    let kind = meta.file_type();
    let is_whiteout = kind.is_char_device() && meta.rdev() == 0;
    let kind = if kind.is_symlink() {
        format!("→ {}", std::fs::read_link(path).unwrap().display())
    } else if kind.is_file() {
        format!("file {}", Digest::sha256(&std::fs::read(path).unwrap()))
    } else if kind.is_dir() {
        "folder".into()
    } else if kind.is_fifo() {
        "fifo".into()
    } else {
        format!("device {} {:x}", kind.is_block_device(), meta.rdev())
    };
    Facts {
        kind,
        mode: meta.mode(),
        owner: (meta.uid(), meta.gid()),
        // A whiteout is as old as its unpacking.
        time: if is_whiteout { (0, 0) } else { (meta.mtime(), meta.mtime_nsec()) },
        links: Vec::new(),
        attributes: attributes(path),
    }
}

fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names).unwrap();
    let mut found = Vec::new();
    for name in names[..length].split(|b| *b == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value.truncate(length);
        let name = String::from_utf8_lossy(name).into_owned();
        // Overlayfs notes where a folder came from; that is about the file system.
        if !name.ends_with(".overlay.origin") && !name.ends_with(".overlay.impure") {
            found.push((name, value));
        }
    }
    found.sort();
    found
}

const FILL: &str = r#"
set -e
mkdir -p dir/sub "dir/$(printf 'n%.0s' $(seq 120))/$(printf 'm%.0s' $(seq 120))" opaque lower
printf hello > dir/file; chmod 4755 dir/file; chown 1234:70000 dir/file
ln dir/file hard; ln dir/file dir/sub/hard2
ln -s ../../outside dir/link; ln -s /absolute/target abs
ln -s "$(printf 'l%.0s' $(seq 200))" longlink
printf long > "dir/$(printf 'n%.0s' $(seq 120))/$(printf 'm%.0s' $(seq 120))/$(printf 'f%.0s' $(seq 90))"
mknod char c 1 3; mknod block b 7 9; mkfifo fifo; chmod 600 fifo
truncate -s 3M sparse; printf a | dd of=sparse bs=1 seek=1000000 conv=notrunc 2>/dev/null
printf end >> sparse
truncate -s 1M holes
printf '' > empty
printf uni > "ünï cödé"
chmod 1777 opaque; chmod 2750 dir/sub; chown 5:6 dir/sub
cp /bin/true cap; setcap cap_net_raw+ep cap 2>/dev/null || true
touch -h -d '2001-02-03 04:05:06.789' dir/file dir/link sparse
touch -d '1970-01-01 00:00:00' empty
touch -d '2021-02-03 04:05:06' dir/sub dir opaque lower
"#;

const FORMATS: [&str; 6] = [
    // dockerd knows no sparse files of the GNU format.
    "--format=gnu",
    "--format=pax -S --sparse-version=0.0 --xattrs --xattrs-include=*",
    "--format=pax -S --sparse-version=0.1",
    "--format=pax -S --sparse-version=1.0 --xattrs --xattrs-include=security.capability",
    "--format=oldgnu",
    "--format=posix --pax-option=delete=atime,delete=ctime",
];

/// A layer on top: whiteouts of a file, of a folder, of all below a folder, a replaced kind, a
/// hardlink to a file of the layer below, a folder that only its content implies.
const UPPER: &str = r"
set -e
mkdir -p dir opaque
printf '' > dir/.wh.file; printf '' > .wh.lower; printf '' > opaque/.wh..wh..opq
printf new > opaque/new; printf file > fifo
touch -d '2022-02-03 04:05:06' dir opaque opaque/new fifo
";

struct Layers {
    scratch: Scratch,
    tars: Vec<PathBuf>,
}

fn sh(folder: &Path, script: &str) {
    let script = format!("cd {} && {script}", folder.display());
    run("sh", ["-c", &script]).unwrap().success().unwrap();
}

fn layers(format: &str) -> Layers {
    let scratch = Scratch::new("layers").unwrap();
    let mut tars = Vec::new();
    for (name, fill) in [("lower", FILL), ("upper", UPPER)] {
        let folder = scratch.join(name);
        std::fs::create_dir(&folder).unwrap();
        sh(&folder, fill);
        let tar = scratch.join(&format!("{name}.tar"));
        sh(
            &folder,
            &format!(
                "tar {format} --sort=name -cf {} *  $(ls -A | grep '^\\.' || true)",
                tar.display()
            ),
        );
        tars.push(tar);
    }
    Layers { scratch, tars }
}

/// A docker archive of the layers.
fn archive(layers: &Layers) -> PathBuf {
    let folder = layers.scratch.join("archive");
    std::fs::create_dir(&folder).unwrap();
    let ids: Vec<String> = layers
        .tars
        .iter()
        .map(|tar| {
            let bytes = std::fs::read(tar).unwrap();
            let id = Digest::sha256(&bytes).hex();
            std::fs::create_dir(folder.join(&id)).unwrap();
            std::fs::write(folder.join(&id).join("layer.tar"), bytes).unwrap();
            id
        })
        .collect();
    let diff_ids: Vec<String> = ids.iter().map(|id| format!("sha256:{id}")).collect();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({"architecture": architecture, "os": "linux",
        "config": {}, "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let members: Vec<String> = ids.iter().map(|id| format!("{id}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": ["a:1"], "Layers": members}]);
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).unwrap();
    let path = layers.scratch.join("image.tar");
    sh(&folder, &format!("tar -cf {} *", path.display()));
    path
}

/// Both layers' folders, the lower one first, as ferry-containerd unpacks them.
fn ours(archive: &Path) -> Vec<Tree> {
    use containerd_api::transfer_types::{ImageReference, ImageStore, UnpackConfiguration};
    use supervisor::snapshots::{Place, Snapshotter};
    use supervisor::{Config, Context, State, transfer};
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        root: folder.path().join("root"),
        state: folder.path().join("state"),
        ..Config::default()
    };
    let state = Arc::new(State::open(&config).unwrap());
    let context = Context::new("n");
    let unpack = UnpackConfiguration { platform: None, snapshotter: "overlayfs".into() };
    let any = ImageReference { is_prefix: true, allow_overwrite: true, ..Default::default() };
    let wish =
        ImageStore { unpacks: vec![unpack], extra_references: vec![any], ..Default::default() };
    let file = std::fs::File::open(archive).unwrap();
    transfer::import(&state, &context, file, &wish, &transfer::Progress::default()).unwrap();
    let all = state.snapshots(&Place::new(&context, Snapshotter::Overlayfs)).unwrap();
    let mut all: Vec<_> = all.into_iter().map(|(_, snapshot)| snapshot).collect();
    all.sort_by_key(|snapshot| !snapshot.parent.is_empty());
    all.iter().map(|snapshot| tree(&state.layer_path(snapshot))).collect()
}

/// The same as dockerd's or podman's folders `ROOT/*/diff`: the upper one holds `opaque/new`.
fn theirs(overlay: &Path) -> Vec<Tree> {
    let entries = overlay.read_dir().unwrap().flatten().map(|e| e.path().join("diff"));
    let mut all: Vec<Tree> = entries.filter(|p| p.is_dir()).map(|path| tree(&path)).collect();
    all.retain(|tree| !tree.is_empty());
    all.sort_by_key(|tree| tree.contains_key("opaque/new"));
    all
}

fn assert_alike(what: &str, got: &[Tree], expected: &[Tree]) {
    assert_eq!(got.len(), expected.len(), "{what}: layers");
    for (n, (got, expected)) in got.iter().zip(expected).enumerate() {
        for name in got.keys().chain(expected.keys()) {
            assert_eq!(got.get(name), expected.get(name), "{what}: layer {n}: {name}");
        }
    }
}

#[test]
fn layers_are_unpacked_as_dockerd_and_podman_unpack_them() {
    lab::require!("dockerd", "docker");
    let dockerd = Engine::start_empty(Kind::Dockerd, &["--storage-driver=overlay2"]).unwrap();
    for format in FORMATS {
        let layers = layers(format);
        let archive = archive(&layers);
        let path = archive.display().to_string();
        let ours = ours(&archive);
        dockerd.stock_cli(&["load", "-i", &path]).unwrap().success().unwrap();
        let docker = theirs(&dockerd.scratch().join("data/overlay2"));
        dockerd.stock_cli(&["rmi", "-f", "a:1"]).unwrap().success().unwrap();
        assert_alike(&format!("{format}: dockerd"), &ours, &docker);
        let (Some(podman), Some(crun)) = (lab::peer("podman"), lab::peer("crun")) else {
            println!("SKIPPED: {}: podman or crun is not installed", module_path!());
            continue;
        };
        let at = |name: &str| layers.scratch.join(name).display().to_string();
        let root = [format!("--root={}", at("podman")), format!("--runroot={}", at("run"))];
        let runtime = format!("--runtime={}", crun.display());
        let words = [&root[0], &root[1], &runtime, "--storage-driver=overlay", "load", "-i", &path];
        let done = run(&podman, words).unwrap();
        assert_eq!(done.code, 0, "{format}: podman: {}", done.stderr);
        let podman = theirs(&layers.scratch.join("podman/overlay"));
        assert_alike(&format!("{format}: podman"), &ours, &podman);
    }
}
