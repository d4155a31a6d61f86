//! OCI types: digests, references, descriptors, image and runtime specification.

pub mod runtime;
