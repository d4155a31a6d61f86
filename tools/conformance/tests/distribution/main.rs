//! The OCI distribution-spec, requirement by requirement: each MUST and SHOULD that is a
//! registry's is a test here, in a module named like its section. Our registry must hold all;
//! Debian's docker-registry 2.8 holds those that it claims, which shows that the tests are right.

#![allow(clippy::unwrap_used)]

mod deleting;
mod errors;
mod listing;
mod pulling;
mod pushing_blobs;
mod pushing_manifests;
mod referrers;
mod support;
