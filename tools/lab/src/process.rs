//! Programs: one that runs to its end, and one that stays.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a finished program left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// The command line, for messages.
    pub line: String,
    /// Exit status; 128 + signal when killed.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Standard output of a program that must have succeeded.
    pub fn success(self) -> Result<String> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        bail!("{}: exit status {}\n{}{}", self.line, self.code, self.stdout, self.stderr)
    }
}

/// Runs a program to its end, without standard input.
pub fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Result<Finished> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    finish(&mut command)
}

pub(crate) fn finish(command: &mut Command) -> Result<Finished> {
    let line = format!("{command:?}").replace('"', "");
    let out = command.output().with_context(|| format!("cannot start {line}"))?;
    Ok(Finished {
        line,
        code: out.status.code().unwrap_or_else(|| 128 + out.status.signal().unwrap_or(0)),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    })
}

/// Asks until the answer is yes; for readiness of programs that announce none.
pub fn wait_until(what: &str, limit: Duration, mut ready: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + limit;
    while !ready() {
        if Instant::now() > end {
            bail!("{what}: not within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// A program that stays in the background, in a session of its own, its output in a file.
pub struct Program {
    child: Child,
}

impl Program {
    /// Starts `words`; output is appended to `log`.
    pub fn start(words: &[String], path: &str, log: &Path) -> Result<Program> {
        Program::start_with(words, &[("PATH", path.as_ref())], log)
    }

    /// Starts `words` with so much more in its environment; output is appended to `log`.
    pub fn start_with(
        words: &[String],
        environment: &[(&str, &OsStr)],
        log: &Path,
    ) -> Result<Program> {
        let out = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(environment.iter().copied()).stdin(Stdio::null());
        command.stdout(out.try_clone()?).stderr(out).process_group(0);
        Ok(Program {
            child: command.spawn().with_context(|| format!("cannot start {}", words[0]))?,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Kills it without warning and reaps it.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Asks it to end (SIGTERM), kills it after `limit`.
    pub fn stop(&mut self, limit: Duration) {
        if self.end(limit).is_err() {
            self.kill();
        }
    }

    /// Asks it to end (SIGTERM); its exit status, 128 + signal when the signal killed it.
    pub fn end(&mut self, limit: Duration) -> Result<i32> {
        run("kill", ["-TERM", &self.pid().to_string()])?.success()?;
        self.wait(limit)
    }

    /// Its exit status, once it has ended by itself.
    pub fn wait(&mut self, limit: Duration) -> Result<i32> {
        wait_until("the end of a program", limit, || !self.running())?;
        let status = self.child.wait()?;
        Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
    }
}
