//! Image names and ids, chains of layers, snapshots of containers.

pub mod hello;
