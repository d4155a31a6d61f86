//! Images as the API shows them, over a containerd that keeps them.
//!
//! The store's keys are names with target descriptors; the API's are ids, the
//! digests of configurations. [`Images`] keeps the index between the two,
//! rebuilt from the store at any time and fed by its events, since `ctr` and
//! others write the store too. Everything goes through containerd's gRPC, and what
//! comes from registries through `registry-client`:
//! nothing here opens a blob or a tar, and nothing here knows containers (who
//! uses an image is told by the caller).

// Go's sets are maps to an empty struct, and appear so on the wire.
#![allow(clippy::zero_sized_map_values)]

mod commit;
mod error;
pub mod hello;
mod import;
mod index;
mod instruction;
mod list;
mod pattern;
mod plain;
mod platforms;
mod read;
mod registry;
mod remove;
mod size;
mod snapshot;
mod store;
mod transfer;
mod view;
mod work;

pub use commit::CommitRequest;
pub use error::ImageError;
pub use import::ImportRequest;
pub use index::{Name, ResolvedImage};
pub use instruction::apply_changes;
pub use list::ListOptions;
pub use platforms::check_platform;
pub use registry::{Compression, Limits, Progress, PullRequest, PushRequest, Remote};
pub use remove::{ImageUse, RemoveOptions, Removed};
pub use size::{Measure, Sizes};
pub use snapshot::SnapshotMount;
pub use store::{Images, ImagesConfig};
pub use transfer::{Archive, Loaded};
pub use view::api_descriptor;
pub use work::sweep;

/// The name prefix of images that lost their last name, as dockerd writes it.
pub const DANGLING: &str = "moby-dangling@";
