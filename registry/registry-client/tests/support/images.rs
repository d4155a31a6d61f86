//! Small images, made on the spot.

use bytes::Bytes;
use oci::media_type::{DOCKER_CONFIG, DOCKER_LAYER_GZIP, DOCKER_MANIFEST, OCI_MANIFEST};
use oci::{Descriptor, Digest};

use super::{Answer, Seen};

/// An image of one layer, in Docker's types.
pub struct Image {
    pub config: Bytes,
    pub layer: Bytes,
    pub manifest: Bytes,
}

/// The gzip of a tar with one file `a`.
const LAYER: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x63, 0x60, 0x18, 0x05, 0xa3, 0x60,
    0x14, 0x8c, 0x54, 0x00, 0x00, 0x2e, 0xaf, 0xb5, 0xef, 0x00, 0x04, 0x00, 0x00,
];

impl Image {
    pub fn new() -> Self {
        // 1024 zero bytes are an empty tar.
        let diff_id = Digest::sha256(&[0; 1024]);
        let config = Bytes::from(format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
        ));
        let layer = Bytes::from_static(LAYER);
        let manifest = Bytes::from(format!(
            r#"{{"schemaVersion":2,"mediaType":"{DOCKER_MANIFEST}","config":{{"mediaType":"{DOCKER_CONFIG}","size":{},"digest":"{}"}},"layers":[{{"mediaType":"{DOCKER_LAYER_GZIP}","size":{},"digest":"{}"}}]}}"#,
            config.len(),
            Digest::sha256(&config),
            layer.len(),
            Digest::sha256(&layer)
        ));
        Self { config, layer, manifest }
    }

    pub fn digest(&self) -> Digest {
        Digest::sha256(&self.manifest)
    }

    pub fn layer_descriptor(&self) -> Descriptor {
        Descriptor::of(DOCKER_LAYER_GZIP, &self.layer)
    }

    /// The answer to a request for its manifest.
    pub fn manifest_answer(&self) -> Answer {
        Answer::new(200)
            .with("content-type", DOCKER_MANIFEST)
            .with("docker-content-digest", self.digest().to_string())
            .body(self.manifest.clone())
    }

    /// The answers of a registry that holds it.
    pub fn answer(&self, seen: &Seen) -> Answer {
        if seen.path == "/v2/" {
            return Answer::new(200).json("{}");
        }
        if seen.path.contains("/manifests/") {
            return self.manifest_answer();
        }
        for blob in [&self.config, &self.layer] {
            if seen.path.ends_with(&Digest::sha256(blob).to_string()) {
                return Answer::new(200).body(blob.clone());
            }
        }
        Answer::error(404, "BLOB_UNKNOWN", "blob unknown to registry")
    }
}

/// An artifact that refers to `subject`.
pub fn artifact(kind: &str, subject: &Descriptor) -> Bytes {
    let empty = Digest::sha256(b"{}");
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","artifactType":"{kind}","config":{{"mediaType":"application/vnd.oci.empty.v1+json","digest":"{empty}","size":2}},"layers":[],"subject":{{"mediaType":"{}","digest":"{}","size":{}}}}}"#,
        subject.media_type, subject.digest, subject.size
    )
    .into()
}

/// Bytes that compress badly and repeat nowhere near.
pub fn noise(length: usize) -> Bytes {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let bytes: Vec<u8> = (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect();
    bytes.into()
}
