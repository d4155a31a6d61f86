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
        let holder = self.holder(holder)?;
        let key = self.netns_path(holder);
        let netns = match (&holder.origin, &key) {
            (Origin::Host, _) => Netns::Host,
            (_, Some(path)) => Netns::Path(path.clone()),
            // Not made yet: nothing can be shared, least of all the host's.
            (_, None) => return Err(Error::NotRunning(holder.container.clone())),
        };
        Ok(Sandbox { id: holder.id.clone(), key, netns })
    }

    /// Who has the namespace that a container shares, through any number of containers.
    fn holder(&self, container: &str) -> Result<&SandboxRecord> {
        let mut at = container;
        for _ in 0..=self.sandboxes.len() {
            let state = self.sandboxes.get(at).ok_or_else(|| Error::NotRunning(at.to_owned()))?;
            match &state.record.origin {
                Origin::Shared { container } => at = container,
                _ => return Ok(&state.record),
            }
        }
        // They share in a circle.
        Err(Error::NotRunning(container.to_owned()))
    }

    /// The file that pins a sandbox's namespace.
    pub(super) fn netns_path(&self, record: &SandboxRecord) -> Option<PathBuf> {
        match &record.origin {
            Origin::Own | Origin::AfterCreate { adopted: true } => {
                Some(self.namespaces.path(&record.id))
            }
            Origin::Host => Some(self.namespaces.host_path()),
            Origin::Path { path } => Some(PathBuf::from(path)),
            Origin::Shared { container } => {
                self.holder(container).ok().and_then(|holder| self.netns_path(holder))
            }
            Origin::AfterCreate { adopted: false } => None,
        }
    }
}
