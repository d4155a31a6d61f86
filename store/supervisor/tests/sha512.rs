//! Digests by SHA-512 beside SHA-256: blobs, archives and layers.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::sync::Arc;

use archive::{Header, Writer as Tar};
use containerd_api::types::transfer::{ImageReference, ImageStore, UnpackConfiguration};
use oci::{Algorithm, Descriptor, Digest, media_type};
use supervisor::content::Writer;
use supervisor::labels::Labels;
use supervisor::snapshots::{Kind, Place, Snapshotter};
use supervisor::transfer::{Progress, import};
use supervisor::{Config, Context, Error, State};

fn open(dir: &std::path::Path) -> Arc<State> {
    let config = Config {
        root: dir.join("root"),
        state: dir.join("state"),
        address: dir.join("c.sock"),
        ..Config::default()
    };
    Arc::new(State::open(&config).unwrap())
}

fn sha512(data: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha512, data)
}

#[test]
fn a_blob_is_verified_by_its_digests_own_algorithm_even_if_that_shows_only_at_the_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (state, context) = (open(dir.path()), Context::new("n"));
    let digest = sha512(b"hello");
    let mut writer = Writer::open(&state, &context, "late", 0, None).unwrap();
    writer.write(b"hello").unwrap();
    let wrong = writer.commit(5, Some(sha512(b"other")), Labels::new());
    assert!(matches!(wrong, Err(Error::FailedPrecondition(_))), "{wrong:?}");
    let writer = Writer::open(&state, &context, "late", 0, None).unwrap();
    assert_eq!(writer.commit(5, Some(digest), Labels::new()).unwrap(), digest);
    assert!(state.blob_path(&digest).ends_with(format!("sha512/{}", digest.hex())));
    assert_eq!(state.content_bytes(&context, &digest, 10).unwrap(), b"hello");
    // Known from the start, and with what is there already by its other name.
    let other = Digest::sha256(b"hello");
    let mut writer = Writer::open(&state, &context, "early", 5, Some(other)).unwrap();
    writer.write(b"hello").unwrap();
    assert_eq!(writer.commit(5, None, Labels::new()).unwrap(), other);
}

#[test]
fn an_image_whose_digests_are_all_sha512_is_loaded_and_unpacked() {
    if let Some(why) = lab::lacking(&[]) {
        println!("SKIPPED: an_image_whose_digests_are_all_sha512_is_loaded_and_unpacked: {why}");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (state, context) = (open(dir.path()), Context::new("n"));
    let (archive, manifest) = layout();
    let unpack = UnpackConfiguration { platform: None, snapshotter: "overlayfs".into() };
    let any =
        ImageReference { is_prefix: true, allow_overwrite: true, ..ImageReference::default() };
    let wish =
        ImageStore { unpacks: vec![unpack], extra_references: vec![any], ..Default::default() };
    let stored = import(&state, &context, archive.as_slice(), &wish, &Progress::default()).unwrap();
    assert_eq!(stored[0].1.digest, manifest);
    let place = Place::new(&context, Snapshotter::Overlayfs);
    let all = state.snapshots(&place).unwrap();
    let committed: Vec<_> = all.iter().filter(|(_, s)| s.kind == Kind::Committed).collect();
    assert_eq!((committed.len(), all.len()), (1, 1), "{all:?}");
    let file = state.layer_path(&committed[0].1).join("etc/motd");
    assert_eq!(std::fs::read(file).unwrap(), b"welcome\n");
}

// An OCI layout of one image with one compressed layer, and its manifest's digest.
fn layout() -> (Vec<u8>, Digest) {
    let mut layer = Tar::new(Vec::new());
    layer.entry(Header::file("etc/motd", 8), b"welcome\n".as_slice()).unwrap();
    let plain = layer.finish().unwrap();
    let mut packed = archive::Compressor::new(Vec::new(), archive::Compression::Gzip).unwrap();
    std::io::Write::write_all(&mut packed, &plain).unwrap();
    let packed = packed.finish().unwrap();
    let host = oci::Platform::host();
    let config = serde_json::json!({
        "os": host.os, "architecture": host.architecture,
        "rootfs": {"type": "layers", "diff_ids": [sha512(&plain)]},
    });
    let config = serde_json::to_vec(&config).unwrap();
    let describe =
        |media: &str, bytes: &[u8]| Descriptor::new(media, sha512(bytes), bytes.len() as u64);
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": describe(media_type::OCI_CONFIG, &config),
        "layers": [describe(media_type::OCI_LAYER_GZIP, &packed)],
    }))
    .unwrap();
    let mut named = describe(media_type::OCI_MANIFEST, &manifest);
    named.annotations.insert("io.containerd.image.name".into(), "docker.io/library/x:y".into());
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [named],
    });
    let mut tar = Tar::new(Vec::new());
    let mut member = |name: &str, bytes: &[u8]| {
        tar.entry(Header::file(name, bytes.len() as u64), bytes).unwrap();
    };
    member("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    member("index.json", &serde_json::to_vec(&index).unwrap());
    for blob in [&packed, &config, &manifest] {
        member(&format!("blobs/sha512/{}", sha512(blob).hex()), blob);
    }
    (tar.finish().unwrap(), sha512(&manifest))
}
