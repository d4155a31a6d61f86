//! Containers: what a task is made from. Records only; nothing runs here.
//!
//! A record is the protobuf message itself, since its form is a published schema
//! and create is on the path of every start.

mod service;

use containerd_api::events as e;
use containerd_api::prost::Message as _;
use containerd_api::services::containers::v1::Container;
use containerd_api::time;
use metastore::{Batch, Class, Table};

pub use service::Service;

use crate::context::{check_identifier, check_label};
use crate::{Context, Error, State};

pub(crate) const CONTAINERS: Table = Table::new("containers");

pub(crate) fn decode(key: &[u8], bytes: &[u8]) -> Result<Container, Error> {
    Container::decode(bytes).map_err(|error| {
        Error::Other(format!("record of container {}: {error}", crate::context::name_of(key)))
    })
}

fn invalid(what: impl Into<String>) -> Error {
    Error::InvalidArgument(what.into())
}

fn check(container: &Container) -> Result<(), Error> {
    if let Err(error) = check_identifier(&container.id) {
        return Err(invalid(format!(
            "container.ID: {}",
            error.trim_end_matches(": invalid argument")
        )));
    }
    for key in container.extensions.keys() {
        if key.is_empty() {
            return Err(invalid("extension key must not be zero-length"));
        }
    }
    container.labels.iter().try_for_each(|(key, value)| check_label(key, value))?;
    if container.runtime.as_ref().is_none_or(|runtime| runtime.name.is_empty()) {
        return Err(invalid("container.Runtime.Name must be set"));
    }
    if container.spec.is_none() {
        return Err(invalid("container.Spec must be set"));
    }
    if !container.snapshot_key.is_empty() && container.snapshotter.is_empty() {
        return Err(invalid("container.Snapshotter must be set if container.SnapshotKey is set"));
    }
    Ok(())
}

impl State {
    /// The container `id`.
    pub fn container(&self, context: &Context, id: &str) -> Result<Container, Error> {
        let key = context.key(id);
        match self.store.get(CONTAINERS, &key)? {
            Some(bytes) => decode(&key, &bytes),
            None => Err(Error::NotFound(format!(
                "container {id:?} in namespace {:?}",
                context.namespace
            ))),
        }
    }

    /// All containers of the namespace, sorted by id.
    pub fn containers(&self, context: &Context) -> Result<Vec<Container>, Error> {
        let rows = self.store.scan(CONTAINERS, &context.prefix())?;
        rows.iter().map(|(key, bytes)| decode(key, bytes)).collect()
    }

    /// Records a container.
    pub fn create_container(
        &self,
        context: &Context,
        mut container: Container,
    ) -> Result<Container, Error> {
        check(&container).map_err(|error| match error {
            Error::InvalidArgument(what) => {
                invalid(format!("create container failed validation: {what}"))
            }
            other => other,
        })?;
        let now = time::now();
        (container.created_at, container.updated_at) = (Some(now), Some(now));
        {
            let _writing = self.write();
            let key = context.key(&container.id);
            if self.store.get(CONTAINERS, &key)?.is_some() {
                return Err(Error::AlreadyExists(format!("container {:?}", container.id)));
            }
            let batch = self.with_namespace(context, Batch::default())?;
            self.store
                .commit(Class::Crash, batch.put(CONTAINERS, key, container.encode_to_vec()))?;
        }
        let runtime = container.runtime.clone().unwrap_or_default();
        let event = e::ContainerCreate {
            id: container.id.clone(),
            image: container.image.clone(),
            runtime: Some(e::container_create::Runtime {
                name: runtime.name,
                options: runtime.options,
            }),
        };
        self.events.publish(&context.namespace, "/containers/create", &event);
        Ok(container)
    }

    /// Changes a container: all mutable fields when `paths` is empty, else what they name.
    pub fn update_container(
        &self,
        context: &Context,
        wanted: Container,
        paths: &[String],
    ) -> Result<Container, Error> {
        if wanted.id.is_empty() {
            return Err(invalid("must specify a container id"));
        }
        let updated = {
            let _writing = self.write();
            let mut updated = self.container(context, &wanted.id)?;
            if paths.is_empty() {
                immutable(&updated, &wanted)?;
                updated.labels.clone_from(&wanted.labels);
                updated.spec.clone_from(&wanted.spec);
                updated.extensions.clone_from(&wanted.extensions);
                updated.image.clone_from(&wanted.image);
                updated.snapshot_key.clone_from(&wanted.snapshot_key);
            }
            for path in paths {
                apply(&mut updated, &wanted, path)?;
            }
            check(&updated)?;
            updated.updated_at = Some(time::now());
            let key = context.key(&updated.id);
            let batch = Batch::default().put(CONTAINERS, key, updated.encode_to_vec());
            self.store.commit(Class::Crash, batch)?;
            updated
        };
        let event = e::ContainerUpdate {
            id: updated.id.clone(),
            image: updated.image.clone(),
            labels: updated.labels.clone(),
            snapshot_key: updated.snapshot_key.clone(),
        };
        self.events.publish(&context.namespace, "/containers/update", &event);
        Ok(updated)
    }

    /// Removes a container's record; its snapshot goes with the next collection unless kept.
    pub fn delete_container(&self, context: &Context, id: &str) -> Result<(), Error> {
        {
            let _writing = self.write();
            if self.store.get(CONTAINERS, &context.key(id))?.is_none() {
                self.container(context, id)?;
            }
            let batch = Batch::default().delete(CONTAINERS, context.key(id));
            self.store.commit(Class::Crash, batch)?;
        }
        let event = e::ContainerDelete { id: id.into() };
        self.events.publish(&context.namespace, "/containers/delete", &event);
        self.gc.trigger();
        Ok(())
    }
}

fn immutable(old: &Container, new: &Container) -> Result<(), Error> {
    if old.snapshotter != new.snapshotter {
        return Err(invalid("container.Snapshotter field is immutable"));
    }
    let name = |c: &Container| c.runtime.as_ref().map(|r| r.name.clone()).unwrap_or_default();
    if name(old) != name(new) {
        return Err(invalid("container.Runtime.Name field is immutable"));
    }
    Ok(())
}

fn apply(updated: &mut Container, wanted: &Container, path: &str) -> Result<(), Error> {
    match path {
        "labels" => updated.labels.clone_from(&wanted.labels),
        "extensions" => updated.extensions.clone_from(&wanted.extensions),
        "spec" => updated.spec.clone_from(&wanted.spec),
        "image" => updated.image.clone_from(&wanted.image),
        "snapshotkey" => updated.snapshot_key.clone_from(&wanted.snapshot_key),
        "runtime" => updated.runtime.clone_from(&wanted.runtime),
        "sandbox" | "sandboxid" => updated.sandbox.clone_from(&wanted.sandbox),
        _ => {
            if let Some(key) = path.strip_prefix("labels.") {
                match wanted.labels.get(key) {
                    Some(value) => updated.labels.insert(key.into(), value.clone()),
                    None => updated.labels.remove(key),
                };
            } else if let Some(key) = path.strip_prefix("extensions.") {
                match wanted.extensions.get(key) {
                    Some(value) => updated.extensions.insert(key.into(), value.clone()),
                    None => updated.extensions.remove(key),
                };
            } else {
                return Err(invalid(format!("cannot update {path:?} field on {:?}", wanted.id)));
            }
        }
    }
    Ok(())
}
