//! `containerd.services.transfer.v1.Transfer`: which pair of source and destination means what.

use super::pull::pull;
use super::push::push;
use super::remote::{Manner, Remote, Waiter, Way};
use super::{Progress, Wish, export, import, platform, tag};
use crate::streaming::Streams;
use crate::{Context, Error, State};
use containerd_api::RegistrySettings;
use containerd_api::any;
use containerd_api::prost::Name;
use containerd_api::prost_types::Any;
use containerd_api::services::transfer::v1 as api;
use containerd_api::transfer_types::{
    ImageExportStream, ImageImportStream, ImageStore, OciRegistry,
};
use oci::Platform;
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Response, Status};

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct Service {
    /// The store.
    pub state: Arc<State>,
    /// Streams that clients opened.
    pub streams: Streams,
}

/// Runs a transfer on a thread of its own: it takes as long as a client or a registry likes, and
/// the runtime's own threads for blocking work are few.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let runtime = tokio::runtime::Handle::current();
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("transfer".into())
        .spawn(move || {
            let _inside = runtime.enter();
            // Whoever asked may be gone.
            let _ = done.send(work());
        })
        .map_err(Error::io("starting a thread"))?;
    result.await.unwrap_or_else(|_| Err(Error::Other("a worker panicked".into())))
}

fn unpacked<M: Name + Default>(any: &Any) -> Result<Option<M>, Error> {
    let read = any::unpack::<M>(any).transpose();
    read.map_err(|e| Error::InvalidArgument(format!("{}: {e}", any.type_url)))
}

#[tonic::async_trait]
impl api::transfer_server::Transfer for Service {
    async fn transfer(
        &self,
        request: Request<api::TransferRequest>,
    ) -> Result<Response<()>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let settings = RegistrySettings::read(request.metadata());
        let settings = settings.map_err(Error::InvalidArgument)?;
        let _end = self.state.activity.until_end();
        let wish = request.into_inner();
        let (source, destination) =
            (wish.source.unwrap_or_default(), wish.destination.unwrap_or_default());
        let progress = wish.options.map(|o| o.progress_stream).filter(|id| !id.is_empty());
        let progress = progress.map(|id| self.streams.take(&context.namespace, &id)).transpose()?;
        let (progress, telling) = Progress::start(progress);
        let asked = Asked { context, settings, progress };
        let done = self.dispatch(asked, &source, &destination).await;
        telling.end().await;
        done?;
        Ok(Response::new(()))
    }
}

/// What a call says besides the two sides.
struct Asked {
    context: Context,
    settings: RegistrySettings,
    progress: Progress,
}

impl Service {
    async fn dispatch(&self, asked: Asked, source: &Any, destination: &Any) -> Result<(), Error> {
        let Asked { context, progress, .. } = &asked;
        if let Some(from) = unpacked::<ImageImportStream>(source)?
            && let Some(to) = unpacked::<ImageStore>(destination)?
        {
            return self.import(context.clone(), from, to, progress.clone()).await;
        }
        if let Some(from) = unpacked::<OciRegistry>(source)?
            && let Some(to) = unpacked::<ImageStore>(destination)?
        {
            return self.pull(asked, from, to).await;
        }
        if let Some(from) = unpacked::<ImageStore>(source)? {
            if let Some(to) = unpacked::<ImageExportStream>(destination)? {
                return self.export(context.clone(), from, to).await;
            }
            if let Some(to) = unpacked::<OciRegistry>(destination)? {
                return self.push(asked, from, to).await;
            }
            if let Some(to) = unpacked::<ImageStore>(destination)? {
                let (state, context) = (Arc::clone(&self.state), context.clone());
                return on_a_thread(move || tag(&state, &context, &from.name, &to)).await;
            }
        }
        let (from, to) = (any::type_name(source), any::type_name(destination));
        Err(Error::Unimplemented(format!("transfer from {from} to {to}")))
    }

    /// The registry's side of a transfer. A client that goes away drops its call, and with it the
    /// guard: then the work is given up.
    fn remote(
        &self,
        asked: &Asked,
        registry: &OciRegistry,
        way: Way,
    ) -> Result<(Remote, DropGuard), Error> {
        let cancel = CancellationToken::new();
        let manner = Manner {
            namespace: &asked.context.namespace,
            streams: &self.streams,
            places: &self.state.places,
            settings: asked.settings.clone(),
            way,
            waiter: Waiter::new(cancel.clone()),
        };
        Ok((Remote::new(registry, manner)?, cancel.drop_guard()))
    }

    async fn pull(&self, asked: Asked, from: OciRegistry, to: ImageStore) -> Result<(), Error> {
        let (remote, _given_up) = self.remote(&asked, &from, Way::Pull)?;
        let state = Arc::clone(&self.state);
        let Asked { context, progress, .. } = asked;
        on_a_thread(move || pull(&state, &context, &remote, &to, &progress).map(drop)).await
    }

    async fn push(&self, asked: Asked, from: ImageStore, to: OciRegistry) -> Result<(), Error> {
        let (remote, _given_up) = self.remote(&asked, &to, Way::Push)?;
        let state = Arc::clone(&self.state);
        let Asked { context, progress, .. } = asked;
        on_a_thread(move || push(&state, &context, &remote, &from, &progress).map(drop)).await
    }

    async fn import(
        &self,
        context: Context,
        from: ImageImportStream,
        to: ImageStore,
        progress: Progress,
    ) -> Result<(), Error> {
        if from.force_compress {
            return Err(Error::Unimplemented("compressing layers on import".into()));
        }
        let stream = self.streams.take(&context.namespace, &from.stream)?;
        let state = Arc::clone(&self.state);
        on_a_thread(move || import(&state, &context, stream.reader(), &to, &progress).map(drop))
            .await
    }

    async fn export(
        &self,
        context: Context,
        from: ImageStore,
        to: ImageExportStream,
    ) -> Result<(), Error> {
        let state = Arc::clone(&self.state);
        let mut wanted: Vec<String> =
            Some(from.name).filter(|n| !n.is_empty()).into_iter().collect();
        for reference in from.extra_references {
            if reference.is_prefix {
                return Err(Error::Unimplemented("exporting images by prefix".into()));
            }
            wanted.push(reference.name);
        }
        let images: Result<Vec<_>, Error> = wanted
            .into_iter()
            .map(|name| state.image(&context, &name).map(|image| (name, image.target)))
            .collect();
        let images = images?;
        if images.is_empty() {
            return Err(Error::InvalidArgument("no image to export".into()));
        }
        let platforms = match (to.all_platforms, to.platforms.is_empty()) {
            (true, _) => Vec::new(),
            (false, true) => vec![Platform::host()],
            (false, false) => to.platforms.iter().map(platform).collect(),
        };
        let wish = Wish {
            images,
            platforms,
            only_oci: to.skip_compatibility_manifest,
            only_distributable: to.skip_non_distributable,
        };
        let stream = self.streams.take(&context.namespace, &to.stream)?;
        on_a_thread(move || {
            export(&state, &context, &wish, stream.writer())?.finish();
            Ok(())
        })
        .await
    }
}
