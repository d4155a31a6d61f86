//! The flags that `run` and `create` share: everything a container can be given.

use super::DETACH_KEYS;
use crate::spec::{Check, Flag, Kind};

const fn list(long: &'static str, short: char, check: Check, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::List(check), "", help)
}
const fn devices(long: &'static str, check: Check, help: &'static str) -> Flag {
    Flag::new(long, '\0', Kind::List(check), "[]", help)
}
const fn text(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Text, "", help)
}
const fn int(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Int, "", help)
}
const fn switch(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Bool, "", help)
}
const fn bytes(long: &'static str, short: char, help: &'static str) -> Flag {
    Flag::new(long, short, Kind::Bytes, "", help)
}
const fn duration(long: &'static str, help: &'static str) -> Flag {
    Flag::new(long, '\0', Kind::Duration, "0s", help)
}

const ADD_HOST: Flag =
    list("add-host", '\0', Check::ExtraHost, "Line for /etc/hosts, as host:address");
const ANNOTATION: Flag = Flag::new(
    "annotation",
    '\0',
    Kind::Map(Check::Nothing),
    "map[]",
    "Annotation that the OCI runtime receives",
)
.since("1.43");
const ATTACH: Flag =
    list("attach", 'a', Check::Attach, "Stream to attach: STDIN, STDOUT or STDERR");
const BLKIO_WEIGHT: Flag = Flag::new(
    "blkio-weight",
    '\0',
    Kind::Uint16,
    "0",
    "Share of block I/O, 10 to 1000, or 0 for none set",
);
const BLKIO_WEIGHT_DEVICE: Flag =
    devices("blkio-weight-device", Check::WeightDevice, "Share of one device's I/O (path:weight)");
const CAP_ADD: Flag = list("cap-add", '\0', Check::Nothing, "Linux capability to add");
const CAP_DROP: Flag = list("cap-drop", '\0', Check::Nothing, "Linux capability to drop");
const CGROUP_PARENT: Flag =
    text("cgroup-parent", '\0', "Cgroup below which the container's is made");
const CGROUPNS: Flag = text(
    "cgroupns",
    '\0',
    "Cgroup namespace (host|private)\n'host':    The host's own\n'private': One of the container's own\n'':        As the daemon is set up (default)",
)
.since("1.41");
const CIDFILE: Flag = text("cidfile", '\0', "File to write the container's ID to");
const CPU_PERIOD: Flag = int("cpu-period", '\0', "CFS period in microseconds");
const CPU_QUOTA: Flag = int("cpu-quota", '\0', "CFS quota in microseconds a period");
const CPU_RT_PERIOD: Flag =
    int("cpu-rt-period", '\0', "Real-time period in microseconds").since("1.25");
const CPU_RT_RUNTIME: Flag =
    int("cpu-rt-runtime", '\0', "Real-time runtime in microseconds a period").since("1.25");
const CPU_SHARES: Flag = int("cpu-shares", 'c', "Share of processor time (relative)");
const CPUS: Flag =
    Flag::new("cpus", '\0', Kind::Cpus, "", "How many processors may be used").since("1.25");
const CPUSET_CPUS: Flag = text("cpuset-cpus", '\0', "Processors that may be used (0-3, 0,1)");
const CPUSET_MEMS: Flag = text("cpuset-mems", '\0', "Memory nodes that may be used (0-3, 0,1)");
const DETACH: Flag =
    switch("detach", 'd', "Leave the container in the background and print its ID");
const DEVICE: Flag = list("device", '\0', Check::Nothing, "Device of the host to add");
const DEVICE_CGROUP_RULE: Flag =
    list("device-cgroup-rule", '\0', Check::DeviceRule, "Rule for the list of allowed devices");
const DEVICE_READ_BPS: Flag =
    devices("device-read-bps", Check::ThrottleBytes, "Most bytes a second read from a device");
const DEVICE_READ_IOPS: Flag =
    devices("device-read-iops", Check::ThrottleCount, "Most reads a second from a device");
const DEVICE_WRITE_BPS: Flag =
    devices("device-write-bps", Check::ThrottleBytes, "Most bytes a second written to a device");
const DEVICE_WRITE_IOPS: Flag =
    devices("device-write-iops", Check::ThrottleCount, "Most writes a second to a device");
const CONTENT_TRUST: Flag = Flag::new(
    "disable-content-trust",
    '\0',
    Kind::Bool,
    "true",
    "Take images without checking signatures",
);
const DNS: Flag = list("dns", '\0', Check::Address, "Name server to use");
const DNS_OPT: Flag = list("dns-opt", '\0', Check::Nothing, "").alias("dns-option");
const DNS_OPTION: Flag = list("dns-option", '\0', Check::Nothing, "Option for the resolver");
const DNS_SEARCH: Flag =
    list("dns-search", '\0', Check::DnsSearch, "Domain in which names are searched");
