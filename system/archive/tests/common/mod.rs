//! Helpers of the archive suites: small archives made entry by entry.
#![allow(dead_code, unreachable_pub)]

use archive::{Applied, ArchiveError, Header, Kind, Options, Root, Writer, apply};
use std::path::Path;

pub struct Tar(Writer<Vec<u8>>);

impl Tar {
    pub fn new() -> Self {
        Self(Writer::new(Vec::new()))
    }
    pub fn file(mut self, path: &str, data: &str) -> Self {
        self.0.entry(Header::file(path, 0), data.as_bytes()).unwrap();
        self
    }
    pub fn dir(mut self, path: &str) -> Self {
        self.0.entry(Header::dir(path), b"").unwrap();
        self
    }
    pub fn link(self, path: &str, kind: Kind, target: &str) -> Self {
        self.with(Header { kind, link: target.into(), mode: 0o777, ..Header::file(path, 0) })
    }
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.link(path, Kind::Symlink, target)
    }
    pub fn hard(self, path: &str, target: &str) -> Self {
        self.link(path, Kind::HardLink, target)
    }
    pub fn with(mut self, header: Header) -> Self {
        self.0.entry(header, b"").unwrap();
        self
    }
    pub fn bytes(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
    pub fn unpack(self, dir: &Path, options: &Options) -> Result<Applied, ArchiveError> {
        apply(&self.bytes()[..], Root::open(dir).unwrap(), options)
    }
}

/// Whether this process may make devices and set trusted attributes.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: {test} needs root");
    }
    root
}
