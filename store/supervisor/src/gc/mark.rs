//! Marking: which records are reachable. Reads records, changes nothing.

use std::collections::{HashMap, HashSet};

use containerd_api::services::containers::v1::Container;

use crate::content::{BLOBS, INGESTS, Info, Ingest};
use crate::context::{name_of, namespace_of};
use crate::images::{IMAGES, Image};
use crate::labels::Labels;
use crate::leases::{EXPIRE, LEASES, Lease, RESOURCES, parse_resource};
use crate::snapshots::{SNAPSHOTS, Snapshot};
use crate::{Error, State};

const ROOT: &str = "containerd.io/gc.root";
const FLAT: &str = "containerd.io/gc.flat";
const REF: &str = "containerd.io/gc.ref.";
const BACK_REF: &str = "containerd.io/gc.bref.";

/// Something that can be collected, within its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Node {
    Content(String),
    /// Snapshotter and key.
    Snapshot(String, String),
    Ingest(String),
    Image(String),
}

impl Node {
    // Of a lease's resource: `content`, `snapshots/NAME`, `images`, `ingests`.
    fn of(kind: &str, id: &str) -> Option<Self> {
        Some(match kind.split_once('/') {
            Some(("snapshots", snapshotter)) => Self::Snapshot(snapshotter.into(), id.into()),
            None if kind == "content" => Self::Content(id.into()),
            None if kind == "images" => Self::Image(id.into()),
            None if kind == "ingests" => Self::Ingest(id.into()),
            _ => return None,
        })
    }
}

/// All records of one namespace, as far as the collector needs them.
#[derive(Default)]
pub(super) struct Namespace {
    pub blobs: HashMap<String, Labels>,
    pub snapshots: HashMap<(String, String), Snapshot>,
    pub images: HashMap<String, Image>,
    pub ingests: HashMap<String, Ingest>,
    pub leases: HashMap<String, Lease>,
    resources: Vec<(String, Node)>,
    containers: Vec<Container>,
}

/// Reads all records, by namespace.
pub(super) fn load(state: &State) -> Result<HashMap<String, Namespace>, Error> {
    let store = &state.store;
    let mut all: HashMap<String, Namespace> = HashMap::new();
    for (key, info) in store.scan_json::<Info>(BLOBS, b"")? {
        all.entry(namespace_of(&key)).or_default().blobs.insert(name_of(&key), info.labels);
    }
    for (key, snapshot) in store.scan_json::<Snapshot>(SNAPSHOTS, b"")? {
        if let Some((snapshotter, name)) = name_of(&key).split_once('\0') {
            let place = (snapshotter.to_owned(), name.to_owned());
            all.entry(namespace_of(&key)).or_default().snapshots.insert(place, snapshot);
        }
    }
    for (key, image) in store.scan_json::<Image>(IMAGES, b"")? {
        all.entry(namespace_of(&key)).or_default().images.insert(name_of(&key), image);
    }
    for (key, ingest) in store.scan_json::<Ingest>(INGESTS, b"")? {
        all.entry(namespace_of(&key)).or_default().ingests.insert(name_of(&key), ingest);
    }
    for (key, lease) in store.scan_json::<Lease>(LEASES, b"")? {
        all.entry(namespace_of(&key)).or_default().leases.insert(name_of(&key), lease);
    }
    for (key, _) in store.scan(RESOURCES, b"")? {
        let name = name_of(&key);
        if let Some((lease, rest)) = name.split_once('\0')
            && let Some(resource) = parse_resource(rest.as_bytes())
            && let Some(node) = Node::of(&resource.kind, &resource.id)
        {
            let resources = &mut all.entry(namespace_of(&key)).or_default().resources;
            resources.push((lease.to_owned(), node));
        }
    }
    for (key, bytes) in store.scan(crate::containers::CONTAINERS, b"")? {
        let container = crate::containers::decode(&key, &bytes)?;
        all.entry(namespace_of(&key)).or_default().containers.push(container);
    }
    Ok(all)
}

/// Whether a `gc.expire` label says that its time has passed.
pub(super) fn expired(labels: &Labels, now: i64) -> bool {
    let Some(text) = labels.get(EXPIRE) else { return false };
    // A label that is no time expires nothing.
    text.parse::<jiff::Timestamp>().is_ok_and(|at| at.as_nanosecond() < i128::from(now))
}

impl Namespace {
    /// All that is reachable at `now` (nanoseconds since the epoch).
    pub(super) fn mark(&self, now: i64) -> HashSet<Node> {
        let mut marked = HashSet::new();
        let mut flat = HashSet::new();
        let mut queue = Vec::new();
        let back = self.back_references();
        self.lease_roots(now, &mut flat, &mut queue);
        queue.extend(self.roots(now));
        while let Some(node) = queue.pop() {
            if marked.insert(node.clone()) {
                queue.extend(self.references(&node));
                queue.extend(back.get(&node).into_iter().flatten().cloned());
            }
        }
        marked.extend(flat);
        marked
    }

    fn lease_roots(&self, now: i64, flat: &mut HashSet<Node>, queue: &mut Vec<Node>) {
        for (lease, node) in &self.resources {
            let Some(lease) = self.leases.get(lease) else { continue };
            if expired(&lease.labels, now) {
                continue;
            }
            // What a flat lease keeps does not keep what it refers to, save a snapshot its parents.
            if lease.labels.contains_key(FLAT) {
                flat.insert(node.clone());
                queue.extend(self.parent(node));
            } else {
                queue.push(node.clone());
            }
        }
    }

