//! One blob from a registry into the content store: resumed where an earlier attempt stopped,
//! verified by the store, fetched once however many ask for it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use bytes::BytesMut;
use containerd_api::prost_types::FieldMask;
use containerd_api::services::content::v1::{
    Info, InfoRequest, UpdateRequest, WriteAction, WriteContentRequest, WriteContentResponse,
};
use containerd_rpc::{Client, Kind, RpcError};
use oci::{Descriptor, Digest, Reference};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::progress::Meter;
use super::pull::Pull;
use super::{SOURCE, failed, source_of, told};
use crate::work::{BLOB, abort, hold};
use crate::{ImageError, Images};

/// Bytes in one message to the content store.
const MESSAGE: usize = 1 << 20;

/// Whether a blob is in the store.
pub(crate) async fn has_blob(client: &Client, digest: &Digest) -> Result<bool, ImageError> {
    Ok(info(client, digest).await?.is_some())
}

/// The size of a blob, if it is in the store.
pub(crate) async fn blob_size(client: &Client, digest: &Digest) -> Result<Option<i64>, ImageError> {
    Ok(info(client, digest).await?.map(|info| info.size))
}

async fn info(client: &Client, digest: &Digest) -> Result<Option<Info>, ImageError> {
    let request = InfoRequest { digest: digest.to_string() };
    match client.content().info(request).await.map_err(RpcError::from) {
        Ok(answer) => Ok(answer.into_inner().info),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// A blob's labels; none for one that is not there.
pub(crate) async fn labels(
    client: &Client,
    digest: &Digest,
) -> Result<HashMap<String, String>, ImageError> {
    Ok(info(client, digest).await?.map(|info| info.labels).unwrap_or_default())
}

/// Gives labels to a blob that may have been there before. One that says where the blob came from
/// gets another place, not a new one.
pub(super) async fn label(
    client: &Client,
    digest: &Digest,
    labels: HashMap<String, String>,
) -> Result<(), ImageError> {
    let before = self::labels(client, digest).await?;
    let mut wanted = HashMap::new();
    for (key, value) in labels {
        let old = before.get(&key).map_or("", String::as_str);
        let is_listed = old.split(',').any(|one| one == value);
        if is_listed {
            continue;
        }
        let joins = key.starts_with(SOURCE) && !old.is_empty();
        wanted.insert(key, if joins { format!("{old},{value}") } else { value });
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let paths = wanted.keys().map(|key| format!("labels.{key}")).collect();
    let info = Info { digest: digest.to_string(), labels: wanted, ..Info::default() };
    let request = UpdateRequest { info: Some(info), update_mask: Some(FieldMask { paths }) };
    client.content().update(request).await.map_err(RpcError::from)?;
    Ok(())
}

/// Forgets that a blob is to be had from a reference's repository.
pub(crate) async fn forget_source(
    client: &Client,
    digest: &Digest,
    reference: &Reference,
) -> Result<(), ImageError> {
    let (key, path) = source_of(reference);
    let known = labels(client, digest).await?;
    let Some(known) = known.get(&key) else { return Ok(()) };
    let left: Vec<&str> = known.split(',').filter(|one| *one != path).collect();
    let labels = HashMap::from([(key.clone(), left.join(","))]);
    let info = Info { digest: digest.to_string(), labels, ..Info::default() };
    let mask = FieldMask { paths: vec![format!("labels.{key}")] };
    let request = UpdateRequest { info: Some(info), update_mask: Some(mask) };
    client.content().update(request).await.map_err(RpcError::from)?;
    Ok(())
}

impl Images {
    /// The lock of a blob that is being fetched.
    fn fetch_lock(&self, digest: &Digest) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetching = self.0.fetching.lock().unwrap_or_else(PoisonError::into_inner);
        fetching.retain(|_, lock| lock.strong_count() > 0);
        let known = fetching.get(digest).and_then(std::sync::Weak::upgrade);
        known.unwrap_or_else(|| {
            let fresh = Arc::new(tokio::sync::Mutex::new(()));
            fetching.insert(*digest, Arc::downgrade(&fresh));
            fresh
        })
    }
}

/// An ingest that is being written.
struct Ingest {
    messages: mpsc::Sender<WriteContentRequest>,
    answers: Streaming<WriteContentResponse>,
    name: String,
}

impl Pull<'_> {
    /// Fetches a layer's blob unless it is there, and tells so.
    pub(super) async fn blob(&self, client: &Client, layer: &Descriptor) -> Result<(), ImageError> {
        let lock = self.images.fetch_lock(&layer.digest);
        let _one = lock.lock().await;
        let (source, name) = source_of(&self.reference);
        hold(client, BLOB, &layer.digest).await?;
        if !has_blob(client, &layer.digest).await? {
            // What an ingest under a lease has goes with the lease; without, it stays a day, for
            // whoever resumes it.
            let client = &client.without_lease();
            let again = match self.blob_once(client, layer).await {
                Err((ImageError::Rpc(e), resumed)) if is_mismatch(&e) => {
                    abort(client, &name_of(&layer.digest)).await;
                    if !resumed {
                        return Err(unverified(&layer.digest, &e));
                    }
                    true
                }
                Err((e, _)) => return Err(e),
                Ok(()) => false,
            };
            // What an earlier attempt left may have been wrong: once more, from the start.
            if again && let Err((e, _)) = self.blob_once(client, layer).await {
                abort(client, &name_of(&layer.digest)).await;
                return Err(match &e {
                    ImageError::Rpc(wrong) if is_mismatch(wrong) => {
                        unverified(&layer.digest, wrong)
                    }
                    _ => e,
                });
            }
        }
        label(client, &layer.digest, HashMap::from([(source, name)])).await?;
        self.progress.action(&layer.digest.short(), "Download complete");
        Ok(())
    }

    /// One attempt; an error comes with whether it began behind the blob's start.
    async fn blob_once(
        &self,
        client: &Client,
        layer: &Descriptor,
    ) -> Result<(), (ImageError, bool)> {
        let plain = |e: ImageError| (e, false);
        let Some((mut ingest, mut offset)) =
            Ingest::open(client, layer).await.map_err(|e| plain(e.into()))?
        else {
            return Ok(());
        };
        let id = layer.digest.short();
        let mut meter = Meter::new(self.progress.clone(), id.clone(), "Downloading", layer.size);
        let blob = self.repository.blob(layer, offset).await;
        let mut blob = blob.map_err(|e| plain(told(&e, &self.reference)))?;
        offset = blob.start();
        let resumed = offset > 0;
        let mut held = BytesMut::new();
        loop {
            let chunk = blob.chunk().await.transpose();
            let chunk = chunk.map_err(|e| (told(&e, &self.reference), resumed))?;
            let ended = chunk.is_none();
            held.extend_from_slice(&chunk.unwrap_or_default());
            while held.len() >= MESSAGE || (ended && !held.is_empty()) {
                let data = held.split_to(held.len().min(MESSAGE)).freeze();
                let end = offset + data.len() as u64;
                let sent = ingest.write(WriteAction::Write, layer, offset, data).await;
                sent.map_err(|e| (e.into(), resumed))?;
                offset = end;
            }
            if ended {
                break;
            }
            meter.at(offset + held.len() as u64);
        }
        self.progress.action(&id, "Verifying Checksum");
        let done = ingest.write(WriteAction::Commit, layer, offset, bytes::Bytes::new()).await;
        match done {
            Err(e) if !e.is_already_exists() => Err((e.into(), resumed)),
            _ => Ok(()),
        }
    }
}

/// The ingest's name, which containerd's own clients use too.
fn name_of(digest: &Digest) -> String {
    format!("layer-{digest}")
}

/// Docker's words for wrong content; the log has the digest that came.
fn unverified(digest: &Digest, wrong: &RpcError) -> ImageError {
    tracing::warn!("blob {digest}: {} (nothing was kept)", wrong.message);
    failed(500, format!("filesystem layer verification failed for digest {digest}"))
}

fn is_mismatch(error: &RpcError) -> bool {
    error.kind == Kind::FailedPrecondition
        || error.message.contains("unexpected commit digest")
        || error.message.contains("unexpected commit size")
}

impl Ingest {
    /// Opens or reopens an ingest; with how much of it is there. `None` when the blob exists.
    async fn open(client: &Client, layer: &Descriptor) -> Result<Option<(Self, u64)>, RpcError> {
        let (messages, outgoing) = mpsc::channel(2);
        let name = name_of(&layer.digest);
        let hello = request(&name, WriteAction::Stat, layer, 0, bytes::Bytes::new());
        // Queued before the call: the peer answers the call's head with the first message only.
        let _ = messages.try_send(hello);
        let answer = match client.content().write(ReceiverStream::new(outgoing)).await {
            Ok(answer) => answer,
            Err(status) => return Self::exists(status.into()),
        };
        let mut answers = answer.into_inner();
        match answers.message().await {
            Ok(Some(first)) => {
                let offset = u64::try_from(first.offset).unwrap_or_default();
                Ok(Some((Self { messages, answers, name }, offset)))
            }
            Ok(None) => Err(RpcError {
                kind: Kind::Unavailable,
                message: "the store closed an ingest that was just opened".into(),
            }),
            Err(status) => Self::exists(status.into()),
        }
    }

    fn exists(error: RpcError) -> Result<Option<(Self, u64)>, RpcError> {
        if error.is_already_exists() { Ok(None) } else { Err(error) }
    }

    /// Sends one message and takes its answer.
    async fn write(
        &mut self,
        action: WriteAction,
        layer: &Descriptor,
        offset: u64,
        data: bytes::Bytes,
    ) -> Result<(), RpcError> {
        let message = request(&self.name, action, layer, offset, data);
        // A peer that refuses has said why in its answer.
        let _ = self.messages.send(message).await;
        match self.answers.message().await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(RpcError {
                kind: Kind::Unavailable,
                message: "the store closed an ingest that is being written".into(),
            }),
            Err(status) => Err(status.into()),
        }
    }
}

fn request(
    name: &str,
    action: WriteAction,
    layer: &Descriptor,
    offset: u64,
    data: bytes::Bytes,
) -> WriteContentRequest {
    let is_write = action == WriteAction::Write;
    WriteContentRequest {
        action: action as i32,
        r#ref: name.to_owned(),
        total: if is_write { 0 } else { i64::try_from(layer.size).unwrap_or(i64::MAX) },
        expected: if is_write { String::new() } else { layer.digest.to_string() },
        offset: i64::try_from(offset).unwrap_or(i64::MAX),
        data,
        ..WriteContentRequest::default()
    }
}
