//! Compiles `proto/` to Rust: messages, clients and servers, without protoc.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    collect(Path::new("proto"), &mut files)?;
    files.sort();
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(&files, ["proto"])?;
    let mut config = prost_build::Config::new();
    config.enable_type_names();
    // Blob data must not be copied between the socket and the file.
    config.bytes([
        ".containerd.services.content.v1.WriteContentRequest.data",
        ".containerd.services.content.v1.ReadContentResponse.data",
        ".containerd.types.transfer.Data.data",
    ]);
    tonic_prost_build::configure()
        .include_file("all.rs")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in folder.read_dir()? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
