//! ferryd: containers' lifecycle, events, exec, logs, HTTP, and the glue.

pub mod config;
