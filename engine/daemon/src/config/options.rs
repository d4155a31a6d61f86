//! The one table of daemon options: flag, shorthand, `daemon.json` key, kind, meaning; and the
//! forms of values that only this daemon has.

use options::{Form, Kind, Opt, Table, row};
use serde_json::{Map, Value, json};

use Kind::{Bool, Int, List, Map as Pairs, Size, Switches, Text};

const RUNTIMES: Kind = Kind::Form(&Form {
    flag: "runtime",
    file: "map[string]system.Runtime",
    is_array: false,
    read: runtime,
});
const ULIMITS: Kind = Kind::Form(&Form {
    flag: "ulimit",
    file: "map[string]*container.Ulimit",
    is_array: false,
    read: ulimit,
});
const POOLS: Kind =
    Kind::Form(&Form { flag: "pool-options", file: "opts.PoolsOpt", is_array: true, read: pool });

const HTTP_PROXY: Kind = Kind::Form(&Form {
    flag: "string",
    file: "config.Proxies",
    is_array: false,
    read: |value| Ok(("http-proxy".to_owned(), value.into())),
});
const HTTPS_PROXY: Kind = Kind::Form(&Form {
    flag: "string",
    file: "config.Proxies",
    is_array: false,
    read: |value| Ok(("https-proxy".to_owned(), value.into())),
});
const NO_PROXY: Kind = Kind::Form(&Form {
    flag: "string",
    file: "config.Proxies",
    is_array: false,
    read: |value| Ok(("no-proxy".to_owned(), value.into())),
});

/// The options of ferryd.
pub(super) const TABLE: Table = Table {
    program: "ferryd",
    about: "The engine daemon of Ferry.",
    options: OPTIONS,
    not_yet: NOT_YET,
    keys_not_yet: &["builder", "resolv-conf", "min-api-version", "nri-opts"],
};

/// Every option, by flag.
#[rustfmt::skip]
const OPTIONS: &[Opt] = &[
    row("add-runtime", None, "runtimes", RUNTIMES, "Another OCI runtime, as name=path"),
    row("allow-nondistributable-artifacts", None, "allow-nondistributable-artifacts", List, "Accepted: nondistributable artifacts are always pushed"),
    row("bip", None, "bip", Text, "Address and prefix of the default bridge"),
    row("bridge", Some('b'), "bridge", Text, "Default bridge to use; `none` for no default network"),
    row("cgroup-parent", None, "cgroup-parent", Text, "Parent cgroup of all containers"),
    row("config-file", None, "", Text, "Configuration file (default \"/etc/ferry/daemon.json\")"),
    row("containerd", None, "containerd", Text, "Socket of a running containerd; without it ferryd starts its own"),
    row("containerd-namespace", None, "containerd-namespace", Text, "containerd namespace of containers (default \"moby\")"),
    row("containerd-plugins-namespace", None, "containerd-plugin-namespace", Text, "containerd namespace of plugins (default \"plugins.moby\")"),
    row("data-root", None, "data-root", Text, "Folder of what lasts (default \"/var/lib/ferry\")"),
    row("debug", Some('D'), "debug", Bool, "Log debug messages"),
    row("default-address-pool", None, "default-address-pools", POOLS, "Pool for networks without a subnet, as base=CIDR,size=BITS"),
    row("default-cgroupns-mode", None, "default-cgroupns-mode", Text, "cgroup namespace of containers: host or private"),
    row("default-ipc-mode", None, "default-ipc-mode", Text, "IPC mode of containers: shareable or private"),
    row("default-runtime", None, "default-runtime", Text, "Runtime of containers that name none (default \"ferry-runc\")"),
    row("default-shm-size", None, "default-shm-size", Size, "Size of /dev/shm (default 64MiB)"),
    row("default-ulimit", None, "default-ulimits", ULIMITS, "Default ulimit of containers, as name=soft[:hard]"),
    row("dns", None, "dns", List, "DNS server of containers"),
    row("dns-opt", None, "dns-opts", List, "DNS option of containers"),
    row("dns-search", None, "dns-search", List, "DNS search domain of containers"),
    row("exec-opt", None, "exec-opts", List, "Runtime option: native.cgroupdriver=cgroupfs|systemd"),
    row("exec-root", None, "exec-root", Text, "Folder of what ends with the machine (default \"/run/ferry\")"),
    row("experimental", None, "experimental", Bool, "Announce experimental features"),
    row("feature", None, "features", Switches, "Switch a feature, as name=true|false"),
    row("fixed-cidr", None, "fixed-cidr", Text, "Range of the default bridge that containers get addresses from"),
    row("group", Some('G'), "group", Text, "Group of the unix socket (default \"docker\")"),
    row("help", None, "", Bool, "Print this"),
    row("host", Some('H'), "hosts", List, "Where to listen: unix://PATH or tcp://ADDRESS (default \"unix:///run/ferry/ferry.sock\")"),
    row("http-proxy", None, "proxies", HTTP_PROXY, "Proxy for http URLs of registries"),
    row("https-proxy", None, "proxies", HTTPS_PROXY, "Proxy for https URLs of registries"),
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
    row("log-opt", None, "log-opts", Pairs, "Option of the log driver, as key=value"),
    row("max-concurrent-downloads", None, "max-concurrent-downloads", Int, "Layers that are fetched at once (default 3)"),
    row("max-concurrent-uploads", None, "max-concurrent-uploads", Int, "Layers that are sent at once (default 5)"),
    row("max-download-attempts", None, "max-download-attempts", Int, "Attempts at a download (default 5)"),
    row("mtu", None, "mtu", Int, "MTU of the default bridge"),
    row("no-new-privileges", None, "no-new-privileges", Bool, "Set no-new-privileges in every container"),
    row("no-proxy", None, "proxies", NO_PROXY, "Hosts that are reached without a proxy, separated by commas"),
    row("pidfile", Some('p'), "pidfile", Text, "File for the daemon's process id (default \"/run/ferry/ferryd.pid\")"),
    row("push-compression", None, "push-compression", Text, "How plain layers are pushed: gzip, zstd or none (default \"gzip\")"),
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
const NOT_YET: &[&str] = &[
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
    "ip",
    "ip6tables",
    "ipv6",
    "metrics-addr",
    "network-control-plane-mtu",
    "network-diagnostic-port",
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

/// `name=path`.
fn runtime(value: &str) -> Result<(String, Value), String> {
    let (name, path) = value
        .split_once('=')
        .filter(|(name, path)| !name.is_empty() && !path.is_empty())
        .ok_or_else(|| format!("invalid runtime argument: {value}"))?;
    Ok((name.to_owned(), json!({ "path": path })))
}

/// `base=CIDR,size=BITS`.
fn pool(value: &str) -> Result<(String, Value), String> {
    let mut pool = Map::new();
    for field in value.split(',') {
        match field.split_once('=') {
            Some(("base", base)) => pool.insert("base".to_owned(), base.into()),
            Some(("size", size)) => {
                let size: u8 = size.parse().map_err(|_| format!("invalid size value: {size}"))?;
                pool.insert("size".to_owned(), size.into())
            }
            _ => return Err(format!("unexpected key '{field}'")),
        };
    }
    Ok((String::new(), Value::Object(pool)))
}

/// `name=soft[:hard]`, into the form of the file.
fn ulimit(value: &str) -> Result<(String, Value), String> {
    let bad = || format!("invalid ulimit argument: {value}");
    let (name, limits) = value.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| bad());
    let (soft, hard) = (number(soft)?, number(hard)?);
    Ok((name.to_owned(), json!({ "Name": name, "Soft": soft, "Hard": hard })))
}
