//! ferry-containerd: content, images, snapshots, leases, tasks, transfer.

pub mod children;
pub mod tasks;
