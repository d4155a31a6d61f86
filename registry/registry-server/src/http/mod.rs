//! HTTP below the registry's API: connections, bodies, ranges, queries. Nothing here knows what
//! a repository is.

mod body;
mod connection;
mod query;
mod range;
mod stream;

pub(crate) use body::Body;
pub(crate) use connection::{Limits, serve_connection};
pub(crate) use query::{Query, escape, unescape};
pub(crate) use range::{ContentRange, Requested, requested};
pub(crate) use stream::Stream;
