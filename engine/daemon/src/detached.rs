//! Sinks beside foreign shims: starting one, watching it, and starting it again on the same
//! FIFOs when it was killed. What a sink is told, and talking to one, is in `sink`.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use shim_api::sink::{Frame, Hello, Stdin};
use sys::spawn::Command;
use tokio::io::AsyncReadExt;
use tracing::{info, warn};

use crate::engine::Engine;
use crate::exec::Exec;
use crate::lifecycle::Container;
use crate::sink::{self, Attached, Sink, Stdio};

/// How long a sink may take to say READY.
const ANSWER: Duration = Duration::from_secs(10);
/// The pause before a sink that could not be started is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// The FIFOs of a process: what containerd is told, and what the sink serves.
fn stdio(folder: &Path, sink: &Sink) -> Stdio {
    let path = |file: &str| folder.join(file).to_string_lossy().into_owned();
    let mut stdio = Stdio { stdout: path("stdout"), ..Stdio::default() };
    if sink.uri.stdin != Stdin::None {
        stdio.stdin = path("stdin");
    }
    if !sink.uri.tty {
        stdio.stderr = path("stderr");
    }
    stdio
}

fn folder(engine: &Engine, sink: &Sink) -> PathBuf {
    engine.settings.exec_root.join("fifo").join(sink.socket.file_name().unwrap_or_default())
}

/// Makes the FIFOs anew and starts the sink. The descriptor is the sink's pidfd.
pub async fn start(engine: &Engine, sink: &Sink) -> Result<(Stdio, OwnedFd), String> {
    let folder = folder(engine, sink);
    let stdio = stdio(&folder, sink);
    make_fifos(&folder, &stdio).map_err(|e| format!("FIFOs of container {}: {e}", sink.uri.id))?;
    let pidfd = spawn(engine, sink, &stdio).await?;
    Ok((stdio, pidfd))
}

fn make_fifos(folder: &Path, stdio: &Stdio) -> io::Result<()> {
    // FIFOs, and what their sink kept, of an earlier process of the same name.
    let _ = std::fs::remove_dir_all(folder);
    std::fs::create_dir_all(folder)?;
    for path in [&stdio.stdin, &stdio.stdout, &stdio.stderr] {
        if !path.is_empty() {
            let path = Path::new(path);
            sys::unix::make_fifo(path, 0o600)?;
        }
    }
    Ok(())
}

/// Starts the program on FIFOs that exist, and waits until it serves.
async fn spawn(engine: &Engine, sink: &Sink, stdio: &Stdio) -> Result<OwnedFd, String> {
    let failed =
        |e: &dyn std::fmt::Display| format!("starting the sink of container {}: {e}", sink.uri.id);
    let (reader, writer) = io::pipe().map_err(|e| failed(&e))?;
    let mut command =
        Command::new(engine.shim.clone()).arg("sink").arg("--uri").arg(sink.uri.to_string());
    for (flag, path) in
        [("--stdin", &stdio.stdin), ("--stdout", &stdio.stdout), ("--stderr", &stdio.stderr)]
    {
        if !path.is_empty() {
            command = command.arg(flag).arg(path);
        }
    }
    let child = command.new_session().fd(writer.as_fd(), 1).spawn().map_err(|e| failed(&e))?;
    drop(writer);
    let mut ready =
        tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).map_err(|e| failed(&e))?;
    let mut said = String::new();
    let read = tokio::time::timeout(ANSWER, ready.read_to_string(&mut said)).await;
    // The program goes on in a child of its own: what was started here has ended.
    if read.is_err() {
        let _ = child.kill(crate::signals::SIGKILL as i32);
    }
    let _ = child.wait();
    match read {
        Ok(Ok(_)) => {}
        Ok(Err(e)) => return Err(failed(&e)),
        Err(_) => return Err(failed(&"no answer")),
    }
    let pid = said.strip_prefix("READY ").and_then(|pid| pid.trim().parse().ok());
    let pid = pid.ok_or_else(|| failed(&"it ended"))?;
    sys::process::pidfd(pid).map_err(|e| failed(&e))
}

