//! An answer that comes by a socket of another process: the kernel moves its pages to the client,
//! and no byte is copied here.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;

use sys::pipe::{self, move_bytes};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::body::Shared;
use super::stream::WriteHalf;

/// Bytes that another process writes to a socket.
pub struct Incoming {
    /// The socket.
    pub socket: UnixStream,
    /// Ends when the writer says that all is written; an error is the end of the connection, so
    /// that the client notices.
    pub done: Pin<Box<dyn Future<Output = Result<(), String>> + Send>>,
}

/// Moves everything to the client. Errors: a side broke, or the writer says that it failed.
pub(super) async fn pass_on(shared: &Shared, source: Incoming, chunked: bool) -> io::Result<()> {
    let Incoming { socket, done } = source;
    // A writer that fails early never touches the socket: its word must end the waiting.
    let done = async { done.await.map_err(io::Error::other) };
    let moved = async {
        let (out, into) = pipe::wide()?;
        loop {
            let read = || move_bytes(&socket, &into, pipe::SIZE);
            let taken = socket.async_io(Interest::READABLE, read).await?;
            if taken == 0 {
                return Ok(());
            }
            let mut write = shared.write.lock().await;
            if chunked {
                write.write_all(format!("{taken:x}\r\n").as_bytes()).await?;
            }
            drain(&out, &write, taken).await?;
            if chunked {
                write.write_all(b"\r\n").await?;
            }
        }
    };
    tokio::try_join!(moved, done)?;
    Ok(())
}

/// Moves `left` bytes from a pipe to the client.
async fn drain(pipe: &OwnedFd, to: &WriteHalf, mut left: usize) -> io::Result<()> {
    while left > 0 {
        let sent = match to {
            WriteHalf::Unix(half) => {
                let socket: &UnixStream = half.as_ref();
                let write = || move_bytes(pipe, socket, left);
                socket.async_io(Interest::WRITABLE, write).await?
            }
            WriteHalf::Tcp(half) => {
                let socket: &tokio::net::TcpStream = half.as_ref();
                let write = || move_bytes(pipe, socket, left);
                socket.async_io(Interest::WRITABLE, write).await?
            }
        };
        if sent == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        left -= sent;
    }
    Ok(())
}
