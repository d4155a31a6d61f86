//! The one table of daemon options: flag, shorthand, `daemon.json` key, kind, meaning.
//! Help, flag parser and file reader all read these rows.

use std::fmt::Write;

/// What an option's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Int,
    Text,
    /// Repeatable; values append.
    List,
    /// Repeatable `key=value`; an object of strings in the file.
    Map,
    /// Repeatable `name=path`; an object of objects in the file.
    Runtimes,
    /// Repeatable `name=soft[:hard]`; an object of objects in the file.
    Ulimits,
    /// Repeatable `base=CIDR,size=N`; a list of objects in the file.
    Pools,
}

/// One option. An empty `flag` means file only, an empty `key` flag only.
pub(super) struct Opt {
    pub(super) flag: &'static str,
    pub(super) short: Option<char>,
    pub(super) key: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
}

const fn row(
    flag: &'static str,
    short: Option<char>,
    key: &'static str,
    kind: Kind,
    help: &'static str,
) -> Opt {
    Opt { flag, short, key, kind, help }
}

use Kind::{Bool, Int, List, Map, Pools, Runtimes, Text, Ulimits};

/// Every option, by flag.
#[rustfmt::skip]
pub(super) const OPTIONS: &[Opt] = &[
    row("add-runtime", None, "runtimes", Runtimes, "Another OCI runtime, as name=path"),
    row("bip", None, "bip", Text, "Address and prefix of the default bridge"),
    row("bridge", Some('b'), "bridge", Text, "Default bridge to use; `none` for no default network"),
    row("cgroup-parent", None, "cgroup-parent", Text, "Parent cgroup of all containers"),
    row("config-file", None, "", Text, "Configuration file (default \"/etc/ferry/daemon.json\")"),
    row("containerd", None, "containerd", Text, "Socket of a running containerd; without it ferryd starts its own"),
    row("containerd-namespace", None, "containerd-namespace", Text, "containerd namespace of containers (default \"moby\")"),
    row("containerd-plugins-namespace", None, "containerd-plugin-namespace", Text, "containerd namespace of plugins (default \"plugins.moby\")"),
    row("data-root", None, "data-root", Text, "Folder of what lasts (default \"/var/lib/ferry\")"),
    row("debug", Some('D'), "debug", Bool, "Log debug messages"),
    row("default-address-pool", None, "default-address-pools", Pools, "Pool for networks without a subnet, as base=CIDR,size=BITS"),
    row("default-cgroupns-mode", None, "default-cgroupns-mode", Text, "cgroup namespace of containers: host or private"),
    row("default-ipc-mode", None, "default-ipc-mode", Text, "IPC mode of containers: shareable or private"),
    row("default-runtime", None, "default-runtime", Text, "Runtime of containers that name none (default \"ferry-runc\")"),
    row("default-shm-size", None, "default-shm-size", Text, "Size of /dev/shm (default 64MiB)"),
    row("default-ulimit", None, "default-ulimits", Ulimits, "Default ulimit of containers, as name=soft[:hard]"),
    row("dns", None, "dns", List, "DNS server of containers"),
    row("dns-opt", None, "dns-opts", List, "DNS option of containers"),
    row("dns-search", None, "dns-search", List, "DNS search domain of containers"),
    row("exec-opt", None, "exec-opts", List, "Runtime option: native.cgroupdriver=cgroupfs|systemd"),
    row("exec-root", None, "exec-root", Text, "Folder of what ends with the machine (default \"/run/ferry\")"),
    row("experimental", None, "experimental", Bool, "Announce experimental features"),
    row("feature", None, "features", Map, "Switch a feature, as name=true|false"),
    row("fixed-cidr", None, "fixed-cidr", Text, "Range of the default bridge that containers get addresses from"),
    row("group", Some('G'), "group", Text, "Group of the unix socket (default \"docker\")"),
    row("help", None, "", Bool, "Print this"),
    row("host", Some('H'), "hosts", List, "Where to listen: unix://PATH or tcp://ADDRESS (default \"unix:///run/ferry/ferry.sock\")"),
    row("icc", None, "icc", Bool, "Let containers of the default bridge reach each other (default true)"),
    row("init", None, "init", Bool, "Run an init in every container"),
    row("init-path", None, "init-path", Text, "That init's program"),
    row("insecure-registry", None, "insecure-registries", List, "Registry that may be spoken to without verified TLS"),
    row("ip-forward", None, "ip-forward", Bool, "Switch IP forwarding on (default true)"),
    row("ip-forward-no-drop", None, "ip-forward-no-drop", Bool, "Leave forwarding between other links open when Ferry switches it on"),
    row("ip-masq", None, "ip-masq", Bool, "Masquerade outgoing packets of the default bridge (default true)"),
    row("iptables", None, "iptables", Bool, "Keep firewall rules (default true)"),
    row("label", None, "labels", List, "Label of this engine, as key=value"),
    row("live-restore", None, "live-restore", Bool, "Keep containers running while the daemon is down (default true)"),
    row("log-driver", None, "log-driver", Text, "Log driver of containers (default \"json-file\")"),
    row("log-format", None, "log-format", Text, "Format of the daemon's own log: text or json"),
    row("log-level", Some('l'), "log-level", Text, "Level of the daemon's own log: debug, info, warn, error, fatal (default \"info\")"),
    row("log-opt", None, "log-opts", Map, "Option of the log driver, as key=value"),
    row("mtu", None, "mtu", Int, "MTU of the default bridge"),
    row("no-new-privileges", None, "no-new-privileges", Bool, "Set no-new-privileges in every container"),
    row("pidfile", Some('p'), "pidfile", Text, "File for the daemon's process id (default \"/run/ferry/ferryd.pid\")"),
    row("registry-mirror", None, "registry-mirrors", List, "Mirror to ask before Docker Hub"),
    row("seccomp-profile", None, "seccomp-profile", Text, "Profile for containers: builtin, unconfined or a file"),
    row("shutdown-timeout", None, "shutdown-timeout", Int, "Seconds that containers get to stop with the daemon (default 15)"),
    row("storage-driver", Some('s'), "storage-driver", Text, "Snapshotter: overlayfs (also overlay2) or native"),
    row("userland-proxy", None, "userland-proxy", Bool, "Accepted: Ferry needs no proxy for published ports"),
    row("userland-proxy-path", None, "userland-proxy-path", Text, "Accepted: see --userland-proxy"),
    row("validate", None, "", Bool, "Check the configuration and exit"),
    row("version", Some('v'), "", Bool, "Print the version and exit"),
];

