//! Builds `tools/floor`: the kernel's own price of a container.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::run::{check, command};

/// Compiles it statically into `folder`.
pub fn build(folder: &Path) -> Result<PathBuf> {
    let program = folder.join("floor");
    let source = "tools/floor/floor.c";
    let mut gcc = command("gcc", ["-O2", "-static", source, "-o"]);
    gcc.arg(&program);
    check(gcc)?;
    Ok(program)
}