const DOMAINNAME: Flag = text("domainname", '\0', "NIS domain name");
const ENTRYPOINT: Flag =
    text("entrypoint", '\0', "Program to start in place of the image's ENTRYPOINT");
const ENV: Flag = list("env", 'e', Check::Env, "Environment variable to set");
const ENV_FILE: Flag = list("env-file", '\0', Check::Nothing, "File with environment variables");
const EXPOSE: Flag = list("expose", '\0', Check::Nothing, "Port or range of ports that is served");
const GPUS: Flag =
    Flag::new("gpus", '\0', Kind::Gpus, "", "GPUs to add ('all' for every one)").since("1.40");
const GROUP_ADD: Flag = list("group-add", '\0', Check::Nothing, "Further group of the process");
const HEALTH_CMD: Flag = text("health-cmd", '\0', "Command that checks health");
const HEALTH_INTERVAL: Flag = duration("health-interval", "Time between checks (ms|s|m|h)");
const HEALTH_RETRIES: Flag = int("health-retries", '\0', "Failures in a row that mean unhealthy");
const HEALTH_START_INTERVAL: Flag =
    duration("health-start-interval", "Time between checks while starting (ms|s|m|h)")
        .since("1.44");
const HEALTH_START_PERIOD: Flag = duration(
    "health-start-period",
    "Time the container has to start before failures count (ms|s|m|h)",
)
.since("1.29");
const HEALTH_TIMEOUT: Flag = duration("health-timeout", "Longest time of one check (ms|s|m|h)");
const HELP: Flag = switch("help", '\0', "Print usage");
const HOSTNAME: Flag = text("hostname", 'h', "Host name of the container");
const INIT: Flag =
    switch("init", '\0', "Put an init first that reaps processes and passes signals on")
        .since("1.25");
const INTERACTIVE: Flag = switch("interactive", 'i', "Keep standard input open, attached or not");
const IP: Flag = text("ip", '\0', "IPv4 address (e.g., 172.30.100.104)");
const IP6: Flag = text("ip6", '\0', "IPv6 address (e.g., 2001:db8::33)");
const IPC: Flag = text("ipc", '\0', "IPC namespace");
const ISOLATION: Flag = text("isolation", '\0', "Way to isolate the container");
const KERNEL_MEMORY: Flag = bytes("kernel-memory", '\0', "Most memory of the kernel");
const LABEL: Flag = list("label", 'l', Check::Label, "Label to set");
const LABEL_FILE: Flag = list("label-file", '\0', Check::Nothing, "File with a label a line");
const LINK: Flag = list("link", '\0', Check::Link, "Other container to link");
const LINK_LOCAL_IP: Flag =
    list("link-local-ip", '\0', Check::Nothing, "Link-local address of the container");
const LOG_DRIVER: Flag = text("log-driver", '\0', "Where the output is logged");
const LOG_OPT: Flag = list("log-opt", '\0', Check::Nothing, "Option of the log driver");
const MAC_ADDRESS: Flag = text("mac-address", '\0', "MAC address (e.g., 92:d0:c6:0a:29:33)");
const MEMORY: Flag = bytes("memory", 'm', "Most memory");
const MEMORY_RESERVATION: Flag =
    bytes("memory-reservation", '\0', "Memory that is kept under pressure");
const MEMORY_SWAP: Flag = Flag::new(
    "memory-swap",
    '\0',
    Kind::BytesOrUnlimited,
    "",
    "Most memory and swap together: '-1' for no limit",
);
const MEMORY_SWAPPINESS: Flag = Flag::new(
    "memory-swappiness",
    '\0',
    Kind::Int,
    "-1",
    "How readily memory is swapped out (0 to 100)",
);
const MOUNT: Flag = Flag::new("mount", '\0', Kind::Mount, "", "File system to mount");
const NAME: Flag = text("name", '\0', "Name of the container");
const NET: Flag = Flag::new("net", '\0', Kind::Network, "", "").alias("network");
const NET_ALIAS: Flag = list("net-alias", '\0', Check::Nothing, "").alias("network-alias");
const NETWORK: Flag = Flag::new("network", '\0', Kind::Network, "", "Network to connect to");
const NETWORK_ALIAS: Flag =
    list("network-alias", '\0', Check::Nothing, "Further name of the container in the network");
const NO_HEALTHCHECK: Flag =
    switch("no-healthcheck", '\0', "Check no health, whatever the image says");
const OOM_KILL_DISABLE: Flag = switch("oom-kill-disable", '\0', "Do not kill for lack of memory");
const OOM_SCORE_ADJ: Flag =
    int("oom-score-adj", '\0', "How readily to kill for lack of memory (-1000 to 1000)");
