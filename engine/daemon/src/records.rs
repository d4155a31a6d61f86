//! What is written down of a container: its spec (changed only by rename, update and
//! connect) and its state (written at each transition). Tables and keys; no policy.

use std::collections::BTreeMap;

use engine_api::{ContainerConfig, EndpointSettings, HostConfig, MountPoint, OciDescriptor, Time};
use jiff::Timestamp;
use metastore::{Batch, Class, Store, StoreError, Table};
use serde::{Deserialize, Serialize};

/// Containers' specs by id.
pub const SPECS: Table = Table::new("container.spec");
/// Containers' states by id.
pub const STATES: Table = Table::new("container.state");
/// What a removed container left to tear down, by id.
pub const TOMBSTONES: Table = Table::new("container.tombstone");
/// Starts that were begun and not finished, by container's id.
pub const INTENTS: Table = Table::new("container.intent");
/// Processes beside a container's own, by id.
pub const EXECS: Table = Table::new("container.exec");
/// Volumes by name.
pub const VOLUMES: Table = Table::new("volume");
/// Volumes whose content is being removed: names alone.
pub const REMOVED_VOLUMES: Table = Table::new("volume.removed");

/// A mount that was resolved at create.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountRecord {
    /// What `inspect` shows.
    pub point: MountPoint,
    /// The runtime's propagation; empty for volumes.
    pub propagation: String,
    /// Without the mounts below the source.
    pub non_recursive: bool,
    /// Read-only at the top only.
    pub read_only_non_recursive: bool,
    /// Options of a tmpfs as they were written, read at the start.
    pub tmpfs: Vec<String>,
    /// The source is made on the host when it is not there.
    pub make_source: bool,
    /// Labels of the volume if it is made for this mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_labels: Option<BTreeMap<String, String>>,
    /// The volume was made for this container alone and goes with `rm -v`.
    pub anonymous: bool,
    /// The volume is filled from the image before the first start.
    pub copy_up: bool,
    /// Shown in `HostConfig.Tmpfs` only, not among the mount points.
    pub hidden: bool,
}

/// What a container is, as create and rename fixed it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without slash.
    pub name: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// Entry point's or command's first word.
    pub path: String,
    /// The words after it.
    pub args: Vec<String>,
    /// Digest of the image's configuration.
    pub image: String,
    /// The image's manifest.
    pub manifest: Option<OciDescriptor>,
    /// The platform's operating system.
    pub platform: String,
    /// Which snapshotter holds the root file system; its key is the id.
    pub snapshotter: String,
    /// What runs, with the image's defaults merged in.
    pub config: ContainerConfig,
    /// What it gets.
    pub host: HostConfig,
    /// Mounts, in the order that `inspect` shows.
    pub mounts: Vec<MountRecord>,
    /// Networks to join, by name or id.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// Whoever manages it; empty for a user's container.
    pub owner: String,
    /// Fields of a newer version, kept as they are.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// What a container is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Never started, or its first start failed.
    #[default]
    Created,
    /// Its process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and will be started again.
    Restarting,
    /// It ended.
    Exited,
    /// Its removal failed.
    Dead,
}

impl Phase {
    /// The word of the API.
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Whether the API says `Running`.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// Whether a process exists.
    pub fn has_task(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// A container's state, written at each transition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// What it is doing.
    pub phase: Phase,
    /// The process; 0 without one.
    pub pid: u32,
    /// The last exit code.
    pub exit_code: i64,
    /// Why the last start failed.
    pub error: String,
    /// The kernel killed it for lack of memory.
    pub oom_killed: bool,
    /// Nanoseconds since the epoch; 0: never.
    pub started_at: i64,
    /// Nanoseconds since the epoch; 0: never.
    pub finished_at: i64,
    /// Starts by the restart policy since the last manual one.
    pub restart_count: u32,
    /// A user stopped it: the policy holds back.
    pub stopped_by_user: bool,
    /// Counts starts.
    pub generation: u64,
    /// The kernel's boot in which this was written.
    pub boot: String,
    /// The sink runs as its own process beside a foreign shim.
    pub detached_sink: bool,
}

impl State {
    /// The time of a field as the API shows it.
    pub fn time(nanos: i64) -> String {
        api_time(nanos).rfc3339()
    }
}

/// A time of a record as the API's; 0 is Go's zero time.
pub fn api_time(nanos: i64) -> Time {
    if nanos == 0 {
        return Time::default();
    }
    Timestamp::from_nanosecond(i128::from(nanos)).map_or_else(|_| Time::default(), Time)
}

/// Now, in nanoseconds since the epoch.
pub fn now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// What is left to do after a container's removal was answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tombstone {
    /// Which snapshotter holds its root file system.
    pub snapshotter: String,
    /// Anonymous volumes that go with it.
    pub volumes: Vec<String>,
}

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// The client's labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The driver's options.
    pub options: Option<BTreeMap<String, String>>,
    /// Made without a name.
    pub anonymous: bool,
}

/// Writes a new container.
pub fn put_container(
    store: &Store,
    class: Class,
    spec: &Spec,
    state: &State,
) -> Result<(), StoreError> {
    let batch = Batch::default().put_json(SPECS, spec.id.as_bytes(), spec)?.put_json(
        STATES,
        spec.id.as_bytes(),
        state,
    )?;
    store.commit(class, batch)
}

/// Reads a container's spec.
pub fn spec(store: &Store, id: &str) -> Result<Option<Spec>, StoreError> {
    store.get_json(SPECS, id.as_bytes())
}
