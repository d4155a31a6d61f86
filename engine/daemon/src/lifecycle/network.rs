//! A container's sandbox and endpoints, asked of the network crate's own thread, and
//! the files in `/etc` that follow from them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine_api::upgrade::is_user_defined;
use engine_api::{EndpointSettings, HostConfig};
use network::{Endpoint, EndpointSpec, Netns, Networks, PortSpec, Protocol, Sandbox, SandboxKind};
use plan::NamespaceChoice;
use tokio::sync::oneshot;

use super::container::{Container, network_attributes};
use super::start::Failure;
use crate::engine::Engine;
use crate::http::ApiError;
use crate::records::Spec;

/// What a start needs of the network before its spec can be written.
#[derive(Debug)]
pub(super) struct Joined {
    /// The namespace for the spec.
    pub choice: NamespaceChoice,
    /// The container's own addresses.
    pub addresses: Vec<IpAddr>,
    links: oneshot::Receiver<network::Result<()>>,
}

impl Joined {
    /// Completes when the links, addresses and routes are in the kernel, and tells of it.
    pub(super) async fn connected(self, container: &Container) -> Result<(), Failure> {
        answer(self.links).await?;
        for (network, name, driver) in joined(container) {
            container.events().publish(
                "network",
                "connect",
                &network,
                network_attributes(&container.id, &name, &driver),
            );
        }
        Ok(())
    }
}

/// The networks that a container has an endpoint on: id, name, driver.
pub(super) fn joined(container: &Container) -> Vec<(String, String, String)> {
    let reader = &container.deps().networks;
    let endpoints = reader.of_container(&container.id);
    let driver =
        |name: &str| reader.find(name).map_or_else(|_| String::new(), |n| n.driver.clone());
    endpoints
        .iter()
        .map(|e| (e.network.to_string(), e.network_name.clone(), driver(e.network.as_str())))
        .collect()
}

/// Runs `job` on the network thread.
pub(super) async fn on_thread<T: Send + 'static>(
    container: &Container,
    job: impl FnOnce(&mut Networks) -> network::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let (done, result) = oneshot::channel();
    container.deps().network.submit(move |networks| {
        // Who asked may have given up.
        let _ = done.send(job(networks));
    });
    answer(result).await
}

async fn answer<T>(result: oneshot::Receiver<network::Result<T>>) -> Result<T, Failure> {
    match result.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(Failure::network(&e)),
        Err(_) => Err(Failure::new(500, "the network thread has ended")),
    }
}

/// The sandbox of `spec` with all its endpoints reserved. Their links are made meanwhile, beside
/// the runtime's work: [`Joined::connected`] waits for them.
pub(super) async fn join(container: &Container, spec: &Spec) -> Result<Joined, Failure> {
    let mode = spec.host.network_mode.as_str();
    let kind = match mode {
        "host" => SandboxKind::Host,
        _ => match mode.strip_prefix("container:") {
            Some(other) => SandboxKind::Container(other_running(container, other)?),
            None => SandboxKind::Own,
        },
    };
    let connects =
        matches!(kind, SandboxKind::Own | SandboxKind::Host) && !spec.config.network_disabled;
    let wanted = if connects { wanted(spec)? } else { Vec::new() };
    let id = spec.id.clone();
    let (reserved, answered) = oneshot::channel();
    let (made, links) = oneshot::channel();
    container.deps().network.submit(move |networks| {
        let result = reserve(networks, &id, kind, &wanted);
        let go_on = result.is_ok();
        // Who asked may have given up; its release follows.
        let _ = reserved.send(result);
        if go_on {
            let _ = made.send(networks.make_reserved(&id));
        }
    });
    let (sandbox, endpoints) = answer(answered).await?;
    container.set_sandbox(&sandbox);
    let choice = match sandbox.netns {
        Netns::Path(path) => NamespaceChoice::Path(path.to_string_lossy().into_owned()),
        Netns::Host => NamespaceChoice::Host,
        Netns::New => NamespaceChoice::New,
    };
    let v4 = endpoints.iter().filter_map(|e| e.ipv4.map(|(a, _)| IpAddr::from(a)));
    let v6 = endpoints.iter().filter_map(|e| e.ipv6.map(|(a, _)| IpAddr::from(a)));
    Ok(Joined { choice, addresses: v4.chain(v6).collect(), links })
}

fn reserve(
    networks: &mut Networks,
    id: &str,
    kind: SandboxKind,
    wanted: &[(String, EndpointSpec)],
) -> network::Result<(Sandbox, Vec<Endpoint>)> {
    let sandbox = networks.sandbox(id, kind)?;
    let all = wanted.iter().map(|(network, spec)| networks.reserve(id, network, spec));
    match all.collect() {
        Ok(endpoints) => Ok((sandbox, endpoints)),
        Err(e) => {
            // The first error tells what happened; what was made goes with the sandbox.
            let _ = networks.release(id);
            Err(e)
        }
    }
}

