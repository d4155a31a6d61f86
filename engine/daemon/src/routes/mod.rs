//! The endpoints' handlers, a module per kind of object. What they change belongs elsewhere.

pub mod networks;
