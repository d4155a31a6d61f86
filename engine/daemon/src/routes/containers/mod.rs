//! The containers' endpoints: from a request to a message to the container, and from
//! its answer to a reply. No state, no effect here.

mod attach;
mod filter;
mod inspect;
mod list;
mod logs;
mod prune;
mod top;
mod tree;

use std::sync::Arc;
use std::time::Duration;

use engine_api::upgrade::UpgradeRequest;
use engine_api::{ContainerCreateRequest, ContainerWaitExitError, ContainerWaitResponse};
use http::StatusCode;
use metastore::{Batch, Class};
use oci::platform::InvalidPlatform;

use crate::engine::Engine;
use crate::http::{ApiError, Query, Request, Response, Router};
use crate::lifecycle::Container;
use crate::lifecycle::machine::{Condition, Grace, Message, Refusal};
use crate::records::{Phase, SPECS, Spec};
use crate::{create, exec, signals};

pub(in crate::routes) use attach::content_type;
pub(in crate::routes) use prune::until;

pub(in crate::routes) use list::with_sizes;

type Reply = Result<Response, ApiError>;

/// Registers the routes.
pub fn register(router: &mut Router, engine: &Arc<Engine>) {
    routes!(router.on(engine) {
        "ContainerList" list::list;
        "ContainerCreate" create_container;
        "ContainerPrune" prune::prune;
        "ContainerInspect" inspect::inspect;
        "ContainerTop" top::top;
        "ContainerChanges" tree::changes;
        "ContainerLogs" logs::logs;
        "ContainerResize" resize;
        "ContainerStart" start;
        "ContainerStop" stop;
        "ContainerRestart" restart;
        "ContainerKill" kill;
        "ContainerPause" pause;
        "ContainerUnpause" unpause;
        "ContainerRename" rename;
        "ContainerWait" wait;
        "ContainerAttach" attach::attach;
        "ContainerDelete" delete;
    });
    routes!(router.on_while_there(engine) {
        "ContainerExport" tree::export;
    });
}

/// A refusal as clients know it. `reference` is what the client called the container.
pub(super) fn refused(container: &Container, reference: &str, refusal: Refusal) -> ApiError {
    let id = &container.id;
    let remove =
        |why: &str| ApiError::conflict(format!("cannot remove container \"{reference}\": {why}"));
    match refusal {
        Refusal::NotModified => ApiError::not_modified(),
        Refusal::NotRunning => ApiError::conflict(format!("container {id} is not running")),
        Refusal::StartPaused => {
            ApiError::conflict("cannot start a paused container, try unpause instead")
        }
        Refusal::AlreadyPaused => ApiError::conflict(format!("Container {id} is already paused")),
        Refusal::NotPaused => ApiError::internal(format!("Container {id} is not paused")),
        Refusal::Restarting => restarting(id),
        Refusal::RemovalInProgress => {
            ApiError::conflict(format!("removal of container {reference} is already in progress"))
        }
        Refusal::MarkedForRemoval => {
            ApiError::conflict("container is marked for removal and cannot be started")
        }
        Refusal::RemoveRunning => {
            remove("container is running: stop the container before removing or force remove")
        }
        Refusal::RemovePaused => remove("container is paused and must be unpaused first"),
        Refusal::RemoveRestarting => {
            remove("container is restarting: stop the container before removing or force remove")
        }
        Refusal::Gone => ApiError::not_found(format!("No such container: {reference}")),
        Refusal::Busy(what) => ApiError::conflict(format!("container {id} {what}")),
        Refusal::Failed(status, text) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            ApiError { status, message: text }
        }
    }
}

pub(super) fn restarting(id: &str) -> ApiError {
    ApiError::conflict(format!("Container {id} is restarting, wait until the container is running"))
}

/// The container whose process runs (or is frozen), or why there is none.
pub(in crate::routes) fn running_for(
    engine: &Engine,
    reference: &str,
) -> Result<Arc<Container>, ApiError> {
    let container = engine.find(reference)?;
    match container.row().state.phase {
        Phase::Running | Phase::Paused => Ok(container),
        Phase::Restarting => Err(restarting(&container.id)),
        _ => Err(ApiError::conflict(format!("container {} is not running", container.id))),
    }
}

