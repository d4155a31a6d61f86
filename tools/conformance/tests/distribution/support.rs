//! What the requirements are tried with: registries, and small content to push.

use lab::{Registry, RegistryKind, Reply};
use oci::{Algorithm, Digest, media_type};

/// Bytes of any kind.
pub const OCTETS: (&str, &str) = ("Content-Type", "application/octet-stream");

/// Runs a requirement against our registry.
pub fn ours(test: impl Fn(&Registry)) {
    test(&Registry::start(RegistryKind::Ferry, &[]).unwrap());
}

/// Runs a requirement against both registries.
pub fn both(name: &str, test: impl Fn(&Registry)) {
    ours(&test);
    if lab::docker_registry().is_none() {
        println!("SKIPPED: {name}: the same on docker-registry: it is not installed");
        return;
    }
    test(&Registry::start(RegistryKind::Docker, &[]).unwrap());
}

/// A request without headers and body.
pub fn ask(registry: &Registry, method: &str, target: &str) -> Reply {
    registry.send(method, target, &[], b"").unwrap()
}

/// GET.
pub fn get(registry: &Registry, target: &str) -> Reply {
    ask(registry, "GET", target)
}

/// Begins an upload; its location.
pub fn begin(registry: &Registry, name: &str) -> String {
    location(&ask(registry, "POST", &format!("/v2/{name}/blobs/uploads/")))
}

/// Where an answer points to.
pub fn location(reply: &Reply) -> String {
    reply.header("Location").unwrap_or_else(|| panic!("no Location: {reply:?}")).to_owned()
}

/// A location with one more parameter.
pub fn with(location: &str, parameter: &str) -> String {
    let sign = if location.contains('?') { '&' } else { '?' };
    format!("{location}{sign}{parameter}")
}

/// Pushes a blob by POST and PUT.
pub fn push_blob(registry: &Registry, name: &str, bytes: &[u8]) -> Digest {
    let digest = Digest::sha256(bytes);
    push_blob_as(registry, name, bytes, &digest);
    digest
}

/// The same under a digest of another algorithm.
pub fn push_blob_as(registry: &Registry, name: &str, bytes: &[u8], digest: &Digest) {
    let to = with(&begin(registry, name), &format!("digest={digest}"));
    let reply = registry.send("PUT", &to, &[OCTETS], bytes).unwrap();
    assert_eq!(reply.status, 201, "{reply:?}");
}

/// A descriptor.
pub fn descriptor(media: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({
        "mediaType": media, "digest": Digest::sha256(bytes), "size": bytes.len(),
    })
}

/// An image manifest over one config and one layer, which are pushed. What `change` does to it
/// is up to the test.
pub fn image(
    registry: &Registry,
    name: &str,
    seed: &str,
    change: impl FnOnce(&mut serde_json::Value),
) -> Vec<u8> {
    let (config, layer) = (format!("{{\"c\":\"{seed}\"}}"), format!("layer {seed}"));
    push_blob(registry, name, config.as_bytes());
    push_blob(registry, name, layer.as_bytes());
    let mut manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": descriptor(media_type::OCI_CONFIG, config.as_bytes()),
        "layers": [descriptor(media_type::OCI_LAYER, layer.as_bytes())],
    });
    change(&mut manifest);
    serde_json::to_vec(&manifest).unwrap()
}

/// PUT of a manifest with the type that it names.
pub fn put(registry: &Registry, name: &str, reference: &str, manifest: &[u8]) -> Reply {
    let value: serde_json::Value = serde_json::from_slice(manifest).unwrap();
    let media = value["mediaType"].as_str().unwrap_or(media_type::OCI_MANIFEST).to_owned();
    let target = format!("/v2/{name}/manifests/{reference}");
    registry.send("PUT", &target, &[("Content-Type", &media)], manifest).unwrap()
}

/// Pushes an image under a tag; its digest.
pub fn push_image(registry: &Registry, name: &str, tag: &str) -> Digest {
    let manifest = image(registry, name, tag, |_| {});
    let reply = put(registry, name, tag, &manifest);
    assert_eq!(reply.status, 201, "{reply:?}");
    Digest::sha256(&manifest)
}

/// `count` bytes without a simple pattern.
pub fn noise(count: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

/// A digest of something that nobody has.
pub fn nothing() -> Digest {
    Digest::sha256(b"nobody has this")
}

/// SHA-512.
pub fn sha512(bytes: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha512, bytes)
}

/// Asserts an error in the specification's form.
pub fn assert_error(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{reply:?} {}", reply.text());
    let found = reply.json()["errors"][0]["code"].as_str().map(str::to_owned);
    assert_eq!(found.as_deref(), Some(code), "{}", reply.text());
}

/// A manifest's types that `docker-registry` takes too.
pub const ACCEPT: (&str, &str) = (
    "Accept",
    "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, \
     application/vnd.docker.distribution.manifest.list.v2+json",
);

/// GET of a manifest by a client that takes every type.
pub fn get_manifest(registry: &Registry, name: &str, reference: &str) -> Reply {
    registry.send("GET", &format!("/v2/{name}/manifests/{reference}"), &[ACCEPT], b"").unwrap()
}
