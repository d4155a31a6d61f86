//! ttrpc, both sides, without I/O: bytes go in, calls and replies come out, and what is to be
//! sent gathers in a buffer. One codec serves the shim's poll loop, the supervisor's async
//! tasks and the property tests. No sockets, no time-outs, no streaming calls (shim v2 has none).
//!
//! Wire: a header of ten bytes (payload length and stream as big-endian u32, type, flags), then
//! the payload, at most 4 MiB. Clients open odd streams in rising order.

use prost::Message;
use std::collections::VecDeque;

/// Size of a frame's header.
pub const HEADER: usize = 10;
/// Largest payload of a frame, as the reference implementation has it.
pub const MAX_PAYLOAD: usize = 4 << 20;
/// Most bytes of a peer's unanswered calls and replies that a connection keeps decoded.
const MAX_QUEUED: usize = 1024;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// gRPC's status codes, which ttrpc uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are gRPC's own")]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// The code of a number on the wire; a number that gRPC does not know is `Unknown`.
    pub fn from_wire(number: i32) -> Self {
        use Code::{
            Aborted, AlreadyExists, Canceled, DataLoss, DeadlineExceeded, FailedPrecondition,
            Internal, InvalidArgument, NotFound, Ok, OutOfRange, PermissionDenied,
            ResourceExhausted, Unauthenticated, Unavailable, Unimplemented, Unknown,
        };
        const ALL: [Code; 17] = [
            Ok,
            Canceled,
            Unknown,
            InvalidArgument,
            DeadlineExceeded,
            NotFound,
            AlreadyExists,
            PermissionDenied,
            ResourceExhausted,
            FailedPrecondition,
            Aborted,
            OutOfRange,
            Unimplemented,
            Internal,
            Unavailable,
            DataLoss,
            Unauthenticated,
        ];
        usize::try_from(number).ok().and_then(|n| ALL.get(n).copied()).unwrap_or(Unknown)
    }
}

/// `google.rpc.Status`: how a call failed.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    /// A [`Code`] as a number.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// What users read.
    #[prost(string, tag = "2")]
    pub message: String,
    /// Details, which shims do not use.
    #[prost(message, repeated, tag = "3")]
    pub details: Vec<prost_types::Any>,
}

/// A call's failure: gRPC code and text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Status {
    /// The class of the failure.
    pub code: Code,
    /// What users read.
    pub message: String,
}

impl Status {
    /// A status of a code and a text.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// A pair of a call's metadata.
#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    /// Key.
    #[prost(string, tag = "1")]
    pub key: String,
    /// Value.
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
struct RequestFrame {
    #[prost(string, tag = "1")]
    service: String,
    #[prost(string, tag = "2")]
    method: String,
    #[prost(bytes = "vec", tag = "3")]
    payload: Vec<u8>,
    #[prost(int64, tag = "4")]
    timeout_nano: i64,
    #[prost(message, repeated, tag = "5")]
    metadata: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ResponseFrame {
    #[prost(message, optional, tag = "1")]
    status: Option<RpcStatus>,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
}

/// The peer broke the protocol: the connection can't go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A payload does not decode.
    #[error("ttrpc: stream {stream}: malformed frame: {reason}")]
    Malformed {
        /// The frame's stream.
        stream: u32,
        /// What the decoder said.
        reason: String,
    },
    /// A frame's type is unknown, or belongs to the other side.
    #[error("ttrpc: stream {stream}: unexpected frame type {kind}")]
    Type {
        /// The frame's stream.
        stream: u32,
        /// The type byte.
        kind: u8,
    },
    /// A request used a stream that a client may not open, or not again.
    #[error("ttrpc: stream {0} is even or not above the last one")]
    Stream(u32),
    /// More calls than a connection may have waiting.
    #[error("ttrpc: more than {MAX_QUEUED} messages wait")]
    Flood,
}

/// A frame as split from the bytes; an oversized one arrives without its payload.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    stream: u32,
    kind: u8,
    payload: Option<Vec<u8>>,
}

