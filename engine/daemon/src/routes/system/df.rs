//! `GET /system/df`: what images, containers and volumes take.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine_api::filters::Filters;
use engine_api::{DiskUsage, Time, Value, Volume as ApiVolume, VolumeUsageData};
use images::ListOptions;
use jiff::Timestamp;

use super::Reply;
use crate::engine::Engine;
use crate::http::{ApiError, Request, Response};
use crate::records::{VOLUMES, Volume};
use crate::routes::{containers, images as image_routes};
use crate::volumes;

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
        usage.volumes = Some(volumes_of(&engine).await?);
    }
    if wants("build-cache") {
        usage.build_cache = Some(Vec::<Value>::new());
    }
    Ok(Response::json(&usage, request.version))
}

/// All volumes, with what they hold and how many containers name them.
async fn volumes_of(engine: &Engine) -> Result<Vec<ApiVolume>, ApiError> {
    let known = engine.store.scan_json::<Volume>(VOLUMES, b"");
    let known = known.map_err(|e| ApiError::internal(e.to_string()))?;
    let mut users: BTreeMap<String, i64> = BTreeMap::new();
    for container in engine.all() {
        let Ok(spec) = container.spec() else { continue };
        for mount in spec.mounts.iter().filter(|mount| mount.point.kind == "volume") {
            *users.entry(mount.point.name.clone()).or_default() += 1;
        }
    }
    let mut out = Vec::with_capacity(known.len());
    for (name, volume) in known {
        let name = String::from_utf8_lossy(&name).into_owned();
        let place = volumes::data(&engine.settings.data_root, &name);
        let mountpoint = place.display().to_string();
        let counted = tokio::task::spawn_blocking(move || sys::tree::size(&place)).await;
        let size = counted.ok().and_then(Result::ok).and_then(|size| i64::try_from(size).ok());
        let created = Timestamp::from_nanosecond(volume.created.into()).unwrap_or_default();
        out.push(ApiVolume {
            created_at: Time(created.round(jiff::Unit::Second).unwrap_or(created)).rfc3339(),
            driver: "local".into(),
            labels: volume.labels,
            mountpoint,
            options: volume.options,
            scope: "local".into(),
            usage_data: Some(VolumeUsageData {
                ref_count: users.get(&name).copied().unwrap_or_default(),
                size: size.unwrap_or(-1),
            }),
            name,
            ..ApiVolume::default()
        });
    }
    Ok(out)
}
