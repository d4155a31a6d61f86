//! Pulls and pushes by containerd's Transfer service: the registry as one side, credentials asked
//! for over a stream, progress told over another.

use crate::archive_stream::{Call, open_grpc, transfer};
use crate::{Client, RpcError};
use containerd_api::any;
use containerd_api::prost_types::Any;
use containerd_api::transfer_types::{
    AuthRequest, AuthResponse, ImageStore, OciRegistry, Progress, RegistryResolver,
};
use containerd_api::{RegistrySettings, TOLD_MESSAGE_KEY, TOLD_STATUS_KEY};
use tokio::sync::mpsc;
use tonic::Status;

/// A failed transfer.
#[derive(Debug, Clone)]
pub struct TransferError {
    /// The peer's error.
    pub error: RpcError,
    /// Docker's status and text for it, where the peer knows them.
    pub told: Option<(u16, String)>,
}

impl From<Status> for TransferError {
    fn from(status: Status) -> Self {
        let metadata = status.metadata();
        let code =
            metadata.get(TOLD_STATUS_KEY).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = metadata.get_bin(TOLD_MESSAGE_KEY).and_then(|value| value.to_bytes().ok());
        let text = text.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Self { told: code.zip(text), error: status.into() }
    }
}

impl From<RpcError> for TransferError {
    fn from(error: RpcError) -> Self {
        Self { error, told: None }
    }
}

/// A registry as one side of a transfer.
#[derive(Debug)]
pub struct Registry<F> {
    /// What is pulled, or under which name it is pushed.
    pub reference: String,
    /// How the registry is found.
    pub resolver: RegistryResolver,
    /// Limits and proxies.
    pub settings: RegistrySettings,
    /// Gives the credentials for a host.
    pub answer: F,
}

/// Pulls from `registry` into the peer's store, as `store` says. `progress` gets what the peer
/// tells meanwhile. Returns when all is stored.
///
/// # Errors
/// What the peer answers.
pub async fn pull<F>(
    client: &Client,
    registry: Registry<F>,
    store: &ImageStore,
    progress: mpsc::Sender<Progress>,
) -> Result<(), TransferError>
where
    F: Fn(&str) -> AuthResponse + Send + 'static,
{
    let destination = any::pack(store);
    move_image(client, registry, progress, |source| (source, destination)).await
}

/// Pushes the image that `store` names, as it says, to `registry`; otherwise like [`pull`].
///
/// # Errors
/// What the peer answers.
pub async fn push<F>(
    client: &Client,
    store: &ImageStore,
    registry: Registry<F>,
    progress: mpsc::Sender<Progress>,
) -> Result<(), TransferError>
where
    F: Fn(&str) -> AuthResponse + Send + 'static,
{
    let source = any::pack(store);
    move_image(client, registry, progress, |destination| (source, destination)).await
}

async fn move_image<F>(
    client: &Client,
    registry: Registry<F>,
    progress: mpsc::Sender<Progress>,
    sides: impl FnOnce(Any) -> (Any, Any),
) -> Result<(), TransferError>
where
    F: Fn(&str) -> AuthResponse + Send + 'static,
{
    let Registry { reference, resolver, settings, answer } = registry;
    let id = crate::archive_stream::fresh_id();
    let (outgoing, mut incoming) = open_grpc(client, &id).await?;
    let answering = tokio::spawn(async move {
        while let Ok(Some(message)) = incoming.message().await {
            let Some(Ok(request)) = any::unpack::<AuthRequest>(&message) else { continue };
            if outgoing.send(any::pack(&answer(&request.host))).await.is_err() {
                return;
            }
        }
    });
    let resolver = RegistryResolver { auth_stream: id, ..resolver };
    let (source, destination) =
        sides(any::pack(&OciRegistry { reference, resolver: Some(resolver) }));
    let done = transfer(client, Call { source, destination, settings }, Some(progress)).await;
    answering.abort();
    done.map_err(TransferError::from)
}
