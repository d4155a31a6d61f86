//! What a container's root file system holds, and what it changed: read from its layers, without
//! its mounts, whether it runs or not.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use archive::{ChangeKind, PackOptions, Root};
use bytes::Bytes;
use containerd_api::services::snapshots::v1::MountsRequest;
use containerd_rpc::RpcError;
use engine_api::FilesystemChange;
use http::HeaderValue;
use rustix::fs::{FileType, Stat};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::Reply;
use crate::engine::Engine;
use crate::http::{ApiError, Request, Response};
use crate::lifecycle::Container;
use crate::rootfs;

/// Bytes that are packed before they are handed on.
const PART: usize = 256 << 10;

/// The folders of a container's root file system, topmost first.
async fn layers(engine: &Engine, container: &Container) -> Result<Vec<PathBuf>, ApiError> {
    let snapshotter = container.row().fixed.snapshotter.clone();
    let request = MountsRequest { snapshotter, key: container.id.clone() };
    let answer = engine.client.snapshots().mounts(request).await.map_err(RpcError::from);
    let answer = answer.map_err(|e| ApiError::internal(e.to_string()))?;
    Ok(rootfs::layers(&answer.into_inner().mounts))
}

/// What stands in the root file system so that something can be mounted there: of every
/// container, and nobody's change.
fn is_stub(path: &[u8], found: &Stat) -> bool {
    match path {
        b"etc/hosts" | b"etc/hostname" | b"etc/resolv.conf" => {
            FileType::from_raw_mode(found.st_mode) == FileType::RegularFile && found.st_size == 0
        }
        b"dev" | b"proc" | b"sys" => {
            FileType::from_raw_mode(found.st_mode) == FileType::Directory && found.st_nlink <= 2
        }
        _ => false,
    }
}

pub(super) async fn changes(engine: Arc<Engine>, request: Request) -> Reply {
    let container = engine.find(request.name())?;
    let layers = layers(&engine, &container).await?;
    let row = container.row();
    let image = engine.images.resolve(&row.fixed.image_id);
    if layers.len() == 1 && image.is_ok_and(|image| !image.layers.is_empty()) {
        let snapshotter = &row.fixed.snapshotter;
        let text =
            format!("changes with the snapshotter {snapshotter} are not supported by Ferry yet");
        return Err(ApiError::not_implemented(text));
    }
    let found = tokio::task::spawn_blocking(move || {
        let Some((upper, lowers)) = layers.split_first() else { return Ok(Vec::new()) };
        let lowers: Vec<&Path> = lowers.iter().map(PathBuf::as_path).collect();
        archive::changes(upper, &lowers, is_stub)
    });
    let found = found.await.map_err(|e| ApiError::internal(e.to_string()))?;
    let found = found.map_err(|e| ApiError::internal(e.to_string()))?;
    let told = found.into_iter().map(|change| FilesystemChange {
        path: format!("/{}", String::from_utf8_lossy(&change.path)),
        kind: match change.kind {
            ChangeKind::Modified => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        },
    });
    let told: Vec<FilesystemChange> = told.collect();
    // Go's empty list here is none at all.
    let told = Some(told).filter(|told| !told.is_empty());
    Ok(Response::json(&told, request.version))
}

pub(super) async fn export(engine: Arc<Engine>, request: Request) -> Reply {
    let container = engine.find(request.name())?;
    let layers = layers(&engine, &container).await?;
    let (parts, receiver) = mpsc::channel(4);
    let failed = parts.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(why) = pack(&layers, Parts { parts, held: Vec::with_capacity(PART) }) {
            // Nobody listens when it is the client that went.
            let _ = failed.blocking_send(Err(ApiError::internal(why)));
        }
    });
    container.tell("export", &[]);
    let kind = HeaderValue::from_static("application/octet-stream");
    Ok(Response::stream(kind, Box::pin(ReceiverStream::new(receiver))))
}

/// Packs the tree that the layers make together. Links in it lead nowhere but inside.
fn pack(layers: &[PathBuf], out: Parts) -> Result<(), String> {
    let root = match layers {
        [] => return Err("no layers".into()),
        [only] => Root::open(only).map_err(|e| e.to_string())?,
        several => Root::from_fd(
            sys::mount::read_only_overlay(several)
                .map_err(|e| format!("mounting the layers to read them: {e}"))?,
        ),
    };
    let options = PackOptions { rename: Vec::new(), nanos: true };
    let (mut out, _) = archive::pack(&root, b"", &options, out).map_err(|e| e.to_string())?;
    out.flush().map_err(|e| e.to_string())
}

/// A writer whose bytes go to the answer, a part at a time.
struct Parts {
    parts: mpsc::Sender<Result<Bytes, ApiError>>,
    held: Vec<u8>,
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= PART {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let part = std::mem::replace(&mut self.held, Vec::with_capacity(PART));
        let sent = self.parts.blocking_send(Ok(Bytes::from(part)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
