//! An engine under test: a stock dockerd or a ferryd, and the clients that drive it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Finished, Program, finish, wait_until};
use crate::{Netns, Scratch, busybox_archive, ours, ours_folder, peer, peers_folder};

/// Which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The stock dockerd of the peers.
    Dockerd,
    /// Our ferryd.
    Ferryd,
}

/// A running engine with state, socket and network namespace of its own. On drop its
/// containers are removed and its daemons ended.
pub struct Engine {
    kind: Kind,
    program: Program,
    words: Vec<String>,
    scratch: Scratch,
    netns: Option<Netns>,
}

impl Engine {
    /// Starts one with `extra` daemon flags and loads the busybox image.
    pub fn start(kind: Kind, extra: &[&str]) -> Result<Engine> {
        let engine = Engine::start_empty(kind, extra)?;
        engine.load_busybox()?;
        Ok(engine)
    }

    fn load_busybox(&self) -> Result<()> {
        let archive = busybox_archive(self.scratch.path())?;
        self.stock_cli(&["load", "-i", &archive.display().to_string()])?.success().map(drop)
    }

    /// Starts one without any image.
    pub fn start_empty(kind: Kind, extra: &[&str]) -> Result<Engine> {
        Engine::start_in(kind, extra, Some(Netns::new()?))
    }

    /// Starts one in the host's network, for what must reach the world outside.
    pub fn start_on_host_network(kind: Kind, extra: &[&str]) -> Result<Engine> {
        Engine::start_in(kind, extra, None)
    }

    /// Starts one below another program, which `before` names with its arguments, in folders
    /// through which other users may pass; loads the busybox image.
    pub fn start_below(before: &[&str], kind: Kind, extra: &[&str]) -> Result<Engine> {
        let engine = Engine::start_after(before, kind, extra, Some(Netns::new()?))?;
        engine.load_busybox()?;
        Ok(engine)
    }

    fn start_in(kind: Kind, extra: &[&str], netns: Option<Netns>) -> Result<Engine> {
        Engine::start_after(&[], kind, extra, netns)
    }

    fn start_after(
        before: &[&str],
        kind: Kind,
        extra: &[&str],
        netns: Option<Netns>,
    ) -> Result<Engine> {
        let scratch = Scratch::new(match kind {
            Kind::Dockerd => "d",
            Kind::Ferryd => "f",
        })?;
        let mut words: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
        if !words.is_empty() {
            fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o711))?;
        }
        words.extend(daemon_words(kind, &scratch, netns.as_ref(), extra)?);
        let program = start(&words, &scratch)?;
        let mut engine = Engine { kind, program, words, scratch, netns };
        engine.wait_ready()?;
        Ok(engine)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let (socket, program) = (self.scratch.join("s"), &mut self.program);
        wait_until("the engine's socket", Duration::from_secs(60), || {
            UnixStream::connect(&socket).is_ok() || !program.running()
        })?;
        anyhow::ensure!(self.program.running(), "the engine ended:\n{}", self.log());
        Ok(())
    }

    /// Which engine this is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The daemon's process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Its folder: `s` is the socket, `data` and `exec` the roots, `log` the output.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Its network namespace, when it is not the host's.
    pub fn netns(&self) -> Option<&Netns> {
        self.netns.as_ref()
    }

    /// What the daemon printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }

    /// The endpoint, as `-H` takes it.
    pub fn host(&self) -> String {
        format!("unix://{}", self.scratch.join("s").display())
    }

    /// The cgroup, below each hierarchy, that holds this engine's containers.
    pub fn cgroup_parent(&self) -> String {
        cgroup_parent(&self.scratch)
    }

    /// Process ids of the containerd that belongs to this engine.
    pub fn supervisor_pids(&self) -> Vec<u32> {
        let mark = self.scratch.path().display().to_string();
        processes(&|line| {
            line.contains(&mark)
                && line.split(' ').next().is_some_and(|p| p.ends_with("containerd"))
        })
    }

    /// Process ids of the shims that belong to this engine.
    pub fn shim_pids(&self) -> Vec<u32> {
        let mark = self.scratch.path().display().to_string();
        processes(&|line| {
            line.contains(&mark)
                && line.split(' ').next().is_some_and(|p| p.contains("containerd-shim"))
        })
    }

    /// Where ferryd and its ferry-containerd are told when to die (`metastore::fault`).
    pub fn fault_file(&self) -> PathBuf {
        fault_file(&self.scratch)
    }

    /// Kills the daemon (not its containerd) without warning.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Asks the daemon to end, as an init system does, and waits for it; its exit status.
    pub fn stop(&mut self) -> Result<i32> {
        self.program.end(Duration::from_secs(60))
    }

    /// The exit status of a daemon that was asked to end.
    pub fn wait(&mut self) -> Result<i32> {
        self.program.wait(Duration::from_secs(60))
    }

    /// The words that start this engine's daemon again.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// Starts the daemon again on the same state.
    pub fn restart(&mut self) -> Result<()> {
        fs::remove_file(self.scratch.join("pid")).ok();
        self.program = start(&self.words, &self.scratch)?;
        self.wait_ready()
    }

    /// Runs the stock docker CLI against it.
    pub fn stock_cli(&self, args: &[&str]) -> Result<Finished> {
        self.cli(&self.stock_cli_path()?, args)
    }

    /// The stock docker CLI itself, for benches that start it directly.
    pub fn stock_cli_path(&self) -> Result<PathBuf> {
        peer("docker").context("the docker CLI is not installed")
    }

    /// Runs `ferry` against it.
    pub fn ferry(&self, args: &[&str]) -> Result<Finished> {
        self.cli(&ours("ferry").context("ferry is not built")?, args)
    }

    /// Runs a client program against it, without standard input.
    pub fn cli(&self, program: &Path, args: &[&str]) -> Result<Finished> {
        let mut command = self.client(program);
        finish(command.args(args).stdin(Stdio::null()))
    }

    /// Sends a request to its API.
    pub fn api(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<crate::Reply> {
        crate::http_unix(&self.scratch.join("s"), method, target, headers, body)
    }

    /// A client command to which the caller adds words and standard streams.
    pub fn client(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env("DOCKER_HOST", self.host()).env("DOCKER_CONFIG", self.scratch.join("config"));
        command.env_remove("DOCKER_CONTEXT");
        command
    }
}

