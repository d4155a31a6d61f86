//! From a request to bytes on a wire and back: connections, TLS, proxies, the pool, time
//! limits. Knows nothing of registries.

mod body;
mod connector;
mod der;
mod dial;
mod proxy;
mod stream;
mod tls;
mod transport;

pub use body::Chunks;
pub(crate) use body::{Activity, Incoming, Outgoing, collect, drain};
pub(crate) use connector::Shared;
pub use proxy::Proxies;
pub(crate) use proxy::basic;
pub(crate) use tls::SystemRoots;
pub(crate) use transport::{Failure, Transport, Wanted};
