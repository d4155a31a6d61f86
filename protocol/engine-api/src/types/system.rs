//! The engine about itself.

use std::collections::BTreeMap;

use super::StringMap;

api! {
    /// The reply of `GET /version`.
    SystemVersion = "types.Version" {
        platform: VersionPlatform = "Platform";
        components: Vec<ComponentVersion> = "Components".omitempty();
        version: String = "Version";
        api_version: String = "ApiVersion".go("APIVersion");
        min_api_version: String = "MinAPIVersion".omitempty();
        git_commit: String = "GitCommit";
        go_version: String = "GoVersion";
        os: String = "Os";
        arch: String = "Arch";
        kernel_version: String = "KernelVersion".omitempty();
        experimental: bool = "Experimental".omitempty();
        build_time: String = "BuildTime".omitempty();
    }

    /// The product's name.
    VersionPlatform = "struct" {
        name: String = "Name";
    }

    /// One program.
    ComponentVersion = "types.ComponentVersion" {
        name: String = "Name";
        version: String = "Version";
        details: Option<StringMap> = "Details".omitempty();
    }

    /// The reply of `GET /info`.
    SystemInfo = "system.Info" {
        id: String = "ID";
        containers: i64 = "Containers";
        containers_running: i64 = "ContainersRunning";
        containers_paused: i64 = "ContainersPaused";
        containers_stopped: i64 = "ContainersStopped";
        images: i64 = "Images";
        driver: String = "Driver";
        driver_status: Vec<Vec<String>> = "DriverStatus";
        system_status: Option<Vec<Vec<String>>> = "SystemStatus".omitempty();
        plugins: PluginsInfo = "Plugins";
        memory_limit: bool = "MemoryLimit";
        swap_limit: bool = "SwapLimit";
        kernel_memory: bool = "KernelMemory".omitempty().until(42);
        kernel_memory_tcp: bool = "KernelMemoryTCP".omitempty();
        cpu_cfs_period: bool = "CpuCfsPeriod".go("CPUCfsPeriod");
        cpu_cfs_quota: bool = "CpuCfsQuota".go("CPUCfsQuota");
        cpu_shares: bool = "CPUShares";
        cpu_set: bool = "CPUSet";
        pids_limit: bool = "PidsLimit";
        ipv4_forwarding: bool = "IPv4Forwarding";
        debug: bool = "Debug";
        n_fd: i64 = "NFd";
        oom_kill_disable: bool = "OomKillDisable";
        n_goroutines: i64 = "NGoroutines";
        system_time: String = "SystemTime";
        logging_driver: String = "LoggingDriver";
        cgroup_driver: String = "CgroupDriver";
        cgroup_version: String = "CgroupVersion".omitempty();
        n_events_listener: i64 = "NEventsListener";
        kernel_version: String = "KernelVersion";
        operating_system: String = "OperatingSystem";
        os_version: String = "OSVersion";
        os_type: String = "OSType";
        architecture: String = "Architecture";
        index_server_address: String = "IndexServerAddress";
        registry_config: RegistryServiceConfig = "RegistryConfig";
        ncpu: i64 = "NCPU";
        mem_total: i64 = "MemTotal";
        generic_resources: Option<Vec<crate::Value>> = "GenericResources";
        docker_root_dir: String = "DockerRootDir";
        http_proxy: String = "HttpProxy".go("HTTPProxy");
        https_proxy: String = "HttpsProxy".go("HTTPSProxy");
        no_proxy: String = "NoProxy";
        name: String = "Name";
        labels: Vec<String> = "Labels";
        experimental_build: bool = "ExperimentalBuild";
        server_version: String = "ServerVersion";
        runtimes: BTreeMap<String, RuntimeInfo> = "Runtimes";
        default_runtime: String = "DefaultRuntime";
        swarm: SwarmInfo = "Swarm";
        live_restore_enabled: bool = "LiveRestoreEnabled";
        isolation: String = "Isolation";
        init_binary: String = "InitBinary";
        containerd_commit: Commit = "ContainerdCommit";
        runc_commit: Commit = "RuncCommit";
        init_commit: Commit = "InitCommit";
        security_options: Vec<String> = "SecurityOptions";
        product_license: String = "ProductLicense".omitempty();
        default_address_pools: Option<Vec<NetworkAddressPool>> =
            "DefaultAddressPools".omitempty();
        firewall_backend: Option<FirewallInfo> = "FirewallBackend".omitempty().since(49);
        cdi_spec_dirs: Vec<String> = "CDISpecDirs";
        discovered_devices: Option<Vec<DeviceInfo>> = "DiscoveredDevices".omitempty().since(50);
        containerd: Option<ContainerdInfo> = "Containerd".omitempty().since(46);
        warnings: Option<Vec<String>> = "Warnings";
    }

    /// The drivers that exist.
    PluginsInfo = "system.PluginsInfo" {
        volume: Option<Vec<String>> = "Volume";
        network: Option<Vec<String>> = "Network";
        authorization: Option<Vec<String>> = "Authorization";
        log: Option<Vec<String>> = "Log";
    }

    /// How registries are reached.
    RegistryServiceConfig = "registry.ServiceConfig" {
        allow_nondistributable_cidrs: Option<Vec<String>> =
            "AllowNondistributableArtifactsCIDRs".until(47);
        allow_nondistributable_hostnames: Option<Vec<String>> =
            "AllowNondistributableArtifactsHostnames".until(47);
        index_configs: BTreeMap<String, IndexInfo> = "IndexConfigs";
        insecure_registry_cidrs: Vec<String> = "InsecureRegistryCIDRs";
        mirrors: Option<Vec<String>> = "Mirrors";
    }

    /// One registry.
    IndexInfo = "registry.IndexInfo" {
        mirrors: Vec<String> = "Mirrors";
        name: String = "Name";
        official: bool = "Official";
        secure: bool = "Secure";
    }

    /// An OCI runtime.
    RuntimeInfo = "system.RuntimeWithStatus" {
        path: String = "path".go("Path").omitempty();
        args: Option<Vec<String>> = "runtimeArgs".go("Args").omitempty();
        kind: String = "runtimeType".go("Type").omitempty();
        options: Option<BTreeMap<String, crate::Value>> = "options".go("Options").omitempty();
        status: Option<StringMap> = "status".go("Status").omitempty().since(44);
    }

    /// This engine's part in a swarm.
    SwarmInfo = "swarm.Info" {
        node_id: String = "NodeID";
        node_addr: String = "NodeAddr";
        local_node_state: String = "LocalNodeState";
        control_available: bool = "ControlAvailable";
        error: String = "Error";
        remote_managers: Option<Vec<crate::Value>> = "RemoteManagers";
        nodes: i64 = "Nodes".omitempty();
        managers: i64 = "Managers".omitempty();
        cluster: Option<crate::Value> = "Cluster".omitempty();
        warnings: Option<Vec<String>> = "Warnings".omitempty();
    }

    /// The version of a helper program.
    Commit = "system.Commit" {
        id: String = "ID";
        expected: String = "Expected".omitempty().until(49);
    }

    /// A pool that networks are cut from.
    NetworkAddressPool = "system.NetworkAddressPool" {
        base: String = "Base";
        size: i64 = "Size";
    }

    /// What keeps the packet filter.
    FirewallInfo = "system.FirewallInfo" {
        driver: String = "Driver";
        info: Option<Vec<Vec<String>>> = "Info".omitempty();
    }

    /// A device found through CDI.
    DeviceInfo = "system.DeviceInfo" {
        source: String = "Source";
        id: String = "ID";
    }

    /// The supervisor below.
    ContainerdInfo = "system.ContainerdInfo" {
        address: String = "Address".omitempty();
        namespaces: ContainerdNamespaces = "Namespaces";
    }

    /// Its namespaces.
    ContainerdNamespaces = "system.ContainerdNamespaces" {
        containers: String = "Containers";
        plugins: String = "Plugins";
    }
}
