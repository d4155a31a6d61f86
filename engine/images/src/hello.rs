//! The built-in image `hello-world`: made at run time, the same bytes every time, so that
//! a first container needs neither a network nor a file. Its one program is a few machine
//! instructions in an ELF header (System V ABI, chapter 5).

use std::io;

use oci::media_type;
use oci::{Descriptor, Digest};
use serde_json::json;

/// The name under which the image is stored and asked for.
pub const NAME: &str = "docker.io/library/hello-world:latest";

const TEXT: &str = "
Hello from Ferry!

This container came all the way: ferry asked ferryd, ferryd asked ferry-containerd,
a shim started ferry-runc, and ferry-runc made the container that prints this.

To try something with more to it, bring an image and look around inside:
  ferry load -i image.tar
  ferry run -it --rm IMAGE sh

";

/// An archive that holds the image both as OCI layout and as docker archive.
///
/// # Errors
/// Only what writing into memory can fail with.
pub fn archive() -> io::Result<Vec<u8>> {
    let layer = tar(&[("hello", 0o755, &program())])?;
    let diff_id = Digest::sha256(&layer);
    let platform = oci::Platform::host();
    let config = serde_json::to_vec(&json!({
        "architecture": platform.architecture,
        "os": "linux",
        "config": { "Cmd": ["/hello"], "Env": ["PATH=/"] },
        "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        "history": [{ "created_by": "built into Ferry" }],
    }))?;
    let config_descriptor = Descriptor::of(media_type::OCI_CONFIG, &config);
    let layer_descriptor = Descriptor::of(media_type::OCI_LAYER, &layer);
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config_descriptor,
        "layers": [layer_descriptor],
    }))?;
    let mut target = Descriptor::of(media_type::OCI_MANIFEST, &manifest);
    target.annotations.insert("io.containerd.image.name".to_owned(), NAME.to_owned());
    target.annotations.insert("org.opencontainers.image.ref.name".to_owned(), "latest".to_owned());
    let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [target] }))?;
    let blob = |data: &[u8]| format!("blobs/sha256/{}", Digest::sha256(data).hex());
    let docker = serde_json::to_vec(&json!([{
        "Config": blob(&config), "RepoTags": ["hello-world:latest"], "Layers": [blob(&layer)],
    }]))?;
    tar(&[
        ("oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#),
        (&blob(&layer), 0o444, &layer),
        (&blob(&config), 0o444, &config),
        (&blob(&manifest), 0o444, &manifest),
        ("index.json", 0o644, &index),
        ("manifest.json", 0o644, &docker),
    ])
}

/// A tar of plain files owned by root, at time zero.
fn tar(files: &[(&str, u32, &[u8])]) -> io::Result<Vec<u8>> {
    let mut out = ::tar::Builder::new(Vec::new());
    for (name, mode, data) in files {
        let mut header = ::tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_size(data.len() as u64);
        out.append_data(&mut header, name, *data)?;
    }
    out.into_inner()
}

/// Address at which the program is loaded; its file is mapped whole.
const BASE: u64 = 0x40_0000;
/// Size of the ELF header and of one program header.
const HEADERS: usize = 64 + 56;

/// A static program that writes [`TEXT`] to its standard output and exits with 0.
fn program() -> Vec<u8> {
    let code = if cfg!(target_arch = "aarch64") { code_aarch64() } else { code_x86_64() };
    let mut file = headers((HEADERS + code.len() + TEXT.len()) as u64);
    file.extend(code);
    file.extend(TEXT.as_bytes());
    file
}

/// `write(1, text, length); exit(0)`, the text right behind the code.
fn code_x86_64() -> Vec<u8> {
    const LENGTH: usize = 34;
    let mut code = vec![0xb8, 1, 0, 0, 0, 0xbf, 1, 0, 0, 0]; // mov eax, 1; mov edi, 1
    code.extend([0x48, 0x8d, 0x35]); // lea rsi, [rip + distance to the text]
    code.extend(((LENGTH - 17) as u32).to_le_bytes());
    code.push(0xba); // mov edx, length
    code.extend((TEXT.len() as u32).to_le_bytes());
    code.extend([0x0f, 0x05]); // syscall
    code.extend([0xb8, 60, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05]); // mov eax, 60; xor edi, edi; syscall
    code.push(0xf4); // never reached
    debug_assert_eq!(code.len(), LENGTH);
    code
}

/// The same in eight instructions.
fn code_aarch64() -> Vec<u8> {
    let distance = 6 * 4; // from the adr to the text
    let length = TEXT.len() as u32;
    [
        0xd280_0808,                          // mov x8, #64 (write)
        0xd280_0020,                          // mov x0, #1
        0x1000_0001 | ((distance >> 2) << 5), // adr x1, text
        0xd280_0002 | (length << 5),          // mov x2, length
        0xd400_0001,                          // svc #0
        0xd280_0ba8,                          // mov x8, #93 (exit)
        0xd280_0000,                          // mov x0, #0
        0xd400_0001_u32,                      // svc #0
    ]
    .into_iter()
    .flat_map(u32::to_le_bytes)
    .collect()
}

/// ELF header and one loadable, executable segment that covers the whole file.
fn headers(file_size: u64) -> Vec<u8> {
    let machine: u16 = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend(2u16.to_le_bytes()); // executable
    out.extend(machine.to_le_bytes());
    out.extend(1u32.to_le_bytes());
    out.extend((BASE + HEADERS as u64).to_le_bytes()); // entry
    out.extend(64u64.to_le_bytes()); // program headers follow
    out.extend(0u64.to_le_bytes()); // no section headers
    out.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        out.extend(half.to_le_bytes());
    }
    out.extend(1u32.to_le_bytes()); // PT_LOAD
    out.extend(5u32.to_le_bytes()); // readable, executable
    for word in [0, BASE, BASE, file_size, file_size, 0x1_0000] {
        out.extend(u64::to_le_bytes(word));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_archive_is_the_same_every_time() {
        assert_eq!(super::archive().unwrap(), super::archive().unwrap());
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "a test may start the program it made")]
    fn the_program_greets_and_succeeds() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hello");
        std::fs::write(&path, super::program()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let out = std::process::Command::new(&path).output().unwrap();
        assert!(out.status.success());
        assert_eq!(String::from_utf8(out.stdout).unwrap(), super::TEXT);
    }
}
