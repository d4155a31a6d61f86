//! Files: what the standard library lacks for writing much data durably.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Starts to write a range of dirty pages to the disk and does not wait for them, so that a later
/// fsync finds little left to do. It promises nothing about durability.
pub fn start_writeback(file: BorrowedFd<'_>, offset: u64, length: u64) -> io::Result<()> {
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
