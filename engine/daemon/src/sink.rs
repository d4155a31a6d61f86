//! The client's side of sinks: their paths and URIs, connecting to one, admitting
//! parked attachers before a start. Sinks beside foreign shims are started by `detached`.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::Duration;

use shim_api::sink::{Decoder, Driver, Frame, Hello, JsonFile, Mode, SinkUri, Stdin, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::detached;
use crate::engine::Engine;
use crate::lifecycle::Container;
use crate::logs::options;
use crate::records::Spec;

/// How long a sink may take to answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Digits of an id in socket and file names: a socket's path holds 108 bytes.
const SHORT: usize = 32;

/// One process's sink: what its URI says.
#[derive(Debug, Clone)]
pub struct Sink {
    /// Where attachers connect.
    pub socket: PathBuf,
    /// Its description.
    pub uri: SinkUri,
}

/// What containerd is told.
#[derive(Debug, Clone, Default)]
pub struct Stdio {
    /// Input.
    pub stdin: String,
    /// Output.
    pub stdout: String,
    /// Errors.
    pub stderr: String,
}

/// A connected attacher: the sink answered READY.
#[derive(Debug)]
pub struct Attached {
    /// The connection.
    pub stream: UnixStream,
    /// Frames that were read ahead.
    pub decoder: Decoder,
}

fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// The socket of a process: an exec's when `exec` is not empty.
pub fn socket(exec_root: &Path, id: &str, exec: &str) -> PathBuf {
    let name = if exec.is_empty() { short(id).to_owned() } else { format!("x{}", short(exec)) };
    exec_root.join("sink").join(name)
}

/// The exit record of a process.
pub fn exit_record(exec_root: &Path, id: &str, exec: &str) -> PathBuf {
    let name = if exec.is_empty() { short(id).to_owned() } else { format!("x{}", short(exec)) };
    exec_root.join("exit").join(name)
}

/// The log of a container; empty without one.
pub fn log_path(data_root: &Path, id: &str) -> PathBuf {
    data_root.join("containers").join(id).join(format!("{id}-json.log"))
}

impl Sink {
    /// The sink of a container's own process.
    pub fn of_container(engine: &Engine, spec: &Spec) -> Self {
        // What has no meaning was told by the start.
        let options = options::read(spec).unwrap_or_default();
        let exec_root = &engine.settings.exec_root;
        let socket = socket(exec_root, &spec.id, "");
        let driver = if spec.host.log_config.driver == "none" {
            Driver::None
        } else {
            Driver::JsonFile(JsonFile {
                path: log_path(&engine.settings.data_root, &spec.id),
                max_size: options.max_size,
                max_file: options.max_file,
                attrs: options.attrs,
            })
        };
        let stdin = match (spec.config.open_stdin, spec.config.stdin_once) {
            (false, _) => Stdin::None,
            (true, false) => Stdin::Open,
            (true, true) => Stdin::Once,
        };
        let uri = SinkUri {
            program: engine.shim.clone(),
            id: spec.id.clone(),
            exec: String::new(),
            driver,
            mode: options.mode,
            exit: exit_record(exec_root, &spec.id, ""),
            sock: socket.clone(),
            stdin,
            tty: spec.config.tty,
        };
        Self { socket, uri }
    }

    /// The sink of an exec: no log.
    pub fn of_exec(engine: &Engine, id: &str, exec: &str, stdin: bool, tty: bool) -> Self {
        let exec_root = &engine.settings.exec_root;
        let socket = socket(exec_root, id, exec);
        let uri = SinkUri {
            program: engine.shim.clone(),
            id: id.to_owned(),
            exec: exec.to_owned(),
            driver: Driver::None,
            mode: Mode::Blocking,
            exit: exit_record(exec_root, id, exec),
            sock: socket.clone(),
            stdin: if stdin { Stdin::Once } else { Stdin::None },
            tty,
        };
        Self { socket, uri }
    }

    /// What containerd is told: the URI with our shim; with a foreign one FIFOs, whose
    /// other ends a detached sink holds: `beside` becomes its pidfd.
    pub async fn stdio(
        &self,
        engine: &Engine,
        foreign: bool,
        beside: &mut Option<OwnedFd>,
    ) -> Result<Stdio, String> {
        // Remains of an earlier process of the same name.
        for path in [&self.uri.exit, &self.socket] {
            let _ = std::fs::remove_file(path);
        }
        if !foreign {
            let uri = self.uri.to_string();
            let stderr = if self.uri.tty { String::new() } else { uri.clone() };
            return Ok(Stdio { stdin: String::new(), stdout: uri, stderr });
        }
        let (stdio, pidfd) = detached::start(engine, self).await?;
        *beside = Some(pidfd);
        Ok(stdio)
    }
}

/// Connects an attacher and waits for READY.
pub async fn connect(socket: &Path, hello: Hello) -> io::Result<Attached> {
    let run = async {
        let mut stream = UnixStream::connect(socket).await?;
        let mut bytes = Vec::new();
        encode(&mut bytes, &Frame::Hello(hello));
        stream.write_all(&bytes).await?;
        let mut decoder = Decoder::default();
        let mut buffer = [0; 4096];
        loop {
            match decoder.next_frame().map_err(io::Error::other)? {
                Some(Frame::Ready(_)) => return Ok(Attached { stream, decoder }),
                Some(_) => {}
                None => {
                    let n = stream.read(&mut buffer).await?;
                    if n == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    decoder.feed(&buffer[..n]);
                }
            }
        }
    };
    tokio::time::timeout(ANSWER, run).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Connects all parked attachers, so that they miss nothing of the coming start.
pub async fn admit(container: &Container, socket: &Path) -> io::Result<()> {
    let parked =
        std::mem::take(&mut *container.parked.lock().unwrap_or_else(PoisonError::into_inner));
    for waiting in parked {
        if waiting.admitted.is_closed() {
            continue;
        }
        let attached = connect(socket, waiting.hello).await?;
        // It left in between: the connection closes with it.
        let _ = waiting.admitted.send(attached);
    }
    Ok(())
}

/// Removes what a container's own process left in the exec root.
pub fn clean(engine: &Engine, id: &str) {
    let exec_root = &engine.settings.exec_root;
    let socket = socket(exec_root, id, "");
    detached::end(engine, &socket);
    for path in [socket, exit_record(exec_root, id, "")] {
        let _ = std::fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_paths_fit_into_an_address_below_a_long_root() {
        let id = "a".repeat(64);
        let root = Path::new("/var/run/some/quite/long/folder/for/tests/ferry-exec");
        assert!(socket(root, &id, &id).as_os_str().len() < 108);
        assert_ne!(socket(root, &id, ""), socket(root, &id, &id));
    }
}
