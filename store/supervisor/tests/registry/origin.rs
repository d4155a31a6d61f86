//! Images made on the spot and put into a registry by plain HTTP.

#![allow(dead_code, reason = "two suites use it, each in part")]

use archive::{Compression, Compressor, Header, Writer};
use lab::Registry;
use oci::{Descriptor, Digest, media_type};
use serde_json::json;
use std::io::Write as _;

/// A layer's tar: folders end with a slash.
pub(crate) fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Writer::new(Vec::new());
    for (name, data) in files {
        let header = match name.strip_suffix('/') {
            Some(folder) => Header::dir(folder),
            None => Header::file(*name, data.len() as u64),
        };
        tar.entry(header, data).unwrap();
    }
    tar.finish().unwrap()
}

/// A layer as a registry has it.
#[derive(Clone)]
pub(crate) struct Layer {
    pub(crate) blob: Vec<u8>,
    pub(crate) diff_id: Digest,
    pub(crate) media: &'static str,
}

impl Layer {
    pub(crate) fn new(tar: &[u8], compression: Compression) -> Self {
        let mut out = Compressor::new(Vec::new(), compression).unwrap();
        out.write_all(tar).unwrap();
        let media = match compression {
            Compression::None => media_type::OCI_LAYER,
            Compression::Gzip => media_type::OCI_LAYER_GZIP,
            Compression::Zstd => media_type::OCI_LAYER_ZSTD,
        };
        Self { blob: out.finish().unwrap(), diff_id: Digest::sha256(tar), media }
    }

    pub(crate) fn gzip(files: &[(&str, &[u8])]) -> Self {
        Self::new(&tar(files), Compression::Gzip)
    }
}

pub(crate) fn put_blob(registry: &Registry, name: &str, blob: &[u8]) {
    let digest = Digest::sha256(blob);
    let begun = registry.send("POST", &format!("/v2/{name}/blobs/uploads/"), &[], b"").unwrap();
    assert_eq!(begun.status, 202, "{}", begun.text());
    let location = begun.header("Location").unwrap();
    let path =
        location.split_once("://").map_or(location, |(_, rest)| &rest[rest.find('/').unwrap()..]);
    let joint = if path.contains('?') { '&' } else { '?' };
    let put = registry.send("PUT", &format!("{path}{joint}digest={digest}"), &[], blob).unwrap();
    assert_eq!(put.status, 201, "{}", put.text());
}

pub(crate) fn put_manifest(
    registry: &Registry,
    name: &str,
    reference: &str,
    media: &str,
    bytes: &[u8],
) -> Descriptor {
    let target = format!("/v2/{name}/manifests/{reference}");
    let put = registry.send("PUT", &target, &[("Content-Type", media)], bytes).unwrap();
    assert_eq!(put.status, 201, "{}", put.text());
    Descriptor::of(media, bytes)
}

/// The config and manifest of an image.
pub(crate) fn documents(layers: &[Layer], architecture: &str) -> (Vec<u8>, Vec<u8>) {
    let diff_ids: Vec<String> = layers.iter().map(|l| l.diff_id.to_string()).collect();
    let config = json!({
        "architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let blob = |media: &str, bytes: &[u8]| json!({"mediaType": media, "digest": Digest::sha256(bytes), "size": bytes.len()});
    let listed: Vec<_> = layers.iter().map(|l| blob(l.media, &l.blob)).collect();
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
        "config": blob(media_type::OCI_CONFIG, &config), "layers": listed,
    });
    (config, manifest.to_string().into_bytes())
}

/// Puts an image into a registry under a tag or, where that is empty, its digest.
pub(crate) fn put_image(
    registry: &Registry,
    name: &str,
    tag: &str,
    layers: &[Layer],
    architecture: &str,
) -> Descriptor {
    let (config, manifest) = documents(layers, architecture);
    for layer in layers {
        put_blob(registry, name, &layer.blob);
    }
    put_blob(registry, name, &config);
    let digest = Digest::sha256(&manifest).to_string();
    let reference = if tag.is_empty() { &digest } else { tag };
    put_manifest(registry, name, reference, media_type::OCI_MANIFEST, &manifest)
}

/// Puts an index of images, by architecture, into a registry.
pub(crate) fn put_index(
    registry: &Registry,
    name: &str,
    tag: &str,
    images: &[(&str, Vec<Layer>)],
) -> Descriptor {
    let children: Vec<_> = images
        .iter()
        .map(|(architecture, layers)| {
            let child = put_image(registry, name, "", layers, architecture);
            json!({
                "mediaType": child.media_type, "digest": child.digest, "size": child.size,
                "platform": {"os": "linux", "architecture": architecture},
            })
        })
        .collect();
    let index = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children,
    });
    let bytes = index.to_string().into_bytes();
    put_manifest(registry, name, tag, media_type::OCI_INDEX, &bytes)
}
