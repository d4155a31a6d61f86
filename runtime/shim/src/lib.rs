//! The shim: one process a container, one control thread on one poll loop, that owns the
//! container's stdio, logs and exit, and asks an OCI runtime for everything else.
//!
//! It serves containerd's task service (versions 2 and 3) over ttrpc, publishes events, and is
//! the *sink* of its processes' output. It knows no tokio, no gRPC and no images, links no
//! runtime, and its loop never waits for anything but its descriptors.
//!
//! Begin reading at `launch` (the command line, the fork), then `core` (the loop). `task` is what
//! each call means, `io` what each byte meets, `runtime` the OCI runtime's command line.

mod args;
mod cgroups;
mod core;
mod detached;
mod io;
mod launch;
mod mounts;
mod poll;
mod publisher;
mod runtime;
mod task;

pub use launch::main;
