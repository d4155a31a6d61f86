//! The endpoints' handlers, a module per kind of object. What they change belongs elsewhere.

pub mod absent;
pub mod containers;
pub mod exec;
pub mod images;
pub mod networks;
pub mod registries;
pub mod system;
pub mod transfers;
