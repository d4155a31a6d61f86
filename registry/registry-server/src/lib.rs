//! An OCI distribution server on a file system: what `ferry-registry` runs.
//!
//! `store` knows files and no requests, `http` knows connections and no repositories, `api` puts
//! both together, `auth` says who may. Begin reading at `api`.

mod access_log;
mod api;
mod auth;
pub mod config;
pub mod control;
mod http;
pub mod manifest;
mod metrics;
pub mod name;
mod proxy;
pub mod server;
pub mod store;
mod tls;

pub use auth::{InvalidAuth, Options as AuthOptions, TokenOptions};
pub use proxy::InvalidProxy;
pub use tls::InvalidTls;
