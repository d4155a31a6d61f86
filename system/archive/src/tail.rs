//! Reading a file while another thread still appends to it: a blob is unpacked as it arrives,
//! with the page cache as the buffer between the two. No timers: the reader sleeps on a condition.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

#[derive(Default)]
struct Progress {
    written: u64,
    end: Option<Result<(), String>>,
}

/// The writing side's handle: tells how far the file has come.
#[derive(Clone, Default)]
pub struct Tail(Arc<(Mutex<Progress>, Condvar)>);

impl Tail {
    /// A tail at position zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces that the file now holds `written` bytes.
    pub fn advance(&self, written: u64) {
        self.update(|progress| progress.written = written);
    }

    /// Announces that the file is complete.
    pub fn finish(&self) {
        self.update(|progress| progress.end = progress.end.take().or(Some(Ok(()))));
    }

    /// Announces that no more will come because of `why`; readers fail with it.
    pub fn abort(&self, why: &str) {
        self.update(|progress| {
            progress.end = progress.end.take().or_else(|| Some(Err(why.into())));
        });
    }

    /// A reader of `file` from its beginning that follows this tail.
    pub fn reader(&self, file: File) -> TailReader {
        TailReader { tail: self.clone(), file, at: 0 }
    }

    fn update(&self, change: impl FnOnce(&mut Progress)) {
        let (lock, ready) = &*self.0;
        change(&mut lock.lock().unwrap_or_else(PoisonError::into_inner));
        ready.notify_all();
    }
}

/// Reads a growing file; end of file comes when the writer said so.
pub struct TailReader {
    tail: Tail,
    file: File,
    at: u64,
}

impl Read for TailReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let available = {
            let (lock, ready) = &*self.tail.0;
            let mut progress = lock.lock().unwrap_or_else(PoisonError::into_inner);
            while progress.written <= self.at && progress.end.is_none() {
                progress = ready.wait(progress).unwrap_or_else(PoisonError::into_inner);
            }
            if let Some(Err(why)) = &progress.end {
                return Err(io::Error::other(why.clone()));
            }
            progress.written.saturating_sub(self.at)
        };
        let want = buf.len().min(usize::try_from(available).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buf[..want], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
