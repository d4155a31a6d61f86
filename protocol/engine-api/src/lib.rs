//! The Docker Engine API: every type declared once, versions, the route table,
//! filters and the error body.
//!
//! Decoding follows Go's rules and gives Go's error texts, since that is what
//! clients and test suites of this API compare with; encoding gives the bytes
//! that dockerd 28.5 gives, for any version from 1.24 on. Nothing here does
//! I/O, and nothing here knows what an endpoint does.

// Go's sets are maps to an empty struct, and appear so on the wire.
#![allow(clippy::zero_sized_map_values)]

#[macro_use]
mod declare;
mod credentials;
mod error;
pub mod filters;
pub mod json;
pub mod moment;
pub mod path;
pub mod routes;
pub mod stdcopy;
pub mod steps;
pub mod types;
pub mod units;
pub mod upgrade;
mod version;
pub mod view;
mod wire;

pub use declare::FieldSpec;
pub use error::{ErrorResponse, error_body};
pub use json::{Encoder, Value};
pub use types::*;
pub use version::{ApiVersion, InvalidVersion};
pub use view::{Nil, Shown, View};
pub use wire::{
    DecodeError, Decoder, GoDuration, ListBody, Time, Wire, decode, decode_at, encode, encode_html,
};
