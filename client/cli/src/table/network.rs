//! Rows of the commands on networks.

use super::{FILTER, FORMAT, FORMAT_ONE, NO_TRUNC};
use crate::commands::Op;
use crate::spec::{Arity, Check, Command, Completes, Flag, Kind};

const fn switch(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Bool, "", help)
}
const fn text(long: &'static str, shown: &'static str, help: &'static str) -> Flag {
    Flag::new(long, '\0', Kind::Text, shown, help)
}
const fn strings(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, '\0', Kind::Strings, "", help)
}
const fn map(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Map(Check::Nothing), "map[]", help)
}

const CONNECT: Command = Command::new(
    "connect",
    "[OPTIONS] NETWORK CONTAINER",
    Arity::Exactly(2),
    Op::NetworkConnect,
    "Connect a container to a network",
)
.completing(Completes::NetworkThenContainer)
.flags(&[
    strings("alias", "Further name of the container in the network"),
    strings("driver-opt", "Option for the network's driver"),
    Flag::new(
        "gw-priority",
        '\0',
        Kind::Int,
        "",
        "The network with the highest gives the default gateway; may be negative",
    )
    .since("1.48"),
    text("ip", "", "IPv4 address (e.g., \"172.30.100.104\")"),
    text("ip6", "", "IPv6 address (e.g., \"2001:db8::33\")"),
    Flag::new("link", '\0', Kind::List(Check::Link), "", "Other container to link"),
    strings("link-local-ip", "Link-local address to add"),
]);

const CREATE: Command = Command::new(
    "create",
    "[OPTIONS] NETWORK",
    Arity::Exactly(1),
    Op::NetworkCreate,
    "Create a network",
)
.flags(&[
    switch("attachable", '\0', "Let containers be attached by hand").since("1.25"),
    map("aux-address", '\0', "Addresses that are taken already"),
    text("config-from", "", "Network whose configuration to take").since("1.30"),
    switch("config-only", '\0', "Keep a configuration, make no network").since("1.30"),
    Flag::new("driver", 'd', Kind::Text, "\"bridge\"", "Driver of the network"),
    strings("gateway", "Address of the gateway in the subnet"),
    switch("ingress", '\0', "Make the routing mesh of a swarm").since("1.29"),
    switch("internal", '\0', "Let nothing in or out of the network"),
    strings("ip-range", "Part of the subnet that addresses come from"),
    text("ipam-driver", "\"default\"", "Driver that gives addresses"),
    map("ipam-opt", '\0', "Option for that driver"),
    Flag::new("ipv4", '\0', Kind::Bool, "true", "Give IPv4 addresses").since("1.48"),
    switch("ipv6", '\0', "Give IPv6 addresses"),
    Flag::new("label", '\0', Kind::List(Check::Label), "", "Label to set"),
    map("opt", 'o', "Option for the network's driver"),
    text("scope", "", "How far the network reaches").since("1.30"),
    strings("subnet", "Subnet of the network, in CIDR notation"),
]);

const DISCONNECT: Command = Command::new(
    "disconnect",
    "[OPTIONS] NETWORK CONTAINER",
    Arity::Exactly(2),
    Op::NetworkDisconnect,
    "Disconnect a container from a network",
)
.completing(Completes::NetworkThenContainer)
.flags(&[switch("force", 'f', "Disconnect whatever the container's state")]);

const INSPECT: Command = Command::new(
    "inspect",
    "[OPTIONS] NETWORK [NETWORK...]",
    Arity::AtLeast(1),
    Op::NetworkInspect,
    "Tell everything known about networks",
)
.completing(Completes::Networks)
.flags(&[FORMAT_ONE, switch("verbose", 'v', "Tell more, for finding faults")]);

const LS: Command = Command::new("ls", "[OPTIONS]", Arity::None, Op::NetworkList, "List networks")
    .known_as(&["list"], &["network ls", "network list"])
    .flags(&[FILTER, FORMAT, NO_TRUNC, switch("quiet", 'q', "Print IDs only")]);

const PRUNE: Command = Command::new(
    "prune",
    "[OPTIONS]",
    Arity::None,
    Op::NetworkPrune,
    "Remove all networks that nothing uses",
)
.flags(&[
    Flag::new(
        "filter",
        '\0',
        Kind::Filter,
        "",
        "Remove only what meets a condition (e.g. \"until=<timestamp>\")",
    ),
    switch("force", 'f', "Do not ask"),
]);

const RM: Command = Command::new(
    "rm",
    "NETWORK [NETWORK...]",
    Arity::AtLeast(1),
    Op::NetworkRemove,
    "Remove networks",
)
.known_as(&["remove"], &["network rm", "network remove"])
.completing(Completes::Networks)
.flags(&[switch("force", 'f', "Do not mind networks that do not exist")]);

pub(super) static COMMANDS: &[Command] = &[CONNECT, CREATE, DISCONNECT, INSPECT, LS, PRUNE, RM];
