//! `events`, and times as flags give them.

use crate::error::{CliError, Result};
use crate::session::Session;
use crate::template;
use engine_api::{ApiVersion, EventMessage, decode_at, encode_html, json, moment};
use engine_client::{Payload, Query};

/// A time as the daemon takes it: seconds and nanoseconds of the epoch. It may be given as a
/// date, as seconds, or as a duration before now.
pub(super) fn timestamp(text: &str) -> std::result::Result<String, String> {
    let number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if number(whole.strip_prefix('-').unwrap_or(whole)) && number(fraction) {
        return Ok(text.to_owned());
    }
    let nanos = moment::moment(text, jiff::Timestamp::now(), &crate::show::units::zone())?;
    let (seconds, nanos) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    Ok(format!("{seconds}.{nanos:09}"))
}

pub(super) async fn events(s: &Session) -> Result<()> {
    let m = &s.matches;
    let template = match m.text("format") {
        "" | "json" => None,
        text => Some(
            template::parse(text)
                .map_err(|e| CliError::coded(64, format!("Error parsing format: {e}")))?,
        ),
    };
    let mut query = Query::new();
    for side in ["since", "until"] {
        if m.given(side) {
            query = query.with(side, &timestamp(m.text(side)).map_err(CliError::new)?);
        }
    }
    let query = super::lists::filter_query(query, &super::lists::filters(s));
    let client = s.client().await?;
    let mut answer = client.call("GET", "/events", &query, Payload::Empty).await?;
    let mut buffer = Vec::new();
    while let Some(bytes) = answer.body.chunk().await? {
        buffer.extend_from_slice(&bytes);
        while let Ok((value, used)) = json::parse_prefix(&buffer) {
            buffer.drain(..used);
            let event: EventMessage =
                decode_at(&value).map_err(|e| CliError::new(e.to_string()))?;
            let line = match &template {
                Some(template) => {
                    template.execute(&event).map_err(|e| CliError::new(e.to_string()))?
                }
                None if m.text("format") == "json" => encode_html(&event, ApiVersion::MAX),
                None => plain(&event),
            };
            s.line(&line);
            let blank = buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
            buffer.drain(..blank);
            if buffer.is_empty() {
                break;
            }
        }
    }
    Ok(())
}

/// An event on one line.
fn plain(event: &EventMessage) -> String {
    let nanos = if event.time_nano != 0 { event.time_nano } else { event.time * 1_000_000_000 };
    let time = jiff::Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
    let time = time.to_zoned(crate::show::units::zone());
    let stamp = time.strftime("%Y-%m-%dT%H:%M:%S.%9f%:z").to_string().replace("+00:00", "Z");
    let mut line = format!("{stamp} {} {} {}", event.kind, event.action, event.actor.id);
    if !event.actor.attributes.is_empty() {
        let all: Vec<String> =
            event.actor.attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
        line.push_str(&format!(" ({})", all.join(", ")));
    }
    line
}
