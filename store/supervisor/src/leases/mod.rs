//! Leases: what keeps things that nothing else refers to yet.

mod service;

use std::sync::Arc;

use metastore::{Batch, Class, Table};
use serde::{Deserialize, Serialize};

pub use service::Service;

use crate::content::OWN;
use crate::context::name_of;
use crate::labels::Labels;
use crate::{Context, Error, State};

pub(crate) const LEASES: Table = Table::new("leases");
/// Key: namespace, lease, type, id, joined by zero bytes; the value is empty.
pub(crate) const RESOURCES: Table = Table::new("lease_resources");

/// Label with the time (RFC 3339) from which on a lease no longer counts.
pub const EXPIRE: &str = "containerd.io/gc.expire";

/// A lease's record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Lease {
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// Fields of newer versions, kept.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// Something that a lease keeps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// `content`, `ingests`, `images` or `snapshots/NAME`.
    pub kind: String,
    /// Digest, reference, name or key.
    pub id: String,
}

impl Resource {
    /// A resource of `kind`.
    pub fn new(kind: impl Into<String>, id: impl Into<String>) -> Self {
        Self { kind: kind.into(), id: id.into() }
    }

    fn checked(self) -> Result<Self, Error> {
        let known = matches!(self.kind.as_str(), "content" | "ingests" | "images")
            || self.kind.strip_prefix("snapshots/").is_some_and(|s| !s.is_empty());
        if known && self.kind == "content" && self.id.parse::<oci::Digest>().is_err() {
            return Err(Error::InvalidArgument(format!("invalid content ID {}", self.id)));
        }
        if known {
            return Ok(self);
        }
        if self.kind == "snapshots" {
            return Err(Error::InvalidArgument(format!(
                "invalid type {}, expected snapshots/<snapshotter>",
                self.kind
            )));
        }
        Err(Error::Unimplemented(format!("resource type {}", self.kind)))
    }
}

fn resource_key(context: &Context, lease: &str, kind: &str, id: &str) -> Vec<u8> {
    context.key(&format!("{lease}\0{kind}\0{id}"))
}

impl State {
    /// Makes a lease.
    pub fn create_lease(
        &self,
        context: &Context,
        id: &str,
        labels: Labels,
    ) -> Result<Lease, Error> {
        if id.is_empty() {
            return Err(Error::InvalidArgument("lease id must be provided".into()));
        }
        let lease = Lease { created: crate::labels::now(), labels, ..Lease::default() };
        let _writing = self.write();
        if self.store.get(LEASES, &context.key(id))?.is_some() {
            return Err(Error::AlreadyExists(format!("lease {id:?}")));
        }
        let batch = self.with_namespace(context, Batch::default())?;
        self.store.commit(Class::Crash, batch.put_json(LEASES, context.key(id), &lease)?)?;
        Ok(lease)
    }

    /// Ends a lease; what it alone kept goes with the next collection.
    pub fn delete_lease(&self, context: &Context, id: &str) -> Result<(), Error> {
        {
            let _writing = self.write();
            self.lease(context, id)?;
            let mut batch = Batch::default().delete(LEASES, context.key(id));
            for (key, _) in self.store.scan(RESOURCES, &resource_prefix(context, id))? {
                batch = batch.delete(RESOURCES, key);
            }
            self.store.commit(Class::Crash, batch)?;
        }
        self.gc.trigger();
        Ok(())
    }

    /// The lease `id`.
    pub fn lease(&self, context: &Context, id: &str) -> Result<Lease, Error> {
        let found = self.store.get_json(LEASES, &context.key(id))?;
        found.ok_or_else(|| Error::NotFound(format!("lease {id:?}")))
    }

    /// All leases of the namespace.
    pub fn leases(&self, context: &Context) -> Result<Vec<(String, Lease)>, Error> {
        let rows = self.store.scan_json(LEASES, &context.prefix())?.into_iter();
        Ok(rows.map(|(key, lease)| (name_of(&key), lease)).collect())
    }

    /// Replaces a lease's label, for renewing its expiry; `None` removes it.
    pub fn label_lease(
        &self,
        context: &Context,
        id: &str,
        label: &str,
        value: Option<String>,
    ) -> Result<(), Error> {
        let _writing = self.write();
        let mut lease = self.lease(context, id)?;
        match value {
            Some(value) => lease.labels.insert(label.into(), value),
            None => lease.labels.remove(label),
        };
        let batch = Batch::default().put_json(LEASES, context.key(id), &lease)?;
        Ok(self.store.commit(Class::Crash, batch)?)
    }

