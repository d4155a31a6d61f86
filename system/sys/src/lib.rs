//! The kernel: the only crate with unsafe code.

pub mod arena;
pub mod boot;
pub mod bpf;
pub mod clone;
pub mod epoll;
pub mod file;
pub mod launch;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod notify;
pub mod ns;
pub mod pipe;
pub mod privilege;
pub mod process;
pub mod signal;
pub mod spawn;
pub mod tree;
pub mod tty;
pub mod unix;
pub mod xtables;
