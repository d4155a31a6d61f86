//! Manifests on registries: fetched with what they are for, and pushed.

use std::sync::Arc;

use bytes::Bytes;
use engine_api::{OciDescriptor, OciPlatform, decode};
use oci::{Descriptor, Reference};
use registry_client::{
    Asked, Client, Config, Credentials, Error, Hosts, Insecure, MAX_CONFIG, Parsed, PushOptions,
    RawManifest, Relay, Repository, Which,
};

use super::Entry;
use crate::credentials;
use crate::error::{CliError, Result};
use crate::session::Session;

/// What a name means on a registry.
pub(crate) enum Found {
    /// One manifest.
    One(Box<Entry>),
    /// Several, by platform.
    List(Vec<Entry>),
}

/// The registries, asked in the name of this user.
pub(crate) struct Registries<'a> {
    session: &'a Session,
    client: Client,
}

fn failed(error: &Error) -> CliError {
    let told = error.told(Asked::Login).message;
    match error {
        Error::Connect { .. } => {
            // An insecure registry was asked by TLS first, which is what the stock client tells of.
            let told = told.replacen("\"http://", "\"https://", 1);
            let what = "failed to configure transport: error pinging v2 registry";
            CliError::new(format!("{what}: {told}"))
        }
        _ => CliError::new(told),
    }
}

fn unparsable(why: impl ToString) -> CliError {
    CliError::new(why.to_string())
}

impl<'a> Registries<'a> {
    /// Registries are verified and reached by TLS, unless one is named as `insecure`.
    pub(crate) fn new(session: &'a Session, insecure: Option<&Reference>) -> Result<Self> {
        let insecure = match insecure {
            Some(reference) => Insecure::new(&[reference.domain()]).map_err(unparsable)?,
            None => Insecure::none(),
        };
        let hosts = Hosts { insecure, ..Hosts::default() };
        let client = Client::new(Config { hosts, ..Config::default() });
        Ok(Self { session, client })
    }

    fn repository(&self, reference: &Reference) -> Repository {
        let auth = credentials::of_domain(&self.session.config, reference.domain());
        let (user, password) = (&auth.username, &auth.password);
        let who = Credentials::of(user, password, &auth.identitytoken, &auth.registrytoken);
        self.client.repository(reference, who)
    }

    /// What `reference` means there.
    ///
    /// # Errors
    /// In the stock client's words; a plain server where TLS was expected has no such manifest.
    pub(crate) async fn fetch(&self, reference: &Reference) -> Result<Found> {
        let repository = self.repository(reference);
        let raw = repository.manifest(&Which::of(reference)).await;
        let raw = raw.map_err(|error| match &error {
            Error::NotFound { .. } => missing(reference),
            Error::Connect { text, .. } if text.contains("gave HTTP response") => {
                missing(reference)
            }
            _ => failed(&error),
        })?;
        match raw.parse().map_err(unparsable)? {
            Parsed::Manifest(manifest) => {
                let config = repository.blob_bytes(&manifest.config, MAX_CONFIG).await;
                let config = config.map_err(|e| failed(&e))?;
                let own: OciPlatform = decode(&config).unwrap_or_default();
                Ok(Found::One(Box::new(entry(reference.to_string(), &raw, own))))
            }
            Parsed::Index(index) => {
                let mut entries = Vec::new();
                for one in index.manifests {
                    let raw = repository.manifest(&Which::Digest(one.digest)).await;
                    let raw = raw.map_err(|e| failed(&e))?;
                    let own = one.platform.as_ref().map(OciPlatform::from).unwrap_or_default();
                    entries.push(entry(format!("{reference}@{}", one.digest), &raw, own));
                }
                Ok(Found::List(entries))
            }
            Parsed::Other(kind) => {
                Err(CliError::new(format!("unsupported manifest type {kind:?}")))
            }
        }
    }

    /// Sees to it that a manifest of a list, with its blobs, is in the list's repository.
    pub(crate) async fn push_entry(&self, target: &Reference, entry: &Entry) -> Result<String> {
        let from = Reference::parse(&entry.reference).map_err(unparsable)?;
        let to = self.repository(target);
        let digest = entry.descriptor.digest.parse().map_err(unparsable)?;
        let kind = entry.descriptor.media_type.clone();
        let size = entry.descriptor.size.max(0) as u64;
        let raw = RawManifest {
            descriptor: Descriptor::new(kind.clone(), digest, size),
            bytes: Bytes::from(entry.raw.clone()),
        };
        if from.path() != target.path() {
            let source = self.repository(&from);
            let Parsed::Manifest(manifest) = raw.parse().map_err(unparsable)? else {
                return Err(CliError::new(format!("{from} is a manifest list")));
            };
            let options =
                PushOptions { mount_from: vec![from.path().to_owned()], ..PushOptions::default() };
            for blob in std::iter::once(&manifest.config).chain(&manifest.layers) {
                let copy = Relay::new(source.clone(), blob.clone());
                let pushed = to.push_blob(blob, Arc::new(copy), &options).await;
                pushed.map_err(|e| failed(&e))?;
            }
        }
        let pushed = to.push_manifest(&Which::Digest(digest), &kind, raw.bytes).await;
        let pushed = pushed.map_err(|e| failed(&e))?;
        Ok(format!("Pushed ref {}@{digest} with digest: {pushed}", target.name()))
    }

    /// Pushes the list itself; its digest.
    pub(crate) async fn push_list(
        &self,
        target: &Reference,
        kind: &str,
        document: String,
    ) -> Result<String> {
        let to = self.repository(target);
        let pushed = to.push_manifest(&Which::of(target), kind, Bytes::from(document)).await;
        pushed.map(|digest| digest.to_string()).map_err(|e| failed(&e))
    }
}

fn missing(reference: &Reference) -> CliError {
    CliError::new(format!("no such manifest: {reference}"))
}

fn entry(reference: String, raw: &RawManifest, own: OciPlatform) -> Entry {
    Entry {
        reference,
        descriptor: OciDescriptor {
            media_type: raw.descriptor.media_type.clone(),
            digest: raw.descriptor.digest.to_string(),
            size: raw.descriptor.size as i64,
            platform: Some(own),
            ..OciDescriptor::default()
        },
        raw: raw.bytes.to_vec(),
    }
}