    fn roots(&self, now: i64) -> Vec<Node> {
        let mut roots = Vec::new();
        for (name, image) in &self.images {
            if !expired(&image.labels, now) {
                roots.push(Node::Image(name.clone()));
            }
        }
        for (reference, ingest) in &self.ingests {
            if ingest.expires > now {
                roots.push(Node::Ingest(reference.clone()));
            }
        }
        let rooted = |labels: &Labels| labels.contains_key(ROOT);
        for (digest, _) in self.blobs.iter().filter(|(_, labels)| rooted(labels)) {
            roots.push(Node::Content(digest.clone()));
        }
        for ((snapshotter, key), _) in self.snapshots.iter().filter(|(_, s)| rooted(&s.labels)) {
            roots.push(Node::Snapshot(snapshotter.clone(), key.clone()));
        }
        for container in &self.containers {
            if !container.snapshot_key.is_empty() {
                let (snapshotter, key) = (&container.snapshotter, &container.snapshot_key);
                roots.push(Node::Snapshot(snapshotter.clone(), key.clone()));
            }
            let labels = container.labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            roots.extend(label_references(labels));
        }
        roots
    }

    fn references(&self, node: &Node) -> Vec<Node> {
        let mut nodes = Vec::new();
        let labels = match node {
            Node::Content(digest) => self.blobs.get(digest),
            Node::Snapshot(snapshotter, key) => {
                nodes.extend(self.parent(node));
                self.snapshots.get(&(snapshotter.clone(), key.clone())).map(|s| &s.labels)
            }
            Node::Ingest(reference) => {
                let expected = self.ingests.get(reference).and_then(|i| i.expected);
                nodes.extend(expected.map(|digest| Node::Content(digest.to_string())));
                None
            }
            Node::Image(name) => self.images.get(name).map(|image| {
                nodes.push(Node::Content(image.target.digest.to_string()));
                &image.labels
            }),
        };
        if let Some(labels) = labels {
            let labels = labels.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            nodes.extend(label_references(labels));
        }
        nodes
    }

    fn parent(&self, node: &Node) -> Option<Node> {
        let Node::Snapshot(snapshotter, key) = node else { return None };
        let snapshot = self.snapshots.get(&(snapshotter.clone(), key.clone()))?;
        let parent = (!snapshot.parent.is_empty()).then(|| snapshot.parent.clone())?;
        Some(Node::Snapshot(snapshotter.clone(), parent))
    }

    // What is kept because something else is: from the thing referred to, to who says so.
    fn back_references(&self) -> HashMap<Node, Vec<Node>> {
        let mut back: HashMap<Node, Vec<Node>> = HashMap::new();
        let mut add = |labels: &Labels, node: &Node| {
            for (key, value) in labels {
                if let Some(rest) = key.strip_prefix(BACK_REF)
                    && let Some(target) = label_target(rest, value)
                {
                    back.entry(target).or_default().push(node.clone());
                }
            }
        };
        for (digest, labels) in &self.blobs {
            add(labels, &Node::Content(digest.clone()));
        }
        for ((snapshotter, key), snapshot) in &self.snapshots {
            add(&snapshot.labels, &Node::Snapshot(snapshotter.clone(), key.clone()));
        }
        back
    }
}

fn label_references<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Node> {
    labels.filter_map(|(key, value)| label_target(key.strip_prefix(REF)?, value)).collect()
}

// The rest of a label after `gc.ref.`: `content`, `content.X`, `content/X`, `snapshot.NAME`,
// `snapshot.NAME/X`, `image`, `image.X`, `image/X`.
fn label_target(rest: &str, value: &str) -> Option<Node> {
    let tail = |name: &str| {
        rest.strip_prefix(name).is_some_and(|t| t.is_empty() || t.starts_with(['.', '/']))
    };
    if tail("content") {
        return Some(Node::Content(value.into()));
    }
    if tail("image") {
        return Some(Node::Image(value.into()));
    }
    let snapshotter = rest.strip_prefix("snapshot.")?;
    let snapshotter = snapshotter.split_once('/').map_or(snapshotter, |(name, _)| name);
    Some(Node::Snapshot(snapshotter.into(), value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_name_what_they_refer_to() {
        let snapshot = |key: &str| Some(Node::Snapshot("overlayfs".into(), key.into()));
        assert_eq!(label_target("content", "d"), Some(Node::Content("d".into())));
        assert_eq!(label_target("content.l.0", "d"), Some(Node::Content("d".into())));
        assert_eq!(label_target("content/config", "d"), Some(Node::Content("d".into())));
        assert_eq!(label_target("contents", "d"), None);
        assert_eq!(label_target("snapshot.overlayfs", "k"), snapshot("k"));
        assert_eq!(label_target("snapshot.overlayfs/0", "k"), snapshot("k"));
        assert_eq!(label_target("image.x", "i"), Some(Node::Image("i".into())));
    }

    #[test]
    fn only_a_passed_time_expires() {
        let at = |text: &str| Labels::from([(EXPIRE.to_owned(), text.to_owned())]);
        let now = crate::labels::now();
        assert!(expired(&at("2020-01-01T00:00:00Z"), now));
        assert!(expired(&at("2020-01-01T00:00:00.123+02:00"), now));
        assert!(!expired(&at("2120-01-01T00:00:00Z"), now));
        assert!(!expired(&at("soon"), now));
        assert!(!expired(&Labels::new(), now));
    }
}
