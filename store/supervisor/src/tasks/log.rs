//! A foreign shim's log: stock shims open the FIFO `log` in their bundle as standard error and
//! end when it is missing. Its lines go to this daemon's log. Our own shim needs none.

use super::Bundle;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use std::io;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio_util::sync::CancellationToken;

/// Reads the log until `end`. Holding it open for writing too keeps the end of file away while no
/// shim has it.
pub(super) fn follow(bundle: &Bundle, end: CancellationToken) -> io::Result<()> {
    let path = bundle.path().join("log");
    match mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(e) => return Err(e.into()),
    }
    let mut fifo = pipe::OpenOptions::new().read_write(true).open_receiver(&path)?;
    let id = bundle.id.clone();
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        loop {
            let read = tokio::select! {
                () = end.cancelled() => return,
                read = fifo.read(&mut buffer) => read,
            };
            let Ok(n @ 1..) = read else { return };
            for line in String::from_utf8_lossy(&buffer[..n]).lines() {
                tracing::debug!(target: "shim", "{id}: {line}");
            }
        }
    });
    Ok(())
}
