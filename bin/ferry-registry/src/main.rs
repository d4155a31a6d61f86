//! The registry server.
fn main() {}
