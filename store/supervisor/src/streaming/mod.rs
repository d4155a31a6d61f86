//! Byte streams between clients and this daemon: containerd's Streaming service, and the raw unix
//! socket beside it that our own clients prefer. A stream is registered under an id of the
//! client's choice, and a later call (Transfer) takes it by that id. What flows is not looked at.
//!
//! The raw socket, `<address>.stream`: the client connects and sends one line
//! `{"v":1,"namespace":"N","id":"ID"}`; the daemon answers `ok\n` once the id can be taken, or
//! `error TEXT\n` and closes. From then on the connection is the stream: plain bytes, half-close
//! ends a direction. Introspection announces it as plugin `io.ferry.stream.v1`/`archive`, with
//! the path in the export `address`.

mod grpc;
mod raw;

pub use grpc::{GrpcReader, GrpcWriter, Service};
pub use raw::{address as raw_address, listen};

use crate::Error;
use containerd_api::prost_types::Any;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tonic::Status;

/// Most streams that may wait to be taken.
const MAX_WAITING: usize = 1024;

/// Bytes that one call has the kernel send.
const SENT_AT_ONCE: usize = 16 << 20;

/// The server's end of a gRPC stream.
#[derive(Debug)]
pub struct Endpoint {
    /// Messages of the client; ends when the client closed its side.
    pub incoming: mpsc::Receiver<Any>,
    /// Messages to the client; dropping it ends the call.
    pub outgoing: mpsc::Sender<Result<Any, Status>>,
}

/// A registered stream.
#[derive(Debug)]
pub enum Stream {
    /// Over gRPC, in messages.
    Grpc(Endpoint),
    /// A socket.
    Raw(UnixStream),
}

/// Streams that wait to be taken, by namespace and id. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Streams(Arc<Mutex<HashMap<(String, String), Stream>>>);

impl Streams {
    /// Registers a stream. Errors: the id is empty or taken, or too many wait.
    pub fn register(&self, namespace: &str, id: &str, stream: Stream) -> Result<(), Error> {
        if id.is_empty() {
            return Err(Error::InvalidArgument("stream id is required".into()));
        }
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.to_owned(), id.to_owned());
        if waiting.contains_key(&key) {
            return Err(Error::AlreadyExists(format!("stream {id}")));
        }
        if waiting.len() >= MAX_WAITING {
            waiting.retain(|_, stream| !stream.is_dead());
        }
        if waiting.len() >= MAX_WAITING {
            return Err(Error::Unavailable(format!("stream {id}: too many streams wait")));
        }
        waiting.insert(key, stream);
        Ok(())
    }

    /// Takes a stream. Errors: there is none of that id.
    pub fn take(&self, namespace: &str, id: &str) -> Result<Stream, Error> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = waiting.remove(&(namespace.to_owned(), id.to_owned()));
        found.ok_or_else(|| Error::NotFound(format!("stream {id}")))
    }

    /// Forgets a stream whose client went before anybody took it.
    pub fn forget(&self, namespace: &str, id: &str) {
        // Taken meanwhile: then its user notices the end.
        let _ = self.take(namespace, id);
    }
}

impl Stream {
    /// Whether the client has gone.
    fn is_dead(&self) -> bool {
        match self {
            Self::Grpc(endpoint) => endpoint.outgoing.is_closed(),
            Self::Raw(socket) => {
                let mut fds = [PollFd::new(socket, PollFlags::empty())];
                let now = Timespec { tv_sec: 0, tv_nsec: 0 };
                poll(&mut fds, Some(&now)).is_ok_and(|n| n > 0)
            }
        }
    }

    /// The bytes that the client sends, for a thread that may block.
    pub fn reader(self) -> Box<dyn Read + Send> {
        match self {
            Self::Grpc(endpoint) => Box::new(GrpcReader::new(endpoint)),
            Self::Raw(socket) => Box::new(socket),
        }
    }

    /// Takes bytes for the client, for a thread that may block. `finish` ends it.
    pub fn writer(self) -> StreamWriter {
        match self {
            Self::Grpc(endpoint) => StreamWriter::Grpc(GrpcWriter::new(endpoint)),
            Self::Raw(socket) => StreamWriter::Raw(socket),
        }
    }
}

/// A stream that bytes are written to.
#[derive(Debug)]
pub enum StreamWriter {
    /// In messages, under the client's window.
    Grpc(GrpcWriter),
    /// Into a socket.
    Raw(UnixStream),
}

impl StreamWriter {
    /// Ends the stream and waits, not for ever, until the client has seen the end: clients of
    /// containerd stop reading when their call returns, and would cut off what is on its way.
    pub fn finish(self) {
        match self {
            Self::Grpc(writer) => writer.finish(),
            // Our own clients read to the end of the socket before they look at the answer.
            Self::Raw(socket) => drop(socket),
        }
    }

    /// Has the kernel send `size` bytes of a file from its beginning, where it can; returns how
    /// many it sent, which is less where the file is shorter. What is left is the caller's to write.
    pub fn send_file(&mut self, file: &File, size: u64) -> io::Result<u64> {
        let Self::Raw(socket) = self else { return Ok(0) };
        let mut at = 0;
        while at < size {
            let most = usize::try_from(size - at).unwrap_or(usize::MAX).min(SENT_AT_ONCE);
            match rustix::fs::sendfile(&*socket, file, Some(&mut at), most) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                // A file system whose files can't be sent.
                Err(Errno::INVAL | Errno::NOSYS) => break,
                Err(e) => return Err(e.into()),
            }
        }
        Ok(at)
    }
}

impl Write for StreamWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Grpc(writer) => writer.write(buf),
            Self::Raw(socket) => socket.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
