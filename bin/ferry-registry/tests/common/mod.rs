//! Small images, pushed and held against their digests.

#![allow(clippy::unwrap_used, dead_code, reason = "each test file uses a part")]

use lab::{Registry, RegistryKind, Reply};
use oci::{Descriptor, Digest, media_type};

/// A registry of ours; `%` in the flags is its folder.
pub(crate) fn start(flags: &[&str]) -> Registry {
    Registry::start(RegistryKind::Ferry, flags).unwrap()
}

/// A request without a body.
pub(crate) fn ask(registry: &Registry, method: &str, target: &str) -> Reply {
    registry.send(method, target, &[], b"").unwrap()
}

/// What a push came to: nothing if the registry went away in the middle.
pub(crate) type Pushed = Option<Digest>;

/// Pushes a blob in two chunks.
pub(crate) fn push_blob(registry: &Registry, name: &str, bytes: &[u8]) -> Pushed {
    let digest = Digest::sha256(bytes);
    let send = |method: &str, target: &str, bytes: &[u8]| {
        let reply = registry.send(method, target, &[], bytes).ok()?;
        assert!(reply.status < 300, "{method} {target}: {reply:?} {}", reply.text());
        reply.header("Location").map(str::to_owned)
    };
    let at = send("POST", &format!("/v2/{name}/blobs/uploads/"), b"")?;
    let (first, second) = bytes.split_at(bytes.len() / 2);
    let at = send("PATCH", &at, first)?;
    let sign = if at.contains('?') { '&' } else { '?' };
    send("PUT", &format!("{at}{sign}digest={digest}"), second)?;
    Some(digest)
}

/// Pushes an image under a tag. What is about something has a subject.
pub(crate) fn push_image(
    registry: &Registry,
    name: &str,
    seed: &str,
    tag: &str,
    subject: Option<&Digest>,
) -> Pushed {
    let config = push_blob(registry, name, format!("{{\"config\":\"{seed}\"}}").as_bytes())?;
    let layer = push_blob(registry, name, format!("layer of {seed}").repeat(100).as_bytes())?;
    let manifest = manifest(&config, &layer, subject);
    let target = format!("/v2/{name}/manifests/{tag}");
    let headers = [("Content-Type", media_type::OCI_MANIFEST)];
    let reply = registry.send("PUT", &target, &headers, &manifest).ok()?;
    assert_eq!(reply.status, 201, "{}", reply.text());
    Some(Digest::sha256(&manifest))
}

fn manifest(config: &Digest, layer: &Digest, subject: Option<&Digest>) -> Vec<u8> {
    let describe = |media: &str, digest: &Digest| Descriptor::new(media, *digest, 1);
    let mut value = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": describe(media_type::OCI_CONFIG, config),
        "layers": [describe(media_type::OCI_LAYER, layer)],
    });
    if let Some(subject) = subject {
        value["subject"] =
            serde_json::to_value(describe(media_type::OCI_MANIFEST, subject)).unwrap();
    }
    serde_json::to_vec(&value).unwrap()
}

/// A manifest and all that it refers to can be pulled and is what its digests say.
pub(crate) fn assert_whole(registry: &Registry, name: &str, reference: &str) {
    let reply = ask(registry, "GET", &format!("/v2/{name}/manifests/{reference}"));
    assert_eq!(reply.status, 200, "{name}:{reference}: {}", reply.text());
    let digest: Digest = reply.header("Docker-Content-Digest").unwrap().parse().unwrap();
    assert!(digest.matches(&reply.body), "{name}:{reference}");
    let manifest = reply.json();
    for blob in manifest["layers"].as_array().into_iter().flatten().chain(manifest.get("config")) {
        let digest: Digest = blob["digest"].as_str().unwrap().parse().unwrap();
        let pulled = ask(registry, "GET", &format!("/v2/{name}/blobs/{digest}"));
        assert_eq!(pulled.status, 200, "{name}@{digest}");
        assert!(digest.matches(&pulled.body), "{name}@{digest}");
    }
}

/// Everything that the registry lists is whole, also what refers to something.
pub(crate) fn assert_consistent(registry: &Registry) {
    let json = |target: &str| ask(registry, "GET", target).json();
    for name in json("/v2/_catalog?n=1000")["repositories"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        for tag in json(&format!("/v2/{name}/tags/list"))["tags"].as_array().unwrap() {
            let tag = tag.as_str().unwrap();
            assert_whole(registry, name, tag);
            let head = ask(registry, "HEAD", &format!("/v2/{name}/manifests/{tag}"));
            let digest = head.header("Docker-Content-Digest").unwrap();
            let referrers = json(&format!("/v2/{name}/referrers/{digest}"));
            for entry in referrers["manifests"].as_array().unwrap() {
                assert_whole(registry, name, entry["digest"].as_str().unwrap());
            }
        }
    }
}
