//! ferryd: containers' lifecycle, events, exec, logs, HTTP, and the glue.

pub mod attach;
pub mod config;
pub mod create;
pub mod detached;
pub mod engine;
pub mod events;
pub mod exec;
pub mod glue;
pub mod http;
pub mod lifecycle;
pub mod limits;
pub mod logs;
pub mod records;
pub mod registry;
pub mod rootfs;
pub mod routes;
pub mod signals;
pub mod sink;
pub mod startup;
pub mod volumes;
