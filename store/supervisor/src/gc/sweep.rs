//! Sweeping: unmarked records in one batch, then their files. Blocks.

use std::collections::{HashMap, HashSet};

use containerd_api::events::{ContentDelete, SnapshotRemove};
use containerd_api::services::images::v1::ImageDelete;
use metastore::{Batch, Class, fault};

use super::mark::{self, Namespace, Node};
use crate::content::{BLOBS, INGESTS};
use crate::images::IMAGES;
use crate::leases::{LEASES, RESOURCES};
use crate::snapshots::SNAPSHOTS;
use crate::{Context, Error, State, labels};

/// What one collection took away.
#[derive(Debug, Default)]
pub(super) struct Swept {
    nodes: Vec<(String, Node)>,
    leases: usize,
    files: usize,
    seqs: Vec<u64>,
    ingests: Vec<String>,
}

impl Swept {
    /// Whether there was nothing to take.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.leases == 0 && self.files == 0
    }
}

/// One collection.
pub(super) fn run(state: &State) -> Result<Swept, Error> {
    let mut swept = records(state)?;
    fault::point("swept");
    for &seq in &swept.seqs {
        state.folders.remove(seq);
    }
    for id in &swept.ingests {
        fault::point("swept-ingest");
        let _ = std::fs::remove_dir_all(state.root.join("content/ingest").join(id));
    }
    for (namespace, node) in &swept.nodes {
        publish(state, namespace, node);
    }
    swept.files = files(state)?;
    orphan_ingests(state)?;
    Ok(swept)
}

fn records(state: &State) -> Result<Swept, Error> {
    let before = state.store.position();
    let now = labels::now();
    let (mut swept, mut batch) = plan(state, &mark::load(state)?, now)?;
    if batch.is_empty() {
        return Ok(swept);
    }
    let _writing = state.write();
    if state.store.position() != before {
        // Something was written since: look again, now that nothing can be.
        (swept, batch) = plan(state, &mark::load(state)?, now)?;
    }
    state.store.commit(Class::Crash, batch)?;
    Ok(swept)
}

fn plan(
    state: &State,
    all: &HashMap<String, Namespace>,
    now: i64,
) -> Result<(Swept, Batch), Error> {
    let mut swept = Swept::default();
    let mut batch = Batch::default();
    for (name, namespace) in all {
        let context = Context::new(name.as_str());
        let marked = namespace.mark(now);
        batch = sweep_nodes(state, &context, namespace, &marked, &mut swept, batch);
        for (id, lease) in &namespace.leases {
            if mark::expired(&lease.labels, now) {
                swept.leases += 1;
                batch = batch.delete(LEASES, context.key(id));
                for (key, _) in state.store.scan(RESOURCES, &context.key(&format!("{id}\0")))? {
                    batch = batch.delete(RESOURCES, key);
                }
            }
        }
    }
    Ok((swept, batch))
}

fn sweep_nodes(
    state: &State,
    context: &Context,
    namespace: &Namespace,
    marked: &HashSet<Node>,
    swept: &mut Swept,
    mut batch: Batch,
) -> Batch {
    let mut nodes = Vec::new();
    let mut dead = |node: Node| {
        let dead = !marked.contains(&node);
        if dead {
            nodes.push((context.namespace.clone(), node));
        }
        dead
    };
    for digest in namespace.blobs.keys() {
        if dead(Node::Content(digest.clone())) {
            batch = batch.delete(BLOBS, context.key(digest));
        }
    }
    for name in namespace.images.keys() {
        if dead(Node::Image(name.clone())) {
            batch = batch.delete(IMAGES, context.key(name));
        }
    }
    for ((snapshotter, key), snapshot) in &namespace.snapshots {
        if dead(Node::Snapshot(snapshotter.clone(), key.clone())) {
            swept.seqs.push(snapshot.seq);
            batch = batch.delete(SNAPSHOTS, context.key(&format!("{snapshotter}\0{key}")));
        }
    }
    for (reference, ingest) in &namespace.ingests {
        let key = context.key(reference);
        if !state.open_refs.contains(&key) && dead(Node::Ingest(reference.clone())) {
            swept.ingests.push(ingest.id.clone());
            batch = batch.delete(INGESTS, key);
        }
    }
    swept.nodes.append(&mut nodes);
    batch
}

fn publish(state: &State, namespace: &str, node: &Node) {
    match node {
        Node::Content(digest) => {
            let event = ContentDelete { digest: digest.clone() };
            state.events.publish(namespace, "/content/delete", &event);
        }
        Node::Snapshot(snapshotter, key) => {
            let event = SnapshotRemove { key: key.clone(), snapshotter: snapshotter.clone() };
            state.events.publish(namespace, "/snapshot/remove", &event);
        }
        Node::Image(name) => {
            let event = ImageDelete { name: name.clone() };
            state.events.publish(namespace, "/images/delete", &event);
        }
        Node::Ingest(_) => {}
    }
}

// Unlinks blob files that no namespace knows.
fn files(state: &State) -> Result<usize, Error> {
    let mut known: HashSet<String> = HashSet::new();
    for (key, _) in state.store.scan(BLOBS, b"")? {
        known.insert(crate::context::name_of(&key));
    }
    let mut count = 0;
    for algorithm in oci::Algorithm::ALL {
        let folder = state.root.join("content/blobs").join(algorithm.as_str());
        let Ok(entries) = folder.read_dir() else { continue };
        for entry in entries.flatten() {
            let name = format!("{algorithm}:{}", entry.file_name().to_string_lossy());
            if !known.contains(&name) && unlink(state, &name)? {
                count += 1;
            }
        }
    }
    Ok(count)
}

// Under the lock, and only if it got no record since.
fn unlink(state: &State, name: &str) -> Result<bool, Error> {
    let Ok(digest) = name.parse() else { return Ok(false) };
    let _writing = state.write();
    if state.pending_blobs.contains(&digest) {
        return Ok(false);
    }
    for (namespace, _) in state.namespaces()? {
        if state.store.get(BLOBS, &Context::new(namespace).key(name))?.is_some() {
            return Ok(false);
        }
    }
    let path = state.blob_path(&digest);
    fault::point("blob-unlinking");
    std::fs::remove_file(&path).map_err(Error::io(format!("unlinking {}", path.display())))?;
    Ok(true)
}

// Removes ingest folders that no record names, left by a crash between the two.
fn orphan_ingests(state: &State) -> Result<(), Error> {
    let Ok(entries) = state.root.join("content/ingest").read_dir() else { return Ok(()) };
    // The folders first, the records second: a folder is made after its record.
    let folders: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    let mut known: HashSet<String> = HashSet::new();
    for (_, ingest) in state.store.scan_json::<crate::content::Ingest>(INGESTS, b"")? {
        known.insert(ingest.id);
    }
    for name in folders {
        if !known.contains(&*name.to_string_lossy()) {
            let _ = std::fs::remove_dir_all(state.root.join("content/ingest").join(name));
        }
    }
    Ok(())
}
