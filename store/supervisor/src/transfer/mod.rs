//! Transfer: images between registries, streams and the store: pull, push, import, export, tag,
//! unpack. Everything but the gRPC layer is synchronous and runs on threads that may block.

mod compress;
mod export;
mod fetch;
mod flights;
mod gather;
mod graph;
mod import;
mod layers;
mod names;
mod places;
mod progress;
mod pull;
mod push;
mod remote;
mod resolve;
mod restore;
mod service;
mod source;
mod unpack;

pub use export::{Wish, export};
pub(crate) use flights::Flights;
pub(crate) use places::Places;
pub use progress::Progress;
pub use restore::restore;
pub use service::Service;

use crate::images::Image;
use crate::leases::Guard;
use crate::snapshots::Snapshotter;
use crate::{Context, Error, State};
use containerd_api::transfer_types::ImageStore;
use containerd_api::types;
use oci::{Descriptor, Platform};
use std::io::Read;
use std::sync::Arc;

/// A platform off the wire.
pub(crate) fn platform(wire: &types::Platform) -> Platform {
    Platform {
        os_version: wire.os_version.clone(),
        os_features: wire.os_features.clone(),
        ..Platform::new(&wire.os, &wire.architecture, &wire.variant)
    }
    .normalized()
}

/// Imports the archive on `stream` into the store: blobs, names, and snapshots where `store` asks
/// for unpacking. Returns the names with their targets. Answers when all of it is durable.
pub fn import(
    state: &Arc<State>,
    context: &Context,
    stream: impl Read,
    store: &ImageStore,
    progress: &Progress,
) -> Result<Vec<(String, Descriptor)>, Error> {
    let guard = Guard::unless_leased(state, context)?;
    let context = guard.as_ref().map_or(context, Guard::context);
    progress.tell("Importing", "", None);
    let mut store = store.clone();
    for wish in &mut store.unpacks {
        // An empty name means the default, which labels must spell out.
        wish.snapshotter = Snapshotter::named(&wish.snapshotter)?.name().into();
    }
    let store = &store;
    let ahead = store.unpacks.iter().map(|u| u.snapshotter.as_str()).find(|s| unpack::streams(s));
    let mut contents = import::read(state, context, stream, ahead)?;
    let mut ready = std::mem::take(&mut contents.layers);
    let stored = store_images(state, context, &mut contents, store, &mut ready, progress);
    if let Some(snapshotter) = ahead {
        unpack::drop_rest(state, context, snapshotter, ready);
    }
    let stored = stored?;
    progress.tell("Completed import", "", None);
    Ok(stored)
}

fn store_images(
    state: &Arc<State>,
    context: &Context,
    contents: &mut import::Contents,
    store: &ImageStore,
    ready: &mut std::collections::HashMap<oci::Digest, layers::Layer>,
    progress: &Progress,
) -> Result<Vec<(String, Descriptor)>, Error> {
    let resolved = resolve::resolve(contents)?;
    let platforms: Vec<Platform> = store.platforms.iter().map(platform).collect();
    graph::keep(state, context, contents, &resolved.index, &platforms)?;
    let mut wanted = Vec::new();
    for image in &resolved.images {
        let names = names::imported(store, image);
        // An entry that was filtered out, or is not in the archive, has no blob.
        if !names.is_empty() && state.content_info(context, &image.digest).is_ok() {
            wanted.push((image, names));
        }
    }
    let index_names = names::given(store, &resolved.index);
    if !index_names.is_empty() {
        wanted.push((&resolved.index, index_names));
    }
    let mut stored = Vec::new();
    for (image, names) in wanted {
        for wish in &store.unpacks {
            let platform = wish.platform.as_ref().map_or_else(Platform::host, platform);
            progress.tell("unpacking", &image.digest.to_string(), Some(image));
            let plan = unpack::plan(state, context, image, &platform, &wish.snapshotter)?;
            if let Some(plan) = plan {
                unpack::unpack(state, context, &plan, ready)?;
            }
        }
        for name in names {
            let mut target = image.clone();
            target.annotations.remove("io.containerd.import.ref-source");
            let mut record = Image::new(target.clone());
            record.labels = store.labels.clone().into_iter().collect();
            state.put_image(context, &name, record)?;
            progress.tell("saved", &name, Some(&target));
            stored.push((name, target));
        }
    }
    Ok(stored)
}

/// Gives the image `from` the names of `store`.
pub fn tag(state: &State, context: &Context, from: &str, store: &ImageStore) -> Result<(), Error> {
    let image = state.image(context, from)?;
    let names = names::given(store, &image.target);
    if names.is_empty() {
        return Err(Error::InvalidArgument("a name to tag with is required".into()));
    }
    for name in names {
        let mut record = Image::new(image.target.clone());
        record.labels = if store.labels.is_empty() {
            image.labels.clone()
        } else {
            store.labels.clone().into_iter().collect()
        };
        state.put_image(context, &name, record)?;
    }
    Ok(())
}

/// What a thread came to; one that panicked failed.
fn joined<T>(ended: std::thread::Result<Result<T, Error>>) -> Result<T, Error> {
    ended.unwrap_or_else(|_| Err(Error::Other("a worker panicked".into())))
}
