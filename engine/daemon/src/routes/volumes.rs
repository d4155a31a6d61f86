//! The volumes' endpoints: what there is, and removal of what no container has. Volumes are made
//! by the containers that name them.

use std::sync::Arc;

use engine_api::filters::{Filters, VOLUMES_PRUNE};
use engine_api::{
    StringMap, Time, Volume as ApiVolume, VolumeListResponse, VolumeUsageData, VolumesPruneReport,
    filters,
};
use jiff::Timestamp;

use super::patterns::Patterns;
use crate::engine::Engine;
use crate::http::{ApiError, Request, Response, Router};
use crate::logs::options::boolean;
use crate::records::{VOLUMES, Volume};
use crate::volumes;

type Reply = Result<Response, ApiError>;

/// The label that dockerd shows on volumes that nobody named.
const ANONYMOUS: &str = "com.docker.volume.anonymous";

/// Registers the routes.
pub fn register(router: &mut Router, engine: &Arc<Engine>) {
    routes!(router.on(engine) {
        "VolumeList" list;
        "VolumeInspect" inspect;
        "VolumePrune" prune;
        "VolumeDelete" delete;
    });
}

fn known(engine: &Engine) -> Result<Vec<ApiVolume>, ApiError> {
    let known = engine.store.scan_json::<Volume>(VOLUMES, b"");
    let known = known.map_err(|e| ApiError::internal(e.to_string()))?;
    let shown = known.into_iter().map(|(name, volume)| {
        let name = String::from_utf8_lossy(&name).into_owned();
        shown(engine, name, volume)
    });
    Ok(shown.collect())
}

fn shown(engine: &Engine, name: String, volume: Volume) -> ApiVolume {
    let created = Timestamp::from_nanosecond(volume.created.into()).unwrap_or_default();
    let mut labels = volume.labels;
    if volume.anonymous {
        labels.get_or_insert_default().insert(ANONYMOUS.into(), String::new());
    }
    ApiVolume {
        created_at: Time(created.round(jiff::Unit::Second).unwrap_or(created)).rfc3339(),
        driver: "local".into(),
        labels,
        mountpoint: volumes::data(&engine.settings.data_root, &name).display().to_string(),
        options: volume.options,
        scope: "local".into(),
        name,
        ..ApiVolume::default()
    }
}

/// All volumes, with what they hold and how many containers have them.
pub(in crate::routes) async fn with_sizes(engine: &Engine) -> Result<Vec<ApiVolume>, ApiError> {
    let mut all = known(engine)?;
    let users = volumes::users(engine);
    for volume in &mut all {
        volume.usage_data = Some(VolumeUsageData {
            ref_count: users.get(&volume.name).map_or(0, |users| users.len() as i64),
            size: size(engine, &volume.name).await.unwrap_or(-1),
        });
    }
    Ok(all)
}

/// What a volume holds, in bytes; `None` where it can't be counted.
async fn size(engine: &Engine, name: &str) -> Option<i64> {
    let place = volumes::data(&engine.settings.data_root, name);
    let counted = tokio::task::spawn_blocking(move || sys::tree::size(&place)).await;
    counted.ok()?.ok()?.try_into().ok()
}

async fn list(engine: Arc<Engine>, request: Request) -> Reply {
    let filters = request.filters(filters::VOLUMES)?;
    let dangling = filters.boolean("dangling")?;
    let names = Patterns::new(&filters, "name");
    let users = volumes::users(&engine);
    let mut found = known(&engine)?;
    found.retain(|volume| {
        dangling.is_none_or(|wanted| users.contains_key(&volume.name) != wanted)
            && filters.exact("driver", &volume.driver)
            && filters.labels("label", volume.labels.as_ref().unwrap_or(&StringMap::new()))
            && names.matches(&volume.name)
    });
    let answer = VolumeListResponse { volumes: found, warnings: None };
    Ok(Response::json(&answer, request.version))
}

fn find(engine: &Engine, name: &str) -> Result<ApiVolume, ApiError> {
    let found = engine.store.get_json::<Volume>(VOLUMES, name.as_bytes());
    let found = found.map_err(|e| ApiError::internal(e.to_string()))?;
    let volume = found.ok_or_else(|| ApiError::not_found(format!("get {name}: no such volume")))?;
    Ok(shown(engine, name.to_owned(), volume))
}

async fn inspect(engine: Arc<Engine>, request: Request) -> Reply {
    Ok(Response::json(&find(&engine, request.name())?, request.version))
}

async fn delete(engine: Arc<Engine>, request: Request) -> Reply {
    let name = request.name().to_owned();
    let _held = engine.volumes.lock().await;
    match find(&engine, &name) {
        Ok(_) => {}
        Err(_) if request.query.bool("force") => return Ok(Response::no_content()),
        Err(e) => return Err(e),
    }
    if let Some(users) = volumes::users(&engine).get(&name) {
        let users = users.join(", ");
        let text = format!("remove {name}: volume is in use - [{users}]");
        return Err(ApiError::conflict(text));
    }
    remove(&engine, name).await?;
    Ok(Response::no_content())
}

/// Removes a volume whose engine's `volumes` is held.
async fn remove(engine: &Arc<Engine>, name: String) -> Result<(), ApiError> {
    let own = Arc::clone(engine);
    let removed = tokio::task::spawn_blocking(move || volumes::remove_volume(&own, &name)).await;
    let removed = removed.map_err(|e| ApiError::internal(e.to_string()))?;
    removed.map_err(|e| ApiError::internal(e.to_string()))
}

/// Whether also named volumes are to go. Before 1.42 they all went.
fn takes_named(filters: &Filters, request: &Request) -> Result<bool, ApiError> {
    let filters = if request.version.before(42) {
        filters.clone().with("all", "true")
    } else {
        filters.clone()
    };
    let values: Vec<&str> = filters.get("all").collect();
    match values[..] {
        [] => Ok(false),
        [value] => boolean(value)
            .map_err(|why| ApiError::bad_request(format!("invalid filter 'all': {why}"))),
        _ => {
            let why = "only one value is expected";
            let values = values.join(" ");
            Err(ApiError::bad_request(format!("invalid filter 'all=[{values}]': {why}")))
        }
    }
}

async fn prune(engine: Arc<Engine>, request: Request) -> Reply {
    let filters = request.filters(VOLUMES_PRUNE)?;
    let named = takes_named(&filters, &request)?;
    let held = engine.volumes.lock().await;
    let users = volumes::users(&engine);
    let none = StringMap::new();
    let mut answer = VolumesPruneReport { volumes_deleted: Some(Vec::new()), space_reclaimed: 0 };
    for volume in known(&engine)? {
        let labels = volume.labels.as_ref().unwrap_or(&none);
        if users.contains_key(&volume.name)
            || (!named && !labels.contains_key(ANONYMOUS))
            || !filters.labels("label", labels)
            || !filters.without_labels(labels)
        {
            continue;
        }
        let size = size(&engine, &volume.name).await.unwrap_or(0);
        remove(&engine, volume.name.clone()).await?;
        answer.space_reclaimed += u64::try_from(size).unwrap_or(0);
        answer.volumes_deleted.get_or_insert_default().push(volume.name);
    }
    drop(held);
    let reclaimed = [("reclaimed".to_owned(), answer.space_reclaimed.to_string())];
    engine.events.publish("volume", "prune", "", reclaimed.into());
    Ok(Response::json(&answer, request.version))
}
