//! The image that tests and benches use: static busybox, one layer, made on the spot.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::process::run;

/// Fills `folder` with a root file system of static busybox.
pub fn busybox_rootfs(folder: &Path) -> Result<()> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .iter()
        .map(Path::new)
        .find(|path| path.is_file())
        .context("no busybox: install busybox-static")?;
    for name in ["bin", "dev", "etc", "proc", "sys", "tmp", "root", "var/www"] {
        fs::create_dir_all(folder.join(name))?;
    }
    fs::copy(busybox, folder.join("bin/busybox"))?;
    for applet in run(busybox, ["--list"])?.success()?.lines().filter(|name| *name != "busybox") {
        symlink("busybox", folder.join("bin").join(applet)).ok();
    }
    fs::write(
        folder.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    )?;
    fs::write(folder.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    run("chmod", ["1777".as_ref(), folder.join("tmp").as_os_str()])?.success()?;
    Ok(())
}

/// Writes `busybox.tar`, a docker archive of the image `busybox:latest`, into `folder`.
pub fn busybox_archive(folder: &Path) -> Result<PathBuf> {
    let rootfs = folder.join("busybox-rootfs");
    busybox_rootfs(&rootfs)?;
    let layer = folder.join("layer.tar");
    let tar = ["--numeric-owner", "--owner=0", "--group=0", "--mtime=@0", "--sort=name", "-C"];
    let files = [rootfs.as_os_str(), "-cf".as_ref(), layer.as_os_str(), ".".as_ref()];
    run("tar", tar.iter().map(AsRef::as_ref).chain(files))?.success()?;
    let diff_id = hex(&Sha256::digest(fs::read(&layer)?));
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{diff_id}")]},
        "history": [{"created_by": "busybox-static"}],
    });
    let member = format!("{diff_id}/layer.tar");
    let manifest =
        json!([{"Config": "config.json", "RepoTags": ["busybox:latest"], "Layers": [member]}]);
    let archive = folder.join("busybox.tar");
    let mut out = tar::Builder::new(File::create(&archive)?);
    append(&mut out, "manifest.json", manifest.to_string().as_bytes())?;
    append(&mut out, "config.json", config.to_string().as_bytes())?;
    append(&mut out, &member, &fs::read(&layer)?)?;
    out.finish()?;
    fs::remove_file(layer)?;
    Ok(archive)
}

/// Writes `layered.tar`, a docker archive of the image `layered:1` with so many layers of one file
/// each, whose bytes no program can make smaller, into `folder`.
pub fn layered_archive(folder: &Path, layers: usize, size: usize) -> Result<PathBuf> {
    let archive = folder.join("layered.tar");
    let mut out = tar::Builder::new(File::create(&archive)?);
    let (mut diff_ids, mut members) = (Vec::new(), Vec::new());
    for at in 0..layers {
        let mut layer = tar::Builder::new(Vec::new());
        append(&mut layer, &format!("file-{at}"), &noise(at as u64 + 1, size))?;
        let bytes = layer.into_inner()?;
        diff_ids.push(format!("sha256:{}", hex(&Sha256::digest(&bytes))));
        let member = format!("{at}/layer.tar");
        append(&mut out, &member, &bytes)?;
        members.push(member);
    }
    let history: Vec<_> =
        (0..layers).map(|at| json!({"created_by": format!("file {at}")})).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": {"Cmd": ["/file-0"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": ["layered:1"], "Layers": members}]);
    append(&mut out, "config.json", config.to_string().as_bytes())?;
    append(&mut out, "manifest.json", manifest.to_string().as_bytes())?;
    out.finish()?;
    Ok(archive)
}

/// Writes `platforms.tar`, an OCI archive of the image `platforms:1` for amd64, arm64 and, without
/// its content, arm/v7, into `folder`.
pub fn platforms_archive(folder: &Path) -> Result<PathBuf> {
    const OCI: &str = "application/vnd.oci.image";
    let archive = folder.join("platforms.tar");
    let mut out = tar::Builder::new(File::create(&archive)?);
    let mut blob = |kind: &str, bytes: &[u8], kept: bool| -> Result<serde_json::Value> {
        let digest = hex(&Sha256::digest(bytes));
        if kept {
            append(&mut out, &format!("blobs/sha256/{digest}"), bytes)?;
        }
        let digest = format!("sha256:{digest}");
        Ok(json!({"mediaType": format!("{OCI}.{kind}"), "digest": digest, "size": bytes.len()}))
    };
    let mut manifests = Vec::new();
    for (architecture, variant) in [("amd64", ""), ("arm64", ""), ("arm", "v7")] {
        let kept = variant.is_empty();
        let mut layer = tar::Builder::new(Vec::new());
        append(&mut layer, "architecture", architecture.as_bytes())?;
        let layer = blob("layer.v1.tar", &layer.into_inner()?, kept)?;
        let mut platform = json!({"architecture": architecture, "os": "linux"});
        if !variant.is_empty() {
            platform["variant"] = variant.into();
        }
        let mut config = platform.clone();
        config["config"] = json!({"Cmd": [architecture]});
        config["rootfs"] = json!({"type": "layers", "diff_ids": [layer["digest"]]});
        config["history"] = json!([{"created_by": architecture}]);
        let config = blob("config.v1+json", config.to_string().as_bytes(), kept)?;
        let kind = format!("{OCI}.manifest.v1+json");
        let manifest = json!({
            "schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer],
        });
        let mut entry = blob("manifest.v1+json", manifest.to_string().as_bytes(), kept)?;
        entry["platform"] = platform;
        manifests.push(entry);
    }
    let kind = format!("{OCI}.index.v1+json");
    let index = json!({"schemaVersion": 2, "mediaType": kind, "manifests": manifests});
    let mut root = blob("index.v1+json", index.to_string().as_bytes(), true)?;
    root["annotations"] = json!({
        "io.containerd.image.name": "docker.io/library/platforms:1",
        "org.opencontainers.image.ref.name": "1",
    });
    let index = json!({"schemaVersion": 2, "manifests": [root]});
    append(&mut out, "index.json", index.to_string().as_bytes())?;
    append(&mut out, "oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
    out.finish()?;
    Ok(archive)
}

/// The same bytes every time for a seed, and no pattern in them (xorshift).
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..size.div_ceil(8)).flat_map(|_| next()).take(size).collect()
}

fn append(out: &mut tar::Builder<impl Write>, name: &str, data: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    out.append_data(&mut header, name, data)?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
