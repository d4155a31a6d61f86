//! The image of the bench: always the same bytes. A root file system's mix, incompressible files,
//! compressible files, many small files, one tiny file.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;

/// The image's name within its archive.
pub const NAME: &str = "bench-image:1";

/// A layer on disk: its tar, and beside it the same as `.gz`.
pub struct Layer {
    /// The tar.
    pub path: PathBuf,
    /// Bytes of the compressed form.
    pub packed: u64,
}

/// The image as a docker archive and in pieces.
pub struct Image {
    /// The archive.
    pub archive: PathBuf,
    /// Its layers.
    pub layers: Vec<Layer>,
    /// Bytes of all uncompressed layers.
    pub size: u64,
}

/// Makes the image below `folder`.
pub fn image(folder: &Path) -> Result<Image> {
    let mut noise = Noise(1);
    let text = noise.words(1_200_000);
    let mut layers = Vec::new();
    for n in 0..5 {
        let tree = folder.join(format!("tree{n}"));
        fill(n, &tree, &mut noise, &text)?;
        layers.push(layer(folder, n, &tree)?);
        fs::remove_dir_all(&tree)?;
    }
    let mut size = 0;
    for layer in &layers {
        size += layer.path.metadata()?.len();
    }
    let archive = pack(folder, &layers)?;
    Ok(Image { archive, layers, size })
}

fn fill(n: usize, tree: &Path, noise: &mut Noise, text: &[u8]) -> Result<()> {
    fs::create_dir_all(tree)?;
    let rotated = |by: usize| [&text[by % text.len()..], &text[..by % text.len()]].concat();
    match n {
        // Binaries and texts of all sizes, as distributions have them.
        0 => {
            for i in 0..2000_usize {
                let folder = tree.join(format!("usr/lib/p{}", i / 40));
                fs::create_dir_all(&folder)?;
                let size = 2000 + (i * i * 131) % 230_000;
                let mut data = rotated(i * 104_729);
                data.truncate(size / 2);
                data.extend(noise.bytes(size / 4));
                data.resize(size, 0);
                fs::write(folder.join(format!("f{i}.so")), data)?;
            }
        }
        1 => {
            fs::create_dir_all(tree.join("data"))?;
            for i in 0..12 {
                fs::write(tree.join(format!("data/random{i}.bin")), noise.bytes(15_000_000))?;
            }
        }
        2 => {
            fs::create_dir_all(tree.join("data"))?;
            for i in 0..21 {
                fs::write(tree.join(format!("data/text{i}.txt")), rotated(i * 7919))?;
            }
        }
        3 => {
            for i in 0..12_500 {
                let folder = tree.join(format!("small/d{}", i / 200));
                fs::create_dir_all(&folder)?;
                fs::write(folder.join(format!("f{i}.txt")), format!("{i} ").repeat(60))?;
            }
        }
        _ => {
            fs::create_dir_all(tree.join("etc"))?;
            fs::write(tree.join("etc/image-note"), "hello\n")?;
        }
    }
    Ok(())
}

fn layer(folder: &Path, n: usize, tree: &Path) -> Result<Layer> {
    let path = folder.join(format!("layer{n}.tar"));
    let fixed = ["--numeric-owner", "--owner=0", "--group=0", "--mtime=@0", "--sort=name", "-C"];
    let files = [tree.as_os_str(), "-cf".as_ref(), path.as_os_str(), ".".as_ref()];
    lab::run("tar", fixed.iter().map(AsRef::as_ref).chain(files))?.success()?;
    let packed = path.with_extension("gz");
    let script = "gzip -6nc <\"$0\" >\"$1\"";
    let words = ["-c".as_ref(), script.as_ref(), path.as_os_str(), packed.as_os_str()];
    lab::run("sh", words)?.success()?;
    let packed = packed.metadata()?.len();
    Ok(Layer { path, packed })
}

fn pack(folder: &Path, layers: &[Layer]) -> Result<PathBuf> {
    let mut ids = Vec::new();
    let all = folder.join("archive");
    for layer in layers {
        let sum = lab::run("sha256sum", [&layer.path])?.success()?;
        let id = sum.split(' ').next().unwrap_or_default().to_owned();
        fs::create_dir_all(all.join(&id))?;
        fs::hard_link(&layer.path, all.join(&id).join("layer.tar"))?;
        ids.push(id);
    }
    let diff_ids: Vec<String> = ids.iter().map(|id| format!("sha256:{id}")).collect();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": ids.iter().map(|id| json!({"created_by": id})).collect::<Vec<_>>(),
    });
    let members: Vec<String> = ids.iter().map(|id| format!("{id}/layer.tar")).collect();
    let manifest = json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": members}]);
    serde_json::to_writer(File::create(all.join("config.json"))?, &config)?;
    serde_json::to_writer(File::create(all.join("manifest.json"))?, &manifest)?;
    let archive = folder.join("image.tar");
    let words = ["--hard-dereference", "-C"].map(AsRef::as_ref);
    let files = [all.as_os_str(), "-cf".as_ref(), archive.as_os_str(), ".".as_ref()];
    lab::run("tar", words.into_iter().chain(files))?.success()?;
    Ok(archive)
}

/// Numbers that are the same in every run (xorshift64).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let words = std::iter::repeat_with(|| self.next().to_le_bytes()).flatten();
        words.take(count).collect()
    }

    /// A text of so many words of a small vocabulary.
    fn words(&mut self, count: usize) -> Vec<u8> {
        let vocabulary: Vec<Vec<u8>> = (0..4000)
            .map(|_| {
                let length = 3 + self.next() % 7;
                (0..length).map(|_| b'a' + (self.next() % 16) as u8).collect()
            })
            .collect();
        let mut text = Vec::new();
        for _ in 0..count {
            text.extend(&vocabulary[self.next() as usize % vocabulary.len()]);
            text.push(b' ');
        }
        text
    }
}
