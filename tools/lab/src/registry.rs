//! A registry under test: Debian's docker-registry or our ferry-registry, on a port of its own on
//! loopback.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::http::{Reply, http};
use crate::process::{Program, wait_until};
use crate::{Netns, Scratch, ours, peer};

/// Which registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistryKind {
    /// Debian's docker-registry.
    Docker,
    /// Our ferry-registry.
    Ferry,
}

/// Where Debian's docker-registry is, if it is installed.
pub fn docker_registry() -> Option<PathBuf> {
    let installed = PathBuf::from("/usr/bin/docker-registry");
    peer("docker-registry").or_else(|| installed.is_file().then_some(installed))
}

/// A running registry; it ends with this value.
pub struct Registry {
    kind: RegistryKind,
    program: Running,
    words: Vec<String>,
    address: SocketAddr,
    scratch: Scratch,
}

/// A program that is killed with this value, and so is whatever it started.
struct Running {
    program: Program,
    // Its number may be somebody else's by now.
    is_over: bool,
}

impl Running {
    fn start(words: &[String], log: &Path) -> Result<Running> {
        Ok(Running { program: Program::start(words, "/usr/bin:/bin", log)?, is_over: false })
    }

    fn signal(&self, signal: &str) -> bool {
        let group = format!("-{}", self.program.pid());
        crate::run("kill", [signal, "--", &group]).is_ok_and(|done| done.code == 0)
    }

    fn kill(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.signal("-KILL");
            self.program.kill();
        }
    }

    fn stop(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.signal("-TERM");
        // Below another program the registry may end after it, so that one is reaped last.
        let ended = || !registry_runs(self.program.pid());
        wait_until("the registry's end", Duration::from_secs(20), ended).ok();
        self.signal("-KILL");
        self.program.kill();
    }
}

/// Whether anything but zombies is in a process group.
fn registry_runs(group: u32) -> bool {
    let group = group.to_string();
    crate::run("ps", ["-o", "pgid=,stat=", "-e"]).is_ok_and(|listed| {
        listed.stdout.lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(group.as_str())
                && words.next().is_some_and(|s| !s.starts_with('Z'))
        })
    })
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Registry {
    /// Starts one on a fresh root. `extra` are flags of ferry-registry, or lines of
    /// docker-registry's configuration; `%` in them is the folder of the registry.
    pub fn start(kind: RegistryKind, extra: &[&str]) -> Result<Registry> {
        Registry::start_in(kind, extra, Scratch::new("registry")?)
    }

    /// Starts one on what is below `scratch` already.
    pub fn start_in(kind: RegistryKind, extra: &[&str], scratch: Scratch) -> Result<Registry> {
        Registry::start_after(Vec::new(), kind, extra, scratch)
    }

    /// Starts one that only programs in the same network namespace reach.
    pub fn start_inside(netns: &Netns, kind: RegistryKind) -> Result<Registry> {
        Registry::start_after(netns.enter(), kind, &[], Scratch::new("registry")?)
    }

    /// Starts ferry-registry below another program, which `before` names with its arguments.
    pub fn start_below(before: &[&str], extra: &[&str], scratch: Scratch) -> Result<Registry> {
        let before = before.iter().map(|word| (*word).to_owned()).collect();
        Registry::start_after(before, RegistryKind::Ferry, extra, scratch)
    }

    fn start_after(
        before: Vec<String>,
        kind: RegistryKind,
        extra: &[&str],
        scratch: Scratch,
    ) -> Result<Registry> {
        let folder = scratch.path().display().to_string();
        let extra: Vec<String> = extra.iter().map(|text| text.replace('%', &folder)).collect();
        let words = match kind {
            RegistryKind::Ferry => {
                let program = ours("ferry-registry").context("ferry-registry is not built")?;
                let root = scratch.join("root").display().to_string();
                let mut words = vec![program.display().to_string(), "serve".into()];
                words.extend(["--root".into(), root, "--listen=127.0.0.1:0".into()]);
                words.push("--access-log=".into());
                words.extend(extra);
                words
            }
            RegistryKind::Docker => {
                let program = docker_registry().context("docker-registry is not installed")?;
                let config = scratch.join("config.yml");
                fs::write(&config, docker_configuration(scratch.path(), &extra))?;
                [program.display().to_string(), "serve".into(), config.display().to_string()].into()
            }
        };
        let words = [before, words].concat();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let log = scratch.join("log");
        let program = Running::start(&words, &log)?;
        let mut registry = Registry { kind, program, words, address, scratch };
        registry.wait_ready()?;
        Ok(registry)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let (log, program) = (self.scratch.join("log"), &mut self.program.program);
        let mut found = None;
        wait_until("the registry's port", Duration::from_secs(60), || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            found = text.lines().rev().find_map(listening);
            found.is_some() || !program.running()
        })?;
        self.address = found.with_context(|| format!("the registry ended:\n{}", self.log()))?;
        Ok(())
    }

    /// Which registry this is.
    pub fn kind(&self) -> RegistryKind {
        self.kind
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.program.pid()
    }

    /// Its folder: `root` is the store, `log` the output.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// The root of its store.
    pub fn root(&self) -> PathBuf {
        self.scratch.join("root")
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Asks it to end, and waits.
    pub fn stop(&mut self) {
        self.program.stop();
    }

    /// Starts it again on the same root.
    pub fn restart(&mut self) -> Result<()> {
        self.program.kill();
        // The port of the next one is read from its own log.
        fs::write(self.scratch.join("log"), "")?;
        self.program = Running::start(&self.words, &self.scratch.join("log"))?;
        self.wait_ready()
    }

    /// Ends it and keeps its folder, for another program.
    pub fn into_scratch(mut self) -> Scratch {
        self.stop();
        let Registry { scratch, .. } = self;
        fs::write(scratch.join("log"), "").ok();
        scratch
    }

    /// Sends a request.
    pub fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply> {
        http(self.address, method, target, headers, body)
    }
}

/// The address in a line of a log that says where a registry listens.
fn listening(line: &str) -> Option<SocketAddr> {
    let rest = line.split("listening on ").nth(1).or_else(|| {
        line.contains(" listening ").then(|| line.split("address=").nth(1)).flatten()
    })?;
    let end = rest.find([' ', '"', ',']).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn docker_configuration(scratch: &Path, extra: &[String]) -> String {
    let root = scratch.join("root").display().to_string();
    format!(
        "version: 0.1\nlog: {{accesslog: {{disabled: true}}}}\nstorage:\n  \
         filesystem: {{rootdirectory: {root}}}\n  delete: {{enabled: true}}\n\
         http: {{addr: \"127.0.0.1:0\"}}\n{}\n",
        extra.join("\n")
    )
}
