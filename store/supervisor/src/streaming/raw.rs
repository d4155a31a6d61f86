//! The raw socket: one line of introduction, then bytes. See the module's head for the protocol.

use super::{Stream, Streams};
use crate::Error;
use crate::context::check_identifier;
use serde::Deserialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Longest introduction, in bytes.
const MAX_LINE: usize = 4096;
/// How long a client may take for it.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Deserialize)]
struct Hello {
    v: u32,
    namespace: String,
    id: String,
}

/// The raw socket's path beside the gRPC socket at `address`.
pub fn address(address: &Path) -> PathBuf {
    let mut path = address.as_os_str().to_owned();
    path.push(".stream");
    path.into()
}

/// Binds the raw socket beside `address`, with the same owner and mode, and serves it.
pub fn listen(address: &Path, uid: u32, gid: u32, streams: Streams) -> Result<(), Error> {
    let listener = crate::server::bind(&self::address(address), uid, gid)?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((socket, _)) => {
                    let streams = streams.clone();
                    tokio::spawn(async move { introduce(socket, &streams).await });
                }
                // Out of descriptors: others must end first.
                Err(e) => {
                    tracing::warn!("accepting a raw stream: {e}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}

async fn introduce(mut socket: UnixStream, streams: &Streams) {
    let hello = match tokio::time::timeout(PATIENCE, hello(&mut socket)).await {
        Ok(Ok(hello)) => hello,
        Ok(Err(e)) => {
            // The client may be gone; there is nobody else to tell.
            let _ = socket.write_all(format!("error {e}\n").as_bytes()).await;
            return;
        }
        Err(_) => return,
    };
    let Ok(socket) = socket.into_std() else { return };
    let Ok(mut answer) = socket.try_clone() else { return };
    if socket.set_nonblocking(false).is_err() {
        return;
    }
    // Registered before it is acknowledged, since the client takes it right after. The answer is
    // a few bytes into an empty socket: it can't block.
    let text = match streams.register(&hello.namespace, &hello.id, Stream::Raw(socket)) {
        Ok(()) => "ok\n".to_owned(),
        Err(e) => format!("error {e}\n"),
    };
    if answer.write_all(text.as_bytes()).is_err() {
        streams.forget(&hello.namespace, &hello.id);
    }
}

async fn hello(socket: &mut UnixStream) -> Result<Hello, Error> {
    let invalid = |what: &str| Error::InvalidArgument(format!("stream introduction: {what}"));
    let mut line = Vec::new();
    // Byte by byte, since what follows the line belongs to the stream.
    loop {
        let byte = socket.read_u8().await.map_err(Error::io("reading an introduction"))?;
        if byte == b'\n' {
            break;
        }
        line.push(byte);
        if line.len() > MAX_LINE {
            return Err(invalid("too long"));
        }
    }
    let hello: Hello = serde_json::from_slice(&line).map_err(|e| invalid(&e.to_string()))?;
    if hello.v != 1 {
        return Err(invalid("unknown version"));
    }
    check_identifier(&hello.namespace).map_err(|e| invalid(&e))?;
    Ok(hello)
}
