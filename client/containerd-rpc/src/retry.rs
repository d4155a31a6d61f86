//! Waiting for a peer that is not there yet, or is coming back.

use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Response, Status};

use crate::{Client, Kind, RpcError};

/// The pause after the first failure; it doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(2);
/// The longest pause between two tries.
const LONGEST: Duration = Duration::from_millis(100);

/// Repeats an idempotent `call` while nobody answers, until `deadline` has passed
/// since now.
pub async fn retrying<T, F, Fut>(deadline: Duration, mut call: F) -> Result<T, RpcError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T, RpcError>>,
{
    let end = Instant::now() + deadline;
    let mut pause = SHORTEST;
    loop {
        match call().await {
            Err(e) if e.kind == Kind::Unavailable && Instant::now() + pause < end => {
                sleep(pause).await;
                pause = (pause * 2).min(LONGEST);
            }
            other => return other,
        }
    }
}

/// One call with a deadline, its answer unwrapped.
pub async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, RpcError> {
    if let Ok(answer) = timeout(deadline, call).await {
        answer.map(Response::into_inner).map_err(RpcError::from)
    } else {
        let message = format!("containerd did not answer within {} s", deadline.as_secs());
        Err(RpcError { kind: Kind::TimedOut, message })
    }
}

/// Waits until the peer answers, `deadline` at most; gives its version.
pub async fn until(client: &Client, deadline: Duration) -> Result<String, RpcError> {
    retrying(deadline, || client.peer_version()).await
}
