//! Sandboxes: which namespace a container gets, recorded before it is used.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::{Networks, SandboxState};
use crate::records::{Origin, SandboxRecord};
use crate::sandbox::Namespaces;
use crate::types::{Netns, Sandbox, SandboxId, SandboxKind};
use crate::{Error, Result};

impl Networks {
    /// Gives the container its sandbox; the one it has already, when it was not released.
    pub fn sandbox(&mut self, container: &str, kind: SandboxKind) -> Result<Sandbox> {
        if self.sandboxes.contains_key(container) {
            return self.describe(container);
        }
        let mut ready = None;
        let (id, origin) = match kind {
            SandboxKind::Own => {
                let taken = self.namespaces.take()?;
                let id = taken.id.clone();
                ready = Some(taken);
                (id, Origin::Own)
            }
            SandboxKind::Host => (SandboxId::random()?, Origin::Host),
            SandboxKind::Container(other) => {
                if !self.sandboxes.contains_key(&other) {
                    return Err(Error::NotRunning(other));
                }
                // An id of its own for the record; what is shown is the holder's.
                (SandboxId::random()?, Origin::Shared { container: other })
            }
            SandboxKind::Path(path) => {
                // Checked now, so that a bad path fails before anything is made.
                Namespaces::open_pin(&path)?;
                let path = path.to_string_lossy().into_owned();
                (SandboxId::random()?, Origin::Path { path })
            }
            SandboxKind::AfterCreate => {
                (SandboxId::random()?, Origin::AfterCreate { adopted: false })
            }
        };
        let record = SandboxRecord { id, container: container.to_owned(), origin };
        if let Err(error) = self.records.put_sandbox(&record) {
            if let Some(ready) = ready {
                self.namespaces.give_back(ready);
            }
            return Err(error);
        }
        let state = SandboxState { record, ready, endpoints: Vec::new(), unmade: 0 };
        self.sandboxes.insert(container.to_owned(), state);
        self.describe(container)
    }

    /// Takes the namespace that the runtime made for a container whose sandbox is `AfterCreate`,
    /// and pins it; endpoints can be connected from then on.
    pub fn adopt(&mut self, container: &str, netns: &OwnedFd) -> Result<Sandbox> {
        let state = self
            .sandboxes
            .get_mut(container)
            .ok_or_else(|| Error::NoSandbox(container.to_owned()))?;
        if state.record.origin != (Origin::AfterCreate { adopted: false }) {
            return Err(Error::Refused(format!(
                "container {container} has a network namespace already"
            )));
        }
        let mut record = state.record.clone();
        record.origin = Origin::AfterCreate { adopted: true };
        self.records.put_sandbox(&record)?;
        state.record = record;
        let id = state.record.id.clone();
        self.namespaces.pin(&id, netns)?;
        self.describe(container)
    }

    /// The sandbox a container has.
    pub fn describe(&self, container: &str) -> Result<Sandbox> {
        let state =
            self.sandboxes.get(container).ok_or_else(|| Error::NoSandbox(container.to_owned()))?;
        let record = &state.record;
        let id = record.id.clone();
        let key = self.netns_path(record);
        let netns = match &record.origin {
            Origin::Host => Netns::Host,
            Origin::AfterCreate { adopted: false } => Netns::New,
            Origin::Shared { container } => return self.shared(container),
            _ => Netns::Path(key.clone().unwrap_or_default()),
        };
        Ok(Sandbox { id, key, netns })
    }

    fn shared(&self, holder: &str) -> Result<Sandbox> {
        let holder =
            self.sandboxes.get(holder).ok_or_else(|| Error::NotRunning(holder.to_owned()))?;
        let key = self.netns_path(&holder.record);
        let netns = match (&holder.record.origin, &key) {
            (Origin::Host, _) | (_, None) => Netns::Host,
            (_, Some(path)) => Netns::Path(path.clone()),
        };
        Ok(Sandbox { id: holder.record.id.clone(), key, netns })
    }

    /// The file that pins a sandbox's namespace.
    pub(super) fn netns_path(&self, record: &SandboxRecord) -> Option<PathBuf> {
        match &record.origin {
            Origin::Own | Origin::AfterCreate { adopted: true } => {
                Some(self.namespaces.path(&record.id))
            }
            Origin::Host => Some(self.config.exec_root.join("netns/default")),
            Origin::Path { path } => Some(PathBuf::from(path)),
            Origin::Shared { container } => {
                let holder = self.sandboxes.get(container)?;
                // One step only: a shared sandbox is never shared again under its own name.
                match holder.record.origin {
                    Origin::Shared { .. } => None,
                    _ => self.netns_path(&holder.record),
                }
            }
            Origin::AfterCreate { adopted: false } => None,
        }
    }
}
