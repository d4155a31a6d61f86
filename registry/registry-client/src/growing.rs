//! A file that is sent while it is written.

use std::fs::File;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use file_stream::{FileStream, Files};
use futures_util::StreamExt;
use tokio::sync::watch;

use crate::net::Chunks;
use crate::source::BlobSource;

/// How much of a file is there.
#[derive(Clone, Copy, Debug, Default)]
struct Growth {
    length: u64,
    is_whole: bool,
}

/// A file that somebody is writing. Whoever reads it waits for what is not there yet; it fails
/// them when the writer gives up.
#[derive(Clone, Debug)]
pub struct GrowingFile {
    file: Arc<File>,
    growth: watch::Receiver<Growth>,
}

/// The writer's side of a [`GrowingFile`]. Dropping it gives up.
#[derive(Debug)]
pub struct Grower(watch::Sender<Growth>);

impl GrowingFile {
    /// A file that is empty as yet, open for reading.
    pub fn new(file: File) -> (Self, Grower) {
        let (sender, growth) = watch::channel(Growth::default());
        (Self { file: Arc::new(file), growth }, Grower(sender))
    }
}

impl Grower {
    /// The file has this many bytes now; what is there does not change any more.
    pub fn grew(&self, length: u64) {
        self.0.send_modify(|growth| growth.length = length);
    }

    /// It has all its bytes.
    pub fn end(self) {
        self.0.send_modify(|growth| growth.is_whole = true);
    }
}

impl BlobSource for GrowingFile {
    fn read(&self, offset: u64, length: u64, files: Option<Files>) -> Chunks {
        let reading = Reading {
            pieces: FileStream::new(Arc::clone(&self.file), offset, offset, files),
            offset,
            end: offset.saturating_add(length),
            growth: self.growth.clone(),
        };
        Box::pin(futures_util::stream::try_unfold(reading, Reading::next))
    }
}

struct Reading {
    /// What is there and not read yet.
    pieces: FileStream,
    /// Where the next piece begins.
    offset: u64,
    end: u64,
    growth: watch::Receiver<Growth>,
}

impl Reading {
    async fn next(mut self) -> io::Result<Option<(Bytes, Self)>> {
        if self.pieces.left() == 0 {
            let offset = self.offset;
            let more = |growth: &Growth| growth.is_whole || growth.length > offset;
            let growth = self.growth.wait_for(more).await.map(|growth| *growth);
            let growth = growth
                .map_err(|_| io::Error::new(io::ErrorKind::UnexpectedEof, "its writer gave up"))?;
            self.pieces.grow(growth.length.min(self.end));
        }
        let Some(piece) = self.pieces.next().await.transpose()? else { return Ok(None) };
        self.offset += piece.len() as u64;
        Ok(Some((piece, self)))
    }
}
