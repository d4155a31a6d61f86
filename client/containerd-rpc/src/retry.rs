//! Waiting for a peer that is not there yet, or is coming back.

use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, sleep};

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

/// Waits until the peer answers, `deadline` at most; gives its version.
pub async fn until(client: &Client, deadline: Duration) -> Result<String, RpcError> {
    retrying(deadline, || client.peer_version()).await
}
