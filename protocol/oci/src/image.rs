//! Manifests, indexes, image configs and chain ids (OCI image-spec; Docker schema 2).
//!
//! Blobs are kept and sent as received: these types read them, and write only
//! those that Ferry makes itself. Fields stand in the order of the usual tools.

// Go's sets are JSON objects with empty values, and serde passes fields by reference.
#![allow(clippy::zero_sized_map_values, clippy::trivially_copy_pass_by_ref)]

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::{Descriptor, Digest, Platform};

/// `null` reads as the empty value, as Go's decoders do.
pub(crate) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An image manifest: one platform's config and layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// Media type; OCI lets it be absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// Type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The config.
    pub config: Descriptor,
    /// Layers, lowest first.
    #[serde(default, deserialize_with = "null_is_default")]
    pub layers: Vec<Descriptor>,
    /// What this manifest refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this version does not know, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// An image index or manifest list: manifests by platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// Media type; OCI lets it be absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// Type of an artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// The entries.
    #[serde(default, deserialize_with = "null_is_default")]
    pub manifests: Vec<Descriptor>,
    /// What this index refers to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Annotations.
    #[serde(
        default,
        skip_serializing_if = "BTreeMap::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub annotations: BTreeMap<String, String>,
    /// Fields that this version does not know, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What a document is, told by its content: the types in descriptors lie.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Manifests by platform.
    Index(Box<Index>),
    /// A config and layers.
    Manifest(Box<Manifest>),
    /// Whatever refers to nothing: a config, an artifact.
    Leaf,
}

impl Node {
    /// Reads a document by its content.
    pub fn parse(bytes: &[u8]) -> Self {
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return Self::Leaf;
        }
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return Self::Leaf };
        if value.get("manifests").is_some_and(Value::is_array) {
            return serde_json::from_value(value)
                .map_or(Self::Leaf, |index| Self::Index(Box::new(index)));
        }
        if value.get("config").is_some() && value.get("layers").is_some() {
            return serde_json::from_value(value)
                .map_or(Self::Leaf, |manifest| Self::Manifest(Box::new(manifest)));
        }
        Self::Leaf
    }
}

/// An image config, with Docker's additions to OCI's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// When the image was made, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub author: String,
    /// CPU architecture, in Go's names.
    #[serde(deserialize_with = "null_is_default")]
    pub architecture: String,
    /// Operating system, in Go's names.
    #[serde(deserialize_with = "null_is_default")]
    pub os: String,
    /// Version of the operating system (Windows).
    #[serde(
        rename = "os.version",
        skip_serializing_if = "String::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub os_version: String,
    /// Features of the operating system that are needed (Windows).
    #[serde(
        rename = "os.features",
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_is_default"
    )]
    pub os_features: Vec<String>,
    /// Variant of the CPU.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub variant: String,
    /// What a container gets by default.
    #[serde(deserialize_with = "null_is_default")]
    pub config: RunConfig,
    /// The layers.
    #[serde(deserialize_with = "null_is_default")]
    pub rootfs: RootFs,
    /// How each layer was made.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub history: Vec<History>,
    /// Fields that this version does not know, kept (`container_config`, `docker_version`, …).
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ImageConfig {
    /// The platform that the image is for.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.architecture.clone(),
            os: self.os.clone(),
            os_version: self.os_version.clone(),
            os_features: self.os_features.clone(),
            variant: self.variant.clone(),
        }
    }
}

/// The part of an image config that a container inherits.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// User and group.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub user: String,
    /// Ports, as `80/tcp`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exposed_ports: Option<BTreeMap<String, Empty>>,
    /// Environment, `NAME=value`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env: Option<Vec<String>>,
    /// Entry point; `None` differs from an empty list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// Command; `None` differs from an empty list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths that get a volume.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volumes: Option<BTreeMap<String, Empty>>,
    /// Working directory.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Signal that stops the container.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub stop_signal: String,
    /// Whether the command is already escaped (Windows).
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub args_escaped: bool,
    /// Docker: health check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Docker: instructions for images built on this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_build: Option<Vec<String>>,
    /// Docker: shell of shell-form instructions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
    /// Fields that this version does not know, kept (`Hostname`, `AttachStdin`, …).
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// The empty object that Go's sets have for a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Docker's health check; times are nanoseconds, 0 inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `NONE`, or `CMD` or `CMD-SHELL` and arguments; empty inherits.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub test: Vec<String>,
    /// Between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// Until a check has failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Start-up time in which failures don't count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between two checks during start-up.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that mean unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

fn is_zero(value: &i64) -> bool {
    *value == 0
}

