//! Creating a container: validate everything, reserve the name, make snapshot and
//! folder, write the record, publish. A bad request changes nothing.

pub mod logs;
pub mod merge;
mod mount;
pub mod mounts;
pub mod resources;
pub mod validate;

use std::sync::Arc;

use engine_api::upgrade::Upgraded;
use engine_api::{
    ContainerConfig, ContainerCreateRequest, ContainerCreateResponse, EndpointSettings, HostConfig,
};
use images::ResolvedImage;
use metastore::Class;
use oci::Platform;

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
            ImageError::NotFound(_) | ImageError::Platform(_) => Self::not_found(e.to_string()),
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

/// What a client asks for, raised to what the newest version means by it.
#[derive(Debug, Default)]
pub struct Wish {
    /// The name; empty: one is made up.
    pub name: String,
    /// The platform that the image must be for.
    pub platform: Option<Platform>,
    /// The body.
    pub request: ContainerCreateRequest,
    /// What its version made of it.
    pub upgraded: Upgraded,
}

/// Creates a container.
pub async fn create(engine: &Arc<Engine>, wish: Wish) -> Result<ContainerCreateResponse, ApiError> {
    let Wish { name, platform, request, upgraded } = wish;
    let mut config = request.config.unwrap_or_default();
    let mut host = request.host_config.unwrap_or_default();
    let endpoints =
        request.networking_config.unwrap_or_default().endpoints_config.unwrap_or_default();
    validate::config(&mut config)?;
    let mut warnings = validate::host(engine, &mut host)?;
    let image = image(engine, &config, platform.as_ref())?;
    let endpoints = crate::lifecycle::check_endpoints(engine, endpoints)?;
    validate::adapt(engine, &mut host)?;
    validate::refuse(&host)?;
    let config = merge::config(config, &image.container_config())?;
    logs::check(&engine.settings, &mut host.log_config)?;
    let id = new_id();
    let reservation = match name.as_str() {
        "" => engine.registry.reserve_generated(&id),
        name => engine.registry.reserve(name, &id)?,
    };
    plan::parse_security(host.security_opt.as_deref().unwrap_or_default())
        .map_err(|e| ApiError::internal(e.to_string()))?;
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
        endpoints,
        ..Spec::default()
    };
    fill(engine, &mut spec)?;
    let planned = mounts::plan(engine, &spec, upgraded.read_only_at_top)?;
    spec.mounts = planned;
    let power = if spec.host.auto_remove { Class::Crash } else { Class::Power };
    let mounted = engine.images.prepare(&id, &image, LEASE).await?;
    let has_volumes = spec.mounts.iter().any(|mount| mount.point.kind == "volume");
    let volumes = if has_volumes { Some(engine.volumes.lock().await) } else { None };
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
    drop(volumes);
    reservation.keep();
    container.tell("create", &[]);
    warnings.extend(upgraded.warnings);
    Ok(ContainerCreateResponse { id, warnings })
}

/// The image, for the platform if one is asked for.
fn image(
    engine: &Engine,
    config: &ContainerConfig,
    platform: Option<&Platform>,
) -> Result<Arc<ResolvedImage>, ApiError> {
    let name = config.image.as_str();
    if name.is_empty() {
        merge::command(config)?;
        return Err(ApiError::not_implemented(
            "a container without an image is not supported by Ferry yet",
        ));
    }
    let image = engine.images.resolve(name)?;
    match platform {
        Some(wanted) => Ok(images::check_platform(&image, name, wanted).map(|()| image)?),
        None => Ok(image),
    }
}

/// What follows from the rest of the request.
fn fill(engine: &Engine, spec: &mut Spec) -> Result<(), ApiError> {
    let words = merge::command(&spec.config)?;
    let mut words = words.into_iter();
    spec.path = words.next().unwrap_or_default();
    spec.args = words.collect();
    if spec.config.hostname.is_empty() {
        spec.config.hostname = if spec.host.network_mode == "host" {
            engine.facts.hostname.clone()
        } else {
            spec.id[..12].to_owned()
        };
    }
    let mode = spec.host.network_mode.clone();
    if mode.starts_with("container:") || spec.config.network_disabled {
        spec.endpoints.clear();
    } else if spec.endpoints.is_empty() {
        spec.endpoints.insert(mode, EndpointSettings::default());
    } else if !spec.endpoints.contains_key(&mode)
        && let Ok(network) = engine.networks.find(&mode)
    {
        // The network that the mode names may be listed by its id.
        if let Some(listed) = spec.endpoints.remove(network.id.as_str()) {
            spec.endpoints.insert(network.name.clone(), listed);
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
        crate::volumes::ensure(engine, mount).map_err(ApiError::internal)?;
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
