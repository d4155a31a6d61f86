//! ferry-containerd: content, images, snapshots, leases, tasks, transfer.
