//! The kernel: the only crate with unsafe code.
