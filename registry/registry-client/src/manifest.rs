//! Manifests as they come: digest verified, type told from what they hold and what the
//! server says, bytes kept as received.

use bytes::Bytes;
use oci::media_type::{DOCKER_LIST, DOCKER_MANIFEST, DOCKER_MANIFEST_V1, OCI_INDEX, OCI_MANIFEST};
use oci::{Descriptor, Digest, Index, Manifest};
use serde::Deserialize;
use serde_json::Value;

use crate::answer::json_error;
use crate::error::{At, Error};
use crate::header;
use crate::repository::{MAX_MANIFEST, Which};
use crate::session::Reply;

/// Schema 1 without a signature.
const DOCKER_MANIFEST_V1_BARE: &str = "application/vnd.docker.distribution.manifest.v1+json";

/// A manifest or index exactly as received.
#[derive(Clone, Debug)]
pub struct RawManifest {
    /// Its type, digest and size.
    pub descriptor: Descriptor,
    /// Its bytes.
    pub bytes: Bytes,
}

/// What a manifest says.
#[derive(Clone, Debug)]
pub enum Parsed {
    /// One image or artifact.
    Manifest(Box<Manifest>),
    /// Manifests by platform.
    Index(Box<Index>),
    /// Another type: an artifact that only its own tools know.
    Other(String),
}

impl RawManifest {
    /// Reads it; an error is in Go's words.
    pub fn parse(&self) -> Result<Parsed, String> {
        let words = |error: serde_json::Error| json_error(&self.bytes, &error);
        match self.descriptor.media_type.as_str() {
            OCI_MANIFEST | DOCKER_MANIFEST => {
                serde_json::from_slice(&self.bytes).map(Parsed::Manifest).map_err(words)
            }
            OCI_INDEX | DOCKER_LIST => {
                serde_json::from_slice(&self.bytes).map(Parsed::Index).map_err(words)
            }
            other => Ok(Parsed::Other(other.into())),
        }
    }
}

/// The descriptor in the headers of an answer, if they hold all of it.
pub(crate) fn described(reply: &Reply, which: &Which) -> Result<Option<Descriptor>, Error> {
    let media_type = media_type_of(reply);
    refuse_schema_one(&reply.at, media_type)?;
    let digest = match which.digest() {
        Some(digest) => Some(digest),
        None => told_digest(reply),
    };
    let size = header::length(&reply.headers).filter(|size| *size > 0);
    Ok(match (digest, size) {
        (Some(digest), Some(size)) if is_known(media_type) => {
            Some(Descriptor::new(media_type, digest, size))
        }
        _ => None,
    })
}

fn told_digest(reply: &Reply) -> Option<Digest> {
    header::text(&reply.headers, "docker-content-digest")?.trim().parse().ok()
}

