//! The log configuration of a new container: defaults and what the drivers take.

use engine_api::LogConfig;

use crate::config::Settings;
use crate::http::ApiError;
use crate::logs::options::{boolean, size};

const JSON_FILE: [&str; 8] =
    ["max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"];
/// Drivers that exist elsewhere.
const OTHERS: [&str; 9] =
    ["local", "syslog", "journald", "gelf", "fluentd", "awslogs", "splunk", "etwlogs", "gcplogs"];

/// Fills in the daemon's defaults and checks the options. What they mean is read at the start.
pub fn check(settings: &Settings, config: &mut LogConfig) -> Result<(), ApiError> {
    if config.driver.is_empty() {
        config.driver.clone_from(&settings.log.driver);
    }
    let options = config.config.get_or_insert_default();
    if config.driver == settings.log.driver {
        for (key, value) in &settings.log.options {
            options.entry(key.clone()).or_insert_with(|| value.clone());
        }
    }
    if config.driver == "none" {
        return Ok(());
    }
    let bad = |text: String| Err(ApiError::bad_request(text));
    let mode = options.get("mode").map(String::as_str).unwrap_or_default();
    if !matches!(mode, "" | "blocking" | "non-blocking") {
        return bad(format!("logger: logging mode not supported: {mode}"));
    }
    if let Some(text) = options.get("max-buffer-size") {
        if mode != "non-blocking" {
            return bad(
                "logger: max-buffer-size option is only supported with 'mode=non-blocking'".into(),
            );
        }
        size(text, 1024).map_err(|e| {
            ApiError::bad_request(format!("error parsing option max-buffer-size: {e}"))
        })?;
    }
    let driver = config.driver.as_str();
    if OTHERS.contains(&driver) {
        return Err(ApiError::not_implemented(format!(
            "log driver {driver} is not supported by Ferry yet"
        )));
    }
    if driver != "json-file" {
        return bad(format!(
            "error looking up logging plugin {driver}: plugin {driver:?} not found"
        ));
    }
    for key in options.keys().filter(|key| !matches!(key.as_str(), "mode" | "max-buffer-size")) {
        if !JSON_FILE.contains(&key.as_str()) {
            return bad(format!("unknown log opt '{key}' for json-file log driver"));
        }
    }
    if options.get("compress").is_some_and(|text| boolean(text) == Ok(true)) {
        return Err(ApiError::not_implemented("log opt compress is not supported by Ferry yet"));
    }
    Ok(())
}
