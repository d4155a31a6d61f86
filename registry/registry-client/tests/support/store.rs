//! A registry in memory that speaks enough of the protocol for pushes, and can be told to
//! stumble.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use oci::media_type::OCI_LAYER;
use oci::{Descriptor, Digest};
use registry_client::BlobSource;

use super::{Answer, Fake, Seen};

/// What it holds.
#[derive(Default)]
pub struct Store {
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub manifests: BTreeMap<String, (String, Vec<u8>)>,
    pub uploads: BTreeMap<usize, Vec<u8>>,
    next: usize,
    /// The state of an upload changes its location, as with common servers.
    steps: usize,
    pub min_chunk: Option<usize>,
    /// Bodies larger than this are refused with 413.
    pub max_body: Option<usize>,
    /// Whether it has the referrers API.
    pub referrers: bool,
}

pub type Shared = Arc<Mutex<Store>>;

/// Serves a store.
pub async fn serve(store: &Shared) -> Fake {
    let store = store.clone();
    Fake::start(move |seen| store.lock().unwrap().answer(seen)).await
}

/// A blob as a layer to push.
pub fn layer(content: &Bytes) -> (Descriptor, Arc<dyn BlobSource>) {
    (Descriptor::of(OCI_LAYER, content), Arc::new(content.clone()))
}

