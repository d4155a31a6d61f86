//! `containerd.services.images.v1.Images`.

use std::sync::Arc;

use containerd_api::filter::Filters;
use containerd_api::services::images::v1 as api;
use containerd_api::{time, types};
use oci::Descriptor;
use tonic::{Request, Response, Status};

use super::Image;
use crate::{Context, Error, State, labels};

/// The gRPC service of images.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<State>);

/// A descriptor as containerd's messages carry it.
pub(crate) fn descriptor_to_api(descriptor: &Descriptor) -> types::Descriptor {
    types::Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest.to_string(),
        size: descriptor.size as i64,
        annotations: descriptor.annotations.clone().into_iter().collect(),
    }
}

/// A descriptor from containerd's messages.
pub(crate) fn descriptor_from_api(descriptor: types::Descriptor) -> Result<Descriptor, Error> {
    let digest = descriptor.digest.parse().map_err(|error| {
        Error::InvalidArgument(format!("image.target.digest {:?}: {error}", descriptor.digest))
    })?;
    let mut own = Descriptor::new(
        descriptor.media_type,
        digest,
        u64::try_from(descriptor.size).unwrap_or_default(),
    );
    own.annotations = descriptor.annotations.into_iter().collect();
    Ok(own)
}

fn to_api(name: String, image: Image) -> api::Image {
    api::Image {
        name,
        target: Some(descriptor_to_api(&image.target)),
        labels: image.labels.into_iter().collect(),
        created_at: Some(time::from_nanos(image.created)),
        updated_at: Some(time::from_nanos(image.updated)),
    }
}

fn from_api(image: api::Image) -> Result<(String, Image), Error> {
    let target = descriptor_from_api(image.target.unwrap_or_default())?;
    if target.size == 0 {
        return Err(Error::InvalidArgument("image.target.size must be greater than zero".into()));
    }
    if target.media_type.is_empty() {
        return Err(Error::InvalidArgument("image.target.MediaType must be set".into()));
    }
    let labels = labels::checked(image.labels)?;
    Ok((image.name, Image { labels, ..Image::new(target) }))
}

// For an update that leaves the target alone, which then may be absent.
fn from_api_for(image: api::Image, paths: &[String]) -> Result<(String, Image), Error> {
    let needs = |path: &String| path == "target" || path.starts_with("annotations");
    if paths.is_empty() || paths.iter().any(needs) {
        return from_api(image);
    }
    let target = Descriptor::of(oci::media_type::OCI_EMPTY, b"{}");
    Ok((image.name, Image { labels: labels::checked(image.labels)?, ..Image::new(target) }))
}

fn matches(filters: &Filters, name: &str, image: &Image) -> bool {
    filters.matches(&|path: &[&str]| match path {
        ["name"] => Some(name.to_owned()),
        ["target", "digest"] => Some(image.target.digest.to_string()),
        ["target", "mediatype"] => Some(image.target.media_type.clone()),
        ["labels", rest @ ..] => labels::field(&image.labels, rest),
        ["annotations", rest @ ..] => labels::field(&image.target.annotations, rest),
        _ => None,
    })
}

#[tonic::async_trait]
impl api::images_server::Images for Service {
    async fn get(
        &self,
        request: Request<api::GetImageRequest>,
    ) -> Result<Response<api::GetImageResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let name = request.into_inner().name;
        let image = self.0.image(&context, &name)?;
        Ok(Response::new(api::GetImageResponse { image: Some(to_api(name, image)) }))
    }

    async fn list(
        &self,
        request: Request<api::ListImagesRequest>,
    ) -> Result<Response<api::ListImagesResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let filters = Filters::parse(&request.into_inner().filters).map_err(Error::from)?;
        let mut all = self.0.images(&context)?;
        all.retain(|(name, image)| matches(&filters, name, image));
        let images = all.into_iter().map(|(name, image)| to_api(name, image)).collect();
        Ok(Response::new(api::ListImagesResponse { images }))
    }

    async fn create(
        &self,
        request: Request<api::CreateImageRequest>,
    ) -> Result<Response<api::CreateImageResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let (name, image) = from_api(request.into_inner().image.unwrap_or_default())?;
        let image = self.0.create_image(&context, &name, image)?;
        Ok(Response::new(api::CreateImageResponse { image: Some(to_api(name, image)) }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateImageRequest>,
    ) -> Result<Response<api::UpdateImageResponse>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let request = request.into_inner();
        let paths = labels::paths(request.update_mask);
        let (name, wanted) = from_api_for(request.image.unwrap_or_default(), &paths)?;
        let image = self.0.update_image(&context, &name, &wanted, &paths)?;
        Ok(Response::new(api::UpdateImageResponse { image: Some(to_api(name, image)) }))
    }

    async fn delete(
        &self,
        request: Request<api::DeleteImageRequest>,
    ) -> Result<Response<()>, Status> {
        let context = Context::from_metadata(request.metadata())?;
        let request = request.into_inner();
        let target = request.target.map(descriptor_from_api).transpose()?;
        self.0.delete_image(&context, &request.name, target.as_ref())?;
        if request.sync {
            crate::gc::collect(&self.0).await?;
        }
        Ok(Response::new(()))
    }
}
