//! OCI types: digests, references, descriptors, image and runtime specification.
//!
//! Everything here is parsed once and pure: no file, no socket, no clock.

pub mod descriptor;
pub mod digest;
pub mod image;
pub mod media_type;
pub mod platform;
pub mod reference;
pub mod runtime;

pub use descriptor::Descriptor;
pub use digest::{Algorithm, Digest, Hasher, InvalidDigest};
pub use image::{ChainId, ImageConfig, Index, Manifest};
pub use platform::Platform;
pub use reference::{InvalidReference, Reference};