impl Engine {
    fn remove_containers(&self) {
        let Ok(list) = self.stock_cli(&["ps", "-aq"]) else { return };
        let ids: Vec<&str> = list.stdout.split_whitespace().collect();
        if !ids.is_empty() {
            self.stock_cli(&[&["rm", "-fv"], ids.as_slice()].concat()).ok();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.program.running() || self.restart().is_ok() {
            self.remove_containers();
        }
        self.program.stop(Duration::from_secs(20));
        for pid in self.supervisor_pids().into_iter().chain(self.shim_pids()) {
            crate::run("kill", ["-KILL", &pid.to_string()]).ok();
        }
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            fs::remove_dir(hierarchy.path().join(self.cgroup_parent())).ok();
        }
        fs::remove_dir(Path::new("/sys/fs/cgroup").join(self.cgroup_parent())).ok();
        if self.netns.is_none() && self.kind == Kind::Ferryd {
            clean_host_network();
        }
    }
}

fn fault_file(scratch: &Scratch) -> PathBuf {
    scratch.join("fault")
}

fn start(words: &[String], scratch: &Scratch) -> Result<Program> {
    let (path, fault) = (search_path(), fault_file(scratch));
    let environment = [("PATH", path.as_ref()), ("FERRY_FAULT_FILE", fault.as_ref())];
    Program::start_with(words, &environment, &scratch.join("log"))
}

/// What a ferryd that ended in order leaves on the host's network for its next start: the
/// bridge. IP forwarding stays as it is: others may need it by now.
fn clean_host_network() {
    crate::run("ip", ["link", "del", "ferry0"]).ok();
}

/// The cgroup below which all containers of an engine in `scratch` are.
fn cgroup_parent(scratch: &Scratch) -> String {
    scratch.path().file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn daemon_words(
    kind: Kind,
    scratch: &Scratch,
    netns: Option<&Netns>,
    extra: &[&str],
) -> Result<Vec<String>> {
    let program = match kind {
        Kind::Dockerd => peer("dockerd").context("dockerd is not installed")?,
        Kind::Ferryd => ours("ferryd").context("ferryd is not built")?,
    };
    let at = |name: &str| scratch.join(name).display().to_string();
    let config = at("daemon.json");
    if !Path::new(&config).exists() {
        fs::write(&config, "{}")?;
    }
    let mut words = netns.map(Netns::enter).unwrap_or_default();
    words.push(program.display().to_string());
    for (flag, value) in [
        ("--config-file", config),
        ("--data-root", at("data")),
        ("--exec-root", at("exec")),
        ("--pidfile", at("pid")),
        ("--cgroup-parent", format!("/{}", cgroup_parent(scratch))),
        ("--host", format!("unix://{}", at("s"))),
    ] {
        words.extend([flag.to_owned(), value]);
    }
    if kind == Kind::Dockerd {
        let init = peers_folder().join("docker-init").display().to_string();
        let proxy = peers_folder().join("docker-proxy").display().to_string();
        words.extend(["--init-path".to_owned(), init, "--userland-proxy-path".to_owned(), proxy]);
    }
    words.extend(extra.iter().map(|word| (*word).to_owned()));
    Ok(words)
}

/// The stock CLI: a statically linked one where the machine has it, since the peers'
/// dynamic one costs 45 ms more on every command.
pub fn static_cli() -> Option<PathBuf> {
    ["/usr/local/bin/docker", "/usr/bin/docker"]
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file() && crate::run("ldd", [path]).is_ok_and(|said| said.code != 0))
        .or_else(|| peer("docker"))
}

/// PATH for daemons: ours, then the peers', then the system's.
pub(crate) fn search_path() -> String {
    let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    format!("{}:{}:{system}", ours_folder().display(), peers_folder().display())
}

fn processes(wanted: &dyn Fn(&str) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if !line.is_empty() && wanted(&line) {
            found.push(pid);
        }
    }
    found
}
