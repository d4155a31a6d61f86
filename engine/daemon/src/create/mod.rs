//! Creating a container: validate everything, reserve the name, make snapshot and
//! folder, write the record, publish. A bad request changes nothing.

pub mod logs;
pub mod merge;
pub mod mounts;
pub mod validate;

use std::sync::Arc;

use engine_api::{ContainerCreateRequest, ContainerCreateResponse, EndpointSettings, HostConfig};
use metastore::Class;

use crate::engine::{Engine, LEASE};
use crate::http::ApiError;
use crate::lifecycle::Container;
use crate::records::{self, Spec, State, now};
use crate::registry::{NameError, new_id};

impl From<NameError> for ApiError {
    fn from(e: NameError) -> Self {
        match e {
            NameError::InUse { .. } => Self::conflict(e.to_string()),
            NameError::Invalid(_) => Self::bad_request(e.to_string()),
            NameError::NotFound(_) => Self::not_found(e.to_string()),
            NameError::Ambiguous(_) => Self::bad_request(e.to_string()),
        }
    }
}

impl From<images::ImageError> for ApiError {
    fn from(e: images::ImageError) -> Self {
        use images::ImageError;
        match e {
            ImageError::NotFound(_) => Self::not_found(e.to_string()),
            ImageError::Ambiguous(_) | ImageError::Reference(_) | ImageError::Invalid(_) => {
                Self::bad_request(e.to_string())
            }
            ImageError::Conflict(_) => Self::conflict(e.to_string()),
            ImageError::Registry(told) => Self {
                status: http::StatusCode::from_u16(told.status)
                    .unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR),
                message: told.message,
            },
            _ => Self::internal(e.to_string()),
        }
    }
}

/// Creates a container; `name` may be empty.
pub async fn create(
    engine: &Arc<Engine>,
    name: &str,
    request: ContainerCreateRequest,
) -> Result<ContainerCreateResponse, ApiError> {
    let config = request.config.ok_or_else(|| {
        ApiError::bad_request("config cannot be empty in order to create a container")
    })?;
    let mut host = request.host_config.unwrap_or_default();
    let networking = request.networking_config.unwrap_or_default();
    let mut warnings = validate::config(&config)?;
    warnings.extend(validate::host(engine, &config, &mut host)?);
    if config.image.is_empty() {
        return Err(ApiError::bad_request("no command specified"));
    }
    let image = engine.images.resolve(&config.image)?;
    let config = merge::config(config, &image.container_config())?;
    let id = new_id();
    let reservation = match name {
        "" => engine.registry.reserve_generated(&id),
        name => engine.registry.reserve(name, &id)?,
    };
    let mut spec = Spec {
        id: id.clone(),
        name: reservation.name().to_owned(),
        created: now(),
        image: image.id.to_string(),
        manifest: Some(images::api_descriptor(&image.manifest)),
        platform: "linux".into(),
        snapshotter: engine.images.snapshotter().to_owned(),
        config,
        host,
        ..Spec::default()
    };
    fill(engine, &mut spec, networking.endpoints_config)?;
    crate::lifecycle::check_endpoints(engine, &spec)?;
    let planned = mounts::plan(engine, &spec)?;
    spec.mounts = planned;
    let power = if spec.host.auto_remove { Class::Crash } else { Class::Power };
    let mounted = engine.images.prepare(&id, &image, LEASE).await?;
    let finished = finish(engine, &spec, power).await;
    if let Err(e) = finished {
        undo(engine, &spec).await;
        return Err(e);
    }
    let container = Container::new(Arc::clone(engine), &spec, State::default());
    let mounted = mounted.into_iter().map(|m| containerd_api::types::Mount {
        r#type: m.kind,
        source: m.source,
        target: m.target,
        options: m.options,
    });
    *container.mounts.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
        Some(mounted.collect());
    engine.add_container(Arc::clone(&container));
    reservation.keep();
    container.tell("create", &[]);
    Ok(ContainerCreateResponse { id, warnings })
}

/// What follows from the rest of the request.
fn fill(
    engine: &Engine,
    spec: &mut Spec,
    endpoints: Option<std::collections::BTreeMap<String, Option<EndpointSettings>>>,
) -> Result<(), ApiError> {
    let words = merge::command(&spec.config)?;
    let mut words = words.into_iter();
    spec.path = words.next().unwrap_or_default();
    spec.args = words.collect();
    if spec.config.hostname.is_empty() && spec.host.uts_mode != "host" {
        spec.config.hostname = if spec.host.network_mode == "host" {
            engine.facts.hostname.clone()
        } else {
            spec.id[..12].to_owned()
        };
    }
    let listed = endpoints.unwrap_or_default();
    spec.endpoints = listed.into_iter().map(|(name, e)| (name, e.unwrap_or_default())).collect();
    let mode = spec.host.network_mode.clone();
    if !mode.starts_with("container:") && !spec.endpoints.contains_key(&mode) {
        spec.endpoints.retain(|name, _| !(mode == "bridge" && name == "default"));
        if spec.endpoints.is_empty() || spec.endpoints.keys().all(|n| n != &mode) {
            spec.endpoints.insert(mode, EndpointSettings::default());
        }
    }
    defaults(&mut spec.host);
    Ok(())
}

/// A privileged container hides nothing.
fn defaults(host: &mut HostConfig) {
    if host.privileged {
        host.masked_paths = None;
        host.readonly_paths = None;
    }
}

async fn finish(engine: &Arc<Engine>, spec: &Spec, class: Class) -> Result<(), ApiError> {
    let folder = engine.settings.data_root.join("containers").join(&spec.id);
    std::fs::create_dir_all(&folder).map_err(|e| {
        ApiError::internal(format!("making the folder of container {}: {e}", spec.id))
    })?;
    for mount in spec.mounts.iter().filter(|m| m.point.kind == "volume") {
        crate::volumes::ensure(engine, &mount.point.name, mount.anonymous)
            .map_err(ApiError::internal)?;
    }
    let written = if class == Class::Crash {
        records::put_container(&engine.store, class, spec, &State::default())
    } else {
        // A durable commit waits for the disk: not on a thread that serves others.
        let (store, spec) = (engine.store.clone(), spec.clone());
        tokio::task::spawn_blocking(move || {
            records::put_container(&store, class, &spec, &State::default())
        })
        .await
        .map_err(|e| ApiError::internal(e.to_string()))?
    };
    written.map_err(|e| ApiError::internal(e.to_string()))
}

async fn undo(engine: &Arc<Engine>, spec: &Spec) {
    let stone = records::Tombstone {
        snapshotter: spec.snapshotter.clone(),
        volumes: spec.mounts.iter().filter(|m| m.anonymous).map(|m| m.point.name.clone()).collect(),
    };
    crate::lifecycle::bury(Arc::clone(engine), spec.id.clone(), stone).await;
}
