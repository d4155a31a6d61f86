//! ferryd: containers' lifecycle, events, exec, logs, HTTP, and the glue.

pub mod config;
pub mod http;
pub mod routes;