/// Splits a byte stream into frames; holds no more than the frame in hand.
#[derive(Debug, Default)]
struct Splitter {
    head: Vec<u8>,
    body: Vec<u8>,
    /// Bytes of an oversized payload still to be thrown away.
    skip: usize,
}

impl Splitter {
    /// Takes bytes off `input` until a frame is whole or the input is used up.
    fn take(&mut self, input: &mut &[u8]) -> Option<Frame> {
        if self.skip > 0 {
            let n = self.skip.min(input.len());
            *input = &input[n..];
            self.skip -= n;
        }
        if self.head.len() < HEADER {
            let n = (HEADER - self.head.len()).min(input.len());
            self.head.extend_from_slice(&input[..n]);
            *input = &input[n..];
            if self.head.len() < HEADER {
                return None;
            }
        }
        let length = u32::from_be_bytes([self.head[0], self.head[1], self.head[2], self.head[3]]);
        let stream = u32::from_be_bytes([self.head[4], self.head[5], self.head[6], self.head[7]]);
        let (length, kind) = (length as usize, self.head[8]);
        if length > MAX_PAYLOAD {
            self.head.clear();
            self.skip = length;
            return Some(Frame { stream, kind, payload: None });
        }
        let n = (length - self.body.len()).min(input.len());
        self.body.extend_from_slice(&input[..n]);
        *input = &input[n..];
        if self.body.len() < length {
            return None;
        }
        self.head.clear();
        Some(Frame { stream, kind, payload: Some(std::mem::take(&mut self.body)) })
    }
}

/// Bytes that wait to be sent.
#[derive(Debug, Default)]
struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    fn push(&mut self, stream: u32, kind: u8, message: &impl Message) {
        let length = message.encoded_len();
        self.bytes.reserve(HEADER + length);
        self.bytes.extend_from_slice(&(length as u32).to_be_bytes());
        self.bytes.extend_from_slice(&stream.to_be_bytes());
        self.bytes.extend_from_slice(&[kind, 0]);
        message.encode_raw(&mut self.bytes);
    }

    fn pending(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    fn advance(&mut self, n: usize) {
        self.sent += n.min(self.bytes.len() - self.sent);
        if self.sent == self.bytes.len() {
            *self = Self::default();
        }
    }
}

/// A call that arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// Names the call in [`Server::reply`].
    pub stream: u32,
    /// `containerd.task.v2.Task` and the like.
    pub service: String,
    /// The method's bare name.
    pub method: String,
    /// The encoded request message.
    pub payload: Vec<u8>,
    /// The caller's remaining patience in nanoseconds; 0: none given.
    pub timeout_nano: i64,
    /// The call's metadata.
    pub metadata: Vec<KeyValue>,
}

/// The serving side of one connection.
#[derive(Debug, Default)]
pub struct Server {
    splitter: Splitter,
    calls: VecDeque<Call>,
    out: Outbox,
    last: u32,
}

impl Server {
    /// Takes received bytes. Errors: the peer broke the protocol; close the connection.
    pub fn feed(&mut self, mut input: &[u8]) -> Result<(), ProtocolError> {
        while let Some(frame) = self.splitter.take(&mut input) {
            let stream = frame.stream;
            if frame.kind != REQUEST {
                return Err(ProtocolError::Type { stream, kind: frame.kind });
            }
            if stream.is_multiple_of(2) || stream <= self.last {
                return Err(ProtocolError::Stream(stream));
            }
            self.last = stream;
            let Some(payload) = frame.payload else {
                let text = format!("message length exceeds maximum message size of {MAX_PAYLOAD}");
                self.reply(stream, Err(Status::new(Code::ResourceExhausted, text)));
                continue;
            };
            let request = RequestFrame::decode(&payload[..])
                .map_err(|e| ProtocolError::Malformed { stream, reason: e.to_string() })?;
            if self.calls.len() >= MAX_QUEUED {
                return Err(ProtocolError::Flood);
            }
            self.calls.push_back(Call {
                stream,
                service: request.service,
                method: request.method,
                payload: request.payload,
                timeout_nano: request.timeout_nano,
                metadata: request.metadata,
            });
        }
        Ok(())
    }

    /// The next call that arrived whole.
    pub fn next_call(&mut self) -> Option<Call> {
        self.calls.pop_front()
    }

