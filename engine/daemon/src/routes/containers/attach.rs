//! `POST /containers/{id}/attach`: takes the connection over, shows old output, then
//! copies between the client and the sink, now or from the coming start on.

use std::sync::{Arc, PoisonError};

use engine_api::ApiVersion;
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

use crate::attach::{self, End, Parked, Wants, parse_keys};
use crate::engine::Engine;
use crate::exec;
use crate::http::{ApiError, Hijacked, Request, Response};
use crate::lifecycle::Container;
use crate::logs::{self, Options};
use crate::records::Phase;
use crate::sink;

const RAW: &str = "application/vnd.docker.raw-stream";
const MULTIPLEXED: &str = "application/vnd.docker.multiplexed-stream";

/// The content type of a stream that is taken over.
pub(in crate::routes) fn content_type(
    upgrades: bool,
    version: ApiVersion,
    tty: bool,
) -> &'static str {
    if upgrades && !tty && version.at_least(42) { MULTIPLEXED } else { RAW }
}

/// The handler.
pub(super) async fn attach(engine: Arc<Engine>, request: Request) -> Result<Response, ApiError> {
    let plan = match prepare(&engine, &request) {
        Ok(plan) => plan,
        // Whoever asks for a connection gets the error on it.
        Err(e) => return Ok(Response::raw_error(&e)),
    };
    let kind = content_type(request.upgrade.is_some(), request.version, plan.wants.tty);
    Ok(Response::hijack(true, kind, move |hijacked| Box::pin(run(engine, plan, hijacked))))
}

struct Plan {
    container: Arc<Container>,
    wants: Wants,
    logs: bool,
    stream: bool,
    /// The place in line, taken before the answer, so that a start that follows sees it.
    parked: Option<oneshot::Receiver<sink::Attached>>,
}

fn prepare(engine: &Arc<Engine>, request: &Request) -> Result<Plan, ApiError> {
    let query = &request.query;
    let keys = parse_keys(query.get("detachKeys")).map_err(|_| {
        let text = format!("Invalid detach keys ({}) provided", query.get("detachKeys"));
        ApiError::bad_request(text)
    })?;
    let container = engine.find(request.name())?;
    let row = container.row();
    let phase = row.state.phase;
    if phase == Phase::Paused {
        return Err(ApiError::conflict(format!(
            "container {} is paused, unpause the container before attach",
            container.id
        )));
    }
    let wants = Wants {
        stdin: query.bool("stdin") && row.fixed.open_stdin,
        closes: row.fixed.stdin_once && !row.fixed.tty,
        stdout: query.bool("stdout"),
        stderr: query.bool("stderr"),
        tty: row.fixed.tty,
        keys,
        ..Wants::default()
    };
    let stream = query.bool("stream");
    let parked = (stream && !phase.has_task()).then(|| {
        let (admitted, receiver) = oneshot::channel();
        let waiting = Parked { hello: wants.hello(), admitted };
        container.parked.lock().unwrap_or_else(PoisonError::into_inner).push(waiting);
        receiver
    });
    container.tell("attach", &[]);
    Ok(Plan { container, wants, logs: query.bool("logs"), stream, parked })
}

async fn run(engine: Arc<Engine>, plan: Plan, mut hijacked: Hijacked) {
    let Plan { container, wants, logs, stream, parked } = plan;
    let mut old = if logs { old_output(&engine, &container, &wants) } else { Vec::new() };
    if !stream {
        // The client may be gone; there is nobody to tell.
        let _ = hijacked.writer.write_all(&old).await;
        let _ = hijacked.writer.shutdown().await;
        return;
    }
    let attached = if let Some(line) = parked {
        // The start may be far away: what there is is shown now.
        if hijacked.writer.write_all(&std::mem::take(&mut old)).await.is_err() {
            return;
        }
        line.await.ok()
    } else {
        let socket = sink::socket(&engine.settings.exec_root, &container.id, "");
        sink::connect(&socket, wants.hello()).await.ok()
    };
    let Some(attached) = attached else {
        let _ = hijacked.writer.shutdown().await;
        return;
    };
    let (id, over) = (Arc::clone(&container), wants.input_over.clone());
    let foreign = container.row().state.detached_sink && wants.stdin;
    let closing =
        foreign.then(|| tokio::spawn(async move { exec::close_input(&id, "", over).await }));
    let end = attach::copy(hijacked, attached, Arc::new(wants), old).await;
    if let Some(closing) = closing {
        closing.abort();
    }
    if end == End::Detached {
        container.tell("detach", &[]);
    }
}

fn old_output(engine: &Engine, container: &Container, wants: &Wants) -> Vec<u8> {
    let options = Options {
        stdout: wants.stdout,
        stderr: wants.stderr,
        raw: wants.tty,
        ..Options::default()
    };
    let path = sink::log_path(&engine.settings.data_root, &container.id);
    logs::read_all(&path, &options).unwrap_or_default()
}
