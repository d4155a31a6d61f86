//! The kernel: the only crate with unsafe code.

pub mod epoll;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod process;
pub mod signal;
pub mod spawn;
pub mod unix;
