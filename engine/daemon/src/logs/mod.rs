//! Reading json-file logs: whole, from the end, by time, and as they grow, across
//! rotation. Writing them is the sink's part; no lock is shared with it.

mod file;
mod follow;
mod line;
pub mod options;

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::oneshot;

use crate::http::{ApiError, ByteStream};
use file::Reader;
use follow::Watch;

/// What of a log is wanted, and how it is shown.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Lines of standard output.
    pub stdout: bool,
    /// Lines of standard error.
    pub stderr: bool,
    /// Without frames: a terminal's log.
    pub raw: bool,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Each line has its attributes.
    pub details: bool,
    /// Nanoseconds since the epoch; 0: from the beginning.
    pub since: i64,
    /// Nanoseconds since the epoch; 0: to the end.
    pub until: i64,
    /// Only so many last lines.
    pub tail: Option<usize>,
}

/// All that a log holds, formatted.
pub fn read_all(path: &Path, options: &Options) -> io::Result<Vec<u8>> {
    let mut reader = Reader::open(path, options)?;
    let mut out = Vec::new();
    while reader.next_chunk(&mut out)? {}
    Ok(out)
}

struct Stream {
    reader: Reader,
    /// Ends the following: the process has ended, and its log is complete.
    end: Option<oneshot::Receiver<crate::lifecycle::machine::Answer>>,
    watch: Option<Watch>,
    ended: bool,
}

/// A log as a stream of formatted bytes. With `end` it follows until that is answered.
pub fn stream(
    path: PathBuf,
    options: &Options,
    end: Option<oneshot::Receiver<crate::lifecycle::machine::Answer>>,
) -> Result<ByteStream, ApiError> {
    let failed =
        |e: io::Error| ApiError::internal(format!("reading the log {}: {e}", path.display()));
    // Watched before it is read, so that no growth is missed.
    let watch = if end.is_some() { Some(Watch::new(&path).map_err(failed)?) } else { None };
    let reader = Reader::open(&path, options).map_err(failed)?;
    let state = Stream { reader, ended: end.is_none(), end, watch };
    Ok(Box::pin(stream::try_unfold(state, |mut state| async move {
        let chunk = state.next().await.map_err(|e| ApiError::internal(e.to_string()))?;
        Ok(chunk.map(|chunk| (chunk, state)))
    })))
}

impl Stream {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let mut out = Vec::new();
            // Short reads from the page cache: cheaper here than on another thread.
            while self.reader.next_chunk(&mut out)? {
                if !out.is_empty() {
                    return Ok(Some(out.into()));
                }
            }
            if self.ended || self.reader.is_past_until() {
                return Ok(None);
            }
            let Some(watch) = &mut self.watch else { return Ok(None) };
            let Some(end) = &mut self.end else { return Ok(None) };
            tokio::select! {
                changed = watch.changed() => changed?,
                // What was written until now is still read.
                _ = end => self.ended = true,
            }
        }
    }
}
