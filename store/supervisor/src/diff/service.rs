//! `containerd.services.diff.v1.Diff`.

use crate::{Context, Error, State, labels};
use containerd_api::services::diff::v1 as api;
use containerd_api::types;
use oci::{Algorithm, Descriptor};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<State>);

/// A descriptor off the wire.
pub(crate) fn from_wire(wire: Option<types::Descriptor>) -> Result<Descriptor, Error> {
    let wire = wire.ok_or_else(|| Error::InvalidArgument("a descriptor is required".into()))?;
    let invalid = |what: String| Error::InvalidArgument(what);
    let digest =
        wire.digest.parse().map_err(|e: oci::digest::InvalidDigest| invalid(e.to_string()))?;
    let size = u64::try_from(wire.size).map_err(|_| invalid("a negative size".into()))?;
    let mut descriptor = Descriptor::new(wire.media_type, digest, size);
    descriptor.annotations = wire.annotations.into_iter().collect();
    Ok(descriptor)
}

/// A descriptor for the wire.
pub(crate) fn to_wire(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: i64::try_from(descriptor.size).unwrap_or(i64::MAX),
        annotations: descriptor.annotations.clone().into_iter().collect(),
    }
}

/// Runs long synchronous work off the runtime's threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|e| Err(Error::Other(format!("a worker failed: {e}"))))
}

#[tonic::async_trait]
impl api::diff_server::Diff for Service {
    async fn apply(
        &self,
        request: Request<api::ApplyRequest>,
    ) -> Result<Response<api::ApplyResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let wish = request.into_inner();
        if let Some(name) = wish.payloads.keys().next() {
            return Err(Error::Unimplemented(format!("stream processor payload {name:?}")).into());
        }
        let blob = from_wire(wish.diff)?;
        let state = Arc::clone(&self.0);
        let _end = self.0.activity.until_end();
        // The call names no algorithm; containerd answers with this one.
        let apply = move || {
            state.diff_apply(&context, &blob, &wish.mounts, Algorithm::Sha256, wish.sync_fs)
        };
        let applied = blocking(apply).await?;
        Ok(Response::new(api::ApplyResponse { applied: Some(to_wire(&applied)) }))
    }

    async fn diff(
        &self,
        request: Request<api::DiffRequest>,
    ) -> Result<Response<api::DiffResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let wish = request.into_inner();
        if wish.source_date_epoch.is_some() {
            return Err(Error::Unimplemented("source_date_epoch of a diff".into()).into());
        }
        let labels = labels::checked(wish.labels)?;
        let state = Arc::clone(&self.0);
        let made = blocking(move || {
            let (left, right) = (&wish.left, &wish.right);
            state.diff_create(&context, left, right, &wish.media_type, &wish.r#ref, labels)
        });
        Ok(Response::new(api::DiffResponse { diff: Some(to_wire(&made.await?)) }))
    }
}
