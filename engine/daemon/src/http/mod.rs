//! The daemon's HTTP server: connections, requests, replies, the router, and
//! connections that a handler takes over.
//!
//! It is an own HTTP/1.1 loop on httparse, since clients of this API take
//! connections over in two ways (`101 UPGRADED`, and a bare `200 OK` that never
//! was an upgrade), send bytes before the answer, and close their half while
//! they still read. No handler lives here, and nothing here knows containers.

mod body;
mod compat;
mod error;
mod head;
mod query;
mod request;
mod response;
mod router;
mod server;
mod splice;
mod stream;
mod write;

pub use body::Body;
pub use compat::{ServerFacts, check_version};
pub use error::{ApiError, errno_text};
pub use query::Query;
pub use request::{Request, RequestInfo};
pub use response::{ByteStream, Response, TakeOver, delayed};
pub use router::{Outcome, Router};
pub use server::{Listener, serve};
pub use splice::Incoming;
pub use stream::{Hijacked, HijackedReader, HijackedWriter};
