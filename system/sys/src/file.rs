//! Files: what the standard library lacks for writing much data durably.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// So many bytes at a time begin their way to the disk.
const WRITEBACK: u64 = 8 << 20;

/// How far a file that is written from its beginning is on its way to the disk.
#[derive(Debug, Default)]
pub struct Writeback {
    begun: u64,
}

impl Writeback {
    /// What is before `offset` is there already.
    pub fn from(offset: u64) -> Self {
        Self { begun: offset }
    }

    /// `written` bytes are in the file now: what is new begins its way while more come, once it is
    /// worth it. It is a head start only: what it can't do, the fsync at the end does.
    pub fn at(&mut self, file: BorrowedFd<'_>, written: u64) {
        let fresh = written.saturating_sub(self.begun);
        if fresh >= WRITEBACK {
            start_writeback(file, self.begun, fresh).ok();
            self.begun = written;
        }
    }
}

/// Starts to write a range of dirty pages to the disk and does not wait for them, so that a later
/// fsync finds little left to do. It promises nothing about durability.
fn start_writeback(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
    let (offset, length) = (offset as libc::off64_t, length as libc::off64_t);
    // SAFETY: the descriptor is open for as long as it is borrowed; the rest are plain numbers.
    let done = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE)
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn writeback_starts_on_a_file_and_not_on_a_pipe() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1; 8192]).unwrap();
        super::start_writeback(file.as_fd(), 0, 8192).unwrap();
        let (pipe, _other) = std::io::pipe().unwrap();
        assert!(super::start_writeback(pipe.as_fd(), 0, 1).is_err());
    }
}