const PID: Flag = text("pid", '\0', "PID namespace");
const PIDS_LIMIT: Flag = int("pids-limit", '\0', "Most processes (-1 for no limit)");
const PLATFORM: Flag =
    text("platform", '\0', "Platform, where the daemon has several").since("1.32");
const PRIVILEGED: Flag =
    switch("privileged", '\0', "Give the container nearly all rights of the host");
const PUBLISH: Flag = list("publish", 'p', Check::Nothing, "Port to publish on the host");
const PUBLISH_ALL: Flag =
    switch("publish-all", 'P', "Publish all exposed ports on ports that are free");
const PULL: Flag = Flag::new(
    "pull",
    '\0',
    Kind::Text,
    "\"missing\"",
    "Fetch the image first (\"always\", \"missing\", \"never\")",
);
const QUIET: Flag = switch("quiet", 'q', "Fetch without telling");
const READ_ONLY: Flag = switch("read-only", '\0', "Let the root file system be read only");
const RESTART: Flag =
    Flag::new("restart", '\0', Kind::Text, "\"no\"", "When to start the container again");
const RM: Flag = switch("rm", '\0', "Remove the container and its anonymous volumes when it ends");
const RUNTIME: Flag = text("runtime", '\0', "OCI runtime to use");
const SECURITY_OPT: Flag = list("security-opt", '\0', Check::Nothing, "Security option");
const SHM_SIZE: Flag = bytes("shm-size", '\0', "Size of /dev/shm");
const SIG_PROXY: Flag =
    Flag::new("sig-proxy", '\0', Kind::Bool, "true", "Pass received signals on to the process");
const STOP_SIGNAL: Flag = text("stop-signal", '\0', "Signal that asks the container to stop");
const STOP_TIMEOUT: Flag =
    int("stop-timeout", '\0', "Seconds between asking to stop and killing").since("1.25");
const STORAGE_OPT: Flag = list("storage-opt", '\0', Check::Nothing, "Option of the storage driver");
const SYSCTL: Flag =
    Flag::new("sysctl", '\0', Kind::Map(Check::Sysctl), "map[]", "Kernel parameter to set");
const TMPFS: Flag = list("tmpfs", '\0', Check::Nothing, "Folder for a tmpfs");
const TTY: Flag = switch("tty", 't', "Give the process a terminal");
const ULIMIT: Flag = Flag::new("ulimit", '\0', Kind::Ulimit, "[]", "Resource limit");
const USE_API_SOCKET: Flag =
    switch("use-api-socket", '\0', "Mount the daemon's socket and what logs in to registries");
const USER: Flag = text("user", 'u', "User name or number (<name|uid>[:<group|gid>])");
const USERNS: Flag = text("userns", '\0', "User namespace");
const UTS: Flag = text("uts", '\0', "UTS namespace");
const VOLUME: Flag = list("volume", 'v', Check::Nothing, "Folder or volume to mount");
const VOLUME_DRIVER: Flag = text("volume-driver", '\0', "Driver of volumes that are made");
const VOLUMES_FROM: Flag =
    list("volumes-from", '\0', Check::Nothing, "Container whose volumes to mount");
const WORKDIR: Flag = text("workdir", 'w', "Working folder inside the container");

/// The flags of `run`.
pub(super) const RUN_FLAGS: &[Flag] = &[
    ADD_HOST,
    ANNOTATION,
    ATTACH,
    BLKIO_WEIGHT,
    BLKIO_WEIGHT_DEVICE,
    CAP_ADD,
    CAP_DROP,
    CGROUP_PARENT,
    CGROUPNS,
    CIDFILE,
    CPU_PERIOD,
    CPU_QUOTA,
    CPU_RT_PERIOD,
    CPU_RT_RUNTIME,
    CPU_SHARES,
    CPUS,
    CPUSET_CPUS,
    CPUSET_MEMS,
    DETACH,
    DETACH_KEYS,
    DEVICE,
    DEVICE_CGROUP_RULE,
    DEVICE_READ_BPS,
    DEVICE_READ_IOPS,
    DEVICE_WRITE_BPS,
    DEVICE_WRITE_IOPS,
    CONTENT_TRUST,
    DNS,
    DNS_OPT,
    DNS_OPTION,
    DNS_SEARCH,
    DOMAINNAME,
    ENTRYPOINT,
    ENV,
    ENV_FILE,
    EXPOSE,
    GPUS,
    GROUP_ADD,
    HEALTH_CMD,
    HEALTH_INTERVAL,
    HEALTH_RETRIES,
    HEALTH_START_INTERVAL,
    HEALTH_START_PERIOD,
    HEALTH_TIMEOUT,
    HELP,
    HOSTNAME,
    INIT,
    INTERACTIVE,
    IP,
    IP6,
    IPC,
    ISOLATION,
    KERNEL_MEMORY,
    LABEL,
    LABEL_FILE,
    LINK,
    LINK_LOCAL_IP,
    LOG_DRIVER,
    LOG_OPT,
    MAC_ADDRESS,
    MEMORY,
    MEMORY_RESERVATION,
    MEMORY_SWAP,
    MEMORY_SWAPPINESS,
    MOUNT,
    NAME,
    NET,
    NET_ALIAS,
    NETWORK,
    NETWORK_ALIAS,
    NO_HEALTHCHECK,
    OOM_KILL_DISABLE,
    OOM_SCORE_ADJ,
    PID,
    PIDS_LIMIT,
    PLATFORM,
    PRIVILEGED,
    PUBLISH,
    PUBLISH_ALL,
    PULL,
    QUIET,
    READ_ONLY,
    RESTART,
    RM,
    RUNTIME,
    SECURITY_OPT,
    SHM_SIZE,
    SIG_PROXY,
    STOP_SIGNAL,
    STOP_TIMEOUT,
    STORAGE_OPT,
    SYSCTL,
    TMPFS,
    TTY,
    ULIMIT,
    USE_API_SOCKET,
    USER,
    USERNS,
    UTS,
    VOLUME,
    VOLUME_DRIVER,
    VOLUMES_FROM,
    WORKDIR,
];

