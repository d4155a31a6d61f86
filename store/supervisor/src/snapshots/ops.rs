//! What can be done with snapshots: prepare, commit, remove, look at.

use containerd_api::events as e;
use containerd_api::types::Mount;
use metastore::{Batch, Class};

use super::disk::Usage;
use super::{Kind, Place, SNAPSHOTS, Snapshot, Snapshotter, mounts};
use crate::labels::{self, Labels};
use crate::{Error, State};

fn missing(name: &str) -> Error {
    Error::NotFound(format!("snapshot {name} does not exist"))
}

fn exists(name: &str) -> Error {
    Error::AlreadyExists(format!("snapshot {name:?}"))
}

impl State {
    /// The snapshot `name`.
    pub fn snapshot(&self, place: &Place<'_>, name: &str) -> Result<Snapshot, Error> {
        self.store.get_json(SNAPSHOTS, &place.key(name))?.ok_or_else(|| missing(name))
    }

    /// All snapshots of the place, sorted by name.
    pub fn snapshots(&self, place: &Place<'_>) -> Result<Vec<(String, Snapshot)>, Error> {
        let prefix = place.key("");
        let rows = self.store.scan_json(SNAPSHOTS, &prefix)?.into_iter();
        let name = |key: &[u8]| String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
        Ok(rows.map(|(key, snapshot)| (name(&key), snapshot)).collect())
    }

