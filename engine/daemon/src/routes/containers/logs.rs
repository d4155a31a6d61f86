//! `GET /containers/{id}/logs`.

use std::sync::Arc;

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

/// `seconds[.nanoseconds]` since the epoch, as clients send times, in nanoseconds.
pub(in crate::routes) fn time(text: &str) -> Result<i64, ApiError> {
    if text.is_empty() {
        return Ok(0);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let invalid = |part: &str| {
        ApiError::internal(format!("strconv.ParseInt: parsing {part:?}: invalid syntax"))
    };
    let seconds: i64 = seconds.parse().map_err(|_| invalid(seconds))?;
    let nanos: i64 = if fraction.is_empty() {
        0
    } else {
        format!("{fraction:0<9}")[..9].parse().map_err(|_| invalid(fraction))?
    };
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_with_a_fraction() {
        assert_eq!(time("12.5").unwrap(), 12_500_000_000);
        assert_eq!(time("1").unwrap(), 1_000_000_000);
        assert_eq!(
            time("abc").unwrap_err().message,
            "strconv.ParseInt: parsing \"abc\": invalid syntax"
        );
    }
}
