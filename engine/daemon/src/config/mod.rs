//! How ferryd is configured: dockerd's flags and `daemon.json` keys, for what exists.
//!
//! `options` is the one table of both, which crate `options` reads into plain values;
//! [`Settings`] is what the rest of the daemon sees. An unknown flag or key
//! is an error that names it, one that Ferry does not have yet as well.

mod file;
mod options;
mod settings;

use std::path::PathBuf;

use ::options::{Given, Values};
use thiserror::Error;

use self::options::TABLE;
pub use settings::{DATA_ROOT, Listen, LogDefaults, Runtime, Settings, Ulimit};

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Serve with these settings.
    Serve(Box<Settings>),
    /// `--validate`: the configuration is fine.
    Valid,
    /// `--help`: this text.
    Help(String),
    /// `--version`.
    Version,
}

/// Why a configuration cannot be used. Texts are dockerd's.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A flag that nobody knows, or a word that is no flag.
    #[error("{0}\nSee 'ferryd --help'.\n\nUsage:  ferryd [OPTIONS]\n")]
    Usage(String),
    /// The configuration file cannot be used.
    #[error("unable to configure the Docker daemon with file {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A value that is out of range or contradicts another.
    #[error("unable to configure the Docker daemon: {0}")]
    Value(String),
}

/// Reads flags and file again, for a daemon that runs with `before`: of what the configuration
/// sets, that which may change while the daemon runs is taken, the rest stays.
///
/// # Errors
/// As `read`; then all stays.
pub fn reread(args: &[String], before: &Settings) -> Result<Settings, ConfigError> {
    let values = values(parse(args)?)?;
    let fresh = Settings::from_values(&values).map_err(ConfigError::Value)?;
    let settings = before.reloaded(fresh, |key| values.contains_key(key));
    crate::startup::check(&settings).map_err(ConfigError::Value)?;
    Ok(settings)
}

/// Reads flags, then the file that they name (or the default one, which may be missing),
/// and puts both together.
///
/// # Errors
/// A [`ConfigError`] that names the flag, key or file.
pub fn read(args: &[String]) -> Result<Request, ConfigError> {
    let given = parse(args)?;
    if given.is_set("help") {
        return Ok(Request::Help(TABLE.help()));
    }
    if given.is_set("version") {
        return Ok(Request::Version);
    }
    let is_check = given.is_set("validate");
    let values = values(given)?;
    let settings = Settings::from_values(&values).map_err(ConfigError::Value)?;
    Ok(if is_check { Request::Valid } else { Request::Serve(Box::new(settings)) })
}

fn parse(args: &[String]) -> Result<Given, ConfigError> {
    TABLE.parse(args).map_err(|error| ConfigError::Usage(error.0))
}

/// What flags and the file that they name say together.
fn values(given: Given) -> Result<Values, ConfigError> {
    let mut values = file::read(given.text("config-file"), &given.values)?;
    values.extend(given.values);
    Ok(values)
}