    /// Makes a snapshot to write into ([`Kind::Active`]) or to look at ([`Kind::View`]), and
    /// says how to mount it.
    pub fn prepare(
        &self,
        place: &Place<'_>,
        kind: Kind,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Vec<Mount>, Error> {
        if key.is_empty() {
            return Err(Error::InvalidArgument("snapshot key must not be empty".into()));
        }
        refuse_remapping(&labels)?;
        if self.store.get(SNAPSHOTS, &place.key(key))?.is_some() {
            return Err(exists(key));
        }
        let stack = self.ancestors(place, parent)?;
        let seq = self.folders.next();
        // Files first, record second: an orphan folder is cleared at start, a record never lies.
        self.folders.create(place.snapshotter, kind, seq, &stack)?;
        let now = labels::now();
        let snapshot = Snapshot {
            seq,
            kind,
            parent: parent.into(),
            labels,
            created: now,
            updated: now,
            usage: None,
            boot_id: self.boot_id.clone(),
            synced: false,
            other: serde_json::Map::new(),
        };
        if let Err(error) = self.record_new(place, key, &snapshot) {
            self.folders.remove(seq);
            return Err(error);
        }
        if kind == Kind::Active {
            let event = e::SnapshotPrepare {
                key: key.into(),
                parent: parent.into(),
                snapshotter: place.snapshotter.name().into(),
            };
            self.events.publish(&place.context.namespace, "/snapshot/prepare", &event);
        }
        Ok(mounts::of(&self.folders, place.snapshotter, kind, seq, &stack))
    }

    fn record_new(&self, place: &Place<'_>, key: &str, snapshot: &Snapshot) -> Result<(), Error> {
        let _writing = self.write();
        if self.store.get(SNAPSHOTS, &place.key(key))?.is_some() {
            return Err(exists(key));
        }
        if !snapshot.parent.is_empty() {
            // It may have been removed since the stack was read.
            self.committed(place, &snapshot.parent)?;
        }
        let batch = self.with_namespace(place.context, Batch::default())?;
        let batch = self.with_lease(place.context, batch, &place.resource(), key)?;
        let batch = batch.put_json(SNAPSHOTS, place.key(key), snapshot)?;
        Ok(self.store.commit(Class::Crash, batch)?)
    }

    fn committed(&self, place: &Place<'_>, parent: &str) -> Result<Snapshot, Error> {
        let found: Option<Snapshot> = self.store.get_json(SNAPSHOTS, &place.key(parent))?;
        let Some(found) = found else {
            return Err(Error::NotFound(format!("parent snapshot {parent} does not exist")));
        };
        if found.kind != Kind::Committed {
            return Err(Error::InvalidArgument(format!(
                "failed to create snapshot: parent {parent:?} is not committed snapshot"
            )));
        }
        Ok(found)
    }

    // The folders below a snapshot whose parent is `parent`, nearest first.
    fn ancestors(&self, place: &Place<'_>, parent: &str) -> Result<Vec<u64>, Error> {
        let mut stack = Vec::new();
        let mut next = parent.to_owned();
        while !next.is_empty() {
            let found = self.committed(place, &next)?;
            stack.push(found.seq);
            next = found.parent;
        }
        Ok(stack)
    }

    /// How to mount a snapshot that is active or a view.
    pub fn mounts(&self, place: &Place<'_>, key: &str) -> Result<Vec<Mount>, Error> {
        let snapshot = self.snapshot(place, key)?;
        if snapshot.kind == Kind::Committed {
            return Err(Error::FailedPrecondition(format!(
                "failed to get active mount: requested snapshot {key} not active or view"
            )));
        }
        let stack = self.ancestors(place, &snapshot.parent)?;
        Ok(mounts::of(&self.folders, place.snapshotter, snapshot.kind, snapshot.seq, &stack))
    }

    /// Where a snapshot's own layer is.
    pub fn layer_path(&self, snapshot: &Snapshot) -> std::path::PathBuf {
        self.folders.fs(snapshot.seq)
    }

    /// Finishes the active snapshot `key` under the name `name`.
    ///
    /// `parent` joins a snapshot that was prepared without one onto a stack; empty keeps its own.
    pub fn commit_snapshot(
        &self,
        place: &Place<'_>,
        name: &str,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<(), Error> {
        if name.is_empty() {
            return Err(Error::InvalidArgument("snapshot name must not be empty".into()));
        }
        refuse_remapping(&labels)?;
        {
            let _writing = self.write();
            if self.store.get(SNAPSHOTS, &place.key(name))?.is_some() {
                return Err(exists(name));
            }
            let mut snapshot = self.snapshot(place, key)?;
            if snapshot.kind != Kind::Active {
                return Err(Error::FailedPrecondition(format!(
                    "failed to commit snapshot {key}: snapshot {key:?} is not active"
                )));
            }
            self.join(place, &mut snapshot, parent)?;
            let now = labels::now();
            snapshot.kind = Kind::Committed;
            snapshot.labels = labels;
            (snapshot.created, snapshot.updated) = (now, now);
            snapshot.boot_id.clone_from(&self.boot_id);
            snapshot.synced = false;
            let batch = Batch::default().delete(SNAPSHOTS, place.key(key));
            let batch = self.without_lease(place.context, batch, &place.resource(), key);
            let batch = self.with_lease(place.context, batch, &place.resource(), name)?;
            let batch = batch.put_json(SNAPSHOTS, place.key(name), &snapshot)?;
            self.store.commit(Class::Crash, batch)?;
        }
        let event = e::SnapshotCommit {
            key: key.into(),
            name: name.into(),
            snapshotter: place.snapshotter.name().into(),
        };
        self.events.publish(&place.context.namespace, "/snapshot/commit", &event);
        self.folders.unsynced.notify_one();
        Ok(())
    }

    fn join(&self, place: &Place<'_>, snapshot: &mut Snapshot, parent: &str) -> Result<(), Error> {
        if parent.is_empty() || parent == snapshot.parent {
            return Ok(());
        }
        if !snapshot.parent.is_empty() {
            return Err(Error::InvalidArgument(format!(
                "snapshot has parent {:?}, it can't be committed onto {parent:?}",
                snapshot.parent
            )));
        }
        if place.snapshotter == Snapshotter::Native {
            let what = "committing a native snapshot onto another parent";
            return Err(Error::Unimplemented(what.into()));
        }
        self.committed(place, parent)?;
        snapshot.parent = parent.into();
        Ok(())
    }

    /// Removes a snapshot that nothing is built on; its files are unlinked behind.
    pub fn remove_snapshot(&self, place: &Place<'_>, key: &str) -> Result<(), Error> {
        let snapshot = {
            let _writing = self.write();
            let snapshot = self.snapshot(place, key)?;
            // Only committed ones can have children: containers' removals need no scan.
            if snapshot.kind == Kind::Committed
                && self.snapshots(place)?.iter().any(|(_, child)| child.parent == key)
            {
                let what = "cannot remove snapshot with child";
                return Err(Error::FailedPrecondition(what.into()));
            }
            let batch = Batch::default().delete(SNAPSHOTS, place.key(key));
            let batch = self.without_lease(place.context, batch, &place.resource(), key);
            self.store.commit(Class::Crash, batch)?;
            snapshot
        };
        self.folders.remove(snapshot.seq);
        let event =
            e::SnapshotRemove { key: key.into(), snapshotter: place.snapshotter.name().into() };
        self.events.publish(&place.context.namespace, "/snapshot/remove", &event);
        self.gc.trigger();
        Ok(())
    }

    /// Changes labels: all of them when `paths` is empty, else those it names.
    pub fn update_snapshot(
        &self,
        place: &Place<'_>,
        key: &str,
        wanted: &Labels,
        paths: &[String],
    ) -> Result<Snapshot, Error> {
        let _writing = self.write();
        let mut snapshot = self.snapshot(place, key)?;
        if paths.is_empty() {
            snapshot.labels.clone_from(wanted);
        }
        for path in paths {
            if !labels::apply(&mut snapshot.labels, wanted, path) {
                return Err(Error::InvalidArgument(format!(
                    "cannot update {path:?} field on snapshot {key:?}"
                )));
            }
        }
        refuse_remapping(&snapshot.labels)?;
        snapshot.updated = labels::now();
        let batch = Batch::default().put_json(SNAPSHOTS, place.key(key), &snapshot)?;
        self.store.commit(Class::Crash, batch)?;
        Ok(snapshot)
    }

    /// What a snapshot's own layer takes on disk; measured once for a committed one. Blocks.
    pub fn snapshot_usage(&self, place: &Place<'_>, key: &str) -> Result<Usage, Error> {
        let snapshot = self.snapshot(place, key)?;
        match (snapshot.kind, snapshot.usage) {
            (Kind::Committed, Some(usage)) => return Ok(usage),
            (Kind::View, _) => return Ok(Usage::default()),
            _ => {}
        }
        let usage = self.folders.usage(snapshot.seq)?;
        if snapshot.kind == Kind::Committed {
            let _writing = self.write();
            // It may have been removed or labelled meanwhile.
            if let Ok(mut now) = self.snapshot(place, key)
                && now.seq == snapshot.seq
            {
                now.usage = Some(usage);
                let batch = Batch::default().put_json(SNAPSHOTS, place.key(key), &now)?;
                self.store.commit(Class::Crash, batch)?;
            }
        }
        Ok(usage)
    }
}

// containerd's labels by which a snapshot's files get other owners.
fn refuse_remapping(labels: &Labels) -> Result<(), Error> {
    for label in ["containerd.io/snapshot/uidmapping", "containerd.io/snapshot/gidmapping"] {
        if labels.contains_key(label) {
            return Err(Error::Unimplemented(format!("snapshot label {label}")));
        }
    }
    Ok(())
}
