//! Loading and saving archives, through the store's Transfer service.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;

use bytes::{Bytes, BytesMut};
use containerd_api::services::images::v1::{CreateImageRequest, Image, UpdateImageRequest};
use containerd_api::transfer_types::{
    ImageExportStream, ImageReference, ImageStore, UnpackConfiguration,
};
use containerd_api::types;
use containerd_rpc::{Client, RpcError, archive_stream};
use futures_util::Stream;
use oci::{Descriptor, Platform, Reference};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::plain::plain;
use crate::read::{from_wire, to_wire};
use crate::snapshot::unique;
use crate::work::Lease;
use crate::{DANGLING, ImageError, Images, ResolvedImage};

/// Bytes between the store and the client of a save.
const PIPE: usize = 1 << 20;
/// The label by which a load finds what it stored.
const LOADED: &str = "io.ferry.image.loaded-by";

impl Images {
    /// Loads an archive (docker's or an OCI layout). Returns the names loaded
    /// and the ids of images that came without a name. Of an image for several platforms
    /// `platform` is unpacked, else this host's.
    ///
    /// # Errors
    /// The archive is none, or the store's.
    pub async fn load<S>(
        &self,
        body: S,
        platform: Option<&Platform>,
    ) -> Result<Vec<Loaded>, ImageError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let _naming = self.0.naming.lock().await;
        let before = self.targets_by_name().await?;
        let lease = Lease::new(&self.0.client).await?;
        let client = lease.client()?;
        let platform = platform.unwrap_or(&self.0.config.platform);
        let result = self.load_leased(&client, body, before, platform).await;
        lease.end().await;
        result
    }

    async fn load_leased<S>(
        &self,
        client: &Client,
        body: S,
        before: BTreeMap<String, Descriptor>,
        platform: &Platform,
    ) -> Result<Vec<Loaded>, ImageError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let mark = unique();
        let platform = wire_platform(platform);
        let destination = ImageStore {
            labels: [(LOADED.to_owned(), mark.clone())].into(),
            // Whatever the archive has is kept, so that it is saved again as it came.
            platforms: Vec::new(),
            extra_references: vec![ImageReference {
                name: DANGLING.trim_end_matches('@').into(),
                is_prefix: true,
                allow_overwrite: true,
                add_digest: true,
                skip_named_digest: true,
            }],
            unpacks: vec![UnpackConfiguration {
                platform: Some(platform),
                snapshotter: self.snapshotter().into(),
            }],
            ..Default::default()
        };
        let body = plain(body).await.map_err(|e| ImageError::Archive(e.to_string()))?;
        let mut source = tokio_util::io::StreamReader::new(body);
        let done = archive_stream::import(client, &mut source, &destination, None).await;
        done.map_err(|e| ImageError::Archive(e.message))?;
        self.keep_nameless(&before).await?;
        self.refresh().await?;
        let filter = format!("labels.\"{LOADED}\"=={mark}");
        let stored = self.records(vec![filter]).await?;
        Ok(self.loaded(&stored))
    }

    fn loaded(&self, stored: &[Image]) -> Vec<Loaded> {
        let index = self.index();
        let mut out = Vec::new();
        for record in stored {
            let target = record.target.as_ref().and_then(from_wire);
            let by_target = |target: Descriptor| index.by_target(&target.digest).cloned();
            let Some(image) = target.and_then(by_target) else { continue };
            let name = match Reference::parse(&record.name) {
                Ok(reference) if !record.name.starts_with(DANGLING) => Some(reference.familiar()),
                _ => None,
            };
            out.push(Loaded { name, image });
        }
        out
    }

    /// All names with their targets, from the store.
    pub(crate) async fn targets_by_name(&self) -> Result<BTreeMap<String, Descriptor>, ImageError> {
        let records = self.records(Vec::new()).await?;
        let pairs = records.into_iter();
        Ok(pairs.filter_map(|r| Some((r.name, from_wire(r.target.as_ref()?)?))).collect())
    }

    /// Gives a dangling record to each target of `before` that no name points
    /// at any more.
    async fn keep_nameless(&self, before: &BTreeMap<String, Descriptor>) -> Result<(), ImageError> {
        let after = self.targets_by_name().await?;
        for old in before.values() {
            if !after.values().any(|target| target.digest == old.digest) {
                self.write_name(&format!("{DANGLING}{}", old.digest), old).await?;
            }
        }
        Ok(())
    }

    /// Points a name of the store at a target.
    pub(crate) async fn write_name(
        &self,
        name: &str,
        target: &Descriptor,
    ) -> Result<(), ImageError> {
        let image = Image { name: name.into(), target: Some(to_wire(target)), ..Image::default() };
        let mut images = self.0.client.images();
        let create = CreateImageRequest { image: Some(image.clone()), ..Default::default() };
        match images.create(create).await.map_err(RpcError::from) {
            Ok(_) => Ok(()),
            Err(e) if e.is_already_exists() => {
                let update = UpdateImageRequest { image: Some(image), ..Default::default() };
                images.update(update).await.map_err(RpcError::from)?;
                Ok(())
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Gives an image another name. An image that loses its last name to it
    /// stays, dangling. Returns the image.
    ///
    /// # Errors
    /// No such image, no such name, or the store's.
    pub async fn tag(
        &self,
        image: &str,
        reference: &Reference,
    ) -> Result<std::sync::Arc<ResolvedImage>, ImageError> {
        if reference.familiar_name() == "sha256" {
            return Err(ImageError::Invalid(
                "refusing to create an ambiguous tag using digest algorithm as name".into(),
            ));
        }
        let target = self.index().target_of(image)?;
        let image = self.resolve(image)?;
        self.name(reference, &target).await?;
        Ok(image)
    }

    /// Points `reference` at `target`, and keeps what it pointed at.
    pub(crate) async fn name(
        &self,
        reference: &Reference,
        target: &Descriptor,
    ) -> Result<(), ImageError> {
        let _naming = self.0.naming.lock().await;
        let before = self.targets_by_name().await?;
        // The target may have been dangling: that record's time is over, but
        // only once the name exists.
        let dangling = format!("{DANGLING}{}", target.digest);
        let old = before.get(&reference.to_string());
        if let Some(old) = old.filter(|old| old.digest != target.digest) {
            let others = before.iter().filter(|(_, other)| other.digest == old.digest).count();
            if others == 1 {
                self.write_name(&format!("{DANGLING}{}", old.digest), old).await?;
            }
        }
        self.write_name(&reference.to_string(), target).await?;
        if before.contains_key(&dangling) {
            self.delete_record(&dangling, false).await?;
        }
        self.refresh().await
    }

    /// Writes images as an archive that holds both forms: with what is here of all their
    /// platforms, or with one. A repository without tag means all its tags.
    ///
    /// # Errors
    /// No such image, or the store can't be asked. What goes wrong later comes with the bytes.
    pub async fn save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
    ) -> Result<Archive, ImageError> {
        let records = self.records_to_save(names)?;
        let platforms = self.platforms_to_save(&records, platform).await?;
        let mut references = records.into_iter();
        let source = ImageStore {
            name: references.next().unwrap_or_default(),
            extra_references: references
                .map(|name| ImageReference { name, ..ImageReference::default() })
                .collect(),
            ..Default::default()
        };
        let how = ImageExportStream {
            platforms: platforms.iter().map(wire_platform).collect(),
            ..Default::default()
        };
        let raw = archive_stream::export_raw(&self.0.client, &source, how.clone()).await?;
        Ok(match raw {
            Some((socket, sent)) => {
                Archive::Socket(socket, Box::pin(async { sent.await.map_err(|e| e.message) }))
            }
            None => Archive::Pieces(self.save_in_pieces(source, how)),
        })
    }

    fn save_in_pieces(
        &self,
        source: ImageStore,
        how: ImageExportStream,
    ) -> mpsc::Receiver<io::Result<Bytes>> {
        let (out, bytes) = mpsc::channel(4);
        let (mut sink, mut archive) = tokio::io::duplex(PIPE);
        let client = self.0.client.clone();
        let export =
            tokio::spawn(
                async move { archive_stream::export(&client, &source, how, &mut sink).await },
            );
        tokio::spawn(async move {
            loop {
                let mut part = BytesMut::with_capacity(PIPE);
                match archive.read_buf(&mut part).await {
                    Ok(0) => break,
                    Ok(_) if out.send(Ok(part.freeze())).await.is_ok() => {}
                    // The client went, or the pipe broke.
                    _ => return export.abort(),
                }
            }
            let failed = match export.await {
                Ok(Ok(_)) => return,
                Ok(Err(e)) => e.message,
                Err(e) => e.to_string(),
            };
            let _ = out.send(Err(io::Error::other(failed))).await;
        });
        bytes
    }

    /// The platforms that are written of the images behind some records.
    async fn platforms_to_save(
        &self,
        records: &[String],
        platform: Option<&Platform>,
    ) -> Result<Vec<Platform>, ImageError> {
        let index = self.index();
        let mut platforms = Vec::new();
        for image in index.all() {
            let own = index.records(&image.id);
            let Some(name) = own.iter().find(|record| records.contains(record)) else { continue };
            match platform {
                Some(wanted) => {
                    let name =
                        Reference::parse(name).map_or_else(|_| name.clone(), |r| r.familiar());
                    if self.for_platform(image, &name, wanted).await.is_err() {
                        let text = format!("no suitable export target found for platform {wanted}");
                        return Err(ImageError::Archive(text));
                    }
                    platforms = vec![wanted.clone()];
                }
                None => platforms.extend(self.platforms_here(image).await?),
            }
        }
        Ok(platforms)
    }

    fn records_to_save(&self, names: &[String]) -> Result<Vec<String>, ImageError> {
        let index = self.index();
        let mut records: Vec<String> = Vec::new();
        let mut add = |name: String| {
            if !records.contains(&name) {
                records.push(name);
            }
        };
        for name in names {
            let reference = Reference::parse(name).ok();
            let whole = reference.filter(Reference::is_name_only).map(|r| r.name());
            let tags = index.all().flat_map(|image| &image.names);
            let tags: Vec<String> = tags
                .filter(|n| Some(n.reference.name()) == whole)
                .map(|n| n.reference.to_string())
                .collect();
            if !tags.is_empty() {
                tags.into_iter().for_each(&mut add);
                continue;
            }
            let image = index.find(name).map_err(|e| match e {
                // The name as it was given, without the tag that a look-up adds.
                ImageError::NotFound(_) => ImageError::NotFound(name.clone()),
                other => other,
            })?;
            let named = Reference::parse(name).ok().map(|r| r.tagged().to_string());
            let record = index.records(&image.id).iter().find(|r| Some(*r) == named.as_ref());
            let record = record.or(index.records(&image.id).first());
            add(record.cloned().ok_or_else(|| ImageError::NotFound(name.clone()))?);
        }
        Ok(records)
    }
}

/// An archive on its way.
pub enum Archive {
    /// It comes by this socket. The call beside it must be awaited meanwhile: it says in the end
    /// whether all of it came.
    Socket(UnixStream, Pin<Box<dyn Future<Output = Result<(), String>> + Send>>),
    /// It comes in pieces.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
}

/// An image that was loaded, under a name or without.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The name as users write it.
    pub name: Option<String>,
    /// The image.
    pub image: std::sync::Arc<ResolvedImage>,
}

pub(crate) fn wire_platform(platform: &Platform) -> types::Platform {
    types::Platform {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        ..types::Platform::default()
    }
}
