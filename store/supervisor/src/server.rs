//! The gRPC server on its unix socket: which services there are, sizes, shutdown.

use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use containerd_api::MAX_MESSAGE;
use containerd_api::health::health_server::HealthServer;
use containerd_api::services as api;
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;

use crate::running::Running;
use crate::tasks::TaskService;
use crate::{Config, Error, State};

/// HTTP/2 window of one stream, in bytes: blobs flow at memory speed.
const STREAM_WINDOW: u32 = 8 << 20;
/// HTTP/2 window of a connection, in bytes.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Wraps a service with the message limits of containerd's socket.
macro_rules! limited {
    ($server:expr) => {
        $server.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
    };
}

/// All services of the socket.
pub fn routes(state: &Arc<State>, running: &Running) -> Routes {
    use api::containers::v1::containers_server::ContainersServer;
    use api::content::v1::content_server::ContentServer;
    use api::diff::v1::diff_server::DiffServer;
    use api::events::v1::events_server::EventsServer;
    use api::images::v1::images_server::ImagesServer;
    use api::introspection::v1::introspection_server::IntrospectionServer;
    use api::leases::v1::leases_server::LeasesServer;
    use api::namespaces::v1::namespaces_server::NamespacesServer;
    use api::snapshots::v1::snapshots_server::SnapshotsServer;
    use api::streaming::v1::streaming_server::StreamingServer;
    use api::tasks::v1::tasks_server::TasksServer;
    use api::transfer::v1::transfer_server::TransferServer;
    use api::version::v1::version_server::VersionServer;
    let state = || Arc::clone(state);
    let streams = &running.streams;
    let transfer = crate::transfer::Service { state: state(), streams: streams.clone() };
    Routes::new(HealthServer::new(crate::version::Health))
        .add_service(VersionServer::new(crate::version::Service))
        .add_service(limited!(EventsServer::new(crate::events::Service(state()))))
        .add_service(limited!(NamespacesServer::new(crate::namespaces::Service(state()))))
        .add_service(limited!(IntrospectionServer::new(crate::introspection::Service(state()))))
        .add_service(limited!(ContentServer::new(crate::content::Service(state()))))
        .add_service(limited!(ImagesServer::new(crate::images::Service(state()))))
        .add_service(limited!(SnapshotsServer::new(crate::snapshots::Service(state()))))
        .add_service(limited!(LeasesServer::new(crate::leases::Service(state()))))
        .add_service(limited!(ContainersServer::new(crate::containers::Service(state()))))
        .add_service(limited!(TasksServer::new(TaskService(running.tasks.clone()))))
        .add_service(limited!(DiffServer::new(crate::diff::Service(state()))))
        .add_service(limited!(StreamingServer::new(crate::streaming::Service(streams.clone()))))
        .add_service(limited!(TransferServer::new(transfer)))
}

/// Binds the socket at `path`, in place of one that a dead server left.
///
/// # Errors
/// [`Error::Unavailable`] when a living server answers there.
pub fn bind(path: &Path, uid: u32, gid: u32) -> Result<UnixListener, Error> {
    let what = |verb: &str| format!("{verb} {}", path.display());
    if let Some(folder) = path.parent() {
        crate::state::make_folder(folder, 0o711)?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(Error::Unavailable(format!("another server answers at {}", path.display())));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(Error::io(what("removing the stale socket"))(error));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(Error::io(what("listening at")))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
        .map_err(Error::io(what("setting the mode of")))?;
    std::os::unix::fs::chown(path, Some(uid), Some(gid))
        .map_err(Error::io(what("setting the owner of")))?;
    Ok(listener)
}

/// Serves until `shutdown` is done.
pub async fn serve(
    config: &Config,
    state: Arc<State>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Error> {
    let torn = Arc::clone(&state);
    crate::diff::blocking(move || crate::transfer::restore(&torn)).await?;
    let listener = bind(&config.address, config.uid, config.gid)?;
    let running = Running::start(config, &state).await?;
    let routes = routes(&state, &running);
    let housekeeping = crate::gc::run(Arc::clone(&state));
    state.gc.trigger();
    tracing::info!(address = %config.address.display(), "serving");
    tell("READY=1");
    let asked = Arc::clone(&state);
    let noting = move |request: tonic::Request<()>| {
        asked.activity.touch();
        Ok(request)
    };
    let server = Server::builder()
        .layer(tonic::service::InterceptorLayer::new(noting))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(1 << 20)
        .add_routes(routes)
        .serve_with_incoming(UnixListenerStream::new(listener));
    // Open streams (events) never end by themselves: shutting down drops them.
    let result = tokio::select! {
        result = server => result.map_err(|e| Error::Other(format!("serving gRPC: {e}"))),
        () = shutdown => Ok(()),
        () = housekeeping => Ok(()),
    };
    tell("STOPPING=1");
    let _ = std::fs::remove_file(&config.address);
    running.stop(&config.state);
    result
}

/// Tells whoever started this daemon.
fn tell(state: &str) {
    if let Err(error) = sys::notify::tell(state) {
        tracing::warn!(%error, "telling {state}");
    }
}