/// What a create request says of endpoints must fit the networks that exist; one that does
/// not exist yet is looked for at start.
pub(crate) fn check_endpoints(
    engine: &Engine,
    asked: BTreeMap<String, Option<EndpointSettings>>,
) -> Result<BTreeMap<String, EndpointSettings>, ApiError> {
    let mut wrong = Vec::new();
    let mut good = BTreeMap::new();
    for (name, settings) in asked {
        let Some(settings) = settings else {
            wrong.push(format!("invalid config for network {name}: EndpointsConfig is nil"));
            continue;
        };
        let named = Named::default();
        match engine.networks.check_endpoint(&name, &endpoint_spec(&named, &name, &settings)) {
            Ok(()) => {
                good.insert(name, settings);
            }
            Err(e) if e.kind() == network::Kind::NotImplemented => return Err(e.into()),
            Err(e) => wrong.push(format!("invalid config for network {name}: {e}")),
        }
    }
    match &wrong[..] {
        [] => Ok(good),
        [one] => Err(ApiError::bad_request(one)),
        many => {
            let list = many.iter().map(|one| format!("* {}", one.replace('\n', "\n\t")));
            Err(ApiError::bad_request(list.collect::<Vec<_>>().join("\n")))
        }
    }
}

/// The full id of the running container whose namespace is to be shared.
fn other_running(container: &Container, reference: &str) -> Result<String, Failure> {
    let other = container
        .deps()
        .find(reference)
        .map_err(|e| Failure::new(500, format!("joining network namespace of container: {e}")))?;
    let row = other.row();
    if !row.state.phase.has_task() {
        return Err(Failure::new(
            409,
            format!(
                "cannot join network namespace of a non running container: container {} is {}",
                row.name,
                row.state.phase.word()
            ),
        ));
    }
    Ok(other.id.clone())
}

/// The endpoints to make.
fn wanted(spec: &Spec) -> Result<Vec<(String, EndpointSpec)>, Failure> {
    let mode = spec.host.network_mode.as_str();
    let named = Named { id: &spec.id, name: &spec.name, hostname: &spec.config.hostname };
    let mut out: Vec<(String, EndpointSpec)> = spec
        .endpoints
        .iter()
        .map(|(name, settings)| (name.clone(), endpoint_spec(&named, name, settings)))
        .collect();
    let ports = ports(&spec.host)?;
    // Ports are published on the network of the mode.
    let main = out.iter().position(|(name, _)| name == mode).unwrap_or_default();
    if let Some((_, endpoint)) = out.get_mut(main) {
        endpoint.ports = ports;
    }
    Ok(out)
}

/// What a container is called.
#[derive(Debug, Default)]
pub(crate) struct Named<'a> {
    pub(crate) id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) hostname: &'a str,
}

/// What a container asks of a network, from its settings there; without ports.
pub(crate) fn endpoint_spec(
    named: &Named<'_>,
    network: &str,
    settings: &EndpointSettings,
) -> EndpointSpec {
    let ipam = settings.ipam_config.clone().unwrap_or_default();
    let aliases = settings.aliases.iter().flatten();
    let names = || {
        let short = named.id.get(..12).unwrap_or_default();
        let mut names: Vec<String> = Vec::new();
        let all = std::iter::once(named.name).chain(aliases.clone().map(String::as_str));
        for name in all.chain([short, named.hostname]).filter(|n| !n.is_empty()) {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        names
    };
    EndpointSpec {
        container_name: named.name.to_owned(),
        dns_names: is_user_defined(network).then(names),
        has_aliases: aliases.clone().next().is_some(),
        ipv4: ipam.ipv4_address,
        ipv6: ipam.ipv6_address,
        link_local: ipam.link_local_ips.unwrap_or_default(),
        mac: settings.mac_address.clone(),
        driver_opts: settings.driver_opts.clone().unwrap_or_default(),
        gw_priority: settings.gw_priority,
        ports: Vec::new(),
    }
}

/// Published ports. The network crate says whether it can publish them.
fn ports(host: &HostConfig) -> Result<Vec<PortSpec>, Failure> {
    let mut out = Vec::new();
    for (port, bindings) in host.port_bindings.iter().flatten() {
        let invalid = || Failure::new(400, format!("invalid port specification: {port:?}"));
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let container_port = number.parse().map_err(|_| invalid())?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => Protocol::Sctp,
            _ => return Err(invalid()),
        };
        for binding in bindings.iter().flatten() {
            let (low, high) = binding
                .host_port
                .split_once('-')
                .unwrap_or((&binding.host_port, &binding.host_port));
            let number = |text: &str| {
                if text.is_empty() { Ok(0) } else { text.parse().map_err(|_| invalid()) }
            };
            out.push(PortSpec {
                host_ip: if binding.host_ip.is_empty() {
                    None
                } else {
                    Some(binding.host_ip.parse().map_err(|_| invalid())?)
                },
                host_port: number(low)?,
                host_port_end: number(high)?,
                container_port,
                protocol,
            });
        }
    }
    Ok(out)
}
