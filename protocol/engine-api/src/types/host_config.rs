//! What a container gets from its host: resources, isolation, ports, logs.

use std::collections::BTreeMap;

use super::{MountRequest, StringMap};

/// Container port (`80/tcp`) → where it is published.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

api! {
    /// What a container gets from its host.
    HostConfig = "container.HostConfig" {
        binds: Option<Vec<String>> = "Binds";
        container_id_file: String = "ContainerIDFile";
        log_config: LogConfig = "LogConfig";
        network_mode: String = "NetworkMode".kind("container.NetworkMode");
        port_bindings: Option<PortMap> = "PortBindings".kind("nat.PortMap");
        restart_policy: RestartPolicy = "RestartPolicy";
        auto_remove: bool = "AutoRemove";
        volume_driver: String = "VolumeDriver";
        volumes_from: Option<Vec<String>> = "VolumesFrom";
        console_size: [u64; 2] = "ConsoleSize".kind("[2]uint");
        annotations: Option<StringMap> = "Annotations".omitempty();
        cap_add: Option<Vec<String>> = "CapAdd".words();
        cap_drop: Option<Vec<String>> = "CapDrop".words();
        cgroupns_mode: String = "CgroupnsMode".kind("container.CgroupnsMode");
        dns: Option<Vec<String>> = "Dns".go("DNS");
        dns_options: Option<Vec<String>> = "DnsOptions".go("DNSOptions");
        dns_search: Option<Vec<String>> = "DnsSearch".go("DNSSearch");
        extra_hosts: Option<Vec<String>> = "ExtraHosts";
        group_add: Option<Vec<String>> = "GroupAdd";
        ipc_mode: String = "IpcMode".kind("container.IpcMode");
        cgroup: String = "Cgroup".kind("container.CgroupSpec");
        links: Option<Vec<String>> = "Links";
        oom_score_adj: i64 = "OomScoreAdj".kind("int");
        pid_mode: String = "PidMode".kind("container.PidMode");
        privileged: bool = "Privileged";
        publish_all_ports: bool = "PublishAllPorts";
        readonly_rootfs: bool = "ReadonlyRootfs";
        security_opt: Option<Vec<String>> = "SecurityOpt";
        storage_opt: Option<StringMap> = "StorageOpt".omitempty();
        tmpfs: Option<StringMap> = "Tmpfs".omitempty();
        uts_mode: String = "UTSMode".kind("container.UTSMode");
        userns_mode: String = "UsernsMode".kind("container.UsernsMode");
        shm_size: i64 = "ShmSize";
        sysctls: Option<StringMap> = "Sysctls".omitempty();
        runtime: String = "Runtime".omitempty();
        isolation: String = "Isolation".kind("container.Isolation");
        resources: Resources = "".embedded().go("Resources");
        mounts: Option<Vec<MountRequest>> = "Mounts".omitempty();
        masked_paths: Option<Vec<String>> = "MaskedPaths";
        readonly_paths: Option<Vec<String>> = "ReadonlyPaths";
        init: Option<bool> = "Init".omitempty();
    }

    /// Limits; also what `update` changes.
    Resources = "container.Resources" {
        cpu_shares: i64 = "CpuShares".go("CPUShares");
        memory: i64 = "Memory";
        nano_cpus: i64 = "NanoCpus".go("NanoCPUs");
        cgroup_parent: String = "CgroupParent";
        blkio_weight: u16 = "BlkioWeight";
        blkio_weight_device: Option<Vec<WeightDevice>> =
            "BlkioWeightDevice".kind("[]*blkiodev.WeightDevice");
        blkio_device_read_bps: Option<Vec<ThrottleDevice>> =
            "BlkioDeviceReadBps".kind("[]*blkiodev.ThrottleDevice");
        blkio_device_write_bps: Option<Vec<ThrottleDevice>> =
            "BlkioDeviceWriteBps".kind("[]*blkiodev.ThrottleDevice");
        blkio_device_read_iops: Option<Vec<ThrottleDevice>> =
            "BlkioDeviceReadIOps".kind("[]*blkiodev.ThrottleDevice");
        blkio_device_write_iops: Option<Vec<ThrottleDevice>> =
            "BlkioDeviceWriteIOps".kind("[]*blkiodev.ThrottleDevice");
        cpu_period: i64 = "CpuPeriod".go("CPUPeriod");
        cpu_quota: i64 = "CpuQuota".go("CPUQuota");
        cpu_realtime_period: i64 = "CpuRealtimePeriod".go("CPURealtimePeriod");
        cpu_realtime_runtime: i64 = "CpuRealtimeRuntime".go("CPURealtimeRuntime");
        cpuset_cpus: String = "CpusetCpus";
        cpuset_mems: String = "CpusetMems";
        devices: Option<Vec<DeviceMapping>> = "Devices";
        device_cgroup_rules: Option<Vec<String>> = "DeviceCgroupRules";
        device_requests: Option<Vec<DeviceRequest>> = "DeviceRequests";
        kernel_memory_tcp: i64 = "KernelMemoryTCP".omitempty();
        memory_reservation: i64 = "MemoryReservation";
        memory_swap: i64 = "MemorySwap";
        memory_swappiness: Option<i64> = "MemorySwappiness";
        oom_kill_disable: Option<bool> = "OomKillDisable";
        pids_limit: Option<i64> = "PidsLimit";
        ulimits: Option<Vec<Ulimit>> = "Ulimits".kind("[]*units.Ulimit");
        cpu_count: i64 = "CpuCount".go("CPUCount");
        cpu_percent: i64 = "CpuPercent".go("CPUPercent");
        io_maximum_iops: u64 = "IOMaximumIOps";
        io_maximum_bandwidth: u64 = "IOMaximumBandwidth";
    }

    /// Where output goes.
    LogConfig = "container.LogConfig" {
        driver: String = "Type";
        config: Option<StringMap> = "Config";
    }

    /// When a container is started again: `no`, `always`, `unless-stopped`,
    /// `on-failure`.
    RestartPolicy = "container.RestartPolicy" {
        name: String = "Name".kind("container.RestartPolicyMode");
        maximum_retry_count: i64 = "MaximumRetryCount".kind("int");
    }

    /// A host's end of a published port.
    PortBinding = "nat.PortBinding" {
        host_ip: String = "HostIp".go("HostIP");
        host_port: String = "HostPort";
    }

    /// Weight of a block device.
    WeightDevice = "blkiodev.WeightDevice" {
        path: String = "Path";
        weight: u16 = "Weight";
    }

    /// A rate of a block device.
    ThrottleDevice = "blkiodev.ThrottleDevice" {
        path: String = "Path";
        rate: u64 = "Rate";
    }

    /// A device given to a container.
    DeviceMapping = "container.DeviceMapping" {
        path_on_host: String = "PathOnHost";
        path_in_container: String = "PathInContainer";
        cgroup_permissions: String = "CgroupPermissions";
    }

    /// Devices asked for by capability.
    DeviceRequest = "container.DeviceRequest" {
        driver: String = "Driver";
        count: i64 = "Count".kind("int");
        device_ids: Option<Vec<String>> = "DeviceIDs";
        capabilities: Option<Vec<Vec<String>>> = "Capabilities";
        options: Option<StringMap> = "Options";
    }

    /// A resource limit of the process.
    Ulimit = "units.Ulimit" {
        name: String = "Name";
        hard: i64 = "Hard";
        soft: i64 = "Soft";
    }
}
