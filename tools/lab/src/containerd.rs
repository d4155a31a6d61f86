//! A containerd: the stock one or ferry-containerd, with state of its own.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::engine::search_path;
use crate::process::{Finished, Program, run, wait_until};
use crate::{Scratch, ours, peer};

/// A running containerd, ended on drop. Shims that it leaves are ended by whoever
/// started their containers.
pub struct Containerd {
    program: Program,
    words: Vec<String>,
    path: String,
    log: PathBuf,
    socket: PathBuf,
}

impl Containerd {
    /// Starts the stock containerd in `scratch`.
    pub fn stock(scratch: &Scratch) -> Result<Containerd> {
        let program = peer("containerd").context("containerd is not installed")?;
        Containerd::start(scratch, &program, &search_path(), &[])
    }

    /// Starts the stock containerd so that it finds the programs of `first` before all others.
    pub fn stock_with(scratch: &Scratch, first: &Path) -> Result<Containerd> {
        let program = peer("containerd").context("containerd is not installed")?;
        Containerd::start(scratch, &program, &format!("{}:{}", first.display(), search_path()), &[])
    }

    /// As [`Containerd::stock_with`], on plain version 1 cgroups: in a mount namespace without
    /// the hybrid hierarchy's version 2 mount, whose controllers crun does not accept.
    pub fn stock_on_v1(scratch: &Scratch, first: &Path) -> Result<Containerd> {
        let program = peer("containerd").context("containerd is not installed")?;
        let hide = "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$@\"";
        let words = ["unshare", "-m", "--propagation", "slave", "sh", "-c", hide, "sh"];
        let path = format!("{}:{}", first.display(), search_path());
        Containerd::start(scratch, &program, &path, &words)
    }

    /// Starts ferry-containerd in `scratch`.
    pub fn ours(scratch: &Scratch) -> Result<Containerd> {
        Containerd::start(
            scratch,
            &ours("ferry-containerd").context("ferry-containerd is not built")?,
            &search_path(),
            &[],
        )
    }

    fn start(scratch: &Scratch, program: &Path, path: &str, before: &[&str]) -> Result<Containerd> {
        let (root, state) = (scratch.join("c-root"), scratch.join("c-state"));
        let socket = scratch.join("c.sock");
        let config = scratch.join("containerd.toml");
        let disabled = r#"disabled_plugins = ["io.containerd.grpc.v1.cri"]"#;
        let quoted = |path: &Path| format!("\"{}\"", path.display());
        let text = format!(
            "version = 2
root = {}
state = {}
{disabled}
[grpc]
  address = {}
",
            quoted(&root),
            quoted(&state),
            quoted(&socket)
        );
        fs::write(&config, text)?;
        let mut words: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
        let [program, config] = [program, &config].map(|path| path.display().to_string());
        words.extend([program, "--config".to_owned(), config]);
        let log = scratch.join("containerd.log");
        let program = Program::start(&words, path, &log)?;
        let mut started = Containerd { program, words, path: path.to_owned(), log, socket };
        started.wait_ready()?;
        Ok(started)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let (socket, program) = (&self.socket, &mut self.program);
        wait_until("containerd's socket", Duration::from_secs(20), || {
            UnixStream::connect(socket).is_ok() || !program.running()
        })?;
        anyhow::ensure!(program.running(), "containerd ended: {}", fs::read_to_string(&self.log)?);
        Ok(())
    }

    /// Its gRPC socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Kills it without warning.
    pub fn kill(&mut self) {
        self.program.kill();
    }

    /// Starts it again on the same state.
    pub fn restart(&mut self) -> Result<()> {
        self.program = Program::start(&self.words, &self.path, &self.log)?;
        self.wait_ready()
    }

    /// Runs the stock `ctr` against it.
    pub fn ctr(&self, args: &[&str]) -> Result<Finished> {
        let ctr = peer("ctr").context("ctr is not installed")?;
        let socket = self.socket.display().to_string();
        run(ctr, ["--address", &socket].into_iter().chain(args.iter().copied()))
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        self.program.stop(Duration::from_secs(10));
    }
}
