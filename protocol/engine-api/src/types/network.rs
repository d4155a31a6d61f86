//! Networks and endpoints.

use std::collections::BTreeMap;

use super::StringMap;
use crate::Time;

api! {
    /// A container's place in a network: what was asked for, and what it got.
    EndpointSettings = "network.EndpointSettings" {
        ipam_config: Option<EndpointIpamConfig> = "IPAMConfig";
        links: Option<Vec<String>> = "Links";
        aliases: Option<Vec<String>> = "Aliases";
        mac_address: String = "MacAddress";
        driver_opts: Option<StringMap> = "DriverOpts";
        gw_priority: i64 = "GwPriority".kind("int");
        network_id: String = "NetworkID";
        endpoint_id: String = "EndpointID";
        gateway: String = "Gateway";
        ip_address: String = "IPAddress";
        ip_prefix_len: i64 = "IPPrefixLen".kind("int");
        ipv6_gateway: String = "IPv6Gateway";
        global_ipv6_address: String = "GlobalIPv6Address";
        global_ipv6_prefix_len: i64 = "GlobalIPv6PrefixLen".kind("int");
        dns_names: Option<Vec<String>> = "DNSNames";
    }

    /// Addresses asked for.
    EndpointIpamConfig = "network.EndpointIPAMConfig" {
        ipv4_address: String = "IPv4Address".omitempty();
        ipv6_address: String = "IPv6Address".omitempty();
        link_local_ips: Option<Vec<String>> = "LinkLocalIPs".omitempty();
    }

    /// A network, in lists and alone (with its containers).
    NetworkInspect = "network.Inspect" {
        name: String = "Name";
        id: String = "Id".go("ID");
        created: Time = "Created";
        scope: String = "Scope";
        driver: String = "Driver";
        enable_ipv4: bool = "EnableIPv4";
        enable_ipv6: bool = "EnableIPv6";
        ipam: Ipam = "IPAM";
        internal: bool = "Internal";
        attachable: bool = "Attachable";
        ingress: bool = "Ingress";
        config_from: ConfigReference = "ConfigFrom";
        config_only: bool = "ConfigOnly";
        containers: BTreeMap<String, EndpointResource> = "Containers";
        options: Option<StringMap> = "Options";
        labels: Option<StringMap> = "Labels";
        peers: Option<Vec<PeerInfo>> = "Peers".omitempty();
    }

    /// A container in a network.
    EndpointResource = "network.EndpointResource" {
        name: String = "Name";
        endpoint_id: String = "EndpointID";
        mac_address: String = "MacAddress";
        ipv4_address: String = "IPv4Address";
        ipv6_address: String = "IPv6Address";
    }

    /// Address management of a network.
    Ipam = "network.IPAM" {
        driver: String = "Driver";
        options: Option<StringMap> = "Options";
        config: Option<Vec<IpamConfig>> = "Config";
    }

    /// One pool.
    IpamConfig = "network.IPAMConfig" {
        subnet: String = "Subnet".omitempty();
        ip_range: String = "IPRange".omitempty();
        gateway: String = "Gateway".omitempty();
        auxiliary_addresses: Option<StringMap> =
            "AuxiliaryAddresses".omitempty().go("AuxAddress");
    }

    /// The network whose configuration another uses.
    ConfigReference = "network.ConfigReference" {
        network: String = "Network";
    }

    /// A node of an overlay network.
    PeerInfo = "network.PeerInfo" {
        name: String = "Name";
        ip: String = "IP";
    }

    /// The body of `POST /networks/create`.
    NetworkCreateRequest = "network.CreateRequest" {
        name: String = "Name";
        check_duplicate: Option<bool> = "CheckDuplicate".omitempty();
        driver: String = "Driver";
        scope: String = "Scope";
        enable_ipv4: Option<bool> = "EnableIPv4".omitempty();
        enable_ipv6: Option<bool> = "EnableIPv6".omitempty();
        ipam: Option<Ipam> = "IPAM";
        internal: bool = "Internal";
        attachable: bool = "Attachable";
        ingress: bool = "Ingress";
        config_only: bool = "ConfigOnly";
        config_from: Option<ConfigReference> = "ConfigFrom";
        options: Option<StringMap> = "Options";
        labels: Option<StringMap> = "Labels";
    }

    /// The reply of create.
    NetworkCreateResponse = "network.CreateResponse" {
        id: String = "Id".go("ID");
        warning: String = "Warning";
    }

    /// The body of connect.
    NetworkConnectRequest = "network.ConnectOptions" {
        container: String = "Container";
        endpoint_config: Option<EndpointSettings> = "EndpointConfig".omitempty();
    }

    /// The body of disconnect.
    NetworkDisconnectRequest = "network.DisconnectOptions" {
        container: String = "Container";
        force: bool = "Force";
    }

    /// The reply of prune.
    NetworksPruneReport = "network.PruneReport" {
        networks_deleted: Option<Vec<String>> = "NetworksDeleted";
    }
}
