//! `GET /containers/{id}/logs`.

use std::sync::Arc;

use engine_api::moment::stamp;
use http::HeaderValue;

use crate::engine::Engine;
use crate::http::{ApiError, Request, Response};
use crate::lifecycle::machine::{Condition, Message};
use crate::logs::{self, Options};
use crate::sink;

/// The handler.
pub(super) async fn logs(engine: Arc<Engine>, request: Request) -> Result<Response, ApiError> {
    let query = &request.query;
    let (stdout, stderr) = (query.bool("stdout"), query.bool("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::bad_request("Bad parameters: you must choose at least one stream"));
    }
    let container = engine.find(request.name())?;
    let row = container.row();
    if row.fixed.log_driver == "none" {
        return Err(ApiError::not_implemented(
            "configured logging driver does not support reading",
        ));
    }
    let options = Options {
        stdout,
        stderr,
        raw: row.fixed.tty,
        timestamps: query.bool("timestamps"),
        details: query.bool("details"),
        since: time(query.get("since"))?,
        until: time(query.get("until"))?,
        tail: query.get("tail").parse().ok(),
    };
    let running = row.state.phase.is_running();
    let follow = query.bool("follow") && running;
    // Asked for before the log is opened, so that no exit falls between.
    let end = follow.then(|| container.begin(|reply| Message::Wait(Condition::NextExit, reply)));
    let path = sink::log_path(&engine.settings.data_root, &container.id);
    let stream = logs::stream(path, &options, end)?;
    let multiplexed = !options.raw && request.version.at_least(42);
    let kind = if multiplexed {
        "application/vnd.docker.multiplexed-stream"
    } else {
        "application/vnd.docker.raw-stream"
    };
    Ok(Response::stream(HeaderValue::from_static(kind), stream))
}

fn time(text: &str) -> Result<i64, ApiError> {
    if text.is_empty() { Ok(0) } else { stamp(text).map_err(ApiError::internal) }
}
