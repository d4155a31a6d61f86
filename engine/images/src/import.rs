//! Making an image of one tar stream: `import`. The layer is kept as received, unless that
//! is a form that no registry has layers in.

use std::collections::HashMap;
use std::io;

use bytes::{Bytes, BytesMut};
use containerd_api::services::content::v1::{
    WriteAction, WriteContentRequest, WriteContentResponse,
};
use containerd_rpc::{Client, RpcError};
use futures_util::{Stream, StreamExt};
use oci::image::{ChainId, RunConfig};
use oci::{Descriptor, Digest, Platform, Reference, media_type};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::plain::plain;
use crate::read::to_wire;
use crate::work::{Lease, abort, ingest};
use crate::{DANGLING, ImageError, Images};

/// Bytes in one message to the content store.
const MESSAGE: usize = 1 << 20;

/// What to make of a stream.
#[derive(Debug, Clone, Default)]
pub struct ImportRequest {
    /// The image's name; dangling without.
    pub reference: Option<Reference>,
    /// The comment of its one layer.
    pub message: String,
    /// What containers of it start with.
    pub config: RunConfig,
    /// What it runs on; this host without.
    pub platform: Option<Platform>,
}

impl Images {
    /// Stores the stream as a layer, unpacks it, and makes an image of it.
    /// Returns the image's id.
    ///
    /// # Errors
    /// The stream broke, is no (compressed) tar, or the store's.
    pub async fn import<S>(&self, body: S, request: ImportRequest) -> Result<Digest, ImageError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let lease = Lease::new(&self.0.client).await?;
        let client = lease.client()?;
        let result = self.import_leased(&client, body, request).await;
        lease.end().await;
        result
    }

    async fn import_leased<S>(
        &self,
        client: &Client,
        body: S,
        request: ImportRequest,
    ) -> Result<Digest, ImageError>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + 'static,
    {
        let body = plain(body).await.map_err(|e| ImageError::Archive(e.to_string()))?;
        let layer = write_layer(client, body).await?;
        let applied = self.apply(client, &layer, None, None).await;
        let applied = applied.map_err(|e| ImageError::Archive(e.to_string()))?;
        let chain = ChainId::base(applied.diff_id);
        self.commit(client, &applied.key, &chain).await?;
        let created = engine_api::Time::now().rfc3339();
        let platform = request.platform.as_ref().unwrap_or(&self.0.config.platform);
        let mut config = json!({
            "architecture": platform.architecture,
            "comment": request.message,
            "config": request.config,
            "created": created,
            "history": [{ "created": created, "comment": request.message }],
            "os": platform.os,
            "rootfs": { "type": "layers", "diff_ids": [applied.diff_id] },
        });
        if !platform.variant.is_empty() {
            config["variant"] = platform.variant.clone().into();
        }
        let bytes = serde_json::to_vec(&config).map_err(|e| ImageError::content("config", e))?;
        let config = Descriptor::of(media_type::OCI_CONFIG, &bytes);
        let snapshot = format!("containerd.io/gc.ref.snapshot.{}", self.snapshotter());
        write_blob(client, &config, bytes, HashMap::from([(snapshot, chain.to_string())])).await?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config,
            "layers": [layer],
        });
        let bytes =
            serde_json::to_vec(&manifest).map_err(|e| ImageError::content("manifest", e))?;
        let manifest = Descriptor::of(media_type::OCI_MANIFEST, &bytes);
        let labels = HashMap::from([
            ("containerd.io/gc.ref.content.config".to_owned(), config.digest.to_string()),
            ("containerd.io/gc.ref.content.l.0".to_owned(), layer.digest.to_string()),
        ]);
        write_blob(client, &manifest, bytes, labels).await?;
        if let Some(reference) = &request.reference {
            self.name(reference, &manifest).await?;
        } else {
            self.write_name(&format!("{DANGLING}{}", manifest.digest), &manifest).await?;
            self.refresh().await?;
        }
        Ok(config.digest)
    }
}

