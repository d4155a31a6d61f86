//! An answer's body: how its end is told (RFC 9112, section 6), and its bytes as they come, read or
//! moved by the kernel.

use crate::ClientError;
use crate::http::{Conn, Head, Idle, READ};
use std::os::fd::BorrowedFd;
use sys::pipe;

/// How much is read at once where the rest is moved: the line before a chunk's data.
const READ_LINE: usize = 64;
/// The longest line between chunks.
const MAX_LINE: usize = 16 * 1024;

/// How the end of a body is told.
#[derive(Debug, Clone, Copy)]
enum Framing {
    Length(u64),
    Chunked(Chunk),
    UntilEnd,
    Done,
}

#[derive(Debug, Clone, Copy)]
enum Chunk {
    Size,
    Data(u64),
    DataEnd,
    Trailer,
}

/// A part of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes that were read.
    Read(Vec<u8>),
    /// So many bytes, which the kernel put into the pipe.
    Moved(usize),
}

/// A body, read as it comes. Its connection is used again once it is read to the end.
#[derive(Debug)]
pub struct Body {
    conn: Option<Conn>,
    framing: Framing,
    keep: bool,
    idle: Idle,
}

impl Body {
    /// The body that follows `head`; none where `no_body` or the status says so.
    pub(crate) fn new(conn: Conn, head: &Head, no_body: bool, idle: Idle) -> Self {
        let chunked = head
            .get("transfer-encoding")
            .is_some_and(|v| v.to_ascii_lowercase().contains("chunked"));
        let length = head.get("content-length").and_then(|v| v.trim().parse().ok());
        let framing = if no_body || matches!(head.status, 204 | 304) {
            Framing::Done
        } else if chunked {
            Framing::Chunked(Chunk::Size)
        } else {
            length.map_or(Framing::UntilEnd, Framing::Length)
        };
        let close =
            head.get("connection").is_some_and(|v| v.to_ascii_lowercase().contains("close"));
        let keep = !close && !matches!(framing, Framing::UntilEnd);
        let mut body = Body { conn: Some(conn), framing, keep, idle };
        if matches!(body.framing, Framing::Done | Framing::Length(0)) {
            body.finish();
        }
        body
    }

    fn finish(&mut self) {
        self.framing = Framing::Done;
        if let Some(conn) = self.conn.take()
            && self.keep
            && conn.buffer.is_empty()
            && let Ok(mut idle) = self.idle.lock()
        {
            idle.push(conn);
        }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// When the connection breaks before the end of the body.
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        self.read(READ).await
    }

    /// The next part; `None` at the end. What is only to be passed on the kernel moves into `into`, a
    /// pipe that must be empty and not block.
    ///
    /// # Errors
    /// As `chunk`.
    pub async fn piece(&mut self, into: BorrowedFd<'_>) -> Result<Option<Piece>, ClientError> {
        let left = match self.framing {
            Framing::UntilEnd => pipe::SIZE as u64,
            Framing::Length(left) | Framing::Chunked(Chunk::Data(left)) => left,
            Framing::Chunked(_) | Framing::Done => 0,
        };
        match &self.conn {
            Some(conn) if left > 0 && conn.buffer.is_empty() => {
                let most = usize::try_from(left).unwrap_or(pipe::SIZE).min(pipe::SIZE);
                let moved = conn.stream.splice(into, most).await?;
                if moved == 0 {
                    return self.ended().map(|()| None);
                }
                if let Framing::Length(left) | Framing::Chunked(Chunk::Data(left)) =
                    &mut self.framing
                {
                    *left -= moved as u64;
                }
                Ok(Some(Piece::Moved(moved)))
            }
            _ => Ok(self.read(READ_LINE).await?.map(Piece::Read)),
        }
    }

    /// The connection has ended: so has a body that nothing else ends.
    fn ended(&mut self) -> Result<(), ClientError> {
        self.keep = false;
        let whole = matches!(self.framing, Framing::UntilEnd);
        self.finish();
        if whole { Ok(()) } else { Err(ClientError::Broken("unexpected EOF".into())) }
    }

