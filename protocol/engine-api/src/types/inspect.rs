//! A container in full, as inspect shows it.

use std::collections::BTreeMap;

use super::{
    ContainerConfig, EndpointSettings, HostConfig, MountPoint, OciDescriptor, PortMap, StringMap,
};
use crate::Time;

api! {
    /// The reply of `GET /containers/{id}/json`.
    ContainerInspect = "container.InspectResponse" {
        id: String = "Id".go("ID");
        created: String = "Created";
        path: String = "Path";
        args: Vec<String> = "Args";
        state: ContainerState = "State";
        image: String = "Image";
        resolv_conf_path: String = "ResolvConfPath";
        hostname_path: String = "HostnamePath";
        hosts_path: String = "HostsPath";
        log_path: String = "LogPath";
        name: String = "Name";
        restart_count: i64 = "RestartCount";
        driver: String = "Driver";
        platform: String = "Platform";
        mount_label: String = "MountLabel";
        process_label: String = "ProcessLabel";
        app_armor_profile: String = "AppArmorProfile";
        exec_ids: Option<Vec<String>> = "ExecIDs";
        host_config: HostConfig = "HostConfig";
        graph_driver: DriverData = "GraphDriver";
        size_rw: Option<i64> = "SizeRw".omitempty();
        size_root_fs: Option<i64> = "SizeRootFs".omitempty();
        mounts: Vec<MountPoint> = "Mounts";
        config: ContainerConfig = "Config";
        network_settings: NetworkSettings = "NetworkSettings";
        image_manifest_descriptor: Option<OciDescriptor> =
            "ImageManifestDescriptor".omitempty().since(48);
    }

    /// What a container is doing.
    ContainerState = "container.State" {
        status: String = "Status";
        running: bool = "Running";
        paused: bool = "Paused";
        restarting: bool = "Restarting";
        oom_killed: bool = "OOMKilled";
        dead: bool = "Dead";
        pid: i64 = "Pid".kind("int");
        exit_code: i64 = "ExitCode".kind("int");
        error: String = "Error";
        started_at: String = "StartedAt";
        finished_at: String = "FinishedAt";
        health: Option<Health> = "Health".omitempty();
    }

    /// What the probes said.
    Health = "container.Health" {
        status: String = "Status";
        failing_streak: i64 = "FailingStreak".kind("int");
        log: Vec<HealthcheckResult> = "Log";
    }

    /// One probe.
    HealthcheckResult = "container.HealthcheckResult" {
        start: Time = "Start";
        end: Time = "End";
        exit_code: i64 = "ExitCode".kind("int");
        output: String = "Output";
    }

    /// Where the root file system is kept.
    DriverData = "storage.DriverData" {
        data: Option<StringMap> = "Data";
        name: String = "Name";
    }

    /// How a container is connected.
    NetworkSettings = "container.NetworkSettings" {
        bridge: String = "Bridge";
        sandbox_id: String = "SandboxID";
        sandbox_key: String = "SandboxKey";
        ports: Option<PortMap> = "Ports";
        hairpin_mode: bool = "HairpinMode";
        link_local_ipv6_address: String = "LinkLocalIPv6Address";
        link_local_ipv6_prefix_len: i64 = "LinkLocalIPv6PrefixLen";
        secondary_ip_addresses: Option<Vec<Address>> = "SecondaryIPAddresses";
        secondary_ipv6_addresses: Option<Vec<Address>> = "SecondaryIPv6Addresses";
        endpoint_id: String = "EndpointID";
        gateway: String = "Gateway";
        global_ipv6_address: String = "GlobalIPv6Address";
        global_ipv6_prefix_len: i64 = "GlobalIPv6PrefixLen";
        ip_address: String = "IPAddress";
        ip_prefix_len: i64 = "IPPrefixLen";
        ipv6_gateway: String = "IPv6Gateway";
        mac_address: String = "MacAddress";
        networks: BTreeMap<String, EndpointSettings> = "Networks";
    }

    /// A further address.
    Address = "network.Address" {
        addr: String = "Addr";
        prefix_len: i64 = "PrefixLen".kind("int");
    }
}
