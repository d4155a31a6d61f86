//! A client on one side, a sink on the other: copying between a connection that a
//! handler took over and the frames of a sink, with detach keys and half-close.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use shim_api::sink::{Frame, Hello, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::http::{Hijacked, HijackedReader};
use crate::sink::Attached;

/// How much is read at once, in bytes.
const READ: usize = 32 << 10;
/// How long an exit may come after the end of output.
const EXIT: Duration = Duration::from_secs(5);
/// Ctrl-P, Ctrl-Q.
const DEFAULT_KEYS: [u8; 2] = [16, 17];

/// An attacher that waits for its container's start.
#[derive(Debug)]
pub struct Parked {
    /// What it wants.
    pub hello: Hello,
    /// Takes the connection; dropped when there is no start.
    pub admitted: oneshot::Sender<Attached>,
}

/// What an attachment is for.
#[derive(Debug, Clone, Default)]
pub struct Wants {
    /// It sends input.
    pub stdin: bool,
    /// The end of the client's input is the end of the process's.
    pub closes: bool,
    /// It wants standard output.
    pub stdout: bool,
    /// It wants standard error.
    pub stderr: bool,
    /// A terminal: output is raw, and input has detach keys.
    pub tty: bool,
    /// The keys that detach.
    pub keys: Vec<u8>,
    /// Cancelled when the end of the process's input was told to the sink: a foreign shim must be
    /// told as well.
    pub input_over: CancellationToken,
}

impl Wants {
    /// The sink's greeting.
    pub fn hello(&self) -> Hello {
        Hello { v: 1, stdin: self.stdin, stdout: self.stdout, stderr: self.stderr }
    }
}

/// How an attachment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The process ended, and all output was told.
    Drained,
    /// The client typed the detach keys.
    Detached,
    /// The client went away.
    ClientGone,
    /// The sink went away.
    SinkGone,
}

/// Keys of `ctrl-p,ctrl-q`; the default ones for an empty text.
pub fn parse_keys(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Ok(DEFAULT_KEYS.to_vec());
    }
    text.split(',')
        .map(|key| match key.as_bytes() {
            [one] => Ok(*one),
            _ => match key.strip_prefix("ctrl-").map(str::as_bytes) {
                Some([letter @ b'a'..=b'z']) => Ok(letter - b'a' + 1),
                Some([b'@']) => Ok(0),
                Some([sign @ b'['..=b'_']) => Ok(sign - b'[' + 27),
                _ => Err(format!("Unknown character: '{key}'")),
            },
        })
        .collect()
}

/// Copies until one side ends. `output` is shown first (old log lines).
pub async fn copy(
    hijacked: Hijacked,
    attached: Attached,
    wants: Arc<Wants>,
    output: Vec<u8>,
) -> End {
    copy_until(hijacked, attached, wants, output, std::future::ready(())).await
}

/// As [`copy`]; after the output's end the connection closes only when `over` is done, so that a
/// client that asks for the exit code finds it.
pub async fn copy_until(
    hijacked: Hijacked,
    attached: Attached,
    wants: Arc<Wants>,
    output: Vec<u8>,
    over: impl Future<Output = ()>,
) -> End {
    let Hijacked { reader, mut writer } = hijacked;
    let Attached { stream, mut decoder } = attached;
    let (mut from_sink, to_sink) = stream.into_split();
    if writer.write_all(&output).await.is_err() {
        return End::ClientGone;
    }
    let keys = Arc::clone(&wants);
    let mut input = tokio::spawn(feed(reader, to_sink, keys));
    let mut input_done = false;
    let mut open_half = None;
    let mut buffer = vec![0; READ];
    let end = 'copy: loop {
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => break 'copy End::SinkGone,
            };
            let written = match frame {
                Frame::Stdout(bytes) if wants.stdout => {
                    show(&mut writer, 1, &bytes, wants.tty).await
                }
                Frame::Stderr(bytes) if wants.stderr => {
                    show(&mut writer, 2, &bytes, wants.tty).await
                }
                Frame::Drained => break 'copy End::Drained,
                _ => Ok(()),
            };
            if written.is_err() {
                break 'copy End::ClientGone;
            }
        }
        tokio::select! {
            read = from_sink.read(&mut buffer) => match read {
                Ok(0) | Err(_) => break End::SinkGone,
                Ok(n) => decoder.feed(&buffer[..n]),
            },
            fed = &mut input, if !input_done => match fed {
                Ok(Fed::Detached) => break End::Detached,
                Ok(Fed::Broken) => break End::ClientGone,
                // The client closed its half only: output goes on.
                Ok(Fed::Ended(half)) => {
                    if wants.stdin && wants.closes {
                        wants.input_over.cancel();
                    }
                    open_half = Some(half);
                    input_done = true;
                }
                Err(_) => input_done = true,
            },
        }
    };
    input.abort();
    drop(open_half);
    if matches!(end, End::Drained | End::SinkGone) {
        // Bounded: a lost exit must not hold the client for ever.
        let _ = tokio::time::timeout(EXIT, over).await;
    }
    let _ = writer.shutdown().await;
    end
}

