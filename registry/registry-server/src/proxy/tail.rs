//! The body of an answer that follows a blob which is still coming.

use std::io;

use bytes::Bytes;
use file_stream::{FileStream, Files};
use futures_util::{StreamExt, stream};
use http_body::Frame;
use http_body_util::StreamBody;

use super::fetch::{Opened, Reader};
use crate::http::Body;

struct Tail {
    reader: Reader,
    opened: Opened,
    current: Option<FileStream>,
    offset: u64,
    // Where to stop; nothing is the end of the blob.
    end: Option<u64>,
    files: Option<Files>,
}

/// The bytes from `offset` to before `end`, as they come.
pub(crate) fn tail(
    reader: Reader,
    opened: Opened,
    offset: u64,
    end: Option<u64>,
    files: Option<Files>,
) -> Body {
    let tail = Tail { reader, opened, current: None, offset, end, files };
    let frames = stream::unfold(Some(tail), |tail| async {
        let mut tail = tail?;
        match tail.next().await {
            Ok(None) => None,
            Ok(Some(frame)) => Some((Ok(frame), Some(tail))),
            // The connection breaks off, so that nobody takes it for the whole.
            Err(error) => Some((Err(error), None)),
        }
    });
    Body::Stream(Box::pin(StreamBody::new(frames)))
}

impl Tail {
    async fn next(&mut self) -> io::Result<Option<Frame<Bytes>>> {
        loop {
            if let Some(current) = &mut self.current {
                match current.next().await {
                    Some(piece) => {
                        let piece = piece?;
                        self.offset += piece.len() as u64;
                        return Ok(Some(Frame::data(piece)));
                    }
                    None => self.current = None,
                }
            }
            if self.end.is_some_and(|end| self.offset >= end) {
                return Ok(None);
            }
            let Some(readable) = self.more().await? else { return Ok(None) };
            let file = std::sync::Arc::clone(&self.opened.file);
            let files = self.files.clone();
            self.current = Some(FileStream::new(file, self.offset, readable, files));
        }
    }

    /// Waits until there is something to read; says up to where. Nothing: the blob is over.
    async fn more(&mut self) -> io::Result<Option<u64>> {
        let (offset, end) = (self.offset, self.end.unwrap_or(u64::MAX));
        let progress = self
            .reader
            .progress
            .wait_for(|progress| progress.ended.is_some() || progress.readable.min(end) > offset);
        let progress = progress.await.map_err(io::Error::other)?;
        if let Some(Err(failure)) = &progress.ended {
            return Err(failure.clone().into());
        }
        let readable = progress.readable.min(end);
        Ok((readable > offset).then_some(readable))
    }
}
