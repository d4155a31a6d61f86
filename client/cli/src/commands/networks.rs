//! Commands on networks.

use crate::error::{CliError, Result};
use crate::run::files::pairs;
use crate::run::networks::driver_option;
use crate::session::Session;
use engine_api::{
    ConfigReference, EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest,
    NetworkCreateRequest, NetworkCreateResponse, NetworkDisconnectRequest, Value,
};
use engine_client::{Payload, Query};

fn strings(texts: Vec<&str>) -> Option<Vec<String>> {
    (!texts.is_empty()).then(|| texts.into_iter().map(ToOwned::to_owned).collect())
}

pub(super) async fn connect(s: &Session) -> Result<()> {
    let m = &s.matches;
    let mut driver_opts = None;
    for option in m.texts("driver-opt") {
        let (key, value) = driver_option(option).map_err(CliError::new)?;
        driver_opts.get_or_insert_with(engine_api::StringMap::new).insert(key, value);
    }
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: m.text("ip").to_owned(),
            ipv6_address: m.text("ip6").to_owned(),
            link_local_ips: strings(m.texts("link-local-ip")),
        }),
        links: strings(m.texts("link")),
        aliases: strings(m.texts("alias")),
        driver_opts,
        gw_priority: m.number("gw-priority"),
        ..EndpointSettings::default()
    };
    let request =
        NetworkConnectRequest { container: m.arg(1).to_owned(), endpoint_config: Some(endpoint) };
    let path = format!("/networks/{}/connect", m.arg(0));
    s.send::<Value, _>(&path, &Query::new(), &request).await.map(drop)
}

pub(super) async fn disconnect(s: &Session) -> Result<()> {
    let m = &s.matches;
    let request = NetworkDisconnectRequest { container: m.arg(1).to_owned(), force: m.on("force") };
    let path = format!("/networks/{}/disconnect", m.arg(0));
    s.send::<Value, _>(&path, &Query::new(), &request).await.map(drop)
}

pub(super) async fn remove(s: &Session) -> Result<()> {
    let client = s.client().await?;
    let force = s.matches.on("force");
    let mut failed = false;
    for name in &s.matches.args {
        match client
            .bytes("DELETE", &format!("/networks/{name}"), &Query::new(), Payload::Empty)
            .await
        {
            Ok(_) => s.line(name),
            Err(error) if force && error.is_not_found() => {}
            Err(error) => {
                s.tell(&error.to_string());
                failed = true;
            }
        }
    }
    if failed { Err(CliError::new("exit status 1")) } else { Ok(()) }
}

/// The network part and the length of a subnet.
fn contains(subnet: &str, address: &str) -> bool {
    let Some((base, length)) = subnet.split_once('/') else { return false };
    let (Ok(base), Ok(length)) = (base.parse::<std::net::IpAddr>(), length.parse::<u32>()) else {
        return false;
    };
    let address = address.split('/').next().unwrap_or(address);
    let number = |ip: std::net::IpAddr| match ip {
        std::net::IpAddr::V4(ip) => (u128::from(u32::from(ip)), 32),
        std::net::IpAddr::V6(ip) => (u128::from(ip), 128),
    };
    let Ok(address) = address.parse::<std::net::IpAddr>() else { return false };
    let ((base, width), (address, other)) = (number(base), number(address));
    let shift = width - length.min(width);
    width == other && (shift >= 128 || base >> shift == address >> shift)
}

/// The pools of addresses: each subnet with the ranges, gateways and taken addresses in it.
fn pools(s: &Session) -> Result<Vec<IpamConfig>> {
    let m = &s.matches;
    let (subnets, ranges, gateways) = (m.texts("subnet"), m.texts("ip-range"), m.texts("gateway"));
    let taken = pairs(&m.texts("aux-address"));
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err(CliError::new("every ip-range or gateway must have a corresponding subnet"));
    }
    let mut pools: Vec<IpamConfig> = Vec::new();
    for subnet in subnets {
        if pools.iter().any(|p| contains(&p.subnet, subnet) || contains(subnet, &p.subnet)) {
            return Err(CliError::new(
                "multiple overlapping subnet configuration is not supported",
            ));
        }
        pools.push(IpamConfig { subnet: subnet.to_owned(), ..IpamConfig::default() });
    }
    for range in ranges {
        let pool = pools
            .iter_mut()
            .find(|p| contains(&p.subnet, range))
            .ok_or_else(|| CliError::new(format!("no matching subnet for range {range}")))?;
        if !pool.ip_range.is_empty() {
            return Err(CliError::new(format!(
                "cannot configure multiple ranges ({range}, {}) on the same subnet ({})",
                pool.ip_range, pool.subnet
            )));
        }
        range.clone_into(&mut pool.ip_range);
    }
    for gateway in gateways {
        let pool = pools
            .iter_mut()
            .find(|p| contains(&p.subnet, gateway))
            .ok_or_else(|| CliError::new(format!("no matching subnet for gateway {gateway}")))?;
        if !pool.gateway.is_empty() {
            return Err(CliError::new(format!(
                "cannot configure multiple gateways ({gateway}, {}) for the same subnet ({})",
                pool.gateway, pool.subnet
            )));
        }
        gateway.clone_into(&mut pool.gateway);
    }
    for (name, address) in taken {
        let pool = pools.iter_mut().find(|p| contains(&p.subnet, &address)).ok_or_else(|| {
            CliError::new(format!("no matching subnet for aux-address {address}"))
        })?;
        pool.auxiliary_addresses.get_or_insert_default().insert(name, address);
    }
    Ok(pools)
}

pub(super) async fn create(s: &Session) -> Result<()> {
    let m = &s.matches;
    let text = |flag: &str| m.text(flag).to_owned();
    let some = |flag: &str| m.given(flag).then(|| m.on(flag));
    let request = NetworkCreateRequest {
        name: m.arg(0).to_owned(),
        driver: text("driver"),
        scope: text("scope"),
        enable_ipv4: some("ipv4"),
        enable_ipv6: some("ipv6"),
        ipam: Some(Ipam {
            driver: text("ipam-driver"),
            options: Some(pairs(&m.texts("ipam-opt"))),
            config: Some(pools(s)?),
        }),
        internal: m.on("internal"),
        attachable: m.on("attachable"),
        ingress: m.on("ingress"),
        config_only: m.on("config-only"),
        config_from: m
            .given("config-from")
            .then(|| ConfigReference { network: text("config-from") }),
        options: Some(pairs(&m.texts("opt"))),
        labels: Some(pairs(&m.texts("label"))),
        ..NetworkCreateRequest::default()
    };
    let made: NetworkCreateResponse = s.send("/networks/create", &Query::new(), &request).await?;
    if !made.warning.is_empty() {
        s.tell(&format!("WARNING: {}", made.warning));
    }
    s.line(&made.id);
    Ok(())
}
