//! Lists of manifests that `manifest create` makes: kept in the client's configuration folder
//! until they are pushed, and what of them is on registries. No daemon takes part.

mod entry;
mod remote;
mod store;

pub(crate) use entry::{Entry, list_document};
pub(crate) use remote::{Found, Registries};
pub(crate) use store::Store;