/// Stores a small blob.
pub(crate) async fn write_blob(
    client: &Client,
    descriptor: &Descriptor,
    data: Vec<u8>,
    labels: HashMap<String, String>,
) -> Result<(), ImageError> {
    let wire = to_wire(descriptor);
    let name = ingest(client);
    let commit = WriteContentRequest {
        action: WriteAction::Commit as i32,
        r#ref: name.clone(),
        total: wire.size,
        expected: wire.digest,
        data: data.into(),
        labels,
        ..Default::default()
    };
    let sent = client.content().write(tokio_stream::iter([commit])).await.map_err(RpcError::from);
    let done = match sent {
        Ok(answer) => answer.into_inner().message().await.map_err(RpcError::from).map(drop),
        Err(e) => Err(e),
    };
    match done {
        Err(e) if !e.is_already_exists() => {
            abort(client, &name).await;
            Err(e.into())
        }
        _ => Ok(()),
    }
}

/// Stores the stream as a blob; its type is sniffed.
async fn write_layer<S>(client: &Client, body: S) -> Result<Descriptor, ImageError>
where
    S: Stream<Item = io::Result<Bytes>> + Send,
{
    let name = ingest(client);
    let written = write_ingest(client, &name, body).await;
    if written.is_err() {
        abort(client, &name).await;
    }
    written
}

async fn write_ingest<S>(client: &Client, name: &str, body: S) -> Result<Descriptor, ImageError>
where
    S: Stream<Item = io::Result<Bytes>> + Send,
{
    let mut body = std::pin::pin!(body);
    let (sender, receiver) = mpsc::channel(4);
    let call = async {
        let answer = client.content().write(ReceiverStream::new(receiver)).await?;
        let mut answers = answer.into_inner();
        let mut last = WriteContentResponse::default();
        while let Some(next) = answers.message().await? {
            last = next;
        }
        Ok::<_, RpcError>(last)
    };
    let mut media_type = None;
    let feed = async {
        let mut held = BytesMut::new();
        let mut offset: i64 = 0;
        let mut hasher = oci::digest::Hasher::new(oci::digest::Algorithm::Sha256);
        loop {
            let part = body.next().await.transpose();
            let part = part.map_err(|e| ImageError::Archive(e.to_string()))?;
            let ended = part.is_none();
            held.extend_from_slice(&part.unwrap_or_default());
            while held.len() >= MESSAGE || (ended && !held.is_empty()) {
                let data = held.split_to(held.len().min(MESSAGE)).freeze();
                media_type.get_or_insert_with(|| sniff(&data));
                hasher.update(&data);
                let sent = data.len() as i64;
                let write = WriteContentRequest {
                    action: WriteAction::Write as i32,
                    r#ref: name.to_owned(),
                    offset,
                    data,
                    ..Default::default()
                };
                offset += sent;
                if sender.send(write).await.is_err() {
                    return Ok(None);
                }
            }
            if ended {
                break;
            }
        }
        let digest = hasher.finish();
        let commit = WriteContentRequest {
            action: WriteAction::Commit as i32,
            r#ref: name.to_owned(),
            offset,
            total: offset,
            expected: digest.to_string(),
            ..Default::default()
        };
        let _ = sender.send(commit).await;
        drop(sender);
        Ok::<_, ImageError>(Some((digest, offset as u64)))
    };
    let (fed, called) = tokio::join!(feed, call);
    match called {
        Err(e) if !e.is_already_exists() => return Err(e.into()),
        _ => {}
    }
    let Some((digest, size)) = fed? else {
        return Err(ImageError::Archive("the store stopped reading".into()));
    };
    Ok(Descriptor::new(media_type.unwrap_or(media_type::OCI_LAYER), digest, size))
}

/// The media type of a layer by its first bytes.
fn sniff(data: &[u8]) -> &'static str {
    match data {
        [0x1f, 0x8b, ..] => media_type::OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => media_type::OCI_LAYER_ZSTD,
        _ => media_type::OCI_LAYER,
    }
}