    /// Lets lease `id` keep `resource`.
    pub fn lease_add(&self, context: &Context, id: &str, resource: Resource) -> Result<(), Error> {
        let resource = resource.checked()?;
        let _writing = self.write();
        self.lease(context, id)?;
        let key = resource_key(context, id, &resource.kind, &resource.id);
        Ok(self.store.commit(Class::Crash, Batch::default().put(RESOURCES, key, ""))?)
    }

    /// Lets lease `id` no longer keep `resource`.
    pub fn lease_drop(&self, context: &Context, id: &str, resource: Resource) -> Result<(), Error> {
        let resource = resource.checked()?;
        {
            let _writing = self.write();
            self.lease(context, id)?;
            let key = resource_key(context, id, &resource.kind, &resource.id);
            self.store.commit(Class::Crash, Batch::default().delete(RESOURCES, key))?;
        }
        self.gc.trigger();
        Ok(())
    }

    /// What lease `id` keeps.
    pub fn lease_resources(&self, context: &Context, id: &str) -> Result<Vec<Resource>, Error> {
        self.lease(context, id)?;
        let prefix = resource_prefix(context, id);
        let rows = self.store.scan(RESOURCES, &prefix)?.into_iter();
        Ok(rows.filter_map(|(key, _)| parse_resource(&key[prefix.len()..])).collect())
    }

    /// Adds to `batch` that the call's lease, if it has one, keeps a thing.
    ///
    /// # Errors
    /// [`Error::NotFound`] when the lease is gone.
    pub(crate) fn with_lease(
        &self,
        context: &Context,
        batch: Batch,
        kind: &str,
        id: &str,
    ) -> Result<Batch, Error> {
        let Some(lease) = &context.lease else { return Ok(batch) };
        if self.store.get(LEASES, &context.key(lease))?.is_none() {
            return Err(Error::NotFound("lease does not exist".into()));
        }
        Ok(batch.put(RESOURCES, resource_key(context, lease, kind, id), ""))
    }

    /// Adds to `batch` that the call's lease no longer keeps a thing, since it ended or was removed.
    #[allow(clippy::unused_self)]
    pub(crate) fn without_lease(
        &self,
        context: &Context,
        batch: Batch,
        kind: &str,
        id: &str,
    ) -> Batch {
        let Some(lease) = &context.lease else { return batch };
        batch.delete(RESOURCES, resource_key(context, lease, kind, id))
    }
}

fn resource_prefix(context: &Context, lease: &str) -> Vec<u8> {
    context.key(&format!("{lease}\0"))
}

// `kind \0 id`
pub(crate) fn parse_resource(key: &[u8]) -> Option<Resource> {
    let (kind, id) = std::str::from_utf8(key).ok()?.split_once('\0')?;
    Some(Resource::new(kind, id))
}

/// Drops the leases of operations of our own that a kill cut short: nobody goes on with them.
pub(crate) fn drop_own_leases(store: &metastore::Store) -> Result<(), Error> {
    let mut batch = Batch::default();
    for table in [LEASES, RESOURCES] {
        let all = store.scan(table, b"")?.into_iter().map(|(key, _)| key);
        let own = all.filter(|key| name_of(key).starts_with(OWN));
        batch = own.fold(batch, |batch, key| batch.delete(table, key));
    }
    Ok(store.commit(Class::Crash, batch)?)
}

/// A lease that ends when it is dropped: for the length of one operation of our own.
#[derive(Debug)]
pub struct Guard {
    state: Arc<State>,
    context: Context,
}

impl Guard {
    /// Makes a lease that goes with the next start if this process dies.
    pub fn new(state: &Arc<State>, context: &Context) -> Result<Self, Error> {
        let id = crate::content::own_reference()?;
        state.create_lease(context, &id, Labels::new())?;
        Ok(Self { state: Arc::clone(state), context: context.with_lease(id) })
    }

    /// One for an operation whose caller may have brought a lease already.
    pub fn unless_leased(state: &Arc<State>, context: &Context) -> Result<Option<Self>, Error> {
        if context.lease.is_some() { Ok(None) } else { Self::new(state, context).map(Some) }
    }

    /// The context with this lease, for all calls of the operation.
    pub fn context(&self) -> &Context {
        &self.context
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(id) = &self.context.lease
            && let Err(error) = self.state.delete_lease(&self.context, id)
        {
            tracing::warn!(lease = %id, %error, "ending a lease failed; the next start does it");
        }
    }
}
