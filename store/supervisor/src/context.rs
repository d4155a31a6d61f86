//! What a call says about itself: its namespace and its lease, from gRPC metadata.

use containerd_api::{LEASE_KEY, NAMESPACE_KEY};
use tonic::metadata::MetadataMap;

use crate::Error;

/// Longest identifier (namespace, container, lease), in bytes.
const MAX_IDENTIFIER: usize = 76;

/// Namespace and lease of a call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Context {
    /// The namespace that all names of the call belong to.
    pub namespace: String,
    /// The lease that keeps what the call makes.
    pub lease: Option<String>,
}

impl Context {
    /// A context in `namespace` without lease.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), lease: None }
    }

    /// The same with a lease.
    pub fn with_lease(&self, lease: impl Into<String>) -> Self {
        Self { namespace: self.namespace.clone(), lease: Some(lease.into()) }
    }

    /// From a request's metadata.
    ///
    /// # Errors
    /// [`Error::FailedPrecondition`] without a namespace, [`Error::InvalidArgument`] for a wrong one.
    pub fn from_metadata(metadata: &MetadataMap) -> Result<Self, Error> {
        let text = |key| metadata.get(key).and_then(|v| v.to_str().ok()).filter(|v| !v.is_empty());
        let Some(namespace) = text(NAMESPACE_KEY) else {
            return Err(Error::FailedPrecondition("namespace is required".into()));
        };
        check_identifier(namespace)
            .map_err(|e| Error::InvalidArgument(format!("namespace validation: {e}")))?;
        Ok(Self { namespace: namespace.into(), lease: text(LEASE_KEY).map(Into::into) })
    }

    /// The key of `name` within this namespace.
    pub fn key(&self, name: &str) -> Vec<u8> {
        [self.namespace.as_bytes(), b"\0", name.as_bytes()].concat()
    }

    /// What all keys of this namespace begin with.
    pub fn prefix(&self) -> Vec<u8> {
        self.key("")
    }
}

/// The name within a key that [`Context::key`] made.
pub fn name_of(key: &[u8]) -> String {
    let at = key.iter().position(|&b| b == 0).map_or(0, |at| at + 1);
    String::from_utf8_lossy(&key[at..]).into_owned()
}

/// The namespace within a key that [`Context::key`] made.
pub fn namespace_of(key: &[u8]) -> String {
    let end = key.iter().position(|&b| b == 0).unwrap_or(key.len());
    String::from_utf8_lossy(&key[..end]).into_owned()
}

/// Checks an identifier as containerd does: words joined by single `.`, `_` or `-`.
pub fn check_identifier(s: &str) -> Result<(), String> {
    if s.is_empty() {
        return Err("identifier must not be empty: invalid argument".into());
    }
    if s.len() > MAX_IDENTIFIER {
        return Err(format!(
            "identifier {s:?} greater than maximum length ({MAX_IDENTIFIER} characters): invalid argument"
        ));
    }
    let word = |w: &str| !w.is_empty() && w.bytes().all(|b| b.is_ascii_alphanumeric());
    if !s.split(['.', '_', '-']).all(word) {
        return Err(format!(
            "identifier {s:?} must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument"
        ));
    }
    Ok(())
}

/// Checks a label as containerd does: key and value together at most 4096 bytes.
pub fn check_label(key: &str, value: &str) -> Result<(), Error> {
    const MAX: usize = 4096;
    let total = key.len() + value.len();
    if total <= MAX {
        return Ok(());
    }
    let shown: String = key.chars().take(64).collect();
    Err(Error::InvalidArgument(format!(
        "label key and value length ({total} bytes) greater than maximum size ({MAX} bytes), key: {shown}"
    )))
}
