//! Reading and writing the small files of a cgroup, with errors that name them.

use crate::Error;
use rustix::fs::{Mode, OFlags};
use std::io;
use std::path::Path;

/// Largest file that is read; `memory.numa_stat` of a big machine stays below.
const LIMIT: usize = 1 << 20;

/// Writes `value` with one write(2).
pub(crate) fn write(folder: &Path, name: &str, value: &str) -> Result<(), Error> {
    let path = folder.join(name);
    let attempt = || -> io::Result<()> {
        let file = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
        rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes()))?;
        Ok(())
    };
    attempt().map_err(|source| Error::Write { value: value.into(), path: path.clone(), source })
}

/// Writes lines, each with one write(2), opening a file once for those that follow each other.
pub(crate) fn write_lines(folder: &Path, lines: &[(&'static str, String)]) -> Result<(), Error> {
    for group in lines.chunk_by(|a, b| a.0 == b.0) {
        let path = folder.join(group[0].0);
        let failed = |value: &str, errno: rustix::io::Errno| Error::Write {
            value: value.into(),
            path: path.clone(),
            source: errno.into(),
        };
        let file = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| failed(&group[0].1, e))?;
        for (_, value) in group {
            rustix::io::retry_on_intr(|| rustix::io::write(&file, value.as_bytes()))
                .map_err(|e| failed(value, e))?;
        }
    }
    Ok(())
}

/// Reads a whole file.
pub(crate) fn read(folder: &Path, name: &str) -> Result<String, Error> {
    let path = folder.join(name);
    let attempt = || -> io::Result<String> {
        let file = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let mut text = Vec::new();
        let mut part = [0u8; 4096];
        while text.len() < LIMIT {
            let got = rustix::io::retry_on_intr(|| rustix::io::read(&file, &mut part[..]))?;
            if got == 0 {
                break;
            }
            text.extend_from_slice(&part[..got]);
        }
        String::from_utf8(text).map_err(io::Error::other)
    };
    attempt().map_err(|source| Error::Io { what: "open", path: path.clone(), source })
}

/// Reads a file that holds one number; `max` and what is missing read as `u64::MAX` and `None`.
pub(crate) fn number(folder: &Path, name: &str) -> Option<u64> {
    let text = read(folder, name).ok()?;
    let text = text.trim();
    if text == "max" { Some(u64::MAX) } else { text.parse().ok() }
}

/// Reads lines of `key value`.
pub(crate) fn pairs(folder: &Path, name: &str) -> Vec<(String, u64)> {
    let text = read(folder, name).unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// Whether a file of the folder exists.
pub(crate) fn exists(folder: &Path, name: &str) -> bool {
    rustix::fs::access(folder.join(name), rustix::fs::Access::EXISTS).is_ok()
}
