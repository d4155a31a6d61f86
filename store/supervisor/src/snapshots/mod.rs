//! Snapshots: stacks of layers, as folders that overlayfs joins or as full copies.
//!
//! ```text
//! <root>/snapshots/          carries FS_TOPDIR_FL: each folder gets a block group of its own
//! <root>/snapshots/<seq>/fs  the layer;  <seq>/work  overlayfs's scratch
//! <root>/removing/           renamed out of the way, unlinked behind
//! ```
//! A layer's files are not synced before the reply: its record names the boot and
//! whether a later syncfs covered it; after another boot, what was not goes.

mod disk;
mod mounts;
mod ops;
mod service;

use metastore::Table;
use serde::{Deserialize, Serialize};

pub use disk::Usage;
pub(crate) use disk::{Folders, drop_rootless, prepare_root, sync_behind};
pub use service::Service;

use crate::labels::Labels;
use crate::{Context, Error};

/// Key: namespace, snapshotter, name, joined by zero bytes.
pub(crate) const SNAPSHOTS: Table = Table::new("snapshots");

/// How the keys of snapshots begin that our own transfers unpack layers into.
pub(crate) const EXTRACTION: &str = "ferry-extract-";

/// How a snapshotter joins layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Snapshotter {
    /// Layers stacked by the kernel.
    Overlayfs,
    /// Every snapshot a full copy.
    Native,
}

impl Snapshotter {
    /// The snapshotter of a request; empty means the default.
    pub fn named(name: &str) -> Result<Self, Error> {
        match name {
            "overlayfs" | "" => Ok(Self::Overlayfs),
            "native" => Ok(Self::Native),
            other => Err(Error::InvalidArgument(format!("snapshotter not loaded: {other}"))),
        }
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overlayfs => "overlayfs",
            Self::Native => "native",
        }
    }
}

/// What can be done with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Read-only, not to be committed.
    View,
    /// Being written.
    Active,
    /// Finished: a parent of others.
    Committed,
}

/// A snapshot's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Name of its folder.
    pub seq: u64,
    /// What it is.
    pub kind: Kind,
    /// The name of its parent; empty for none.
    #[serde(default)]
    pub parent: String,
    /// Labels.
    #[serde(default)]
    pub labels: Labels,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// Nanoseconds since the epoch.
    pub updated: i64,
    /// What it takes on disk, once somebody asked after the commit.
    #[serde(default)]
    pub usage: Option<Usage>,
    /// The boot in which its files were written.
    pub boot_id: String,
    /// Whether they would survive a power cut.
    #[serde(default)]
    pub synced: bool,
    /// Fields of newer versions, kept.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// Where a snapshot is named: namespace and snapshotter.
#[derive(Clone, Debug)]
pub struct Place<'a> {
    /// Namespace and lease.
    pub context: &'a Context,
    /// Which snapshotter.
    pub snapshotter: Snapshotter,
}

impl<'a> Place<'a> {
    /// The place of a call.
    pub fn new(context: &'a Context, snapshotter: Snapshotter) -> Self {
        Self { context, snapshotter }
    }

    fn key(&self, name: &str) -> Vec<u8> {
        self.context.key(&format!("{}\0{name}", self.snapshotter.name()))
    }

    fn resource(&self) -> String {
        format!("snapshots/{}", self.snapshotter.name())
    }
}
