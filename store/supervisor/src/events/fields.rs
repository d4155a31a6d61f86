//! Fields of events by name, for filters such as `event.container_id==X`.

use std::collections::HashMap;

use containerd_api::any;
use containerd_api::events as e;
use containerd_api::prost::Name;
use containerd_api::prost_types::Any;
use containerd_api::services::images::v1 as images;

/// The text of field `path` of a packed event; `None` when it is unknown or empty.
pub(super) fn field(event: &Any, path: &[&str]) -> Option<String> {
    macro_rules! known {
        ($($kind:ty { $($name:ident),* } $(labels $labels:ident)?;)*) => {
            $(if let Some(decoded) = unpack::<$kind>(event) {
                return match path {
                    $([name] if *name == stringify!($name) => text(decoded.$name),)*
                    $([stringify!($labels), rest @ ..] => label(&decoded.$labels, rest),)?
                    _ => None,
                };
            })*
        };
    }
    known! {
        e::TaskCreate { container_id, bundle, checkpoint };
        e::TaskStart { container_id };
        e::TaskDelete { container_id, id };
        e::TaskExit { container_id, id };
        e::TaskOom { container_id };
        e::TaskExecAdded { container_id, exec_id };
        e::TaskExecStarted { container_id, exec_id };
        e::TaskPaused { container_id };
        e::TaskResumed { container_id };
        e::TaskCheckpointed { container_id, checkpoint };
        e::ContainerCreate { id, image };
        e::ContainerUpdate { id, image, snapshot_key } labels labels;
        e::ContainerDelete { id };
        e::ContentCreate { digest };
        e::ContentDelete { digest };
        e::NamespaceCreate { name } labels labels;
        e::NamespaceUpdate { name } labels labels;
        e::NamespaceDelete { name };
        e::SnapshotPrepare { key, parent, snapshotter };
        e::SnapshotCommit { key, name, snapshotter };
        e::SnapshotRemove { key, snapshotter };
        images::ImageCreate { name } labels labels;
        images::ImageUpdate { name } labels labels;
        images::ImageDelete { name };
    }
    None
}

fn unpack<M: Name + Default>(event: &Any) -> Option<M> {
    any::unpack::<M>(event)?.ok()
}

fn text(value: String) -> Option<String> {
    Some(value).filter(|v| !v.is_empty())
}

fn label(labels: &HashMap<String, String>, path: &[&str]) -> Option<String> {
    labels.get(&path.join(".")).cloned()
}
