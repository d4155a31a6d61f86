//! The frames that carry stdout and stderr (and, towards a sink, stdin) over
//! one connection: a header of eight bytes, then the payload.

/// Length of a frame's header in bytes.
pub const HEADER: usize = 8;

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// Input; only a sink's clients send it.
    Stdin = 0,
    /// Output.
    Stdout = 1,
    /// Error output.
    Stderr = 2,
    /// A failure of the engine itself, as text.
    System = 3,
}

/// The header of a frame with `len` bytes of payload.
pub fn header(stream: Stream, len: u32) -> [u8; HEADER] {
    let [a, b, c, d] = len.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// A header's stream number (any byte) and payload length.
pub fn parse_header(bytes: [u8; HEADER]) -> (u8, u32) {
    let [kind, _, _, _, a, b, c, d] = bytes;
    (kind, u32::from_be_bytes([a, b, c, d]))
}

/// Appends one frame to `out`. A payload above 4 GiB makes several.
pub fn frame(out: &mut Vec<u8>, stream: Stream, payload: &[u8]) {
    for part in payload.chunks(u32::MAX as usize) {
        out.extend_from_slice(&header(stream, part.len() as u32));
        out.extend_from_slice(part);
    }
}

/// What a demultiplexer found.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Payload of the stream with this number.
    Data(u8, &'a [u8]),
    /// All input is used up.
    Done,
}

/// Takes frames apart, however the bytes are cut. Payloads are handed out as
/// they come, never collected.
#[derive(Debug, Default)]
pub struct Demux {
    head: [u8; HEADER],
    have: usize,
    left: u32,
}

impl Demux {
    /// The next piece of `input`, and how many bytes of it were used. Call
    /// again with the rest until it says `Done`.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> (Piece<'a>, usize) {
        let mut used = 0;
        while self.left == 0 {
            if self.have == HEADER {
                self.have = 0;
            }
            let take = (HEADER - self.have).min(input.len() - used);
            self.head[self.have..self.have + take].copy_from_slice(&input[used..used + take]);
            self.have += take;
            used += take;
            if self.have < HEADER {
                return (Piece::Done, used);
            }
            self.left = parse_header(self.head).1;
            if self.left == 0 {
                self.have = 0;
            }
        }
        let take = (self.left as usize).min(input.len() - used);
        if take == 0 {
            return (Piece::Done, used);
        }
        let data = &input[used..used + take];
        self.left -= take as u32;
        (Piece::Data(self.head[0], data), used + take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_apart_however_they_are_cut() {
        let mut wire = Vec::new();
        frame(&mut wire, Stream::Stdout, b"hello");
        frame(&mut wire, Stream::Stderr, b"");
        frame(&mut wire, Stream::Stderr, b"oops");
        for cut in 1..wire.len() {
            let (mut out, mut err, mut demux) = (Vec::new(), Vec::new(), Demux::default());
            for part in wire.chunks(cut) {
                let mut rest = part;
                loop {
                    let (piece, used) = demux.next(rest);
                    rest = &rest[used..];
                    match piece {
                        Piece::Data(1, data) => out.extend_from_slice(data),
                        Piece::Data(_, data) => err.extend_from_slice(data),
                        Piece::Done => break,
                    }
                }
            }
            assert_eq!((out.as_slice(), err.as_slice()), (&b"hello"[..], &b"oops"[..]), "{cut}");
        }
    }
}
