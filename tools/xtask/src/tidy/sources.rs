//! The repository's Rust sources, and the rules about a single file: how it opens, and
//! that unsafe code stays in one crate.

use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, Result};

/// The only folder where `unsafe` may be written.
const UNSAFE_HOME: &str = "system/sys/";

/// One source file, read.
pub struct Source {
    /// Relative to the workspace root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// Every `.rs` file below the folders that hold crates.
pub fn all() -> Result<Vec<Source>> {
    let mut files = Vec::new();
    for top in
        ["bin", "protocol", "system", "runtime", "registry", "store", "client", "engine", "tools"]
    {
        collect(Path::new(top), &mut files).with_context(|| format!("cannot walk {top}"))?;
    }
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            Ok(Source { path: path.to_string_lossy().into_owned(), text })
        })
        .collect()
}

/// Files without an opening `//!`, and unsafe code outside its crate.
pub fn check(sources: &[Source]) -> Vec<String> {
    let mut broken = Vec::new();
    for source in sources {
        if !source.text.lines().take(5).any(|line| line.starts_with("//!")) {
            broken.push(format!("{}: does not open with what lives here (`//!`)", source.path));
        }
        if !source.path.starts_with(UNSAFE_HOME) && source.text.lines().any(writes_unsafe) {
            broken.push(format!("{}: unsafe code outside {UNSAFE_HOME}", source.path));
        }
    }
    broken
}

fn writes_unsafe(line: &str) -> bool {
    let code = line.trim_start();
    !code.starts_with("//")
        && ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]
            .iter()
            .any(|form| code.starts_with(form) || code.contains(&format!(" {form}")))
        && !code.contains('"')
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
    Ok(())
}
