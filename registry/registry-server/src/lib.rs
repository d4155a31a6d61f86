//! An OCI distribution server on a file system: what `ferry-registry` runs.

pub mod manifest;
pub mod name;
pub mod store;
