//! After a power cut: layers whose files may be torn were dropped when the store was opened, and
//! are unpacked again from their blobs before anybody is served.

use super::unpack;
use crate::context::{name_of, namespace_of};
use crate::images::IMAGES;
use crate::images::Image;
use crate::leases::Guard;
use crate::snapshots::{Place, Snapshotter, drop_rootless};
use crate::{Context, Error, State};
use oci::Platform;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

const SNAPSHOT: &str = "containerd.io/gc.ref.snapshot.";

/// Unpacks what images had unpacked and lack now; what then still stands on nothing goes. Blocks.
pub fn restore(state: &Arc<State>) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for (key, image) in state.store.scan_json::<Image>(IMAGES, b"")? {
        let context = Context::new(namespace_of(&key));
        if !seen.insert((context.namespace.clone(), image.target.digest)) {
            continue;
        }
        // One image that can't be read must not keep all others from being served.
        if let Err(e) = restore_image(state, &context, &image) {
            tracing::warn!("unpacking {:?} again: {e}", name_of(&key));
        }
    }
    drop_rootless(state)
}

fn restore_image(state: &Arc<State>, context: &Context, image: &Image) -> Result<(), Error> {
    for (platform, config) in unpack::configs(state, context, &image.target)? {
        let Ok(info) = state.content_info(context, &config) else { continue };
        for (label, chain) in &info.labels {
            let Some(name) = label.strip_prefix(SNAPSHOT) else { continue };
            let Ok(snapshotter) = Snapshotter::named(name) else { continue };
            if state.snapshot(&Place::new(context, snapshotter), chain).is_ok() {
                continue;
            }
            tracing::info!("unpacking {} again", image.target.digest);
            unpack_again(state, context, image, &platform, name)?;
        }
    }
    Ok(())
}

fn unpack_again(
    state: &Arc<State>,
    context: &Context,
    image: &Image,
    platform: &Platform,
    snapshotter: &str,
) -> Result<(), Error> {
    let guard = Guard::new(state, context)?;
    let plan = unpack::plan(state, guard.context(), &image.target, platform, snapshotter)?;
    plan.map_or(Ok(()), |plan| unpack::unpack(state, guard.context(), &plan, &mut HashMap::new()))
}
