//! Archives as the store takes them: bzip2 and xz, which dockerd reads and containerd does not, are
//! undone on the way. Everything else passes as it comes.

use std::io::{self, Read};
use std::pin::Pin;

use archive::Rare;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::io::{StreamReader, SyncIoBridge};

/// Bytes that are inflated at once.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait for the store.
const AHEAD: usize = 2;

/// A body.
pub(crate) type Body = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

/// The stream without a compression that stores don't read.
pub(crate) async fn plain<S>(body: S) -> io::Result<Body>
where
    S: Stream<Item = io::Result<Bytes>> + Send + 'static,
{
    let mut body = Box::pin(body);
    let mut head = BytesMut::new();
    while head.len() < Rare::HEAD {
        match body.next().await.transpose()? {
            Some(part) => head.extend_from_slice(&part),
            None => break,
        }
    }
    let found = Rare::sniff(&head);
    let whole = stream::iter([Ok(head.freeze())]).chain(body);
    let Some(rare) = found else { return Ok(Box::pin(whole)) };
    let source = SyncIoBridge::new(StreamReader::new(Box::pin(whole)));
    let (sender, receiver) = mpsc::channel(AHEAD);
    // Not one of the runtime's threads for blocking work: it waits for the client.
    std::thread::Builder::new().name("inflate".into()).spawn(move || {
        let mut decoder = rare.decoder(source);
        loop {
            let part = match next(rare, &mut decoder) {
                Ok(part) if part.is_empty() => return,
                part => part,
            };
            let is_last = part.is_err();
            // Nobody reads any more when the store refused.
            if sender.blocking_send(part).is_err() || is_last {
                return;
            }
        }
    })?;
    Ok(Box::pin(ReceiverStream::new(receiver)))
}

/// The next bytes; none at the end.
fn next(rare: Rare, decoder: &mut impl Read) -> io::Result<Bytes> {
    let mut part = Vec::with_capacity(CHUNK);
    let read = decoder.take(CHUNK as u64).read_to_end(&mut part);
    read.map_err(|e| match e.kind() {
        io::ErrorKind::OutOfMemory => {
            io::Error::new(e.kind(), format!("an archive's {rare} dictionary is beyond 128 MiB"))
        }
        kind => io::Error::new(kind, format!("reading an archive of {rare}: {e}")),
    })?;
    Ok(part.into())
}