async fn create_container(engine: Arc<Engine>, request: Request) -> Reply {
    let name = request.query.get("name").to_owned();
    let version = request.version;
    let platform = request.query.get("platform").to_owned();
    let mut body: ContainerCreateRequest = request.json_required().await?;
    let (config, host) =
        (body.config.clone().unwrap_or_default(), body.host_config.clone().unwrap_or_default());
    create::validate::request(&config, &host, &engine.limits)?;
    let platform = match platform.as_str() {
        // Older versions knew no platform.
        text if !text.is_empty() && version.at_least(41) => {
            Some(text.parse().map_err(|e: InvalidPlatform| ApiError::bad_request(e.to_string()))?)
        }
        _ => None,
    };
    let upgraded = body.upgrade_request(version, engine.facts.cgroup_v2)?;
    let wish = create::Wish { name, platform, request: body, upgraded };
    // From here on a vanished client changes nothing: the container is made or not.
    let made = tokio::spawn(async move { create::create(&engine, wish).await });
    let reply = made.await.map_err(|e| ApiError::internal(e.to_string()))??;
    Ok(Response::json_with(StatusCode::CREATED, &reply, version))
}

async fn start(engine: Arc<Engine>, request: Request) -> Reply {
    if request.body.length().is_some_and(|n| n > 7) && request.version.at_least(24) {
        return Err(ApiError::bad_request(
            "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24",
        ));
    }
    for key in ["checkpoint", "checkpoint-dir"] {
        if !request.query.get(key).is_empty() {
            return Err(ApiError::not_implemented(format!("{key} is not supported by Ferry yet")));
        }
    }
    let container = engine.find(request.name())?;
    let answer = container.ask(Message::Start).await;
    answer.map_err(|r| refused(&container, request.name(), r))?;
    Ok(Response::no_content())
}

/// `signal` and `t` of stop and restart.
fn stop_options(query: &Query, failed: &str) -> Result<(Option<u32>, Grace), ApiError> {
    let timeout = query.integer("t")?.map(|t| u64::try_from(t).ok().map(Duration::from_secs));
    let signal = match query.get("signal") {
        "" => None,
        text => {
            Some(signals::parse(text).map_err(|e| ApiError::internal(format!("{failed}: {e}")))?)
        }
    };
    Ok((signal, timeout))
}

async fn stop(engine: Arc<Engine>, request: Request) -> Reply {
    let container = engine.find(request.name())?;
    let failed = format!("cannot stop container: {}", request.name());
    let (signal, timeout) = stop_options(&request.query, &failed)?;
    let answer = container.ask(|reply| Message::Stop(signal, timeout, reply)).await;
    answer.map_err(|r| refused(&container, request.name(), r))?;
    Ok(Response::no_content())
}

async fn restart(engine: Arc<Engine>, request: Request) -> Reply {
    let container = engine.find(request.name())?;
    let failed = format!("Cannot restart container {}", request.name());
    let (signal, timeout) = stop_options(&request.query, &failed)?;
    let answer = container.ask(|reply| Message::Restart(signal, timeout, reply)).await;
    answer.map_err(|r| refused(&container, request.name(), r))?;
    Ok(Response::no_content())
}

async fn kill(engine: Arc<Engine>, request: Request) -> Reply {
    let reference = request.name();
    let prefixed = |e: ApiError| ApiError {
        message: format!("cannot kill container: {reference}: {}", e.message),
        ..e
    };
    let signal = match request.query.get("signal") {
        "" => signals::SIGKILL,
        text => signals::parse(text).map_err(|e| {
            let number = text.parse::<i64>().is_ok_and(|n| n != 0);
            prefixed(ApiError::bad_request(if number {
                format!("the linux daemon does not support signal {text}")
            } else {
                e.to_string()
            }))
        })?,
    };
    let container = engine.find(reference).map_err(|e| prefixed(e.into()))?;
    let answer = container.ask(|reply| Message::Kill(signal, reply)).await;
    answer.map_err(|r| prefixed(refused(&container, reference, r)))?;
    Ok(Response::no_content())
}

async fn pause(engine: Arc<Engine>, request: Request) -> Reply {
    let container = engine.find(request.name())?;
    container.ask(Message::Pause).await.map_err(|r| refused(&container, request.name(), r))?;
    Ok(Response::no_content())
}

async fn unpause(engine: Arc<Engine>, request: Request) -> Reply {
    let container = engine.find(request.name())?;
    container.ask(Message::Unpause).await.map_err(|r| refused(&container, request.name(), r))?;
    Ok(Response::no_content())
}

