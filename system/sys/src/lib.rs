//! The kernel: the only crate with unsafe code.

pub mod netlink;
pub mod netns;
pub mod nft;