/// dockerd's options that Ferry does not have yet: named in the error.
pub(super) const NOT_YET: &[&str] = &[
    "allow-direct-routing",
    "api-cors-header",
    "authorization-plugin",
    "bip6",
    "cdi-spec-dir",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cri-containerd",
    "default-gateway",
    "default-gateway-v6",
    "default-network-opt",
    "fixed-cidr-v6",
    "host-gateway-ip",
    "http-proxy",
    "https-proxy",
    "ip",
    "ip6tables",
    "ipv6",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "metrics-addr",
    "network-control-plane-mtu",
    "network-diagnostic-port",
    "no-proxy",
    "node-generic-resource",
    "raw-logs",
    "rootless",
    "selinux-enabled",
    "storage-opt",
    "swarm-default-advertise-addr",
    "tls",
    "tlscacert",
    "tlscert",
    "tlskey",
    "tlsverify",
    "userns-remap",
];

/// The option of a long flag.
pub(super) fn by_flag(flag: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| option.flag == flag)
}

/// The option of a shorthand.
pub(super) fn by_short(short: char) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| option.short == Some(short))
}

/// The option of a `daemon.json` key.
pub(super) fn by_key(key: &str) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| !option.key.is_empty() && option.key == key)
}

/// The text of `--help`.
pub(super) fn help() -> String {
    let mut text =
        "Usage:  ferryd [OPTIONS]\n\nThe engine daemon of Ferry.\n\nOptions:\n".to_owned();
    for option in OPTIONS {
        let short = option.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
        let kind = match option.kind {
            Bool => "",
            Int => " int",
            Text => " string",
            List => " list",
            Map => " map",
            Runtimes => " runtime",
            Ulimits => " ulimit",
            Pools => " pool-options",
        };
        let flag = format!("--{}{kind}", option.flag);
        let _ = writeln!(text, "  {short}{flag:<38} {}", option.help);
    }
    text
}