/// Watches the sink of a container's process for as long as that process runs: one that was
/// killed is started again, and goes on with what the FIFOs hold.
pub fn watch(engine: &Arc<Engine>, container: &Arc<Container>, pid: u32) {
    let (weak, own) = (Arc::downgrade(container), Arc::clone(engine));
    let sink = move || {
        let container = weak.upgrade().filter(|c| c.running() == Some(pid))?;
        Some(Sink::of_container(&own, &container.spec().ok()?))
    };
    let (engine, weak) = (Arc::clone(engine), Arc::downgrade(container));
    tokio::spawn(async move {
        if keep(&engine, sink).await
            && let Some(container) = weak.upgrade()
        {
            container.set_drained(pid);
        }
    });
}

/// As [`watch`], for the sink of an exec.
pub fn watch_exec(engine: &Arc<Engine>, exec: &Arc<Exec>, sink: Sink) {
    let (engine, weak) = (Arc::clone(engine), Arc::downgrade(exec));
    let sink = move || weak.upgrade().filter(|e| e.state().running).map(|_| sink.clone());
    tokio::spawn(async move { keep(&engine, sink).await });
}

/// Keeps a sink up for as long as `sink` gives it; true when it has told everything.
async fn keep(engine: &Engine, sink: impl Fn() -> Option<Sink>) -> bool {
    while let Some(sink) = sink() {
        match ensure(engine, &sink).await {
            Ok(true) => {}
            Ok(false) => return true,
            Err(e) => {
                warn!("{e}");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        if drained(&sink.socket).await {
            return true;
        }
    }
    false
}

/// Makes sure that a sink answers; false when it has ended in order, which takes its socket away,
/// and so has told everything.
pub async fn ensure(engine: &Engine, sink: &Sink) -> Result<bool, String> {
    match tokio::net::UnixStream::connect(&sink.socket).await {
        Ok(_) => return Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(_) => {}
    }
    info!("the sink at {} is gone: it is started again", sink.socket.display());
    let stdio = stdio(&folder(engine, sink), sink);
    spawn(engine, sink, &stdio).await.map(|_| true)
}

/// Whether the process of this socket has a detached sink.
pub fn is_beside(engine: &Engine, socket: &Path) -> bool {
    fifos(engine, socket).is_some_and(|folder| folder.exists())
}

fn fifos(engine: &Engine, socket: &Path) -> Option<PathBuf> {
    Some(engine.settings.exec_root.join("fifo").join(socket.file_name()?))
}

/// Waits for the end of a connection to a sink; whether the sink had nothing more to do.
pub async fn drained(socket: &Path) -> bool {
    let hello = Hello { v: 1, stdin: false, stdout: false, stderr: false };
    let Ok(Attached { mut stream, mut decoder }) = sink::connect(socket, hello).await else {
        return false;
    };
    let mut buffer = [0; 256];
    loop {
        match decoder.next_frame() {
            Ok(Some(Frame::Drained)) => return true,
            Ok(Some(_)) => {}
            Ok(None) => match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return false,
                Ok(n) => decoder.feed(&buffer[..n]),
            },
            Err(_) => return false,
        }
    }
}

/// Ends the detached sink of a process that is over, if one is left: without a writer it would
/// wait for ever. Our own shim's sinks have no FIFOs and end by themselves.
pub fn end(engine: &Engine, socket: &Path) {
    let Some(folder) = fifos(engine, socket).filter(|folder| folder.exists()) else { return };
    let peer = sys::unix::connect(socket, true).and_then(|s| sys::unix::peer(s.as_fd()));
    let ended = peer
        .and_then(|peer| sys::process::pidfd(peer.pid))
        .and_then(|fd| sys::process::signal_pidfd(fd.as_fd(), crate::signals::SIGTERM as i32));
    if let Err(e) = ended {
        tracing::debug!("ending the sink at {}: {e}", socket.display());
    }
    let _ = std::fs::remove_dir_all(folder);
}
