//! The endpoints of execs: create, start (attached or not), inspect, resize.

use std::sync::Arc;

use base64::Engine as _;
use engine_api::{
    ExecCreateRequest, ExecInspect, ExecProcessConfig, ExecStartRequest, IdResponse, Value,
};
use http::StatusCode;

use crate::attach::{self, End, Wants, parse_keys};
use crate::engine::Engine;
use crate::exec::{self, Exec};
use crate::http::{ApiError, Request, Response, Router};
use crate::lifecycle::running_identity;
use crate::records::Phase;
use crate::registry::new_id;
use crate::routes::containers::{content_type, running_for, size};

type Reply = Result<Response, ApiError>;

/// Registers the routes.
pub fn register(router: &mut Router, engine: &Arc<Engine>) {
    routes!(router.on(engine) {
        "ContainerExec" create;
        "ExecStart" start;
        "ExecInspect" inspect;
        "ExecResize" resize;
    });
}

async fn create(engine: Arc<Engine>, request: Request) -> Reply {
    let (reference, version) = (request.name().to_owned(), request.version);
    let mut body: ExecCreateRequest = request.json().await?;
    body.console_size.take_if(|_| version.before(42));
    if body.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(ApiError::bad_request("No exec command specified"));
    }
    parse_keys(&body.detach_keys).map_err(|_| {
        ApiError::internal(format!("Invalid escape keys ({}) provided", body.detach_keys))
    })?;
    let container = running_for(&engine, &reference)?;
    if container.row().state.phase == Phase::Paused {
        return Err(ApiError::conflict(format!(
            "Container {reference} is paused, unpause the container before exec"
        )));
    }
    if body.user.is_empty() {
        body.user.clone_from(&container.row().fixed.user);
    } else {
        running_identity(&container, &body.user)
            .map_err(|e| ApiError::bad_request(e.to_string()))?;
    }
    let exec = Arc::new(Exec::new(engine.store.clone(), new_id(), container.id.clone(), body));
    let id = exec.id.clone();
    container.tell(&format!("exec_create: {}", exec.command()), &[("execID", id.clone())]);
    container.execs.add(Arc::clone(&exec));
    engine.execs.insert(exec);
    Ok(Response::json_with(StatusCode::CREATED, &IdResponse { id }, version))
}

fn find(engine: &Engine, id: &str) -> Result<Arc<Exec>, ApiError> {
    engine.execs.get(id).ok_or_else(|| ApiError::not_found(format!("No such exec instance: {id}")))
}

async fn start(engine: Arc<Engine>, request: Request) -> Reply {
    let (name, version) = (request.name().to_owned(), request.version);
    let upgrades = request.upgrade.is_some();
    let body: ExecStartRequest = request.json().await?;
    let exec = find(&engine, &name)?;
    let container = running_for(&engine, &exec.container)?;
    if container.row().state.phase == Phase::Paused {
        return Err(ApiError::conflict(format!(
            "Container {} is paused, unpause the container before exec",
            exec.container
        )));
    }
    let tty = exec.request.tty;
    // Old versions and a start without a terminal have none.
    let size = body.console_size.filter(|_| body.tty && version.at_least(42));
    let size = size.or(exec.request.console_size);
    if body.detach {
        exec::start(&engine, &exec, size, None).await?;
        return Ok(Response::status(StatusCode::OK));
    }
    let kind = content_type(upgrades, version, body.tty);
    let asked = &exec.request;
    let wants = Wants {
        stdin: asked.attach_stdin,
        closes: !tty,
        stdout: asked.attach_stdout,
        stderr: asked.attach_stderr,
        tty,
        keys: parse_keys(&asked.detach_keys).map_err(ApiError::bad_request)?,
        ..Wants::default()
    };
    Ok(Response::hijack(false, kind, move |hijacked| {
        Box::pin(async move {
            let attached = exec::start(&engine, &exec, size, Some(wants.hello())).await;
            match attached {
                Ok(Some(attached)) => {
                    let (own, id, over) =
                        (Arc::clone(&container), exec.id.clone(), wants.input_over.clone());
                    let foreign = container.row().state.detached_sink && wants.stdin;
                    let closing = foreign.then(|| {
                        tokio::spawn(async move { exec::close_input(&own, &id, over).await })
                    });
                    let end = attach::copy_until(
                        hijacked,
                        attached,
                        Arc::new(wants),
                        Vec::new(),
                        exec.over(),
                    )
                    .await;
                    if let Some(closing) = closing {
                        closing.abort();
                    }
                    if end == End::Detached {
                        container.tell("exec_detach", &[("execID", exec.id.clone())]);
                    }
                }
                Ok(None) => {}
                // The connection is taken over already: the error goes where output would.
                Err(e) => attach::say(hijacked, tty, &format!("{}\r\n", e.message)).await,
            }
        })
    }))
}

async fn inspect(engine: Arc<Engine>, request: Request) -> Reply {
    let exec = find(&engine, request.name())?;
    let (state, asked) = (exec.state(), &exec.request);
    let mut words = asked.cmd.iter().flatten().cloned();
    let entrypoint = words.next().unwrap_or_default();
    let reply = ExecInspect {
        id: exec.id.clone(),
        running: state.running,
        exit_code: state.exit_code,
        process_config: ExecProcessConfig {
            tty: asked.tty,
            entrypoint,
            arguments: words.collect(),
            privileged: Some(asked.privileged),
            user: asked.user.clone(),
        },
        open_stdin: asked.attach_stdin,
        open_stderr: asked.attach_stderr,
        open_stdout: asked.attach_stdout,
        can_remove: state.can_remove,
        container_id: exec.container.clone(),
        detach_keys: Value::String(keys_shown(&asked.detach_keys)),
        pid: i64::from(state.pid),
    };
    Ok(Response::json(&reply, request.version))
}

/// Go shows bytes in base 64.
fn keys_shown(keys: &str) -> String {
    if keys.is_empty() {
        return String::new();
    }
    base64::engine::general_purpose::STANDARD.encode(parse_keys(keys).unwrap_or_default())
}

async fn resize(engine: Arc<Engine>, request: Request) -> Reply {
    let (height, width) = size(&request.query)?;
    let exec = find(&engine, request.name())?;
    let container = running_for(&engine, &exec.container)?;
    // A client that starts one resizes it at the same time.
    if !exec.begun().await {
        return Err(ApiError::internal("timeout waiting for exec session ready"));
    }
    exec::resize(&container, &exec.id, height, width).await?;
    Ok(Response::status(StatusCode::OK))
}
