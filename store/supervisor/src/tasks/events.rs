//! Events of shims: `containerd.services.events.ttrpc.v1.Events/Forward` on the socket beside the
//! daemon's own, republished on the bus as they come. No queue: the bus has its bounds.

use super::Host;
use super::ttrpc::{Handler, serve as serve_connection};
use shim_api::events::{FORWARD, ForwardRequest, SERVICE};
use shim_api::prost::Message as _;
use shim_api::ttrpc::{Code, Status};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use tokio::net::UnixListener;

struct Forward(Arc<dyn Host>);

impl Handler for Forward {
    fn handle(&self, service: &str, method: &str, payload: &[u8]) -> Result<Vec<u8>, Status> {
        if service != SERVICE || method != FORWARD {
            return Err(Status::new(Code::Unimplemented, format!("{service}/{method}")));
        }
        let invalid = |what: String| Status::new(Code::InvalidArgument, what);
        let request = ForwardRequest::decode(payload).map_err(|e| invalid(e.to_string()))?;
        let envelope = request.envelope.ok_or_else(|| invalid("no envelope".into()))?;
        let event = envelope.event.ok_or_else(|| invalid("no event".into()))?;
        if envelope.namespace.is_empty() || !envelope.topic.starts_with('/') {
            return Err(invalid(format!("topic {:?} is not valid", envelope.topic)));
        }
        self.0.publish(&envelope.namespace, &envelope.topic, envelope.timestamp, event);
        Ok(Vec::new())
    }
}

/// Binds `socket` (replacing a dead one) and serves shims until the daemon ends.
pub fn serve(socket: &Path, host: Arc<dyn Host>) -> io::Result<()> {
    match std::fs::remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600))?;
    tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let handler = Arc::new(Forward(Arc::clone(&host)));
                    tokio::spawn(async move {
                        if let Err(e) = serve_connection(stream, handler).await {
                            tracing::debug!("a shim's event connection ended: {e}");
                        }
                    });
                }
                // Out of descriptors: others must end first.
                Err(e) => {
                    tracing::warn!("accepting a shim's event connection: {e}");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(())
}