async fn delete(engine: Arc<Engine>, request: Request) -> Reply {
    if request.query.bool("link") {
        engine.find(request.name())?;
        let text = "Conflict, cannot remove the default link name of the container";
        return Err(ApiError::internal(text));
    }
    let (force, volumes) = (request.query.bool("force"), request.query.bool("v"));
    let container = engine.find(request.name())?;
    let answer = container.ask(|reply| Message::Remove(force, volumes, reply)).await;
    answer.map_err(|r| refused(&container, request.name(), r))?;
    Ok(Response::no_content())
}

async fn wait(engine: Arc<Engine>, request: Request) -> Reply {
    let version = request.version;
    // Before 1.30 there were no conditions, and headers came with the body.
    let legacy = version.before(30);
    let condition = match request.query.get("condition") {
        _ if legacy => Condition::NotRunning,
        "" | "not-running" => Condition::NotRunning,
        "next-exit" => Condition::NextExit,
        "removed" => Condition::Removed,
        other => return Err(ApiError::bad_request(format!("invalid condition: {other:?}"))),
    };
    let container = engine.find(request.name())?;
    // Only who asks about a container at rest hears why its start failed; others had the
    // failure as the answer to the start.
    let at_rest = condition == Condition::NotRunning && !container.row().state.phase.has_task();
    let answer = container.begin(|reply| Message::Wait(condition, reply));
    let body = async move {
        // A container that is gone has met every condition.
        let code = answer.await.ok().and_then(Result::ok).unwrap_or_default();
        let text = container.row().state.error.clone();
        let error =
            (at_rest && !text.is_empty()).then_some(ContainerWaitExitError { message: text });
        engine_api::encode(&ContainerWaitResponse { error, status_code: code }, version)
    };
    if legacy {
        return Ok(Response::new(StatusCode::OK, "application/json", body.await));
    }
    let stream = futures_util::stream::once(async move { Ok(bytes::Bytes::from(body.await)) });
    Ok(Response::json_stream(Box::pin(stream)))
}

/// `h` and `w` of both resizes.
pub(in crate::routes) fn size(query: &Query) -> Result<(u32, u32), ApiError> {
    let number = |key: &str, what: &str| {
        let text = query.get(key);
        let why = match text.parse::<i128>() {
            Ok(number) => match u32::try_from(number) {
                Ok(number) => return Ok(number),
                Err(_) => "value out of range",
            },
            Err(_) => "invalid syntax",
        };
        Err(ApiError::bad_request(format!("invalid resize {what} {text:?}: {why}")))
    };
    Ok((number("h", "height")?, number("w", "width")?))
}

async fn resize(engine: Arc<Engine>, request: Request) -> Reply {
    let (height, width) = size(&request.query)?;
    let container = engine.find(request.name())?;
    if container.running().is_none() {
        return Err(ApiError::conflict(format!("container {} is not running", container.id)));
    }
    exec::resize(&container, "", height, width).await?;
    container.tell("resize", &[("height", height.to_string()), ("width", width.to_string())]);
    Ok(Response::status(StatusCode::OK))
}

async fn rename(engine: Arc<Engine>, request: Request) -> Reply {
    let new = request.query.get("name").trim_start_matches('/').to_owned();
    if new.is_empty() {
        return Err(ApiError::bad_request("Neither old nor new names may be empty"));
    }
    let container = engine.find(request.name())?;
    let old = container.row().name.clone();
    if new == old {
        return Err(ApiError::bad_request(
            "Renaming a container with the same name as its current name",
        ));
    }
    engine.registry.rename(&container.id, &new).map_err(|e| {
        let text = e.to_string().replace("container name (", "container name (/");
        ApiError { message: format!("Error when allocating new name: {text}"), ..ApiError::from(e) }
    })?;
    match write_name(&engine, &container, &new).await {
        Ok(spec) => container.changed(&spec),
        Err(e) => {
            // The old name was free for a moment only; if somebody took it, the new one stays.
            let _ = engine.registry.rename(&container.id, &old);
            return Err(e);
        }
    }
    container.tell("rename", &[("oldName", format!("/{old}"))]);
    Ok(Response::no_content())
}

async fn write_name(
    engine: &Arc<Engine>,
    container: &Container,
    name: &str,
) -> Result<Spec, ApiError> {
    let mut spec = container.spec().map_err(ApiError::not_found)?;
    name.clone_into(&mut spec.name);
    let store = engine.store.clone();
    let written = tokio::task::spawn_blocking(move || {
        let batch = Batch::default().put_json(SPECS, spec.id.as_bytes(), &spec)?;
        store.commit(Class::Power, batch).map(|()| spec)
    });
    written
        .await
        .map_err(|e| ApiError::internal(e.to_string()))?
        .map_err(|e| ApiError::internal(e.to_string()))
}
