//! What crosses the seam between a supervisor and a shim (containerd's shim v2): the ttrpc
//! codec, the task and event messages, the bootstrap answers; and the seam between a sink and
//! whoever attaches to it: its URI, frames and exit record.
//!
//! Nothing here does I/O or reads a clock: bytes in, values out. No policy either.

pub mod bootstrap;
pub mod events;
pub mod metrics;
pub mod runc;
pub mod sink;
pub mod task;
pub mod time;
pub mod ttrpc;

pub use prost;
pub use prost_types::{Any, Timestamp};

/// Packs a message as containerd does: the type's name alone, without a leading slash.
pub fn pack(type_url: &str, message: &impl prost::Message) -> Any {
    Any { type_url: type_url.to_owned(), value: message.encode_to_vec() }
}

/// The type's name in a `type_url`, whatever stands before its last slash but one: containerd
/// writes bare names (`containerd.runc.v1.Options`), others prefix `type.googleapis.com/`.
pub fn type_name(any: &Any) -> &str {
    any.type_url.strip_prefix("type.googleapis.com/").unwrap_or(&any.type_url)
}
