//! Pure address pools and allocations: which subnet a network gets, which address an endpoint gets.
//! No I/O, no clock, no randomness: the network crate and swarm's allocator both use it, feed it
//! what the kernel and their records know, and keep the result.

mod pool;
mod prefix;

pub use pool::{Allocations, Exhausted, PoolBase, Taken, choose, docker_pools};
pub use prefix::{InvalidPrefix, Prefix};
