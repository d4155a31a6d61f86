//! Pure: container record and host facts to StartPlan and OCI spec.
//!
//! [`spec`] makes the document that the runtime executes from a container's
//! configuration, the host's facts and what was resolved beforehand (ids, devices,
//! namespaces, mount sources). No file is read and no call is made here.

pub mod caps;
mod error;
mod mounts;
mod profile;
mod resources;
pub mod seccomp;
mod security;
mod spec;
pub mod users;

pub use error::PlanError;
pub use mounts::{HostMount, TmpfsMount, tmpfs_options};
pub use resources::{blkio_wishes, resources};
pub use security::{Security, parse as parse_security};
pub use spec::{Device, HostFacts, Input, MASKED, NamespaceChoice, READ_ONLY, exec_process, spec};