    /// The next bytes, read at most so many at once.
    async fn read(&mut self, most: usize) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            let Some(conn) = self.conn.as_mut() else { return Ok(None) };
            match self.framing {
                Framing::Done => return Ok(None),
                Framing::Length(0) | Framing::Chunked(Chunk::Data(0)) => {}
                _ if conn.buffer.is_empty() => {
                    if conn.more(most).await? == 0 {
                        return self.ended().map(|()| None);
                    }
                    continue;
                }
                _ => {}
            }
            if let Some(data) = self.take()? {
                return Ok(Some(data));
            }
            if matches!(self.framing, Framing::Done) {
                return Ok(None);
            }
            // A chunk's line is not whole yet.
            if let (Framing::Chunked(Chunk::Size | Chunk::DataEnd | Chunk::Trailer), Some(conn)) =
                (self.framing, self.conn.as_mut())
                && !conn.buffer.contains(&b'\n')
            {
                if conn.buffer.len() > MAX_LINE {
                    return Err(malformed());
                }
                if conn.more(most).await? == 0 {
                    return Err(ClientError::Broken("unexpected EOF".into()));
                }
            }
        }
    }

    /// Takes payload from the buffer, or one step of the framing.
    fn take(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let Some(conn) = self.conn.as_mut() else { return Ok(None) };
        Ok(match &mut self.framing {
            Framing::UntilEnd => Some(std::mem::take(&mut conn.buffer)),
            Framing::Length(left) | Framing::Chunked(Chunk::Data(left)) if *left > 0 => {
                let count = conn.buffer.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= count as u64;
                let rest = conn.buffer.split_off(count);
                Some(std::mem::replace(&mut conn.buffer, rest))
            }
            Framing::Length(_) => {
                self.finish();
                None
            }
            Framing::Chunked(state) => {
                if let Chunk::Data(_) = state {
                    *state = Chunk::DataEnd;
                    return Ok(None);
                }
                let Some(end) = conn.buffer.iter().position(|b| *b == b'\n') else {
                    return Ok(None);
                };
                let line: Vec<u8> = conn.buffer.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let line = line.trim();
                *state = match state {
                    Chunk::DataEnd => Chunk::Size,
                    Chunk::Size => {
                        let size = line.split(';').next().unwrap_or_default().trim();
                        match u64::from_str_radix(size, 16) {
                            Ok(0) => Chunk::Trailer,
                            Ok(size) => Chunk::Data(size),
                            Err(_) => {
                                self.keep = false;
                                self.finish();
                                return Err(malformed());
                            }
                        }
                    }
                    _ if line.is_empty() => {
                        self.finish();
                        return Ok(None);
                    }
                    _ => Chunk::Trailer,
                };
                None
            }
            Framing::Done => None,
        })
    }

    /// The whole body.
    ///
    /// # Errors
    /// As `chunk`.
    pub async fn all(&mut self) -> Result<Vec<u8>, ClientError> {
        let mut whole = Vec::new();
        while let Some(mut part) = self.chunk().await? {
            if whole.is_empty() {
                whole = part;
            } else {
                whole.append(&mut part);
            }
        }
        Ok(whole)
    }
}

fn malformed() -> ClientError {
    ClientError::Broken("malformed chunked encoding".into())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::fd::AsFd as _;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::UnixStream;

    use super::*;
    use crate::http::Stream;

    /// A body of these bytes, whose other side is closed after them.
    async fn body(headers: &[(&str, &str)], bytes: &[u8]) -> Body {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(bytes).await.unwrap();
        let conn = Conn { stream: Stream::Unix(ours), buffer: Vec::new() };
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        Body::new(conn, &Head { status: 200, headers }, false, Idle::default())
    }

    /// All of a body by way of a pipe, and whether the kernel moved any of it.
    async fn through_a_pipe(mut body: Body) -> Result<(Vec<u8>, bool), ClientError> {
        let (out, into) = pipe::wide().unwrap();
        let mut out = std::fs::File::from(out);
        let (mut whole, mut any) = (Vec::new(), false);
        while let Some(piece) = body.piece(into.as_fd()).await? {
            match piece {
                Piece::Read(bytes) => whole.extend(bytes),
                Piece::Moved(count) => {
                    let start = whole.len();
                    whole.resize(start + count, 0);
                    out.read_exact(&mut whole[start..]).unwrap();
                    any = true;
                }
            }
        }
        Ok((whole, any))
    }

    const CHUNKED: &[(&str, &str)] = &[("Transfer-Encoding", "chunked")];

    #[tokio::test]
    async fn a_body_is_the_same_read_or_moved_however_its_end_is_told() {
        let content: Vec<u8> = (0..50_000_u32).map(|n| n as u8).collect();
        let (first, second) = content.split_at(20_000);
        let chunks = [
            format!("{:x}\r\n", first.len()).as_bytes(),
            first,
            format!("\r\n{:X};x=y\r\n", second.len()).as_bytes(),
            second,
            b"\r\n0\r\nTrailer: x\r\n\r\n",
        ]
        .concat();
        let length = [("Content-Length", "50000")];
        for (headers, bytes) in [(CHUNKED, &chunks), (&length, &content), (&[], &content)] {
            let (moved, any) = through_a_pipe(body(headers, bytes).await).await.unwrap();
            assert!(moved == content && any, "{headers:?}");
            assert!(body(headers, bytes).await.all().await.unwrap() == content, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_an_error() {
        let (length, endless) = ([("Content-Length", "9")], vec![b'0'; 2 * MAX_LINE]);
        for (headers, bytes) in [
            (&length[..], &b"eight..."[..]),
            (CHUNKED, b"9\r\neight..."),
            (CHUNKED, b"3\r\none\r\n"),
            (CHUNKED, b"3\r\none\r\nzz\r\n"),
            (CHUNKED, b"<html>\r\n\r\n"),
            (CHUNKED, &endless),
        ] {
            let broken = body(headers, bytes).await.all().await;
            assert!(matches!(broken, Err(ClientError::Broken(_))), "{broken:?}");
            let broken = through_a_pipe(body(headers, bytes).await).await;
            assert!(matches!(broken, Err(ClientError::Broken(_))), "{broken:?}");
        }
    }
}
