//! What the daemon's flags and `daemon.json` say about networks. No defaults of the kernel here.

use std::path::PathBuf;

use ipam::PoolBase;

/// Settings of the network crate, fixed while the daemon runs.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder for pins of namespaces is `netns` below this.
    pub exec_root: PathBuf,
    /// The default bridge's name; absent: no default bridge (`--bridge none`).
    pub bridge: Option<String>,
    /// `--bip`: the default bridge's address and subnet.
    pub bip: Option<String>,
    /// `--fixed-cidr`: where unnamed addresses of the default bridge come from.
    pub fixed_cidr: Option<String>,
    /// `--mtu` in bytes.
    pub mtu: Option<u32>,
    /// `--icc`: whether containers on the default bridge may talk to each other.
    pub icc: bool,
    /// `--ip-masq`.
    pub ip_masq: bool,
    /// `--ip-forward`: whether the kernel's forwarding may be switched on.
    pub ip_forward: bool,
    /// `--ip-forward-no-drop`: forwarding between foreign links stays open although this daemon
    /// switched forwarding on.
    pub ip_forward_no_drop: bool,
    /// The pools for networks without a subnet.
    pub pools: Vec<PoolBase>,
    /// `--iptables`: whether firewall rules are kept. Without, nothing is masqueraded, published or
    /// kept apart.
    pub firewall: bool,
    /// The name of the firewall tables; two daemons in one network namespace need two.
    pub table: String,
    /// Whether to own those tables where the kernel can (from 6.9 on); else they are watched and
    /// loaded anew when somebody changed them.
    pub own_tables: bool,
    /// Where firewalld is asked to trust our bridges: the system bus; absent: it is not asked.
    pub bus: Option<dbus::Address>,
    /// How many ready namespaces to keep.
    pub ready: usize,
}

impl Config {
    /// The defaults below an exec root.
    pub fn new(exec_root: PathBuf) -> Self {
        Self {
            exec_root,
            bridge: Some("ferry0".to_owned()),
            bip: None,
            fixed_cidr: None,
            mtu: None,
            icc: true,
            ip_masq: true,
            ip_forward: true,
            ip_forward_no_drop: false,
            pools: ipam::docker_pools(),
            firewall: true,
            table: "ferry".to_owned(),
            own_tables: true,
            bus: dbus::Address::system().ok(),
            ready: 4,
        }
    }
}
