//! Labels and field masks, alike for every kind of record.

use std::collections::{BTreeMap, HashMap};

use containerd_api::prost_types::FieldMask;

use crate::Error;
use crate::context::check_label;

/// Labels of a record, sorted.
pub type Labels = BTreeMap<String, String>;

/// Checks every label of a request and sorts them.
pub fn checked<S>(labels: HashMap<String, String, S>) -> Result<Labels, Error> {
    labels.iter().try_for_each(|(key, value)| check_label(key, value))?;
    Ok(labels.into_iter().collect())
}

/// The paths of a mask; none means all mutable fields.
pub fn paths(mask: Option<FieldMask>) -> Vec<String> {
    mask.map(|mask| mask.paths).unwrap_or_default()
}

/// Applies one path of a mask if it is `labels` or `labels.KEY`; says whether it was.
///
/// An empty value removes a label, as containerd has it.
pub fn apply(labels: &mut Labels, wanted: &Labels, path: &str) -> bool {
    if path == "labels" {
        labels.clone_from(wanted);
        return true;
    }
    let Some(key) = path.strip_prefix("labels.") else { return false };
    match wanted.get(key).filter(|value| !value.is_empty()) {
        Some(value) => labels.insert(key.into(), value.clone()),
        None => labels.remove(key),
    };
    true
}

/// The value that a filter finds under `labels.KEY`, the key being the rest of the path.
pub fn field(labels: &Labels, path: &[&str]) -> Option<String> {
    labels.get(&path.join(".")).cloned()
}

/// Nanoseconds since the epoch, now.
pub fn now() -> i64 {
    containerd_api::time::nanos(std::time::SystemTime::now())
}