    /// Answers a call with an encoded message or a failure. An answer above the limit is
    /// replaced by `ResourceExhausted`.
    pub fn reply(&mut self, stream: u32, result: Result<Vec<u8>, Status>) {
        let status = |s: Status| {
            Some(RpcStatus { code: s.code as i32, message: s.message, details: Vec::new() })
        };
        let frame = match result {
            Ok(payload) if payload.len() + 64 > MAX_PAYLOAD => ResponseFrame {
                status: status(Status::new(Code::ResourceExhausted, "the answer is too large")),
                payload: Vec::new(),
            },
            Ok(payload) => ResponseFrame { status: None, payload },
            Err(failure) => ResponseFrame { status: status(failure), payload: Vec::new() },
        };
        self.out.push(stream, RESPONSE, &frame);
    }

    /// Bytes to send, oldest first.
    pub fn pending(&self) -> &[u8] {
        self.out.pending()
    }

    /// Says that `n` of the pending bytes were sent.
    pub fn advance(&mut self, n: usize) {
        self.out.advance(n);
    }
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The stream that [`Client::call`] returned.
    pub stream: u32,
    /// The encoded answer, or why the call failed.
    pub result: Result<Vec<u8>, Status>,
}

/// The calling side of one connection.
#[derive(Debug, Default)]
pub struct Client {
    splitter: Splitter,
    replies: VecDeque<Reply>,
    out: Outbox,
    last: Option<u32>,
}

impl Client {
    /// Queues a call and returns its stream. `timeout_nano` 0: none.
    /// Errors: the message is above the limit, or the connection has used up its streams.
    pub fn call(
        &mut self,
        service: &str,
        method: &str,
        message: &impl Message,
        timeout_nano: i64,
    ) -> Result<u32, Status> {
        let exhausted = |text: &str| Status::new(Code::ResourceExhausted, text);
        if message.encoded_len() + service.len() + method.len() + 64 > MAX_PAYLOAD {
            return Err(exhausted("the request is too large"));
        }
        let stream = match self.last {
            None => 1,
            Some(last) => last.checked_add(2).ok_or_else(|| exhausted("no stream is left"))?,
        };
        self.last = Some(stream);
        let frame = RequestFrame {
            service: service.to_owned(),
            method: method.to_owned(),
            payload: message.encode_to_vec(),
            timeout_nano,
            metadata: Vec::new(),
        };
        self.out.push(stream, REQUEST, &frame);
        Ok(stream)
    }

    /// Takes received bytes. Errors: the peer broke the protocol; close the connection.
    pub fn feed(&mut self, mut input: &[u8]) -> Result<(), ProtocolError> {
        while let Some(frame) = self.splitter.take(&mut input) {
            let stream = frame.stream;
            if frame.kind != RESPONSE {
                return Err(ProtocolError::Type { stream, kind: frame.kind });
            }
            if self.replies.len() >= MAX_QUEUED {
                return Err(ProtocolError::Flood);
            }
            let Some(payload) = frame.payload else {
                let status = Status::new(Code::ResourceExhausted, "the answer is too large");
                self.replies.push_back(Reply { stream, result: Err(status) });
                continue;
            };
            let response = ResponseFrame::decode(&payload[..])
                .map_err(|e| ProtocolError::Malformed { stream, reason: e.to_string() })?;
            let result = match response.status {
                Some(status) if status.code != 0 => {
                    Err(Status::new(Code::from_wire(status.code), status.message))
                }
                _ => Ok(response.payload),
            };
            self.replies.push_back(Reply { stream, result });
        }
        Ok(())
    }

    /// The next answer that arrived whole.
    pub fn next_reply(&mut self) -> Option<Reply> {
        self.replies.pop_front()
    }

    /// Bytes to send, oldest first.
    pub fn pending(&self) -> &[u8] {
        self.out.pending()
    }

    /// Says that `n` of the pending bytes were sent.
    pub fn advance(&mut self, n: usize) {
        self.out.advance(n);
    }
}

#[cfg(test)]
#[path = "ttrpc_tests.rs"]
mod tests;
