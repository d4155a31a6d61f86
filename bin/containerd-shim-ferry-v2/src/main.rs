//! The shim: owns one container's stdio, logs and exit.

fn main() {}