/// The flags of `create`: those of `run` but the ones about being attached.
pub(super) const CREATE_FLAGS: &[Flag] = &[
    ADD_HOST,
    ANNOTATION,
    ATTACH,
    BLKIO_WEIGHT,
    BLKIO_WEIGHT_DEVICE,
    CAP_ADD,
    CAP_DROP,
    CGROUP_PARENT,
    CGROUPNS,
    CIDFILE,
    CPU_PERIOD,
    CPU_QUOTA,
    CPU_RT_PERIOD,
    CPU_RT_RUNTIME,
    CPU_SHARES,
    CPUS,
    CPUSET_CPUS,
    CPUSET_MEMS,
    DEVICE,
    DEVICE_CGROUP_RULE,
    DEVICE_READ_BPS,
    DEVICE_READ_IOPS,
    DEVICE_WRITE_BPS,
    DEVICE_WRITE_IOPS,
    CONTENT_TRUST,
    DNS,
    DNS_OPT,
    DNS_OPTION,
    DNS_SEARCH,
    DOMAINNAME,
    ENTRYPOINT,
    ENV,
    ENV_FILE,
    EXPOSE,
    GPUS,
    GROUP_ADD,
    HEALTH_CMD,
    HEALTH_INTERVAL,
    HEALTH_RETRIES,
    HEALTH_START_INTERVAL,
    HEALTH_START_PERIOD,
    HEALTH_TIMEOUT,
    HELP,
    HOSTNAME,
    INIT,
    INTERACTIVE,
    IP,
    IP6,
    IPC,
    ISOLATION,
    KERNEL_MEMORY,
    LABEL,
    LABEL_FILE,
    LINK,
    LINK_LOCAL_IP,
    LOG_DRIVER,
    LOG_OPT,
    MAC_ADDRESS,
    MEMORY,
    MEMORY_RESERVATION,
    MEMORY_SWAP,
    MEMORY_SWAPPINESS,
    MOUNT,
    NAME,
    NET,
    NET_ALIAS,
    NETWORK,
    NETWORK_ALIAS,
    NO_HEALTHCHECK,
    OOM_KILL_DISABLE,
    OOM_SCORE_ADJ,
    PID,
    PIDS_LIMIT,
    PLATFORM,
    PRIVILEGED,
    PUBLISH,
    PUBLISH_ALL,
    PULL,
    QUIET,
    READ_ONLY,
    RESTART,
    RM,
    RUNTIME,
    SECURITY_OPT,
    SHM_SIZE,
    STOP_SIGNAL,
    STOP_TIMEOUT,
    STORAGE_OPT,
    SYSCTL,
    TMPFS,
    TTY,
    ULIMIT,
    USE_API_SOCKET,
    USER,
    USERNS,
    UTS,
    VOLUME,
    VOLUME_DRIVER,
    VOLUMES_FROM,
    WORKDIR,
];

/// The flags of `update`: the limits that can change while a container runs.
pub(super) const UPDATE_FLAGS: &[Flag] = &[
    BLKIO_WEIGHT,
    CPU_PERIOD,
    CPU_QUOTA,
    CPU_RT_PERIOD,
    CPU_RT_RUNTIME,
    CPU_SHARES,
    Flag { api: "1.29", ..CPUS },
    CPUSET_CPUS,
    CPUSET_MEMS,
    Flag { hidden: true, ..KERNEL_MEMORY },
    MEMORY,
    MEMORY_RESERVATION,
    MEMORY_SWAP,
    Flag { api: "1.40", ..PIDS_LIMIT },
    Flag::new("restart", '\0', Kind::Text, "", "When to start the container again"),
];
