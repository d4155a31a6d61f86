//! The sink's seam: how a client describes one (URI), talks to one (frames) and reads what it
//! leaves behind (exit record). No sockets and no files: types and codecs.

mod frame;
mod record;
mod uri;

pub use frame::{
    Decoder, Frame, FrameError, HEADER, Hello, MAX_FRAME, Ready, encode, encode_header,
};
pub use record::{ExitRecord, InvalidRecord};
pub use uri::{
    DEFAULT_MAX_BUFFER, DEFAULT_MAX_FILE, DEFAULT_MAX_SIZE, Driver, InvalidUri, JsonFile, Mode,
    SinkUri, Stdin, percent_decode, percent_encode,
};

/// Decoded keys and values of a stdio URI's query, in order; `None`: malformed.
pub fn query(text: &str) -> Option<Vec<(String, String)>> {
    uri::query_pairs(text)
}
