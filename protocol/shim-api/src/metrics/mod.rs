//! What `Stats` answers: containerd's metrics messages, one module per cgroup version.

pub mod v1;
pub mod v2;