/// Writes a text where output would go, and closes the connection.
pub async fn say(mut hijacked: Hijacked, raw: bool, text: &str) {
    // Who left does not read it.
    let _ = show(&mut hijacked.writer, 1, text.as_bytes(), raw).await;
    let _ = hijacked.writer.shutdown().await;
}

async fn show(
    writer: &mut crate::http::HijackedWriter,
    stream: u8,
    bytes: &[u8],
    raw: bool,
) -> std::io::Result<()> {
    if raw {
        return writer.write_all(bytes).await;
    }
    let mut framed = Vec::with_capacity(bytes.len() + 8);
    framed.extend_from_slice(&shim_api::sink::encode_header(stream, bytes.len()));
    framed.extend_from_slice(bytes);
    writer.write_all(&framed).await
}

enum Fed {
    /// The client closed its half; the sink's is still open.
    Ended(OwnedWriteHalf),
    /// The client typed the detach keys.
    Detached,
    /// The client is gone, or the sink does not listen.
    Broken,
}

async fn feed(mut reader: HijackedReader, mut sink: OwnedWriteHalf, wants: Arc<Wants>) -> Fed {
    let mut buffer = vec![0; READ];
    let mut keys = Keys::new(if wants.tty { wants.keys.clone() } else { Vec::new() });
    loop {
        let n = match reader.read(&mut buffer).await {
            Ok(0) => break,
            Ok(n) => n,
            Err(_) => return Fed::Broken,
        };
        if !wants.stdin {
            continue;
        }
        let (pass, detach) = keys.filter(&buffer[..n]);
        let mut bytes = Vec::with_capacity(pass.len() + 8);
        if !pass.is_empty() {
            encode(&mut bytes, &Frame::Stdin(pass));
        }
        if detach {
            encode(&mut bytes, &Frame::Leave);
        }
        if sink.write_all(&bytes).await.is_err() {
            return Fed::Broken;
        }
        if detach {
            // The sink must see the leave before the connection closes.
            let _ = sink.shutdown().await;
            return Fed::Detached;
        }
    }
    if wants.stdin && wants.closes {
        let mut bytes = Vec::new();
        encode(&mut bytes, &Frame::StdinClose);
        let _ = sink.write_all(&bytes).await;
    }
    // Its half stays open: closing it would look like a vanished attacher.
    Fed::Ended(sink)
}

/// Finds the detach keys in a stream of input, across reads.
struct Keys {
    keys: Vec<u8>,
    matched: usize,
}

impl Keys {
    fn new(keys: Vec<u8>) -> Self {
        Self { keys, matched: 0 }
    }

    /// What passes on, and whether the keys were typed.
    fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if self.keys.get(self.matched) == Some(&byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    self.matched = 0;
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.matched]);
            self.matched = usize::from(self.keys.first() == Some(&byte));
            if self.matched == 0 {
                out.push(byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads_and_half_typed_ones_pass() {
        let mut keys = Keys::new(parse_keys("").unwrap());
        assert_eq!(keys.filter(b"ab\x10"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"c"), (b"\x10c".to_vec(), false));
        assert_eq!(keys.filter(b"x\x10\x10"), (b"x\x10".to_vec(), false));
        assert_eq!(keys.filter(b"\x11rest"), (Vec::new(), true));
    }

    #[test]
    fn keys_are_written_as_users_know_them() {
        assert_eq!(parse_keys("ctrl-a,x"), Ok(vec![1, b'x']));
        assert_eq!(parse_keys("ctrl-@,ctrl-["), Ok(vec![0, 27]));
        assert!(parse_keys("ctrl-1").is_err());
    }
}
