//! The drivers without links of their own: `host` (the host's namespace) and `null` (a namespace
//! with a loopback link only).

use super::{Capabilities, Driver, JoinPlan, NetworkPlan};
use crate::types::{Endpoint, Network, NetworkSpec};
use crate::{Error, Result};

/// A driver whose one network gives endpoints nothing.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    name: &'static str,
}

impl Plain {
    /// The driver of the network `host`.
    pub const HOST: Self = Self { name: "host" };
    /// The driver of the network `none`.
    pub const NULL: Self = Self { name: "null" };
}

impl Driver for Plain {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { addresses: false, many: false }
    }

    fn create_network(&self, _: &NetworkSpec, _: &mut Network) -> Result<()> {
        Err(Error::OnlyOne(self.name))
    }

    fn network_plan(&self, _: &Network) -> Result<NetworkPlan> {
        Ok(NetworkPlan::default())
    }

    fn join(&self, _: &Network, _: &Endpoint) -> Result<JoinPlan> {
        Ok(JoinPlan::default())
    }
}