fn media_type_of(reply: &Reply) -> &str {
    let value = header::text(&reply.headers, "content-type").unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn is_known(media_type: &str) -> bool {
    oci::media_type::is_manifest(media_type) || oci::media_type::is_index(media_type)
}

fn refuse_schema_one(at: &At, media_type: &str) -> Result<(), Error> {
    if matches!(media_type, DOCKER_MANIFEST_V1 | DOCKER_MANIFEST_V1_BARE) {
        return Err(Error::SchemaOne { at: at.clone(), media_type: media_type.into() });
    }
    Ok(())
}

/// Reads and verifies a manifest.
pub(crate) async fn read(reply: Reply, which: &Which) -> Result<RawManifest, Error> {
    let at = reply.at.clone();
    let told_type = media_type_of(&reply).to_owned();
    let told = told_digest(&reply);
    refuse_schema_one(&at, &told_type)?;
    let bytes = reply.bytes(MAX_MANIFEST).await?;
    let expected = which.digest().or(told);
    let digest = match expected {
        Some(expected) => Digest::of(expected.algorithm(), &bytes),
        None => Digest::sha256(&bytes),
    };
    if let Some(expected) = expected.filter(|expected| *expected != digest) {
        return Err(Error::digest_mismatch(at, expected, digest));
    }
    let media_type =
        media_type(&told_type, &bytes).map_err(|what| Error::Protocol { at: at.clone(), what })?;
    refuse_schema_one(&at, &media_type)?;
    let descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
    Ok(RawManifest { descriptor, bytes })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: Value,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Value,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    layers: Value,
    #[serde(default)]
    fs_layers: Value,
}

/// The type of a manifest. The same bytes must not be a manifest to one reader and an
/// index to another (CVE-2021-41190), so what they hold has to fit their type.
pub fn media_type(told: &str, bytes: &[u8]) -> Result<String, String> {
    let shape: Shape = serde_json::from_slice(bytes).map_err(|error| {
        let why = json_error(bytes, &error);
        if is_known(told) { why } else { format!("error unmarshalling content: {why}") }
    })?;
    if shape.schema_version == 1 || !shape.fs_layers.is_null() {
        return Ok(DOCKER_MANIFEST_V1.into());
    }
    let own = shape.media_type.unwrap_or_default();
    if is_known(told) && !own.is_empty() && own != told {
        return Err(format!("mediaType in manifest should be '{told}' not '{own}'"));
    }
    let is_index = !shape.manifests.is_null();
    let is_manifest = !shape.layers.is_null() || !shape.config.is_null();
    if is_index && is_manifest {
        return Err("the manifest is an index as well: it can't be told what it is".into());
    }
    let media_type = match (told, own.as_str()) {
        (told, _) if is_known(told) => told,
        (_, own) if !own.is_empty() => own,
        _ if is_index => OCI_INDEX,
        _ if is_manifest => OCI_MANIFEST,
        _ => return Err("unsupported manifest format".into()),
    };
    let wrong = oci::media_type::is_index(media_type) && is_manifest
        || oci::media_type::is_manifest(media_type) && is_index;
    if wrong {
        return Err(format!("the content is no {media_type}"));
    }
    Ok(media_type.into())
}

/// What the manifest refers to.
pub(crate) fn subject(bytes: &[u8]) -> Option<Digest> {
    #[derive(Deserialize)]
    struct WithSubject {
        subject: Option<Descriptor>,
    }
    let parsed: WithSubject = serde_json::from_slice(bytes).ok()?;
    parsed.subject.map(|subject| subject.digest)
}

/// The manifest as its subject's list of referrers holds it.
pub(crate) fn referrer(media_type: &str, digest: Digest, bytes: &[u8]) -> Descriptor {
    #[derive(Deserialize, Default)]
    #[serde(rename_all = "camelCase", default)]
    struct Told {
        artifact_type: Option<String>,
        config: Option<Descriptor>,
        annotations: Option<std::collections::BTreeMap<String, String>>,
    }
    let told: Told = serde_json::from_slice(bytes).unwrap_or_default();
    let mut descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
    let given = told.artifact_type.filter(|kind| !kind.is_empty());
    descriptor.artifact_type = given.or(told.config.map(|config| config.media_type));
    descriptor.annotations = told.annotations.unwrap_or_default();
    descriptor
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_type_is_told_by_server_content_and_shape() {
        let manifest = r#"{"schemaVersion":2,"config":{},"layers":[]}"#;
        let index = r#"{"schemaVersion":2,"manifests":[]}"#;
        for (told, body, expected) in [
            (OCI_MANIFEST, manifest, Ok(OCI_MANIFEST)),
            ("application/json", manifest, Ok(OCI_MANIFEST)),
            ("", index, Ok(OCI_INDEX)),
            ("text/plain", r#"{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{}}"#, Ok(DOCKER_MANIFEST)),
            ("", r#"{"schemaVersion":1,"fsLayers":[]}"#, Ok(DOCKER_MANIFEST_V1)),
            ("", r#"{"mediaType":"application/x","blobs":[]}"#, Ok("application/x")),
            ("", "{}", Err("unsupported manifest format".to_owned())),
            (OCI_INDEX, manifest, Err(format!("the content is no {OCI_INDEX}"))),
            (OCI_MANIFEST, index, Err(format!("the content is no {OCI_MANIFEST}"))),
            (
                OCI_MANIFEST,
                r#"{"mediaType":"application/x","config":{}}"#,
                Err(format!("mediaType in manifest should be '{OCI_MANIFEST}' not 'application/x'")),
            ),
            (
                "",
                r#"{"manifests":[],"layers":[]}"#,
                Err("the manifest is an index as well: it can't be told what it is".into()),
            ),
            (
                "text/html",
                "<html>",
                Err("error unmarshalling content: invalid character '<' looking for beginning of value".into()),
            ),
            (DOCKER_MANIFEST, r#"{"schemaVersion":2,"broken"#, Err("unexpected end of JSON input".into())),
        ] {
            let found = media_type(told, body.as_bytes());
            assert_eq!(found.as_deref().map_err(Clone::clone), expected, "{told} {body}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(told in "[a-z/.+]{0,10}", bytes: Vec<u8>) {
            let _ = media_type(&told, &bytes);
            subject(&bytes);
        }

        #[test]
        fn no_json_panics(
            body in r#"\{("(schemaVersion|mediaType|config|layers|manifests|subject|annotations)":(1|2|null|\[\]|\{\}|"x"),){0,4}"x":1\}"#
        ) {
            let _ = media_type("", body.as_bytes());
            subject(body.as_bytes());
            referrer("x", Digest::sha256(b""), body.as_bytes());
        }
    }
}
