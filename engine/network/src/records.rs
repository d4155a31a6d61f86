//! The records of networks, sandboxes, endpoints and tombstones, and nothing about what they mean.
//! JSON; a record of a newer program keeps the fields that this one does not know only in so far
//! as this one does not rewrite it, which it does for none but its own.

use metastore::{Batch, Class, Store, StoreError, Table};
use serde::{Deserialize, Serialize};

use crate::types::{Endpoint, Network, SandboxId};
use crate::{Error, Result};

const NETWORKS: Table = Table::new("networks");
const SANDBOXES: Table = Table::new("sandboxes");
const ENDPOINTS: Table = Table::new("endpoints");
const TOMBSTONES: Table = Table::new("network-tombstones");
const FACTS: Table = Table::new("network-facts");

/// How a container came to its namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(crate) enum Origin {
    /// Pinned by us.
    Own,
    /// The host's.
    Host,
    /// Another container's.
    Shared {
        /// Its id.
        container: String,
    },
    /// Somebody's.
    Path {
        /// Where.
        path: String,
    },
    /// Made by the runtime; pinned by us once `adopted`.
    AfterCreate {
        /// Whether the pin exists.
        adopted: bool,
    },
}

/// A container's sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    pub(crate) id: SandboxId,
    pub(crate) container: String,
    pub(crate) origin: Origin,
}

/// An endpoint and what the kernel has of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointRecord {
    pub(crate) endpoint: Endpoint,
    /// Links in the host that go with it.
    pub(crate) host_links: Vec<String>,
    /// Counts up from endpoint to endpoint: whose address was handed out last.
    #[serde(default)]
    pub(crate) serial: u64,
}

/// What a released container still holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tombstone {
    pub(crate) sandbox: SandboxRecord,
    pub(crate) endpoints: Vec<EndpointRecord>,
}

/// A fact about this machine that must outlive the process: what we switched on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Forwarding {
    /// In which boot.
    pub(crate) boot: String,
    /// IPv4 forwarding.
    #[serde(default)]
    pub(crate) v4: bool,
    /// IPv6 forwarding.
    #[serde(default)]
    pub(crate) v6: bool,
}

/// The store, by record.
#[derive(Clone)]
pub(crate) struct Records(Store);

fn error(e: StoreError) -> Error {
    Error::Store(e.to_string())
}

fn endpoint_key(record: &EndpointRecord) -> String {
    format!("{}/{}", record.endpoint.container, record.endpoint.id)
}

impl Records {
    pub(crate) fn new(store: Store) -> Self {
        Self(store)
    }

    fn put<T: Serialize>(&self, class: Class, table: Table, key: &str, value: &T) -> Result<()> {
        let batch = Batch::default().put_json(table, key, value).map_err(error)?;
        self.0.commit(class, batch).map_err(error)
    }

    fn delete(&self, class: Class, table: Table, key: &str) -> Result<()> {
        self.0.commit(class, Batch::default().delete(table, key)).map_err(error)
    }

    fn all<T: for<'de> Deserialize<'de>>(&self, table: Table) -> Result<Vec<T>> {
        let rows: Vec<(Vec<u8>, T)> = self.0.scan_json(table, b"").map_err(error)?;
        Ok(rows.into_iter().map(|(_, value)| value).collect())
    }

    pub(crate) fn networks(&self) -> Result<Vec<Network>> {
        self.all(NETWORKS)
    }

    pub(crate) fn put_network(&self, network: &Network) -> Result<()> {
        self.put(Class::Power, NETWORKS, network.id.as_str(), network)
    }

    pub(crate) fn delete_network(&self, network: &Network) -> Result<()> {
        self.delete(Class::Power, NETWORKS, network.id.as_str())
    }

    pub(crate) fn sandboxes(&self) -> Result<Vec<SandboxRecord>> {
        self.all(SANDBOXES)
    }

    pub(crate) fn put_sandbox(&self, record: &SandboxRecord) -> Result<()> {
        self.put(Class::Crash, SANDBOXES, &record.container, record)
    }

    pub(crate) fn endpoints(&self) -> Result<Vec<EndpointRecord>> {
        self.all(ENDPOINTS)
    }

    pub(crate) fn put_endpoint(&self, record: &EndpointRecord) -> Result<()> {
        self.put(Class::Crash, ENDPOINTS, &endpoint_key(record), record)
    }

    pub(crate) fn delete_endpoint(&self, record: &EndpointRecord) -> Result<()> {
        self.delete(Class::Crash, ENDPOINTS, &endpoint_key(record))
    }

    pub(crate) fn tombstones(&self) -> Result<Vec<Tombstone>> {
        self.all(TOMBSTONES)
    }

    /// The container's sandbox and endpoints become a tombstone, in one step.
    pub(crate) fn bury(&self, tombstone: &Tombstone) -> Result<()> {
        let mut batch = Batch::default().delete(SANDBOXES, tombstone.sandbox.container.as_str());
        for record in &tombstone.endpoints {
            batch = batch.delete(ENDPOINTS, endpoint_key(record));
        }
        let batch =
            batch.put_json(TOMBSTONES, tombstone.sandbox.id.as_str(), tombstone).map_err(error)?;
        self.0.commit(Class::Crash, batch).map_err(error)
    }

    pub(crate) fn delete_tombstone(&self, id: &SandboxId) -> Result<()> {
        self.delete(Class::Crash, TOMBSTONES, id.as_str())
    }

    pub(crate) fn forwarding(&self) -> Result<Option<Forwarding>> {
        self.0.get_json(FACTS, b"forwarding").map_err(error)
    }

    pub(crate) fn put_forwarding(&self, fact: &Forwarding) -> Result<()> {
        self.put(Class::Crash, FACTS, "forwarding", fact)
    }
}