/// The methods of what came so far, without the first contact.
pub fn methods(fake: &Fake) -> Vec<String> {
    fake.lines().iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// Whether a store has a blob.
pub fn holds(store: &Shared, content: &Bytes) -> bool {
    store
        .lock()
        .unwrap()
        .blobs
        .get(&Digest::sha256(content).to_string())
        .is_some_and(|b| b == content)
}

impl Store {
    pub fn shared() -> Shared {
        Arc::default()
    }

    pub fn answer(&mut self, seen: &Seen) -> Answer {
        let path = seen.path.split('?').next().unwrap().to_owned();
        if path == "/v2/" {
            return Answer::new(200).json("{}");
        }
        if self.max_body.is_some_and(|max| seen.body.len() > max) {
            return Answer::new(413).with("content-type", "text/plain").body("too large");
        }
        let rest = path.strip_prefix("/v2/app/").unwrap_or(&path).to_owned();
        match (seen.method.as_str(), rest.split_once('/')) {
            ("POST", Some(("blobs", "uploads/"))) => self.begin(seen),
            (method, Some(("blobs", upload))) if upload.starts_with("uploads/") => {
                let id = upload.split('/').nth(1).and_then(|id| id.parse().ok()).unwrap_or(0);
                self.upload(method, id, seen)
            }
            ("HEAD" | "GET", Some(("blobs", digest))) => match self.blobs.get(digest) {
                Some(blob) => Answer::new(200).body(blob.clone()),
                None => Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry"),
            },
            ("DELETE", Some(("blobs", digest))) => {
                Answer::new(if self.blobs.remove(digest).is_some() { 202 } else { 404 })
            }
            (_, Some(("manifests", name))) => self.manifest(name, seen),
            ("GET", Some(("referrers", digest))) if self.referrers => self.list(digest),
            _ => Answer::new(404).with("content-type", "text/plain").body("404 page not found\n"),
        }
    }

    fn begin(&mut self, seen: &Seen) -> Answer {
        if let Some(digest) = parameter(seen, "mount") {
            let digest = digest.replace("%3A", ":");
            if let Some(blob) = self.blobs.get(&format!("base/{digest}")).cloned() {
                self.blobs.insert(digest, blob);
                return Answer::new(201);
            }
        }
        self.next += 1;
        self.uploads.insert(self.next, Vec::new());
        let mut answer = Answer::new(202).with("location", self.location(self.next));
        if let Some(min) = self.min_chunk {
            answer = answer.with("oci-chunk-min-length", min.to_string());
        }
        answer
    }

    fn location(&mut self, id: usize) -> String {
        self.steps += 1;
        format!("/v2/app/blobs/uploads/{id}?_state={}", self.steps)
    }

    fn upload(&mut self, method: &str, id: usize, seen: &Seen) -> Answer {
        let current = self.steps.to_string();
        let Some(held) = self.uploads.get(&id).map(Vec::len) else {
            return Answer::error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry");
        };
        let range = |held: usize| format!("0-{}", held.saturating_sub(1));
        if method != "GET" && parameter(seen, "_state").is_some_and(|state| state != current) {
            return Answer::error(400, "BLOB_UPLOAD_INVALID", "an old location");
        }
        match method {
            "GET" => {
                let location = self.location(id);
                Answer::new(204).with("range", range(held)).with("location", location)
            }
            "DELETE" => {
                self.uploads.remove(&id);
                Answer::new(204)
            }
            "PATCH" => {
                let from = seen.header("content-range").and_then(|r| r.split('-').next());
                if from.is_some_and(|from| from != held.to_string()) {
                    let location = self.location(id);
                    return Answer::error(416, "RANGE_INVALID", "invalid content range")
                        .with("range", range(held))
                        .with("location", location);
                }
                self.add(id, &seen.body);
                let location = self.location(id);
                let held = self.uploads[&id].len();
                Answer::new(202).with("range", range(held)).with("location", location)
            }
            "PUT" => {
                self.add(id, &seen.body);
                let whole = self.uploads.remove(&id).unwrap();
                let digest = parameter(seen, "digest").unwrap_or_default().replace("%3A", ":");
                match digest.parse::<Digest>() {
                    Ok(wanted) if wanted.matches(&whole) => {
                        self.blobs.insert(digest.clone(), whole);
                        Answer::new(201).with("docker-content-digest", digest)
                    }
                    _ => Answer::error(
                        400,
                        "DIGEST_INVALID",
                        "provided digest did not match uploaded content",
                    ),
                }
            }
            _ => Answer::new(405),
        }
    }

    /// What a broken request left.
    pub fn add(&mut self, id: usize, bytes: &[u8]) {
        self.uploads.get_mut(&id).unwrap().extend_from_slice(bytes);
    }

    fn manifest(&mut self, name: &str, seen: &Seen) -> Answer {
        match seen.method.as_str() {
            "PUT" => {
                let kind = seen.header("content-type").unwrap().to_owned();
                let digest = Digest::sha256(&seen.body).to_string();
                for key in [name.to_owned(), digest.clone()] {
                    self.manifests.insert(key, (kind.clone(), seen.body.clone()));
                }
                let answer = Answer::new(201).with("docker-content-digest", digest);
                let subject = self.referrers && seen.body.windows(9).any(|w| w == b"\"subject\"");
                if subject { answer.with("oci-subject", "sha256:x") } else { answer }
            }
            "DELETE" => Answer::new(if self.manifests.remove(name).is_some() { 202 } else { 404 }),
            _ => match self.manifests.get(name) {
                Some((kind, bytes)) => {
                    Answer::new(200).with("content-type", kind.clone()).body(bytes.clone())
                }
                None => Answer::error(404, "MANIFEST_UNKNOWN", "manifest unknown"),
            },
        }
    }

    fn list(&self, digest: &str) -> Answer {
        let refers = |bytes: &[u8]| {
            let parsed: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
            parsed["subject"]["digest"] == *digest
        };
        let found = self
            .manifests
            .iter()
            .filter(|(name, (_, bytes))| name.starts_with("sha256:") && refers(bytes));
        let found: Vec<serde_json::Value> = found
            .map(|(name, (kind, bytes))| {
                let parsed: serde_json::Value = serde_json::from_slice(bytes).unwrap();
                serde_json::json!({"mediaType": kind, "digest": name, "size": bytes.len(), "artifactType": parsed["artifactType"]})
            })
            .collect();
        let index = serde_json::json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": found});
        Answer::new(200)
            .with("content-type", "application/vnd.oci.image.index.v1+json")
            .body(index.to_string())
    }
}

fn parameter<'a>(seen: &'a Seen, name: &str) -> Option<&'a str> {
    let query = seen.path.split_once('?')?.1;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}
