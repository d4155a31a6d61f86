//! Docker's `certs.d/HOST`: `*.crt` are authorities, `*.cert` and `*.key` pairs are ours.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::ConfigError;

/// Where a host's certificates are, and whether the server's is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Files with authorities that are trusted besides the system's.
    pub ca: Vec<PathBuf>,
    /// Files with certificate and key that the client shows; the same file twice when it
    /// holds both.
    pub client: Vec<(PathBuf, PathBuf)>,
    /// Do not verify the server's certificate.
    pub skip_verify: bool,
}

impl TlsFiles {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What a folder of `certs.d` holds, by docker's rules.
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let failed = |cause| ConfigError::Read { path: folder.into(), cause };
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            names.push(entry.map_err(failed)?.path());
        }
        names.sort();
        let mut found = Self::default();
        for path in &names {
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => found.ca.push(path.clone()),
                Some("cert") => {
                    let key = path.with_extension("key");
                    if !names.contains(&key) {
                        return Err(ConfigError::Value(format!(
                            "missing key {} for client certificate {}. CA certificates must use \
                             the extension .crt",
                            name(&key),
                            name(path)
                        )));
                    }
                    found.client.push((path.clone(), key));
                }
                Some("key") => {
                    let cert = path.with_extension("cert");
                    if !names.contains(&cert) {
                        return Err(ConfigError::Value(format!(
                            "missing client certificate {} for key {}",
                            name(&cert),
                            name(path)
                        )));
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// A file's text, up to a bound.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, ConfigError> {
    let failed = |cause| ConfigError::Read { path: path.into(), cause };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > limit {
        let why = format!("larger than {limit} bytes");
        return Err(ConfigError::Content { path: path.into(), why });
    }
    Ok(text)
}
