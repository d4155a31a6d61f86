//! What a manifest says, as far as a registry must know it: its kind, what it refers to, and how
//! a list of referrers shows it. Bytes in, facts out.

use std::collections::BTreeMap;

use oci::{Descriptor, Digest, media_type};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Largest manifest that is accepted, in bytes.
pub const MAX_SIZE: usize = 4 << 20;

/// The signed schema 1 manifest, beside the unsigned one.
const DOCKER_MANIFEST_V1_PLAIN: &str = "application/vnd.docker.distribution.manifest.v1+json";

/// Why bytes are no manifest of the type that they came with.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// Not JSON, or fields of the wrong type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The type in the document is another.
    #[error("mediaType in manifest should be '{wanted}' not '{found}'")]
    MediaType {
        /// What it came with.
        wanted: String,
        /// What it says.
        found: String,
    },
    /// A type that is not kept here.
    #[error("unsupported manifest media type '{0}'")]
    Unsupported(String),
    /// Not version 2.
    #[error("unrecognized manifest schema version {0}")]
    SchemaVersion(i64),
    /// A document of another kind than its type says.
    #[error("{0}")]
    Kind(&'static str),
}

/// A manifest or an index.
#[derive(Debug)]
pub struct Manifest {
    media_type: String,
    document: Document,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    schema_version: i64,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    artifact_type: Option<String>,
    #[serde(default)]
    config: Option<Reference>,
    #[serde(default)]
    layers: Option<Vec<Reference>>,
    #[serde(default)]
    manifests: Option<Vec<Reference>>,
    #[serde(default)]
    subject: Option<Reference>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    /// What clients take for a manifest of version 1.
    #[serde(default)]
    fs_layers: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

impl Manifest {
    /// Reads `bytes`, which came with the type `media_type`.
    ///
    /// # Errors
    /// What is wrong, as a client should read it.
    pub fn parse(media_type: &str, bytes: &[u8]) -> Result<Self, InvalidManifest> {
        let known = media_type::is_manifest(media_type) || media_type::is_index(media_type);
        if !known {
            return Err(InvalidManifest::Unsupported(media_type.into()));
        }
        // JSON is UTF-8 also where nobody looks (RFC 8259, section 8.1).
        let text = std::str::from_utf8(bytes)
            .map_err(|_| InvalidManifest::Kind("a manifest must be UTF-8"))?;
        let document: Document = serde_json::from_str(text)?;
        if document.schema_version != 2 {
            return Err(InvalidManifest::SchemaVersion(document.schema_version));
        }
        match document.media_type.as_deref() {
            Some(found) if found != media_type => {
                let (wanted, found) = (media_type.into(), found.into());
                return Err(InvalidManifest::MediaType { wanted, found });
            }
            _ => {}
        }
        if document.fs_layers.is_some() {
            return Err(InvalidManifest::Kind("a manifest of version 2 must not have fsLayers"));
        }
        if media_type::is_index(media_type) {
            if document.config.is_some() || document.layers.is_some() {
                return Err(InvalidManifest::Kind("an index must not have a config or layers"));
            }
        } else if document.manifests.is_some() {
            return Err(InvalidManifest::Kind("a manifest must not have manifests"));
        } else if document.config.is_none() {
            return Err(InvalidManifest::Kind("a manifest must have a config"));
        }
        Ok(Self { media_type: media_type.into(), document })
    }

    /// Its media type.
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The blobs that must be in the repository: config and layers, except layers that are to be
    /// had elsewhere.
    pub fn blobs(&self) -> impl Iterator<Item = &Digest> {
        let layers = self.document.layers.iter().flatten();
        let layers = layers.filter(|layer| !layer.is_foreign());
        self.document.config.iter().chain(layers).map(|reference| &reference.digest)
    }

    /// The entries of an index.
    pub fn children(&self) -> impl Iterator<Item = &Digest> {
        self.document.manifests.iter().flatten().map(|reference| &reference.digest)
    }

    /// Everything in its own repository that it needs.
    pub fn references(&self) -> impl Iterator<Item = &Digest> {
        self.blobs().chain(self.children())
    }

    /// The manifest that it says something about.
    pub fn subject(&self) -> Option<Digest> {
        self.document.subject.as_ref().map(|subject| subject.digest)
    }

