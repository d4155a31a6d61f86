//! Namespaces: records with labels; made by the first write into them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use containerd_api::events::{NamespaceCreate, NamespaceDelete, NamespaceUpdate};
use containerd_api::filter::Filters;
use containerd_api::services::namespaces::v1 as api;
use metastore::{Batch, Class, Table};
use serde::{Deserialize, Serialize};
use tonic::{Request, Response, Status};

use crate::containers::CONTAINERS;
use crate::content::{BLOBS, INGESTS};
use crate::context::{check_identifier, check_label, name_of};
use crate::images::IMAGES;
use crate::leases::{LEASES, RESOURCES};
use crate::snapshots::SNAPSHOTS;
use crate::{Context, Error, State};

const NAMESPACES: Table = Table::new("namespaces");
/// Tables whose keys begin with a namespace: one with any of them is not empty.
const OWNED: [(Table, &str); 3] =
    [(IMAGES, "images"), (BLOBS, "blobs"), (CONTAINERS, "containers")];
/// Tables whose rows go with their namespace.
const CARRIED: [Table; 3] = [LEASES, RESOURCES, INGESTS];

/// A namespace's record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

impl State {
    /// Adds the record of the context's namespace to `batch` when there is none yet.
    pub fn with_namespace(&self, context: &Context, batch: Batch) -> Result<Batch, Error> {
        if self.store.get(NAMESPACES, context.namespace.as_bytes())?.is_some() {
            return Ok(batch);
        }
        Ok(batch.put_json(NAMESPACES, context.namespace.as_str(), &Namespace::default())?)
    }

    /// The namespace `name`.
    pub fn namespace(&self, name: &str) -> Result<Namespace, Error> {
        let found = self.store.get_json(NAMESPACES, name.as_bytes())?;
        found.ok_or_else(|| Error::NotFound(format!("namespace {name:?}")))
    }

    /// All namespaces, sorted by name.
    pub fn namespaces(&self) -> Result<Vec<(String, Namespace)>, Error> {
        let rows = self.store.scan_json(NAMESPACES, b"")?.into_iter();
        Ok(rows.map(|(key, n)| (String::from_utf8_lossy(&key).into_owned(), n)).collect())
    }

    fn create_namespace(&self, name: &str, namespace: &Namespace) -> Result<(), Error> {
        check_identifier(name).map_err(|e| strip_invalid(&e))?;
        namespace.labels.iter().try_for_each(|(k, v)| check_label(k, v))?;
        let _writing = self.write();
        if self.store.get(NAMESPACES, name.as_bytes())?.is_some() {
            return Err(Error::AlreadyExists(format!("namespace {name:?}")));
        }
        self.put_namespace(name, namespace)
    }

    fn put_namespace(&self, name: &str, namespace: &Namespace) -> Result<(), Error> {
        let batch = Batch::default().put_json(NAMESPACES, name, namespace)?;
        Ok(self.store.commit(Class::Crash, batch)?)
    }

    fn delete_namespace(&self, name: &str) -> Result<(), Error> {
        let _writing = self.write();
        self.namespace(name)?;
        let context = Context::new(name);
        let mut left = Vec::new();
        for (table, what) in OWNED {
            if !self.store.scan(table, &context.prefix())?.is_empty() {
                left.push(what.to_owned());
            }
        }
        let mut snapshotters = BTreeSet::new();
        for (key, _) in self.store.scan(SNAPSHOTS, &context.prefix())? {
            if let Some((snapshotter, _)) = name_of(&key).split_once('\0') {
                snapshotters.insert(format!("snapshots on {snapshotter:?} snapshotter"));
            }
        }
        left.extend(snapshotters);
        if !left.is_empty() {
            return Err(Error::FailedPrecondition(format!(
                "namespace {name:?} must be empty, but it still has {}",
                left.join(", ")
            )));
        }
        let mut batch = Batch::default().delete(NAMESPACES, name);
        for table in CARRIED {
            for (key, _) in self.store.scan(table, &context.prefix())? {
                batch = batch.delete(table, key);
            }
        }
        Ok(self.store.commit(Class::Crash, batch)?)
    }
}

