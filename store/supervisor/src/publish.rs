//! `publish`: what shims of old call for each event, with the packed event on standard input.
//! Synchronous and short-lived: one connection to the socket of a running daemon, one call.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, SystemTime};

use shim_api::Any;
use shim_api::events::{Envelope, FORWARD, ForwardRequest, SERVICE};
use shim_api::prost::Message as _;
use shim_api::ttrpc::{Client, Status};

/// Largest packed event, in bytes.
const MAX_EVENT: u64 = 1 << 20;
/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why an event was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The input is no packed event.
    #[error("the event on standard input is malformed: {0}")]
    Event(#[from] prost::DecodeError),
    /// The daemon did not answer.
    #[error("publishing at {0}: {1}")]
    Io(String, io::Error),
    /// It refused.
    #[error("{0}")]
    Refused(#[from] Status),
}

/// Publishes the event (a `google.protobuf.Any`) that `input` holds, at the daemon whose gRPC
/// socket is `address`.
pub fn publish(
    address: &Path,
    namespace: &str,
    topic: &str,
    input: impl io::Read,
) -> Result<(), PublishError> {
    let mut socket = address.as_os_str().to_owned();
    socket.push(".ttrpc");
    let failed = |e| PublishError::Io(socket.to_string_lossy().into_owned(), e);
    let mut packed = Vec::new();
    input.take(MAX_EVENT).read_to_end(&mut packed).map_err(failed)?;
    let event = Some(Any::decode(packed.as_slice())?);
    let timestamp = Some(shim_api::time::timestamp(SystemTime::now()));
    let (namespace, topic) = (namespace.to_owned(), topic.to_owned());
    let request =
        ForwardRequest { envelope: Some(Envelope { timestamp, namespace, topic, event }) };
    let mut codec = Client::default();
    codec.call(SERVICE, FORWARD, &request, 0)?;
    let answer = exchange(Path::new(&socket), &mut codec).map_err(failed)?;
    Ok(answer.map(drop)?)
}

fn exchange(socket: &Path, codec: &mut Client) -> io::Result<Result<Vec<u8>, Status>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(codec.pending())?;
    let mut buffer = [0_u8; 4096];
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        codec.feed(&buffer[..n]).map_err(io::Error::other)?;
        if let Some(reply) = codec.next_reply() {
            return Ok(reply.result);
        }
    }
}
