//! What transfers between registries and the store share: who asks, and an answer that tells how
//! it goes. A failure before the first message has a status; a later one is a message itself.

use bytes::Bytes;
use engine_api::{AuthConfig, JsonMessage};
use futures_util::stream;
use http::HeaderMap;
use images::Progress;
use registry_client::Credentials;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::task::AbortOnDropHandle;

use crate::http::{ApiError, ByteStream, Response};

/// What `X-Registry-Auth` holds; `None` without it.
///
/// # Errors
/// 400 with dockerd's text.
pub fn auth_config(headers: &HeaderMap) -> Result<Option<AuthConfig>, ApiError> {
    let Some(value) = headers.get(AuthConfig::HEADER) else { return Ok(None) };
    let bad = |why: String| ApiError::bad_request(format!("invalid X-Registry-Auth header: {why}"));
    AuthConfig::from_header(value.as_bytes()).map_err(bad)
}

/// The credentials of a configuration.
pub fn of_config(auth: &AuthConfig) -> Credentials {
    let AuthConfig { username, password, identitytoken, registrytoken, .. } = auth;
    Credentials::of(username, password, identitytoken, registrytoken)
}

/// Who asks; a header that can't be read is nobody, as dockerd takes it.
pub fn credentials(headers: &HeaderMap) -> Option<Credentials> {
    auth_config(headers).ok().flatten().as_ref().map(of_config)
}

/// The headers of a client that go along to registries.
pub fn meta_headers(headers: &HeaderMap) -> HeaderMap {
    let meta = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-meta-"));
    meta.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The answer of an operation that tells how it goes. The operation ends with its client.
///
/// # Errors
/// The operation's own, when it told nothing before.
pub async fn streamed<F, R>(operation: F) -> Result<Response, ApiError>
where
    F: FnOnce(Progress) -> R + Send + 'static,
    R: Future<Output = Result<(), ApiError>> + Send + 'static,
{
    let (progress, mut messages) = Progress::new();
    let own = progress.clone();
    let task = tokio::spawn(async move {
        match operation(progress).await {
            Err(e) if own.has_told() => {
                own.tell(JsonMessage::failure(e.message));
                Ok(())
            }
            done => done,
        }
    });
    let task = AbortOnDropHandle::new(task);
    match messages.recv().await {
        Some(first) => Ok(Response::json_stream(lines(first, messages, task))),
        None => match task.await {
            Ok(Ok(())) => Ok(Response::json_stream(Box::pin(stream::empty()))),
            Ok(Err(e)) => Err(e),
            Err(e) => Err(ApiError::internal(e.to_string())),
        },
    }
}

fn lines(
    first: JsonMessage,
    messages: UnboundedReceiver<JsonMessage>,
    task: AbortOnDropHandle<Result<(), ApiError>>,
) -> ByteStream {
    let state = (Some(first), messages, task);
    Box::pin(stream::unfold(state, |(first, mut messages, task)| async move {
        let message = match first {
            Some(first) => first,
            None => messages.recv().await?,
        };
        Some((Ok(Bytes::from(message.line())), (None, messages, task)))
    }))
}
