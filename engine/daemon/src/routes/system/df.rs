//! `GET /system/df`: what images, containers and volumes take.

use std::sync::Arc;

use engine_api::{DiskUsage, Value};
use images::ListOptions;

use super::Reply;
use crate::engine::Engine;
use crate::http::{ApiError, Request, Response};
use crate::routes::{containers, images as image_routes, volumes};

const KINDS: [&str; 4] = ["container", "image", "volume", "build-cache"];

pub(super) async fn usage(engine: Arc<Engine>, request: Request) -> Reply {
    let asked: Vec<&str> = request.query.all("type").collect();
    if let Some(unknown) = asked.iter().find(|kind| !KINDS.contains(kind)) {
        return Err(ApiError::bad_request(format!("unknown object type: {unknown}")));
    }
    let wants = |kind: &str| asked.is_empty() || asked.contains(&kind);
    let mut usage = DiskUsage::default();
    if wants("image") {
        let options = ListOptions { shared_size: true, all: true, ..ListOptions::default() };
        let mut images = engine.images.list(&options, &image_routes::uses(&engine))?;
        for image in &mut images {
            image.repo_digests = image.repo_digests.take().filter(|list| !list.is_empty());
        }
        usage.layers_size = i64::try_from(engine.images.layers_size()).unwrap_or(i64::MAX);
        usage.images = Some(images);
    }
    if wants("container") {
        usage.containers = Some(containers::with_sizes(&engine).await);
    }
    if wants("volume") {
        usage.volumes = Some(volumes::with_sizes(&engine).await?);
    }
    if wants("build-cache") {
        usage.build_cache = Some(Vec::<Value>::new());
    }
    let usage = if request.version.at_least(52) {
        usage.summed(request.query.bool("verbose"))
    } else {
        usage
    };
    Ok(Response::json(&usage, request.version))
}
