//! Bodies of requests: into an upload while the next bytes are already being received, or, when
//! they are small, into memory. Neither waits for a silent client for ever.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{ApiError, Call, Code, Registry};
use crate::store::{Claim, StoreError};

/// Bytes that are written and hashed in one go.
const BATCH: usize = 1 << 20;
/// How long a client may send nothing in the middle of a body.
const SILENCE: Duration = Duration::from_secs(60);

type Written = (Claim, Result<(), StoreError>);

impl Registry {
    /// Appends the body to the upload. What came before an error is kept, to go on from there.
    pub(super) async fn receive(&self, call: Call, claim: Claim) -> Result<Claim, ApiError> {
        let announced = http_body::Body::size_hint(&call.body).exact();
        let before = claim.size();
        let taken = claim.taken();
        let mut body = call.body;
        let mut writer = Writer::Idle(claim);
        let ended = loop {
            // Reading goes on while the last batch is written.
            let Batch { parts, ended } = next_batch(&mut body, &taken).await;
            writer = writer.idle().await?.write(parts);
            if let Some(ended) = ended {
                break ended;
            }
        };
        let Writer::Idle(claim) = writer.idle().await? else { return Err(Code::Unknown.into()) };
        let received = claim.size() - before;
        self.metrics.received(received);
        ended?;
        match announced {
            Some(length) if length != received => Err(Code::SizeInvalid.into()),
            _ => Ok(claim),
        }
    }
}

/// What came of a body since the last look.
struct Batch {
    parts: Vec<Bytes>,
    /// Why no more comes.
    ended: Option<Result<(), ApiError>>,
}

async fn next_batch(body: &mut Incoming, taken: &CancellationToken) -> Batch {
    let (mut parts, mut size) = (Vec::new(), 0);
    while size < BATCH {
        let frame = tokio::time::timeout(SILENCE, body.frame());
        let Some(frame) = taken.run_until_cancelled(frame).await else {
            return Batch { parts, ended: Some(Err(taken_over())) };
        };
        let ended = match frame {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    size += data.len();
                    parts.push(data);
                }
                continue;
            }
            Ok(None) => Ok(()),
            Ok(Some(Err(error))) => Err(broken(&error.to_string())),
            Err(_) => Err(silent()),
        };
        return Batch { parts, ended: Some(ended) };
    }
    Batch { parts, ended: None }
}

/// The upload, here or with the thread that writes to it.
enum Writer {
    Idle(Claim),
    Busy(JoinHandle<Written>),
}

impl Writer {
    async fn idle(self) -> Result<Self, ApiError> {
        match self {
            Self::Idle(claim) => Ok(Self::Idle(claim)),
            Self::Busy(writing) => {
                let (claim, written) = writing.await.map_err(|error| {
                    tracing::error!("a writer failed: {error}");
                    ApiError::new(Code::Unknown)
                })?;
                written?;
                Ok(Self::Idle(claim))
            }
        }
    }

    fn write(self, parts: Vec<Bytes>) -> Self {
        match self {
            Self::Idle(mut claim) if !parts.is_empty() => {
                Self::Busy(tokio::task::spawn_blocking(move || {
                    let written = claim.append(&parts);
                    (claim, written)
                }))
            }
            other => other,
        }
    }
}

/// A body of at most `limit` bytes.
pub(super) async fn read_small(call: Call, limit: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(Code::SizeInvalid)
            .status(StatusCode::PAYLOAD_TOO_LARGE)
            .message(&format!("a manifest may have {limit} bytes"))
    };
    let announced = http_body::Body::size_hint(&call.body).exact();
    if announced.is_some_and(|length| length > limit as u64) {
        return Err(too_large());
    }
    let mut body = call.body;
    let mut bytes = BytesMut::with_capacity(announced.unwrap_or(4096) as usize);
    loop {
        match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Ok(frame))) => {
                let Ok(data) = frame.into_data() else { continue };
                if bytes.len() + data.len() > limit {
                    return Err(too_large());
                }
                bytes.extend_from_slice(&data);
            }
            Ok(Some(Err(error))) => return Err(broken(&error.to_string())),
            Err(_) => return Err(silent()),
        }
    }
}

fn broken(why: &str) -> ApiError {
    ApiError::with(Code::BlobUploadInvalid, why)
}

fn silent() -> ApiError {
    broken("no bytes for a minute").status(StatusCode::REQUEST_TIMEOUT)
}

fn taken_over() -> ApiError {
    broken("another request writes to this upload").status(StatusCode::CONFLICT)
}
