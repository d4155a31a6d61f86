//! The log configuration of a new container: defaults and what the drivers take.

use engine_api::LogConfig;

use crate::config::Settings;
use crate::http::ApiError;

const JSON_FILE: [&str; 10] = [
    "max-file",
    "max-size",
    "compress",
    "labels",
    "labels-regex",
    "env",
    "env-regex",
    "tag",
    "mode",
    "max-buffer-size",
];
/// Known to the driver elsewhere, not to Ferry's.
const MISSING: [&str; 3] = ["compress", "labels-regex", "env-regex"];

/// Fills in the daemon's defaults and checks the options.
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
    if let Some(mode) = options.get("mode")
        && !matches!(mode.as_str(), "" | "blocking" | "non-blocking")
    {
        return Err(ApiError::bad_request(format!("logger: logging mode not supported: {mode}")));
    }
    let known: &[&str] = match config.driver.as_str() {
        "json-file" => &JSON_FILE,
        "none" => &["mode", "max-buffer-size"],
        other => {
            return Err(ApiError::not_implemented(format!(
                "log driver {other} is not supported by Ferry yet"
            )));
        }
    };
    for key in options.keys() {
        if !known.contains(&key.as_str()) {
            let text = format!("unknown log opt '{key}' for {} log driver", config.driver);
            return Err(ApiError::bad_request(text));
        }
        if MISSING.contains(&key.as_str()) {
            return Err(ApiError::not_implemented(format!(
                "log opt {key} is not supported by Ferry yet"
            )));
        }
    }
    Ok(())
}
