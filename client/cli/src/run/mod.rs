//! What `run`, `create`, `update` and `exec` are given, turned into the bodies of
//! requests. Pure but for the files that options name; talks to no daemon.

pub mod config;
pub mod devices;
pub mod files;
pub mod limits;
pub mod mounts;
pub mod networks;
pub mod ports;
pub mod security;
