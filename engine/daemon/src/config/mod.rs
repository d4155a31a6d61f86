//! How ferryd is configured: dockerd's flags and `daemon.json` keys, for what exists.
//!
//! [`options`] is the one table of both; [`flags`] and [`file`] read each source into
//! plain values; [`Settings`] is what the rest of the daemon sees. An unknown flag or key
//! is an error that names it, one that Ferry does not have yet as well.

mod file;
mod flags;
mod options;
mod settings;

use std::path::PathBuf;

use thiserror::Error;

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

/// Reads flags, then the file that they name (or the default one, which may be missing),
/// and puts both together.
///
/// # Errors
/// A [`ConfigError`] that names the flag, key or file.
pub fn read(args: &[String]) -> Result<Request, ConfigError> {
    let given = flags::parse(args)?;
    if given.help {
        return Ok(Request::Help(options::help()));
    }
    if given.version {
        return Ok(Request::Version);
    }
    let from_file = file::read(given.config_file.as_deref(), &given.values)?;
    let mut values = from_file;
    values.extend(given.values);
    let settings = Settings::from_values(&values).map_err(ConfigError::Value)?;
    Ok(if given.validate { Request::Valid } else { Request::Serve(Box::new(settings)) })
}
