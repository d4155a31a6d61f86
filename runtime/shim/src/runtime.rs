//! The OCI runtime's command line (runc's): which program, which words, and what its log says
//! when it fails. It starts programs and never waits for them.

use rustix::fs::{MemfdFlags, memfd_create};
use serde::{Deserialize, Serialize};
use shim_api::runc::Options;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use sys::spawn::{Child, Command, SpawnError};

/// Where runtimes keep state when the client names no root.
const ROOT: &str = "/run/containerd/runc";

/// A runtime and its global words; kept in the bundle for `delete`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Runtime {
    /// Absolute path.
    pub(crate) program: PathBuf,
    /// `--root`, with the namespace.
    pub(crate) root: PathBuf,
    /// `--systemd-cgroup`.
    pub(crate) systemd_cgroup: bool,
}

/// A call of the runtime that runs.
#[derive(Debug)]
pub(crate) struct Call {
    /// The process.
    pub(crate) child: Child,
    /// The sub-command, for messages.
    pub(crate) verb: &'static str,
    output: File,
    log: PathBuf,
    /// Where this call's lines begin in the log.
    from: u64,
}

/// No such runtime.
#[derive(Debug, thiserror::Error)]
#[error("runtime {0:?} is neither an absolute path nor in PATH")]
pub(crate) struct NoRuntime(String);

/// The program of a name: absolute, or in PATH.
fn find(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        let path = PathBuf::from(name);
        return path.is_absolute().then_some(path);
    }
    let fallback = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let path = std::env::var("PATH").unwrap_or_else(|_| fallback.into());
    let mut folders =
        path.split(':').filter(|f| f.starts_with('/')).map(|f| Path::new(f).join(name));
    folders.find(|p| p.is_file())
}

impl Runtime {
    /// The runtime that options name; else `ferry-runc` beside this program or in PATH, else
    /// `runc` in PATH.
    pub(crate) fn new(options: &Options, namespace: &str, own: &Path) -> Result<Self, NoRuntime> {
        let program = if options.binary_name.is_empty() {
            let beside = own.parent().map(|p| p.join("ferry-runc")).filter(|p| p.is_file());
            let found = beside.or_else(|| find("ferry-runc")).or_else(|| find("runc"));
            found.ok_or_else(|| NoRuntime("ferry-runc".into()))?
        } else {
            find(&options.binary_name).ok_or_else(|| NoRuntime(options.binary_name.clone()))?
        };
        let root = if options.root.is_empty() { ROOT } else { &options.root };
        let root = Path::new(root).join(namespace);
        Ok(Self { program, root, systemd_cgroup: options.systemd_cgroup })
    }

    /// Whether a container's processes are plain processes of this kernel, so that a signal can
    /// be sent without asking the runtime.
    pub(crate) fn has_plain_processes(&self) -> bool {
        let name = self.program.file_name().map(OsStr::to_string_lossy).unwrap_or_default();
        name.contains("runc") || name.contains("crun")
    }