/// The layers of an image, by the digests of their uncompressed tars.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Diff ids, lowest first.
    #[serde(deserialize_with = "null_is_default")]
    pub diff_ids: Vec<Digest>,
}

impl Default for RootFs {
    fn default() -> Self {
        Self { kind: "layers".into(), diff_ids: Vec::new() }
    }
}

/// How a layer was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The command.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub created_by: String,
    /// Who.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub author: String,
    /// A remark.
    #[serde(skip_serializing_if = "String::is_empty", deserialize_with = "null_is_default")]
    pub comment: String,
    /// Whether the step made no layer.
    #[serde(skip_serializing_if = "is_false", deserialize_with = "null_is_default")]
    pub empty_layer: bool,
    /// Fields that this version does not know, kept.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The digest that names a stack of layers (OCI image-spec, config.md, "Layer ChainID").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainId(pub Digest);

impl ChainId {
    /// The chain of one layer: its diff id.
    pub fn base(diff_id: Digest) -> Self {
        Self(diff_id)
    }

    /// This chain with one more layer on top.
    pub fn push(self, diff_id: Digest) -> Self {
        Self(Digest::sha256(format!("{} {diff_id}", self.0).as_bytes()))
    }

    /// The chain of all `diff_ids`; `None` when there are none.
    pub fn of(diff_ids: &[Digest]) -> Option<Self> {
        Self::all(diff_ids).pop()
    }

    /// The chain up to each layer, lowest first.
    pub fn all(diff_ids: &[Digest]) -> Vec<Self> {
        let mut chains: Vec<Self> = Vec::with_capacity(diff_ids.len());
        for &diff_id in diff_ids {
            let next = chains.last().map_or(Self::base(diff_id), |below| below.push(diff_id));
            chains.push(next);
        }
        chains
    }
}

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_keeps_unknown_fields_and_tells_null_from_empty() {
        let text = r#"{"architecture":"amd64","os":"linux","docker_version":"20.10",
            "odd":[7.111111111111111e+84,5724186690107285.0],
            "config":{"Cmd":null,"Entrypoint":[],"Hostname":"x","ExposedPorts":{"80/tcp":{}}},
            "rootfs":{"type":"layers","diff_ids":null},"history":null}"#;
        let config: ImageConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.config.cmd, None);
        assert_eq!(config.config.entrypoint, Some(vec![]));
        let back = serde_json::to_value(&config).unwrap();
        assert_eq!(back["docker_version"], "20.10");
        assert!(serde_json::to_string(&config).unwrap().contains("[7.111111111111111e+84,"));
        assert_eq!(back["config"]["Hostname"], "x");
        assert_eq!(back["config"]["ExposedPorts"]["80/tcp"], serde_json::json!({}));
    }

    #[test]
    fn a_document_is_told_by_its_content_whatever_stands_before_it() {
        let config = r#"{"digest":"sha256:DIGEST","size":1}"#.replace("DIGEST", &"a".repeat(64));
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        for before in ["", "\n", " \t\r\n"] {
            let node = Node::parse(format!("{before}{manifest}").as_bytes());
            assert!(matches!(node, Node::Manifest(_)), "{before:?}");
            let node =
                Node::parse(format!(r#"{before}{{"schemaVersion":2,"manifests":[]}}"#).as_bytes());
            assert!(matches!(node, Node::Index(_)), "{before:?}");
        }
        for leaf in ["", "{", "[]", "{}", "plain", r#"{"architecture":"amd64"}"#] {
            assert_eq!(Node::parse(leaf.as_bytes()), Node::Leaf, "{leaf}");
        }
    }

    #[test]
    fn chain_ids_follow_the_specification() {
        let (a, b) = (Digest::sha256(b"a"), Digest::sha256(b"b"));
        assert_eq!(ChainId::of(&[]), None);
        assert_eq!(ChainId::of(&[a]), Some(ChainId(a)));
        let two = ChainId(Digest::sha256(format!("{a} {b}").as_bytes()));
        assert_eq!(ChainId::all(&[a, b]), [ChainId(a), two]);
        assert_eq!(ChainId::of(&[a, b, a]), Some(two.push(a)));
    }

    #[test]
    fn a_manifest_is_written_in_the_usual_order() {
        let manifest = Manifest {
            schema_version: 2,
            media_type: crate::media_type::OCI_MANIFEST.into(),
            artifact_type: None,
            config: Descriptor::of(crate::media_type::OCI_CONFIG, b"{}"),
            layers: vec![],
            subject: None,
            annotations: BTreeMap::new(),
            other: Map::new(),
        };
        let text = serde_json::to_string(&manifest).unwrap();
        assert!(
            text.starts_with(
                r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:"#
            ),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
    }
}
