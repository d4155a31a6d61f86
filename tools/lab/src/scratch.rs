//! A private folder that takes its mounts with it when it goes.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::run;

/// A temporary folder with a short path (a unix socket's path holds 108 bytes). Dropping
/// it unmounts everything below and removes it.
pub struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes `/tmp/ferry-NAME-XXXXXX`.
    pub fn new(name: &str) -> Result<Scratch> {
        let made = tempfile::Builder::new().prefix(&format!("ferry-{name}-")).tempdir_in("/tmp");
        Ok(Scratch { path: made.context("cannot make a scratch folder")?.keep() })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A path inside it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Mount points below it, deepest first.
    pub fn mounts(&self) -> Vec<PathBuf> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mut below: Vec<PathBuf> = table
            .lines()
            .filter_map(|line| line.split(' ').nth(4))
            .map(PathBuf::from)
            .filter(|point| point.starts_with(&self.path))
            .collect();
        below.sort();
        below.reverse();
        below
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for point in self.mounts() {
            run("umount", ["-l".as_ref(), point.as_os_str()]).ok();
        }
        if std::env::var_os("FERRY_KEEP").is_none() {
            fs::remove_dir_all(&self.path).ok();
        }
    }
}