    /// Starts a call. `given`: descriptors 0, 1, 2 of a process to be; without them the output is
    /// kept for [`Call::output`]. `input`: what the call reads from standard input.
    pub(crate) fn call<T: AsRef<OsStr>>(
        &self,
        verb: &'static str,
        words: impl IntoIterator<Item = T>,
        bundle: &Path,
        given: Option<&[Option<OwnedFd>; 3]>,
        input: Option<&[u8]>,
    ) -> Result<Call, SpawnError> {
        let failed = |source: rustix::io::Errno| SpawnError::Step {
            program: self.program.clone(),
            step: "keep output",
            source: source.into(),
        };
        let output = File::from(memfd_create("output", MemfdFlags::CLOEXEC).map_err(failed)?);
        let log = bundle.join("log.json");
        let from = std::fs::metadata(&log).map_or(0, |m| m.len());
        // A runtime that sees it relays readiness, and `start` waits for it: that socket is the
        // daemon's own, from systemd, and no business of a container's.
        let mut command =
            Command::new(&self.program).inherit_env().without_env("NOTIFY_SOCKET").cwd(bundle);
        command = command.arg("--root").arg(&self.root).arg("--log").arg(&log);
        command = command.args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command = command.arg("--systemd-cgroup");
        }
        command = command.arg(verb).args(words);
        let source;
        if let Some(text) = input {
            source = memfd_create("input", MemfdFlags::CLOEXEC).map_err(failed)?;
            let mut file = File::from(source);
            let written = file.write_all(text).and_then(|()| file.rewind());
            written.map_err(|source| SpawnError::Step {
                program: self.program.clone(),
                step: "hand over input",
                source,
            })?;
            let child = command.fd(file.as_fd(), 0).fd(output.as_fd(), 1).fd(output.as_fd(), 2);
            let child = child.spawn()?;
            return Ok(Call { child, verb, output, log, from });
        }
        match given {
            Some(fds) => {
                for (number, fd) in fds.iter().enumerate() {
                    if let Some(fd) = fd {
                        command = command.fd(fd.as_fd(), number as i32);
                    }
                }
            }
            None => command = command.fd(output.as_fd(), 1).fd(output.as_fd(), 2),
        }
        Ok(Call { child: command.spawn()?, verb, output, log, from })
    }
}

#[derive(Deserialize)]
struct LogLine {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

impl Call {
    /// What it printed.
    pub(crate) fn output(&self) -> String {
        // The offset is shared with the program, which has written to it.
        let mut text = Vec::new();
        let mut file = &self.output;
        let read = file.rewind().and_then(|()| file.take(1 << 20).read_to_end(&mut text));
        read.map(|_| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// Why it failed: the last error in its log, else what it printed, else that nobody knows.
    /// `stderr`: what else it said, when its standard error was the container's.
    pub(crate) fn failure(&self, exit: sys::process::Exit, stderr: &str) -> String {
        let missing = match last_error(&self.log, self.from) {
            Ok(Some(text)) => return text,
            Ok(None) => "no error in its log".to_owned(),
            Err(e) => format!("{}: {e}", self.log.display()),
        };
        let printed = self.output();
        let said = [printed.as_str(), stderr].into_iter().find_map(|text| {
            let said = text.lines().rev().find_map(|line| said(line.trim()));
            said.filter(|s| !s.is_empty())
        });
        if let Some(said) = said {
            return said;
        }
        let code = exit.code();
        format!(
            "unable to retrieve OCI runtime error ({missing}): {} did not terminate successfully: \
             exit status {code}: {}",
            self.verb,
            printed.trim_end()
        )
    }
}

/// A line of a runtime's standard error: JSON as in a log, or plain.
fn said(line: &str) -> Option<String> {
    if line.is_empty() {
        return None;
    }
    Some(match serde_json::from_str::<LogLine>(line) {
        Ok(parsed) => parsed.msg,
        Err(_) => line.to_owned(),
    })
}

fn last_error(log: &Path, from: u64) -> io::Result<Option<String>> {
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.take(1 << 20).read_to_end(&mut text)?;
    Ok(parse_error(&text))
}

fn parse_error(log: &[u8]) -> Option<String> {
    let lines = log.split(|b| *b == b'\n').rev();
    let mut parsed = lines.filter_map(|line| serde_json::from_slice::<LogLine>(line).ok());
    parsed.find(|line| line.level == "error").map(|line| line.msg.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_see_the_last_error_of_the_log() {
        let log =
            b"{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"second \"}\n\
            {\"level\":\"warning\",\"msg\":\"w\"}\nnot json\n";
        assert_eq!(parse_error(log).as_deref(), Some("second"));
        assert_eq!(parse_error(b""), None);
    }

    #[test]
    fn a_relative_runtime_with_a_slash_is_refused() {
        let options = Options { binary_name: "./runc".into(), ..Options::default() };
        let error = Runtime::new(&options, "n", Path::new("/x/shim")).unwrap_err();
        assert_eq!(error.to_string(), "runtime \"./runc\" is neither an absolute path nor in PATH");
    }
}