// `check_identifier` ends with containerd's class, which the error adds again.
fn strip_invalid(text: &str) -> Error {
    Error::InvalidArgument(text.trim_end_matches(": invalid argument").into())
}

/// The gRPC service of namespaces.
#[derive(Debug, Clone)]
pub struct Service(pub Arc<State>);

fn to_api(name: String, namespace: Namespace) -> api::Namespace {
    api::Namespace { name, labels: namespace.labels.into_iter().collect() }
}

#[tonic::async_trait]
impl api::namespaces_server::Namespaces for Service {
    async fn get(
        &self,
        request: Request<api::GetNamespaceRequest>,
    ) -> Result<Response<api::GetNamespaceResponse>, Status> {
        let name = request.into_inner().name;
        let found = self.0.namespace(&name)?;
        let namespace = Some(to_api(name, found));
        Ok(Response::new(api::GetNamespaceResponse { namespace }))
    }

    async fn list(
        &self,
        request: Request<api::ListNamespacesRequest>,
    ) -> Result<Response<api::ListNamespacesResponse>, Status> {
        let filter = request.into_inner().filter;
        let filters = Filters::parse(&[filter]).map_err(Error::from)?;
        let all = self.0.namespaces()?.into_iter().filter(|(name, namespace)| {
            filters.matches(&|path: &[&str]| match path {
                ["name"] => Some(name.clone()),
                ["labels", rest @ ..] => namespace.labels.get(&rest.join(".")).cloned(),
                _ => None,
            })
        });
        let namespaces = all.map(|(name, namespace)| to_api(name, namespace)).collect();
        Ok(Response::new(api::ListNamespacesResponse { namespaces }))
    }

    async fn create(
        &self,
        request: Request<api::CreateNamespaceRequest>,
    ) -> Result<Response<api::CreateNamespaceResponse>, Status> {
        let wanted = request.into_inner().namespace.unwrap_or_default();
        let namespace = Namespace { labels: wanted.labels.clone().into_iter().collect() };
        self.0.create_namespace(&wanted.name, &namespace)?;
        let event = NamespaceCreate { name: wanted.name.clone(), labels: wanted.labels.clone() };
        self.0.events.publish(&wanted.name, "/namespaces/create", &event);
        Ok(Response::new(api::CreateNamespaceResponse { namespace: Some(wanted) }))
    }

    async fn update(
        &self,
        request: Request<api::UpdateNamespaceRequest>,
    ) -> Result<Response<api::UpdateNamespaceResponse>, Status> {
        let request = request.into_inner();
        let wanted = request.namespace.unwrap_or_default();
        let paths = request.update_mask.map(|m| m.paths).unwrap_or_default();
        let updated = {
            let _writing = self.0.write();
            // containerd makes one that is absent.
            let mut record = match self.0.namespace(&wanted.name) {
                Err(Error::NotFound(_)) => Namespace::default(),
                other => other?,
            };
            if paths.is_empty() {
                record.labels = wanted.labels.into_iter().collect();
            } else {
                for path in &paths {
                    let Some(key) = path.strip_prefix("labels.") else {
                        let what = format!("cannot update {path:?} field");
                        return Err(Error::InvalidArgument(what).into());
                    };
                    // An empty value removes the label, as containerd has it.
                    match wanted.labels.get(key).filter(|v| !v.is_empty()) {
                        Some(value) => record.labels.insert(key.into(), value.clone()),
                        None => record.labels.remove(key),
                    };
                }
            }
            record.labels.iter().try_for_each(|(k, v)| check_label(k, v))?;
            self.0.put_namespace(&wanted.name, &record)?;
            to_api(wanted.name, record)
        };
        let event = NamespaceUpdate { name: updated.name.clone(), labels: updated.labels.clone() };
        self.0.events.publish(&updated.name, "/namespaces/update", &event);
        Ok(Response::new(api::UpdateNamespaceResponse { namespace: Some(updated) }))
    }

    async fn delete(
        &self,
        request: Request<api::DeleteNamespaceRequest>,
    ) -> Result<Response<()>, Status> {
        let name = request.into_inner().name;
        self.0.delete_namespace(&name)?;
        let event = NamespaceDelete { name: name.clone() };
        self.0.events.publish(&name, "/namespaces/delete", &event);
        Ok(Response::new(()))
    }
}
