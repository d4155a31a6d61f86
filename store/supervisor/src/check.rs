//! Whether the store is whole: what records say against what is on disk. For tests and for those
//! who look after a crash; it changes nothing.

use std::collections::HashSet;
use std::fs::File;

use oci::{Digest, Hasher};

use crate::content::{BLOBS, INGESTS, Info, Ingest};
use crate::context::{name_of, namespace_of};
use crate::images::{IMAGES, Image};
use crate::leases::{LEASES, RESOURCES};
use crate::snapshots::{Kind, SNAPSHOTS, Snapshot};
use crate::{Context, Error, State};

const REF: &str = "containerd.io/gc.ref.";

impl State {
    /// Everything that contradicts something else; nothing in a store that is whole. Reads every
    /// blob. Meaningful while nobody writes and after a collection.
    pub fn inconsistencies(&self) -> Result<Vec<String>, Error> {
        let mut found = Vec::new();
        self.check_blobs(&mut found)?;
        self.check_ingests(&mut found)?;
        self.check_snapshots(&mut found)?;
        self.check_images(&mut found)?;
        self.check_leases(&mut found)?;
        Ok(found)
    }

    fn check_blobs(&self, found: &mut Vec<String>) -> Result<(), Error> {
        let mut known = HashSet::new();
        for (key, info) in self.store.scan_json::<Info>(BLOBS, b"")? {
            let name = name_of(&key);
            let Ok(digest) = name.parse::<Digest>() else {
                found.push(format!("blob record {name:?} is no digest"));
                continue;
            };
            if known.insert(digest) {
                match self.hash(&digest) {
                    Ok((size, actual)) if size == info.size && actual == digest => {}
                    Ok((size, actual)) => found.push(format!(
                        "blob {digest}: its file is {actual} of {size} bytes, not {}",
                        info.size
                    )),
                    Err(e) => found.push(format!("blob {digest}: {e}")),
                }
            }
        }
        for algorithm in oci::Algorithm::ALL {
            let folder = self.root.join("content/blobs").join(algorithm.as_str());
            for name in names_in(&folder) {
                let named = format!("{algorithm}:{name}").parse();
                if !named.is_ok_and(|digest| known.contains(&digest)) {
                    found.push(format!("blob file {algorithm}:{name} has no record"));
                }
            }
        }
        Ok(())
    }

    fn hash(&self, digest: &Digest) -> std::io::Result<(u64, Digest)> {
        let mut file = File::open(self.blob_path(digest))?;
        let mut hasher = Hasher::new(digest.algorithm());
        let mut buffer = vec![0; 128 << 10];
        let mut size = 0;
        loop {
            let n = std::io::Read::read(&mut file, &mut buffer)?;
            if n == 0 {
                return Ok((size, hasher.finish()));
            }
            hasher.update(&buffer[..n]);
            size += n as u64;
        }
    }

    fn check_ingests(&self, found: &mut Vec<String>) -> Result<(), Error> {
        let all = self.store.scan_json::<Ingest>(INGESTS, b"")?.into_iter();
        let known: HashSet<String> = all.map(|(_, ingest)| ingest.id).collect();
        let folders = names_in(&self.root.join("content/ingest"));
        let orphans = folders.into_iter().filter(|name| !known.contains(name));
        found.extend(orphans.map(|name| format!("ingest folder {name} has no record")));
        Ok(())
    }

    fn check_snapshots(&self, found: &mut Vec<String>) -> Result<(), Error> {
        let all = self.store.scan_json::<Snapshot>(SNAPSHOTS, b"")?;
        let keys: HashSet<&[u8]> = all.iter().map(|(key, _)| key.as_slice()).collect();
        let mut seqs = HashSet::new();
        for (key, snapshot) in &all {
            let name = String::from_utf8_lossy(key).replace('\0', "/");
            if !seqs.insert(snapshot.seq.to_string()) {
                found.push(format!("snapshot {name} shares its folder {}", snapshot.seq));
            }
            if !self.layer_path(snapshot).is_dir() {
                found.push(format!("snapshot {name} has no folder {}", snapshot.seq));
            }
            if snapshot.kind == Kind::Active && name_of(key).contains(crate::snapshots::EXTRACTION)
            {
                found.push(format!("snapshot {name} is a layer that nobody unpacks any more"));
            }
            let end =
                key.iter().enumerate().filter(|(_, b)| **b == 0).nth(1).map_or(0, |(at, _)| at + 1);
            let parent = [&key[..end], snapshot.parent.as_bytes()].concat();
            if !snapshot.parent.is_empty() && !keys.contains(parent.as_slice()) {
                found.push(format!("snapshot {name} lacks its parent {}", snapshot.parent));
            }
        }
        for name in names_in(&self.root.join("snapshots")) {
            if !seqs.contains(&name) {
                found.push(format!("snapshot folder {name} has no record"));
            }
        }
        Ok(())
    }

    /// An image that was acknowledged has its target, and whatever that refers to by label. Of an
    /// index some children may never have been fetched.
    fn check_images(&self, found: &mut Vec<String>) -> Result<(), Error> {
        for (key, image) in self.store.scan_json::<Image>(IMAGES, b"")? {
            let context = Context::new(namespace_of(&key));
            let mut queue = vec![(image.target.digest, true)];
            while let Some((digest, needed)) = queue.pop() {
                let Ok(info) = self.content_info(&context, &digest) else {
                    if needed {
                        found.push(format!("image {:?} lacks blob {digest}", name_of(&key)));
                    }
                    continue;
                };
                for (label, value) in &info.labels {
                    let Some(rest) = label.strip_prefix(REF) else { continue };
                    if let Some(kind) = rest.strip_prefix("content.") {
                        let child = value.parse().ok().map(|d| (d, !kind.starts_with("m.")));
                        queue.extend(child);
                    } else if let Some(snapshotter) = rest.strip_prefix("snapshot.") {
                        let row = context.key(&format!("{snapshotter}\0{value}"));
                        if self.store.get(SNAPSHOTS, &row)?.is_none() {
                            let name = name_of(&key);
                            found.push(format!("image {name:?} lacks snapshot {value}"));
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn check_leases(&self, found: &mut Vec<String>) -> Result<(), Error> {
        for (key, _) in self.store.scan(RESOURCES, b"")? {
            let name = name_of(&key);
            let lease = name.split('\0').next().unwrap_or_default();
            let row = Context::new(namespace_of(&key)).key(lease);
            if self.store.get(LEASES, &row)?.is_none() {
                found.push(format!("a resource of the lease {lease}, which is gone"));
            }
        }
        Ok(())
    }
}

fn names_in(folder: &std::path::Path) -> Vec<String> {
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
