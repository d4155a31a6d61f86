//! Netlink, synchronous: messages, a socket whose every request is acknowledged and whose errors
//! name the object, and the requests this project makes of rtnetlink and conntrack. No policy, no
//! retry loops, no thread.

pub mod conntrack;
pub mod message;
pub mod route;
mod socket;

pub use message::{Attributes, Batch, Header, MessageBuilder};
pub use socket::{Error, Protocol, Socket};
