//! Any bytes as manifest, index or config, to all who read them: the registry, its client, the
//! store, the engine. What one of them takes for a manifest, no other takes for an index.

#![no_main]

use libfuzzer_sys::fuzz_target;
use oci::image::{ChainId, ImageConfig, Index, Manifest, Node};
use oci::{Descriptor, Digest, Platform, media_type};
use registry_client::{Parsed, RawManifest};
use registry_server::manifest as server;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

const TYPES: [&str; 5] = [
    media_type::OCI_MANIFEST,
    media_type::OCI_INDEX,
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_LIST,
    "",
];

fuzz_target!(|bytes: &[u8]| {
    round_trip::<Manifest>(bytes);
    round_trip::<Index>(bytes);
    if let Some(config) = round_trip::<ImageConfig>(bytes) {
        configuration(&config);
    }
    let node = Node::parse(bytes);
    for told in TYPES {
        let Ok(kind) = registry_client::parse::media_type(told, bytes) else {
            let kept = server::Manifest::parse(told, bytes);
            assert!(kept.is_err(), "{told}: the registry takes what its client does not");
            continue;
        };
        assert!(told.is_empty() || kind == told || kind == media_type::DOCKER_MANIFEST_V1);
        agree(&kind, bytes, &node);
    }
    let _ = server::sniff(bytes);
});

/// What is read and written again says the same.
fn round_trip<T>(bytes: &[u8]) -> Option<T>
where
    T: Serialize + DeserializeOwned + PartialEq + Debug,
{
    let read: T = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&read).expect("what was read");
    let again: T = serde_json::from_slice(&written).expect("what was written");
    assert_eq!(read, again);
    Some(read)
}

fn configuration(config: &ImageConfig) {
    let diffs = &config.rootfs.diff_ids;
    let chain = ChainId::of(diffs);
    assert_eq!(chain.is_some(), !diffs.is_empty());
    if let ([one], Some(chain)) = (&diffs[..], &chain) {
        assert_eq!(chain.to_string(), one.to_string());
    }
    let platform = config.platform().normalized();
    assert_eq!(platform.normalized(), platform);
    let _ = Platform::host().rank(&platform);
}

/// All readers see the same document.
fn agree(kind: &str, bytes: &[u8], node: &Node) {
    let descriptor = Descriptor::of(kind, bytes);
    let raw = RawManifest { descriptor, bytes: bytes.to_vec().into() };
    match (raw.parse(), node) {
        (Ok(Parsed::Manifest(manifest)), Node::Manifest(stored)) => assert_eq!(&manifest, stored),
        (Ok(Parsed::Index(index)), Node::Index(stored)) => assert_eq!(&index, stored),
        // One without layers holds nothing that the store would follow, but for its config.
        (Ok(Parsed::Manifest(_)), Node::Leaf) => {}
        (Ok(Parsed::Index(index)), Node::Leaf) => assert!(index.manifests.is_empty()),
        (Ok(Parsed::Manifest(_)), Node::Index(_)) => panic!("a manifest is stored as an index"),
        (Ok(Parsed::Index(_)), Node::Manifest(_)) => panic!("an index is stored as a manifest"),
        (Ok(Parsed::Other(_)) | Err(_), _) => {}
    }
    let Ok(kept) = server::Manifest::parse(kind, bytes) else { return };
    let shown = kept.descriptor(Digest::sha256(bytes), bytes.len() as u64);
    assert_eq!(shown.media_type, kind);
    let Ok(parsed) = raw.parse() else { return };
    let (named, subject): (Vec<Digest>, _) = match &parsed {
        Parsed::Manifest(m) => {
            let layers = m.layers.iter().filter(|layer| {
                layer.urls.is_empty() && !media_type::is_foreign_layer(&layer.media_type)
            });
            let blobs = std::iter::once(&m.config).chain(layers).map(|d| d.digest).collect();
            (blobs, m.subject.as_ref().map(|s| s.digest))
        }
        Parsed::Index(i) => {
            (i.manifests.iter().map(|d| d.digest).collect(), i.subject.as_ref().map(|s| s.digest))
        }
        Parsed::Other(other) => panic!("{other} is kept by the registry"),
    };
    assert_eq!(kept.references().copied().collect::<Vec<_>>(), named);
    assert_eq!(kept.subject(), subject);
}
