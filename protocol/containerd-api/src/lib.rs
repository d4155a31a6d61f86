//! containerd's gRPC services and messages, events and filters.
//!
//! Clients and servers are generated from `proto/`; beside them stand what every
//! user needs: [`any`] (packing), [`filter`] (containerd's filter language),
//! [`time`] and the names of metadata keys. No socket is opened here.

pub mod any;
pub mod filter;
mod registry;
pub mod time;

#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::nursery, unused_qualifications)]
#[allow(unreachable_pub)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/all.rs"));
}

pub use generated::containerd::events;
pub use generated::containerd::runc::v1 as runc_options;
pub use generated::containerd::services;
pub use generated::containerd::types;
pub use generated::containerd::types::transfer as transfer_types;
pub use generated::containerd::v1::types as task_types;
pub use generated::google::rpc;
pub use generated::grpc::health::v1 as health;
pub use generated::runtimeoptions::v1 as runtime_options;
pub use prost;
pub use prost_types;
pub use registry::RegistrySettings;

/// gRPC metadata key that names the namespace of a call.
pub const NAMESPACE_KEY: &str = "containerd-namespace";
/// gRPC metadata key that names the lease of a call.
pub const LEASE_KEY: &str = "containerd-lease";
/// Label of the image store that is the source of a push: `gzip` or `zstd` has layers that are not
/// compressed pushed compressed. ferry-containerd heeds it; containerd does not look at it.
pub const PUSH_COMPRESSION_LABEL: &str = "io.ferry.push.compression";
/// Label of the image store that is the source of a push: `true` has foreign layers pushed where
/// the store has them, as docker does. ferry-containerd heeds it; containerd does not look at it.
pub const PUSH_FOREIGN_LABEL: &str = "io.ferry.push.foreign";
/// gRPC metadata key of a failed transfer: the HTTP status that docker's API has for the error of
/// a registry. ferry-containerd sends it; containerd does not.
pub const TOLD_STATUS_KEY: &str = "ferry-docker-status";
/// gRPC metadata key of a failed transfer: docker's text for the error of a registry.
pub const TOLD_MESSAGE_KEY: &str = "ferry-docker-message-bin";
/// Longest message on containerd's socket, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;
