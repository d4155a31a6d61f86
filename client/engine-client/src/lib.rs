//! Client of the Docker Engine API: connections, negotiation, hijacked streams,
//! contexts and the configuration file. Knows nothing of commands or terminals,
//! and prints nothing.

mod body;
mod client;
mod config;
mod context;
mod endpoint;
mod error;
mod http;
mod query;

pub use body::{Body, Piece};
pub use client::{Client, Payload};
pub use config::Config;
pub use context::{Context, ContextError, ContextStore, indent_json};
pub use endpoint::{Endpoint, InvalidHost, full_address};
pub use error::ClientError;
pub use http::{Hijacked, Response, Stream};
pub use query::Query;
