//! The client: one HTTP/2 connection, stamped calls, one accessor a service.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use containerd_api::services::containers::v1::containers_client::ContainersClient;
use containerd_api::services::content::v1::content_client::ContentClient;
use containerd_api::services::diff::v1::diff_client::DiffClient;
use containerd_api::services::events::v1::events_client::EventsClient;
use containerd_api::services::images::v1::images_client::ImagesClient;
use containerd_api::services::introspection::v1::introspection_client::IntrospectionClient;
use containerd_api::services::leases::v1::leases_client::LeasesClient;
use containerd_api::services::namespaces::v1::namespaces_client::NamespacesClient;
use containerd_api::services::snapshots::v1::snapshots_client::SnapshotsClient;
use containerd_api::services::streaming::v1::streaming_client::StreamingClient;
use containerd_api::services::tasks::v1::tasks_client::TasksClient;
use containerd_api::services::transfer::v1::transfer_client::TransferClient;
use containerd_api::services::version::v1::version_client::VersionClient;
use containerd_api::{LEASE_KEY, MAX_MESSAGE, NAMESPACE_KEY};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::{Kind, RpcError};

/// Flow-control windows, in bytes: large, so that content is not paced by acknowledgements.
const STREAM_WINDOW: u32 = 8 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Largest HTTP/2 frame accepted, in bytes.
const FRAME: u32 = 1 << 20;
/// How long a connect may take; the peer is on this machine.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a peer that does not listen is waited for: one that is upgraded, or was killed and is
/// started again, is back before.
const RETURN: Duration = Duration::from_secs(2);
/// The pause between two looks for it.
const LOOK: Duration = Duration::from_millis(5);

/// Connects, and waits a moment for a peer that is not there: calls wait with it.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    let begun = Instant::now();
    loop {
        let error = match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream),
            Err(error) => error,
        };
        let kind = error.kind();
        let is_away = matches!(kind, io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound);
        if !is_away || begun.elapsed() > RETURN {
            let text = format!("containerd does not answer ({error}): try again once it is back");
            return Err(io::Error::new(kind, text));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Adds the namespace and the lease to every call.
#[derive(Clone)]
pub struct Stamp {
    namespace: MetadataValue<Ascii>,
    lease: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Stamp {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let metadata = request.metadata_mut();
        metadata.insert(NAMESPACE_KEY, self.namespace.clone());
        if let Some(lease) = &self.lease {
            metadata.insert(LEASE_KEY, lease.clone());
        }
        Ok(request)
    }
}

/// A channel whose calls carry namespace and lease.
pub type Stamped = InterceptedService<Channel, Stamp>;

/// A client of one containerd, for one namespace.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    stamp: Stamp,
    socket: Arc<PathBuf>,
}

/// One accessor of a service: its generated client on the shared connection.
macro_rules! services {
    ($( $(#[$meta:meta])* $name:ident -> $client:ident; )*) => { $(
        $(#[$meta])*
        pub fn $name(&self) -> $client<Stamped> {
            $client::with_interceptor(self.channel.clone(), self.stamp.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE)
        }
    )* };
}

impl Client {
    /// A client of the containerd at `socket` for `namespace`. Nothing is connected
    /// yet. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// `InvalidArgument` when the namespace can't be a metadata value.
    pub fn new(socket: &Path, namespace: &str) -> Result<Self, RpcError> {
        let namespace = metadata(namespace, "namespace")?;
        let path = Arc::new(socket.to_owned());
        let target = Arc::clone(&path);
        let connector = tower::service_fn(move |_| {
            let path = Arc::clone(&target);
            async move { connect(&path).await.map(TokioIo::new) }
        });
        // The address is a formality: the connector knows the socket.
        let channel = Endpoint::from_static("http://containerd")
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .connect_with_connector_lazy(connector);
        Ok(Self { channel, stamp: Stamp { namespace, lease: None }, socket: path })
    }

    /// The same connection, with every call under `lease`.
    pub fn with_lease(&self, lease: &str) -> Result<Self, RpcError> {
        let mut leased = self.clone();
        leased.stamp.lease = Some(metadata(lease, "lease")?);
        Ok(leased)
    }

    /// The lease of all calls.
    pub fn lease(&self) -> Option<&str> {
        self.stamp.lease.as_ref().and_then(|lease| lease.to_str().ok())
    }

    /// The same connection, with calls under no lease.
    #[must_use]
    pub fn without_lease(&self) -> Self {
        let mut free = self.clone();
        free.stamp.lease = None;
        free
    }

    /// The same connection for another namespace.
    pub fn with_namespace(&self, namespace: &str) -> Result<Self, RpcError> {
        let mut other = self.clone();
        other.stamp.namespace = metadata(namespace, "namespace")?;
        Ok(other)
    }

    /// The namespace of all calls.
    pub fn namespace(&self) -> &str {
        self.stamp.namespace.to_str().unwrap_or_default()
    }

    /// The peer's socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    services! {
        /// Containers' records: spec, snapshot, runtime.
        containers -> ContainersClient;
        /// Running processes.
        tasks -> TasksClient;
        /// Layers' trees and containers' writable ones.
        snapshots -> SnapshotsClient;
        /// What holds objects against collection.
        leases -> LeasesClient;
        /// Image names.
        images -> ImagesClient;
        /// Blobs.
        content -> ContentClient;
        /// What happened.
        events -> EventsClient;
        /// Plugins and the server's identity.
        introspection -> IntrospectionClient;
        /// Namespaces themselves.
        namespaces -> NamespacesClient;
        /// Applying and making layers.
        diff -> DiffClient;
        /// Import, export, tag, pull and push.
        transfer -> TransferClient;
        /// Streams that transfers read and write.
        streaming -> StreamingClient;
        /// The peer's version.
        version -> VersionClient;
    }

    /// The version that the peer reports.
    pub async fn peer_version(&self) -> Result<String, RpcError> {
        Ok(self.version().version(()).await?.into_inner().version)
    }
}

fn metadata(value: &str, what: &str) -> Result<MetadataValue<Ascii>, RpcError> {
    value.parse().map_err(|_| RpcError {
        kind: Kind::InvalidArgument,
        message: format!("{what} {value:?} can't be sent: only visible ASCII is allowed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_listening_is_unavailable_and_names_no_success() {
        let folder = tempfile::tempdir().unwrap();
        let client = Client::new(&folder.path().join("none.sock"), "moby").unwrap();
        assert_eq!(client.namespace(), "moby");
        let error = client.peer_version().await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable);
        let words = "containerd does not answer (No such file or directory (os error 2)): \
                     try again once it is back";
        assert_eq!(error.to_string(), words);
        assert!(crate::until(&client, Duration::from_millis(20)).await.is_err());
    }

    #[tokio::test]
    async fn a_call_waits_for_a_peer_that_is_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("c.sock");
        let client = Client::new(&socket, "moby").unwrap();
        let calling = tokio::spawn(async move { client.peer_version().await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!calling.is_finished());
        // What was killed leaves its socket.
        drop(tokio::net::UnixListener::bind(&socket).unwrap());
        tokio::time::sleep(Duration::from_millis(50)).await;
        std::fs::remove_file(&socket).unwrap();
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        listener.accept().await.unwrap();
        assert!(calling.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn a_namespace_that_can_not_be_sent_is_refused_by_name() {
        let error = Client::new(Path::new("/x"), "a\nb").err().unwrap();
        assert!(error.to_string().contains("namespace"), "{error}");
    }
}
