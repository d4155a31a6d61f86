//! Frames on the sink's socket: Docker's stdcopy layout with more types. Sans-I/O.
//!
//! A header of eight bytes (`[type, 0, 0, 0, length as big-endian u32]`), then the payload.

use serde::{Deserialize, Serialize};

/// Size of a frame's header.
pub const HEADER: usize = 8;
/// Largest payload a peer may send.
pub const MAX_FRAME: usize = 1 << 20;

/// What an attacher wants; its first frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Version: 1.
    pub v: u32,
    /// It will send input.
    #[serde(default)]
    pub stdin: bool,
    /// It wants standard output (all output of a terminal).
    #[serde(default)]
    pub stdout: bool,
    /// It wants standard error.
    #[serde(default)]
    pub stderr: bool,
}

/// The sink's first frame: from here on the attacher misses no output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Version: 1.
    pub v: u32,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// 0, to the sink: input for the process.
    Stdin(Vec<u8>),
    /// 1, from the sink: standard output.
    Stdout(Vec<u8>),
    /// 2, from the sink: standard error.
    Stderr(Vec<u8>),
    /// 16, to the sink.
    Hello(Hello),
    /// 17, from the sink.
    Ready(Ready),
    /// 18, to the sink: end of input.
    StdinClose,
    /// 19, from the sink: the process has ended and everything was forwarded.
    Drained,
    /// 20, to the sink: the attacher leaves of its own will.
    Leave,
}

/// A peer does not speak this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No such type.
    #[error("sink: unknown frame type {0}")]
    Type(u8),
    /// The header's zeros are not zero.
    #[error("sink: malformed frame header")]
    Header,
    /// Longer than [`MAX_FRAME`].
    #[error("sink: frame of {0} bytes, at most {MAX_FRAME} are allowed")]
    Length(usize),
    /// A HELLO or READY that is not its JSON.
    #[error("sink: malformed {what}: {reason}")]
    Json {
        /// `HELLO` or `READY`.
        what: &'static str,
        /// The parser's words.
        reason: String,
    },
}

impl Frame {
    /// The type byte.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Stdin(_) => 0,
            Self::Stdout(_) => 1,
            Self::Stderr(_) => 2,
            Self::Hello(_) => 16,
            Self::Ready(_) => 17,
            Self::StdinClose => 18,
            Self::Drained => 19,
            Self::Leave => 20,
        }
    }

    fn parse(kind: u8, payload: Vec<u8>) -> Result<Self, FrameError> {
        let json = |what, e: serde_json::Error| FrameError::Json { what, reason: e.to_string() };
        Ok(match kind {
            0 => Self::Stdin(payload),
            1 => Self::Stdout(payload),
            2 => Self::Stderr(payload),
            16 => Self::Hello(serde_json::from_slice(&payload).map_err(|e| json("HELLO", e))?),
            17 => Self::Ready(serde_json::from_slice(&payload).map_err(|e| json("READY", e))?),
            18 => Self::StdinClose,
            19 => Self::Drained,
            20 => Self::Leave,
            other => return Err(FrameError::Type(other)),
        })
    }
}

/// The header of a frame of `length` bytes.
pub fn encode_header(kind: u8, length: usize) -> [u8; HEADER] {
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [kind, 0, 0, 0, a, b, c, d]
}

/// Appends a whole frame to a buffer.
pub fn encode(out: &mut Vec<u8>, frame: &Frame) {
    let json;
    let payload: &[u8] = match frame {
        Frame::Stdin(bytes) | Frame::Stdout(bytes) | Frame::Stderr(bytes) => bytes,
        Frame::Hello(hello) => {
            json = serde_json::to_vec(hello).unwrap_or_default();
            &json
        }
        Frame::Ready(ready) => {
            json = serde_json::to_vec(ready).unwrap_or_default();
            &json
        }
        Frame::StdinClose | Frame::Drained | Frame::Leave => &[],
    };
    out.extend_from_slice(&encode_header(frame.kind(), payload.len()));
    out.extend_from_slice(payload);
}

/// Splits received bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    at: usize,
}

impl Decoder {
    /// Takes received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.at > 0 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame; `Ok(None)`: more bytes are needed. Errors: close the connection.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.buffer[self.at..];
        let Some(header) = rest.get(..HEADER) else {
            if rest.is_empty() {
                *self = Self::default();
            }
            return Ok(None);
        };
        if header[1..4] != [0, 0, 0] {
            return Err(FrameError::Header);
        }
        let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::Length(length));
        }
        let kind = header[0];
        let Some(payload) = rest.get(HEADER..HEADER + length) else { return Ok(None) };
        let frame = Frame::parse(kind, payload.to_vec())?;
        self.at += HEADER + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frames() -> impl Strategy<Value = Frame> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            bytes().prop_map(Frame::Stdin),
            bytes().prop_map(Frame::Stdout),
            bytes().prop_map(Frame::Stderr),
            any::<(bool, bool, bool)>().prop_map(|(stdin, stdout, stderr)| Frame::Hello(Hello {
                v: 1,
                stdin,
                stdout,
                stderr
            })),
            Just(Frame::Ready(Ready { v: 1 })),
            Just(Frame::StdinClose),
            Just(Frame::Drained),
            Just(Frame::Leave),
        ]
    }

    proptest! {
        #[test]
        fn frames_survive_any_split(
            list in proptest::collection::vec(frames(), 0..12), cut in 1usize..64,
        ) {
            let mut wire = Vec::new();
            for frame in &list {
                encode(&mut wire, frame);
            }
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                decoder.feed(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, list);
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next_frame() {}
        }
    }

    #[test]
    fn output_frames_are_docker_stdcopy() {
        let mut wire = Vec::new();
        encode(&mut wire, &Frame::Stderr(b"hi".to_vec()));
        assert_eq!(wire, [2, 0, 0, 0, 0, 0, 0, 2, b'h', b'i']);
    }
}
