//! Events: the exchange that all services publish to, and its gRPC service.

mod exchange;
mod fields;
mod service;

pub use exchange::{Exchange, Subscription};
pub use service::Service;
