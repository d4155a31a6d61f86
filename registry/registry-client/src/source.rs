//! What is sent: bytes in memory, or a blob that can be read from any offset again, so
//! that a broken upload goes on where it stopped.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use file_stream::{FileStream, Files};
use futures_util::{Stream, TryStreamExt};
use oci::Descriptor;

use crate::blob::Blob;
use crate::error::Error;
use crate::net::Chunks;
use crate::repository::Repository;

/// A blob to push. It is read more than once when an attempt fails.
pub trait BlobSource: Send + Sync + 'static {
    /// The bytes from `offset` on, at least `length` of them, or all if there are fewer. `files` is there when they go onto a
    /// connection that can send from files; whoever has none at hand leaves it alone.
    fn read(&self, offset: u64, length: u64, files: Option<Files>) -> Chunks;
}

/// The body of a request.
#[derive(Clone)]
pub(crate) enum Payload {
    Empty,
    Whole(Bytes),
    /// So many bytes of a blob, or all from there on where its length is not known yet.
    Part {
        source: Arc<dyn BlobSource>,
        offset: u64,
        length: Option<u64>,
    },
}

impl BlobSource for Bytes {
    fn read(&self, offset: u64, length: u64, _: Option<Files>) -> Chunks {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let to = from.saturating_add(usize::try_from(length).unwrap_or(usize::MAX)).min(self.len());
        let part = self.slice(from..to);
        Box::pin(futures_util::stream::iter([Ok(part)]))
    }
}

/// A file: sent by the kernel where the connection can do that, else read in pieces, few of which
/// are in memory whatever the file's size.
#[derive(Debug, Clone)]
pub struct FileBlob(Arc<File>);

impl FileBlob {
    /// The content of an open file, from its start.
    pub fn new(file: File) -> Self {
        Self(Arc::new(file))
    }
}

impl BlobSource for FileBlob {
    fn read(&self, offset: u64, length: u64, files: Option<Files>) -> Chunks {
        let end = offset.saturating_add(length);
        Box::pin(FileStream::new(self.0.clone(), offset, end, files))
    }
}

/// A blob of another repository, sent on as it comes.
#[derive(Clone)]
pub struct Relay {
    from: Repository,
    of: Descriptor,
}

impl Relay {
    /// The blob `of` of the repository `from`.
    pub fn new(from: Repository, of: Descriptor) -> Self {
        Self { from, of }
    }
}

impl BlobSource for Relay {
    fn read(&self, offset: u64, _length: u64, _: Option<Files>) -> Chunks {
        let Self { from, of } = self.clone();
        let open = async move {
            let blob = from.blob(&of, offset).await?;
            // A server without ranges begins at the start.
            let skip = offset - blob.start();
            Ok::<_, Error>(skipping(blob, skip))
        };
        Box::pin(futures_util::stream::once(open).try_flatten().map_err(io::Error::other))
    }
}

fn skipping(blob: Blob, mut skip: u64) -> impl Stream<Item = Result<Bytes, Error>> {
    blob.map_ok(move |mut chunk: Bytes| {
        let known = skip.min(chunk.len() as u64);
        skip -= known;
        chunk.split_off(known as usize)
    })
}
