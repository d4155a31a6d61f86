//! Copies a container's streams: what it writes to our output and errors, what is
//! typed to it, with half-close and detach keys.

use crate::error::Result;
use crate::terminal::detach::{Typed, Watch};
use crate::terminal::raw::Raw;
use engine_api::stdcopy::{Demux, Piece};
use engine_client::{Hijacked, Stream};
use std::io::{Read, Write};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

/// What is attached.
pub(crate) struct Attached {
    /// Our standard input goes to the process.
    pub(crate) stdin: bool,
    /// Its output is ours.
    pub(crate) stdout: bool,
    /// Its errors are ours.
    pub(crate) stderr: bool,
    /// It has a terminal, so that bytes are not framed.
    pub(crate) tty: bool,
    /// The keys that detach; empty for the usual ones.
    pub(crate) keys: String,
}

/// How a session of streams ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The other side has no more to say.
    Output,
    /// The detach keys were typed.
    Detached,
}

impl Attached {
    /// Copies until the output ends or the detach keys are typed.
    pub(crate) async fn copy(&self, connection: Hijacked) -> Result<Ended> {
        let raw = if self.stdin && self.tty && crate::terminal::raw::stdin_is_terminal() {
            Some(Raw::stdin()?)
        } else {
            None
        };
        let framed = !self.tty;
        let Hijacked { stream, early, .. } = connection;
        let (reader, writer) = tokio::io::split(stream);
        let input = self.input(writer);
        let output = output(reader, early, framed, self.stdout, self.stderr);
        tokio::pin!(input, output);
        let ended = tokio::select! {
            result = &mut output => { result?; Ended::Output }
            end = &mut input => match end {
                Ended::Detached => Ended::Detached,
                Ended::Output if self.stdout || self.stderr => { output.await?; Ended::Output }
                Ended::Output => Ended::Output,
            },
        };
        drop(raw);
        Ok(ended)
    }

    /// Sends what is typed; at its end closes that half of the connection.
    async fn input(&self, mut writer: WriteHalf<Stream>) -> Ended {
        if !self.stdin {
            if self.stdout || self.stderr {
                std::future::pending::<()>().await;
            }
            return Ended::Output;
        }
        let mut typed = read_stdin();
        let mut watch = Watch::new(&self.keys);
        while let Some(bytes) = typed.recv().await {
            let (bytes, detach) = if self.tty {
                match watch.feed(&bytes) {
                    Typed::Bytes(bytes) => (bytes, false),
                    Typed::Detach(bytes) => (bytes, true),
                }
            } else {
                (bytes, false)
            };
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
            if detach {
                return Ended::Detached;
            }
        }
        let _ = writer.shutdown().await;
        if self.stdout || self.stderr {
            // The connection stays open for what is still to come.
            std::future::pending::<()>().await;
        }
        Ended::Output
    }
}

/// Standard input, read by a thread of its own since not every file can be polled.
pub(crate) fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (send, receive) = mpsc::channel(4);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut buffer = vec![0u8; 32 * 1024];
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    if send.blocking_send(buffer[..count].to_vec()).is_err() {
                        return;
                    }
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    });
    receive
}

/// Prints what comes until it ends.
async fn output(
    mut reader: ReadHalf<Stream>,
    early: Vec<u8>,
    framed: bool,
    stdout: bool,
    stderr: bool,
) -> Result<()> {
    let mut sorter = Sorter::new(framed, stdout, stderr);
    sorter.feed(&early)?;
    let mut buffer = vec![0u8; 32 * 1024];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            Ok(count) => sorter.feed(&buffer[..count])?,
            Err(_) => return Ok(()),
        }
    }
}

/// Sorts bytes of a container to our output and errors.
pub(crate) struct Sorter {
    demux: Option<Demux>,
    stdout: bool,
    stderr: bool,
}

impl Sorter {
    /// For framed bytes, or for the bare ones of a terminal.
    pub(crate) fn new(framed: bool, stdout: bool, stderr: bool) -> Self {
        Self { demux: framed.then(Demux::default), stdout, stderr }
    }

    /// Prints what these bytes hold.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(demux) = &mut self.demux else {
            let mut out = std::io::stdout().lock();
            out.write_all(bytes)?;
            out.flush()?;
            return Ok(());
        };
        let mut rest = bytes;
        loop {
            let (piece, used) = demux.next(rest);
            rest = &rest[used..];
            match piece {
                Piece::Data(2, data) if self.stderr => std::io::stderr().write_all(data)?,
                Piece::Data(0 | 1, data) if self.stdout => {
                    let mut out = std::io::stdout().lock();
                    out.write_all(data)?;
                    out.flush()?;
                }
                Piece::Data(3, data) => {
                    let text = String::from_utf8_lossy(data);
                    let text = format!("error from daemon in stream: {text}");
                    return Err(crate::error::CliError::new(text));
                }
                Piece::Data(..) => {}
                Piece::Done => return Ok(()),
            }
        }
    }
}
