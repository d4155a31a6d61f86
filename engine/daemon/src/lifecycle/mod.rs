//! Containers' lives. [`machine`] decides, [`container`] drives it, the other modules
//! are the effects. Only this module drives tasks.

pub mod container;
pub mod machine;
mod network;
pub mod restart;
mod specs;
mod start;
mod teardown;

pub use container::{Container, Deps, STOP_TIMEOUT, network_attributes};
pub(crate) use network::{Named, check_endpoints, endpoint_spec};
pub use specs::{Terminal, exec_process, running_identity};
pub(crate) use start::refusal;
pub use teardown::{bury, clean_run};
