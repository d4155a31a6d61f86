//! Bytes that the kernel moves from one descriptor to another by way of a pipe (splice(2)).

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// Bytes that a pipe of [`wide`] holds where the kernel grants it; it may hold fewer.
pub const SIZE: usize = 1 << 20;

/// A pipe to move bytes by, which does not block: where they come out, and where they go in.
pub fn wide() -> io::Result<(OwnedFd, OwnedFd)> {
    let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // A smaller one does as well.
    let _ = fcntl_setpipe_size(&into, SIZE);
    Ok((out, into))
}

/// Moves at most so many bytes, one side being a pipe; 0 at the end. Does not wait for a pipe.
pub fn move_bytes(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, most, SpliceFlags::MOVE | SpliceFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    #[test]
    fn bytes_go_from_a_socket_through_a_pipe_into_a_file() {
        let (mut near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        let (out, into) = super::wide().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        near.write_all(b"moved").unwrap();
        drop(near);
        assert_eq!(super::move_bytes(&far, &into, super::SIZE).unwrap(), 5);
        assert_eq!(super::move_bytes(&out, &file, 5).unwrap(), 5);
        assert_eq!(super::move_bytes(&far, &into, super::SIZE).unwrap(), 0);
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "moved");
    }
}
