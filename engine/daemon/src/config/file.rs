//! `daemon.json`: where it is, and what it says.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use options::{Values, go_error};

use super::ConfigError;
use super::options::TABLE;

const DEFAULT: &str = "/etc/ferry/daemon.json";

/// Reads the file that the flags name; without one, the default file if there is one.
pub(super) fn read(named: Option<&str>, from_flags: &Values) -> Result<Values, ConfigError> {
    let path = PathBuf::from(named.unwrap_or(DEFAULT));
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => String::new(),
        Err(error) => {
            return Err(failed(&path, format!("open {}: {}", path.display(), go_error(&error))));
        }
    };
    TABLE.read_file(&text, from_flags).map_err(|why| failed(&path, why))
}

fn failed(path: &Path, why: String) -> ConfigError {
    ConfigError::File { path: path.to_owned(), why }
}
