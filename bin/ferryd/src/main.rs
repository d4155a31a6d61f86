//! The engine daemon.

fn main() {}
