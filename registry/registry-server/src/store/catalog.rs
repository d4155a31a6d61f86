//! The list of repositories, in ASCII order of their whole names, read lazily: a page costs what
//! it shows, not what the store holds.

use std::fs;
use std::path::Path;

use super::error::optional;
use super::{Store, StoreError};
use crate::name::Repository;

impl Store {
    /// The first `limit` repositories after `last`, and whether there are more.
    pub fn repositories(
        &self,
        last: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Repository>, bool), StoreError> {
        let mut found = Vec::new();
        let more = !self.each_repository(last, &mut |name| {
            if found.len() == limit {
                return Ok(false);
            }
            found.push(name);
            Ok(true)
        })?;
        Ok((found, more))
    }

    /// Calls `visit` with each repository after `last` until it says no. Returns whether it
    /// never did.
    pub(super) fn each_repository(
        &self,
        last: Option<&str>,
        visit: &mut dyn FnMut(Repository) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        self.walk(&self.layout.repositories(), "", last, visit)
    }

    fn walk(
        &self,
        folder: &Path,
        prefix: &str,
        last: Option<&str>,
        visit: &mut dyn FnMut(Repository) -> Result<bool, StoreError>,
    ) -> Result<bool, StoreError> {
        for step in steps(folder, prefix)? {
            if let Some(name) = step.strip_suffix('/') {
                // Everything below begins with this; `last` may be among it.
                let passed = |last: &str| last > step.as_str() && !last.starts_with(step.as_str());
                let path = self.layout.repositories().join(name);
                if !last.is_some_and(passed) && !self.walk(&path, &step, last, visit)? {
                    return Ok(false);
                }
                continue;
            }
            let Ok(name) = step.parse::<Repository>() else { continue };
            let after = last.is_none_or(|last| name.as_str() > last);
            if after && self.has_repository(&name) && !visit(name)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What is in a folder, in order: `name` stands for the repository of that name, `name/` for
/// those below it, which come later than `name-x`.
fn steps(folder: &Path, prefix: &str) -> Result<Vec<String>, StoreError> {
    let entries = optional(fs::read_dir(folder)).map_err(StoreError::at("reading", folder))?;
    let mut steps = Vec::new();
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with(['_', '.'])) else {
            continue;
        };
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            steps.extend([format!("{prefix}{name}"), format!("{prefix}{name}/")]);
        }
    }
    steps.sort_unstable();
    Ok(steps)
}
