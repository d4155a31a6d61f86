//! One manifest with what is said about it: read from a registry, or from the file that keeps it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use engine_api::{ApiVersion, OciDescriptor, Value, decode_at, encode, json};
use engine_client::indent_json;
use oci::{Reference, media_type};

use crate::error::{CliError, Result};

/// A manifest of an image for one platform.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Where it is from.
    pub(crate) reference: String,
    /// Its type, digest, size and platform.
    pub(crate) descriptor: OciDescriptor,
    /// Its bytes.
    pub(crate) raw: Vec<u8>,
}

fn text(value: &str) -> Value {
    Value::String(value.to_owned())
}

impl Entry {
    fn is_oci(&self) -> bool {
        self.descriptor.media_type == media_type::OCI_MANIFEST
    }

    /// As files and `inspect --verbose` have it.
    pub(crate) fn value(&self) -> Result<Value> {
        let descriptor = json::parse(encode(&self.descriptor, ApiVersion::MAX).as_bytes());
        let descriptor = descriptor.map_err(|e| CliError::new(e.to_string()))?;
        let document = json::parse(&self.raw).map_err(|e| CliError::new(e.to_string()))?;
        let kind = if self.is_oci() { "OCIManifest" } else { "SchemaV2Manifest" };
        let member = |name: &str, value: Value| (name.to_owned(), value);
        Ok(Value::Object(vec![
            member("Ref", text(&self.reference)),
            member("Descriptor", descriptor),
            member("Raw", text(&BASE64_STANDARD.encode(&self.raw))),
            member(kind, document),
        ]))
    }

    /// What a file holds.
    ///
    /// # Errors
    /// It was not written by `manifest create`.
    pub(crate) fn read(bytes: &[u8]) -> std::result::Result<Self, String> {
        let value = json::parse(bytes).map_err(|e| e.to_string())?;
        let members = value.as_object().unwrap_or_default();
        let member = |name: &str| members.iter().find(|(n, _)| n == name).map(|(_, value)| value);
        let text = |name: &str| member(name).and_then(Value::as_str).map(str::to_owned);
        let missing = |name: &str| format!("no {name}");
        let descriptor = member("Descriptor").ok_or_else(|| missing("Descriptor"))?;
        let raw = text("Raw").ok_or_else(|| missing("Raw"))?;
        Ok(Self {
            reference: text("Ref").ok_or_else(|| missing("Ref"))?,
            descriptor: decode_at(descriptor).map_err(|e| e.to_string())?,
            raw: BASE64_STANDARD.decode(raw).map_err(|e| e.to_string())?,
        })
    }

    /// The manifest itself, laid out over lines.
    pub(crate) fn document(&self) -> String {
        indent_json(&String::from_utf8_lossy(&self.raw), "\t")
    }
}

/// The type and the document of the list of these manifests, for `target`.
///
/// # Errors
/// One of them is on another registry.
pub(crate) fn list_document(
    target: &Reference,
    entries: &[Entry],
) -> Result<(&'static str, String)> {
    let mut manifests = Vec::new();
    for entry in entries {
        let from = Reference::parse(&entry.reference).map_err(|e| CliError::new(e.to_string()))?;
        if from.domain() != target.domain() {
            return Err(CliError::new(format!(
                "cannot use source images from a different registry than the target image: {} != {}",
                from.domain(),
                target.domain()
            )));
        }
        let d = &entry.descriptor;
        let platform = d.platform.clone().unwrap_or_default();
        manifests.push(format!(
            "{{\"mediaType\":{},\"size\":{},\"digest\":{},\"platform\":{}}}",
            text(&d.media_type),
            d.size,
            text(&d.digest),
            encode(&platform, ApiVersion::MAX).trim_end()
        ));
    }
    let kind = match entries.first() {
        Some(first) if first.is_oci() => media_type::OCI_INDEX,
        _ => media_type::DOCKER_LIST,
    };
    let list = format!(
        "{{\"schemaVersion\":2,\"mediaType\":{},\"manifests\":[{}]}}",
        text(kind),
        manifests.join(",")
    );
    Ok((kind, indent_json(&list, "   ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let raw = br#"{"schemaVersion":2,"layers":[]}"#.to_vec();
        let entry = Entry {
            reference: "r.io/a:1".into(),
            descriptor: OciDescriptor {
                media_type: media_type::OCI_MANIFEST.into(),
                digest: "sha256:00".into(),
                size: 5,
                ..OciDescriptor::default()
            },
            raw,
        };
        let written = entry.value().unwrap().to_string();
        assert!(written.contains(r#""OCIManifest":{"schemaVersion":2,"layers":[]}"#), "{written}");
        let read = Entry::read(written.as_bytes()).unwrap();
        assert_eq!((read.reference, read.raw), (entry.reference, entry.raw));
        assert_eq!(read.descriptor, entry.descriptor);
        assert!(Entry::read(b"{}").is_err() && Entry::read(b"x").is_err());
    }
}