    /// How the subject's list of referrers shows it.
    pub fn descriptor(&self, digest: Digest, size: u64) -> Descriptor {
        let Document { artifact_type, config, annotations, .. } = &self.document;
        let mut descriptor = Descriptor::new(self.media_type.clone(), digest, size);
        let own = artifact_type.clone().filter(|own| !own.is_empty());
        descriptor.artifact_type = own.or_else(|| config.as_ref().map(|c| c.media_type.clone()));
        descriptor.annotations = annotations.clone().unwrap_or_default();
        descriptor
    }
}

impl Reference {
    fn is_foreign(&self) -> bool {
        media_type::is_foreign_layer(&self.media_type)
            || self.urls.as_ref().is_some_and(|urls| !urls.is_empty())
    }
}

/// The type of stored manifest bytes whose type was not recorded.
pub fn sniff(bytes: &[u8]) -> &'static str {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        #[serde(default)]
        schema_version: i64,
        #[serde(default)]
        media_type: Option<String>,
        #[serde(default)]
        manifests: Option<IgnoredAny>,
        #[serde(default)]
        signatures: Option<IgnoredAny>,
    }
    let Ok(head) = serde_json::from_slice::<Head>(bytes) else { return media_type::OCI_MANIFEST };
    let known = [
        media_type::OCI_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_LIST,
    ];
    if let Some(own) = known.into_iter().find(|t| head.media_type.as_deref() == Some(t)) {
        return own;
    }
    match (head.schema_version, head.manifests.is_some()) {
        (1, _) if head.signatures.is_some() => media_type::DOCKER_MANIFEST_V1,
        (1, _) => DOCKER_MANIFEST_V1_PLAIN,
        (_, true) => media_type::OCI_INDEX,
        (_, false) => media_type::OCI_MANIFEST,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn digest(seed: &str) -> Digest {
        Digest::sha256(seed.as_bytes())
    }

    fn parse(media: &str, value: &serde_json::Value) -> Result<Manifest, String> {
        Manifest::parse(media, &serde_json::to_vec(value).unwrap()).map_err(|e| e.to_string())
    }

    fn entry(media: &str, seed: &str) -> serde_json::Value {
        serde_json::json!({"mediaType": media, "digest": digest(seed), "size": 1})
    }

    #[test]
    fn a_manifest_needs_its_config_and_the_layers_that_are_not_elsewhere() {
        let mut elsewhere = entry(media_type::OCI_LAYER, "url");
        elsewhere["urls"] = serde_json::json!(["https://x/"]);
        let value = serde_json::json!({
            "schemaVersion": 2, "config": entry("app/x", "c"), "subject": entry("", "s"),
            "layers": [entry(media_type::OCI_LAYER, "l"),
                entry(media_type::DOCKER_LAYER_FOREIGN_GZIP, "f"), elsewhere],
            "annotations": {"k": "v"},
        });
        let manifest = parse(media_type::OCI_MANIFEST, &value).unwrap();
        let blobs: Vec<Digest> = manifest.references().copied().collect();
        assert_eq!(blobs, [digest("c"), digest("l")]);
        assert_eq!(manifest.subject(), Some(digest("s")));
        let shown = manifest.descriptor(digest("m"), 7);
        assert_eq!(shown.artifact_type.as_deref(), Some("app/x"));
        assert_eq!(shown.annotations["k"], "v");
    }

    #[test]
    fn a_document_of_another_type_than_it_came_with_is_refused() {
        let index = serde_json::json!({"schemaVersion": 2, "manifests": []});
        assert!(
            parse(media_type::OCI_INDEX, &index)
                .unwrap()
                .descriptor(digest("i"), 1)
                .artifact_type
                .is_none()
        );
        assert!(parse(media_type::OCI_MANIFEST, &index).is_err());
        let mut both =
            serde_json::json!({"schemaVersion": 2, "config": entry("", "c"), "layers": []});
        assert!(parse(media_type::OCI_INDEX, &both).is_err());
        both["mediaType"] = media_type::DOCKER_MANIFEST.into();
        let error = parse(media_type::OCI_MANIFEST, &both).unwrap_err();
        assert!(error.starts_with("mediaType in manifest should be"), "{error}");
        assert!(parse(media_type::DOCKER_MANIFEST, &both).is_ok());
        both["schemaVersion"] = 1.into();
        assert!(parse(media_type::DOCKER_MANIFEST, &both).unwrap_err().contains("version 1"));
        let error = parse(media_type::DOCKER_MANIFEST_V1, &both).unwrap_err();
        assert!(error.contains("unsupported"), "{error}");
        assert!(parse(media_type::OCI_MANIFEST, &serde_json::json!({"schemaVersion": 2})).is_err());
        let old = serde_json::json!({"schemaVersion": 2, "manifests": [], "fsLayers": []});
        assert!(parse(media_type::OCI_INDEX, &old).unwrap_err().ends_with("not have fsLayers"));
        let bytes = b"{\"schemaVersion\": 2, \"manifests\": [], \"x\": \"\xff\"}";
        let error = Manifest::parse(media_type::OCI_INDEX, bytes).unwrap_err();
        assert_eq!(error.to_string(), "a manifest must be UTF-8");
    }

    #[test]
    fn stored_bytes_tell_their_type() {
        let of = |value: serde_json::Value| sniff(&serde_json::to_vec(&value).unwrap());
        assert_eq!(
            of(serde_json::json!({"schemaVersion": 2, "manifests": []})),
            media_type::OCI_INDEX
        );
        assert_eq!(of(serde_json::json!({"schemaVersion": 2})), media_type::OCI_MANIFEST);
        assert_eq!(
            of(serde_json::json!({"schemaVersion": 2, "mediaType": media_type::DOCKER_LIST})),
            media_type::DOCKER_LIST
        );
        assert_eq!(
            of(serde_json::json!({"schemaVersion": 1, "signatures": []})),
            media_type::DOCKER_MANIFEST_V1
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in "[{}\\[\\]\":,a-zA-Z0-9]{0,60}") {
            for input in [&bytes[..], text.as_bytes()] {
                let _ = Manifest::parse(media_type::OCI_MANIFEST, input);
                let _ = sniff(input);
            }
        }
    }
}
