//! `containerd.services.transfer.v1.Transfer`: which pair of source and destination means what.

use super::{Progress, Wish, export, import, platform, tag};
use crate::diff::blocking;
use crate::streaming::Streams;
use crate::{Context, Error, State};
use containerd_api::any;
use containerd_api::prost::Name;
use containerd_api::prost_types::Any;
use containerd_api::services::transfer::v1 as api;
use containerd_api::transfer_types::{ImageExportStream, ImageImportStream, ImageStore};
use oci::Platform;
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The gRPC service.
#[derive(Clone, Debug)]
pub struct Service {
    /// The store.
    pub state: Arc<State>,
    /// Streams that clients opened.
    pub streams: Streams,
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
        let _end = self.state.activity.until_end();
        let wish = request.into_inner();
        let (source, destination) =
            (wish.source.unwrap_or_default(), wish.destination.unwrap_or_default());
        let progress = wish.options.map(|o| o.progress_stream).filter(|id| !id.is_empty());
        let progress = progress.map(|id| self.streams.take(&context.namespace, &id)).transpose()?;
        let progress = Progress::new(progress);
        if let (Some(from), Some(to)) =
            (unpacked::<ImageImportStream>(&source)?, unpacked::<ImageStore>(&destination)?)
        {
            self.import(context, from, to, progress).await?;
        } else if let (Some(from), Some(to)) =
            (unpacked::<ImageStore>(&source)?, unpacked::<ImageExportStream>(&destination)?)
        {
            self.export(context, from, to).await?;
        } else if let (Some(from), Some(to)) =
            (unpacked::<ImageStore>(&source)?, unpacked::<ImageStore>(&destination)?)
        {
            let state = Arc::clone(&self.state);
            blocking(move || tag(&state, &context, &from.name, &to)).await?;
        } else {
            let (from, to) = (any::type_name(&source), any::type_name(&destination));
            return Err(Error::Unimplemented(format!("transfer from {from} to {to}")).into());
        }
        Ok(Response::new(()))
    }
}

impl Service {
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
        blocking(move || import(&state, &context, stream.reader(), &to, &progress).map(drop)).await
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
        blocking(move || {
            let out = std::io::BufWriter::with_capacity(1 << 20, stream.writer());
            let out = export(&state, &context, &wish, out)?;
            let stream = out.into_inner().map_err(|e| Error::Other(e.to_string()))?;
            stream.finish();
            Ok(())
        })
        .await
    }
}
