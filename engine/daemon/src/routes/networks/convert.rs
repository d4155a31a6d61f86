//! Between the API's types and the network crate's. Pure.

use std::net::IpAddr;

use engine_api::Time;
use engine_api::types::{
    EndpointResource, EndpointSettings, Ipam, IpamConfig, NetworkCreateRequest, NetworkInspect,
};
use network::{Endpoint, IpamPool, IpamSpec, Network, NetworkSpec, Pool};

/// What a create asks for.
pub(super) fn spec(body: NetworkCreateRequest) -> NetworkSpec {
    let ipam = body.ipam.unwrap_or_default();
    let config = ipam.config.unwrap_or_default().into_iter().map(|c| IpamPool {
        subnet: c.subnet,
        ip_range: c.ip_range,
        gateway: c.gateway,
        aux_addresses: c.auxiliary_addresses.unwrap_or_default(),
    });
    NetworkSpec {
        name: body.name,
        driver: body.driver,
        scope: body.scope,
        internal: body.internal,
        attachable: body.attachable,
        ingress: body.ingress,
        config_only: body.config_only,
        config_from: body.config_from.unwrap_or_default().network,
        enable_ipv4: body.enable_ipv4,
        enable_ipv6: body.enable_ipv6,
        ipam: IpamSpec { driver: ipam.driver, options: ipam.options, config: config.collect() },
        options: body.options.unwrap_or_default(),
        labels: body.labels.unwrap_or_default(),
    }
}

/// A network, without its containers.
pub(super) fn network(network: &Network) -> NetworkInspect {
    let config: Vec<IpamConfig> = network.pools.iter().map(pool).collect();
    NetworkInspect {
        name: network.name.clone(),
        id: network.id.to_string(),
        created: time(network.created),
        scope: network.scope.clone(),
        driver: network.driver.clone(),
        enable_ipv4: network.ipv4,
        enable_ipv6: network.ipv6,
        ipam: Ipam {
            driver: network.ipam_driver.clone(),
            options: network.ipam_options.clone(),
            config: (!config.is_empty()).then_some(config),
        },
        internal: network.internal,
        attachable: network.attachable,
        options: Some(network.options.clone()),
        labels: Some(network.labels.clone()),
        ..NetworkInspect::default()
    }
}

fn time(nanoseconds: i64) -> Time {
    jiff::Timestamp::from_nanosecond(i128::from(nanoseconds)).map_or_else(|_| Time::default(), Time)
}

fn pool(pool: &Pool) -> IpamConfig {
    let text = |address: Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    let auxiliary: std::collections::BTreeMap<_, _> =
        pool.aux_addresses.iter().map(|(name, a)| (name.clone(), a.to_string())).collect();
    IpamConfig {
        subnet: pool.subnet.to_string(),
        ip_range: pool.ip_range.map(|r| r.to_string()).unwrap_or_default(),
        gateway: text(pool.gateway.filter(|_| pool.show_gateway)),
        auxiliary_addresses: (!auxiliary.is_empty()).then_some(auxiliary),
    }
}

/// A container in a network, under its id.
pub(super) fn resource(endpoint: &Endpoint) -> (String, EndpointResource) {
    let resource = EndpointResource {
        name: endpoint.container_name.clone(),
        endpoint_id: endpoint.id.to_string(),
        mac_address: endpoint.mac.clone(),
        ipv4_address: endpoint.ipv4.map(|(a, len)| format!("{a}/{len}")).unwrap_or_default(),
        ipv6_address: endpoint.ipv6.map(|(a, len)| format!("{a}/{len}")).unwrap_or_default(),
    };
    (endpoint.container.clone(), resource)
}

/// A container's settings in a network, as `inspect` shows them while it runs: what was asked for,
/// and what it got.
pub fn endpoint_settings(asked: &EndpointSettings, endpoint: &Endpoint) -> EndpointSettings {
    let text = |address: Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    EndpointSettings {
        mac_address: endpoint.mac.clone(),
        network_id: endpoint.network.to_string(),
        endpoint_id: endpoint.id.to_string(),
        gateway: text(endpoint.gateway4.map(IpAddr::V4)),
        ip_address: text(endpoint.ipv4.map(|a| IpAddr::V4(a.0))),
        ip_prefix_len: endpoint.ipv4.map_or(0, |a| i64::from(a.1)),
        ipv6_gateway: text(endpoint.gateway6.map(IpAddr::V6)),
        global_ipv6_address: text(endpoint.ipv6.map(|a| IpAddr::V6(a.0))),
        global_ipv6_prefix_len: endpoint.ipv6.map_or(0, |a| i64::from(a.1)),
        dns_names: endpoint.dns_names.clone(),
        ..asked.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine_api::{ApiVersion, decode, encode};

    // The request and the reply of a stock daemon of version 28.5, ids and times aside.
    #[test]
    fn an_inspected_network_has_the_bytes_of_the_stock_daemon() {
        let request = br#"{"Name":"n3","Driver":"bridge","Internal":true,"Labels":{"a":"b"},"Options":{"com.docker.network.bridge.name":"brx"},"IPAM":{"Config":[{"Subnet":"10.1.2.0/24","IPRange":"10.1.2.128/25","Gateway":"10.1.2.254","AuxiliaryAddresses":{"a":"10.1.2.5"}}]}}"#;
        let spec = spec(decode(request).unwrap());
        let asked = &spec.ipam.config[0];
        let made = Network {
            id: network::NetworkId::random().unwrap(),
            name: spec.name.clone(),
            created: 1_795_225_430_707_353_002,
            driver: spec.driver.clone(),
            scope: "local".into(),
            ipv4: true,
            ipv6: false,
            ipam_driver: "default".into(),
            ipam_options: spec.ipam.options.clone(),
            pools: vec![Pool {
                subnet: asked.subnet.parse().unwrap(),
                ip_range: Some(asked.ip_range.parse().unwrap()),
                gateway: Some(asked.gateway.parse().unwrap()),
                aux_addresses: [("a".to_owned(), "10.1.2.5".parse().unwrap())].into(),
                show_gateway: true,
                from_user: true,
            }],
            internal: spec.internal,
            attachable: false,
            options: spec.options.clone(),
            labels: spec.labels.clone(),
            link: None,
        };
        let id = made.id.to_string();
        let shown = network(&made);
        let text = encode(&shown, ApiVersion::MAX);
        let want = format!(
            r#"{{"Name":"n3","Id":"{id}","Created":"2026-11-21T01:43:50.707353002Z","Scope":"local","Driver":"bridge","EnableIPv4":true,"EnableIPv6":false,"IPAM":{{"Driver":"default","Options":null,"Config":[{{"Subnet":"10.1.2.0/24","IPRange":"10.1.2.128/25","Gateway":"10.1.2.254","AuxiliaryAddresses":{{"a":"10.1.2.5"}}}}]}},"Internal":true,"Attachable":false,"Ingress":false,"ConfigFrom":{{"Network":""}},"ConfigOnly":false,"Containers":{{}},"Options":{{"com.docker.network.bridge.name":"brx"}},"Labels":{{"a":"b"}}}}"#
        );
        assert_eq!(text.trim_end(), want);
    }
}
