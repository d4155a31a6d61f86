//! The channel to containerd: services, typed errors, retries.
//!
//! [`Client`] is cheap to clone and connects when first used, and again after the
//! peer came back. Every call carries the namespace, and a lease where one was
//! chosen. What the calls are good for is their users' matter.

pub mod archive_stream;
mod client;
mod error;
pub mod registry_stream;
mod retry;
mod tar_end;

pub use client::{Client, Stamped};
pub use error::{Kind, RpcError};
pub use retry::{retrying, until, within};
/// A server's stream of messages.
pub use tonic::Streaming;
