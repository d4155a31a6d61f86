//! Requests of old versions, raised to what the newest version means by them, and the
//! older forms that the newest still takes. Handlers see the newest meaning alone.

use std::collections::BTreeMap;

use crate::ApiVersion;
use crate::types::{ContainerCreateRequest, EndpointSettings, HostConfig};

/// The driver option that holds an endpoint's own kernel settings.
pub const ENDPOINT_SYSCTLS: &str = "com.docker.network.endpoint.sysctls";

type Endpoints = BTreeMap<String, Option<EndpointSettings>>;

/// Why a request has no meaning in the newest version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// The request is wrong: status 400.
    #[error("{0}")]
    Invalid(String),
    /// dockerd answers 500 here, though the request is wrong.
    #[error("{0}")]
    Fault(String),
}

/// What a request means beside what it says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upgraded {
    /// Told to the client with the answer.
    pub warnings: Vec<String>,
    /// Read-only binds are so at the top alone.
    pub read_only_at_top: bool,
}

/// A request's body whose meaning depends on the version.
pub trait UpgradeRequest {
    /// Gives it the meaning that the newest version has, on a host with cgroups of version 2
    /// or without.
    ///
    /// # Errors
    /// The text that dockerd has for what the version does not allow.
    fn upgrade_request(
        &mut self,
        version: ApiVersion,
        cgroup_v2: bool,
    ) -> Result<Upgraded, UpgradeError>;
}

fn invalid<T>(text: impl Into<String>) -> Result<T, UpgradeError> {
    Err(UpgradeError::Invalid(text.into()))
}

/// A mode that names neither one of the fixed networks nor a container.
pub fn is_user_defined(mode: &str) -> bool {
    !matches!(mode, "default" | "bridge" | "host" | "none") && !mode.starts_with("container:")
}

impl UpgradeRequest for ContainerCreateRequest {
    fn upgrade_request(
        &mut self,
        version: ApiVersion,
        cgroup_v2: bool,
    ) -> Result<Upgraded, UpgradeError> {
        let Some(config) = &mut self.config else {
            return invalid("config cannot be empty in order to create a container");
        };
        let host = self.host_config.get_or_insert_default();
        let networking = self.networking_config.get_or_insert_default();
        let endpoints = networking.endpoints_config.get_or_insert_default();
        default_network(host, endpoints);
        if version.before(25) {
            host.auto_remove = false;
        }
        if version.before(40) && host.ipc_mode.is_empty() {
            host.ipc_mode = "shareable".into();
        }
        if version.before(41) && !cgroup_v2 && host.cgroupns_mode.is_empty() {
            host.cgroupns_mode = "host".into();
        }
        mounts(host, version)?;
        if version.before(42) {
            // The terminal's size of a client on another system.
            host.console_size = [0, 0];
        }
        if version.before(43) {
            host.annotations = None;
        }
        if let Some(check) = config.healthcheck.as_mut().filter(|_| version.before(44)) {
            check.start_interval = crate::GoDuration(0);
        }
        if version.before(44) && endpoints.len() > 1 {
            let names: Vec<&str> = endpoints.keys().map(String::as_str).collect();
            let names = names.join(", ");
            return invalid(format!(
                "Container cannot be created with multiple network endpoints: {names}"
            ));
        }
        for endpoint in endpoints.values_mut().flatten().filter(|_| version.before(48)) {
            endpoint.gw_priority = 0;
        }
        let mut warnings = Vec::new();
        let mac = std::mem::take(&mut config.mac_address);
        warnings.extend(mac_address(mac, host, endpoints, version)?);
        warnings.extend(sysctls(host, endpoints, version)?);
        if host.resources.pids_limit.is_some_and(|limit| limit <= 0) {
            host.resources.pids_limit = None;
        }
        Ok(Upgraded { warnings, read_only_at_top: version.before(44) })
    }
}

/// `default`, or nothing, means the bridge, as a mode and as the name of an endpoint.
fn default_network(host: &mut HostConfig, endpoints: &mut Endpoints) {
    if !matches!(host.network_mode.as_str(), "" | "default") {
        return;
    }
    host.network_mode = "bridge".into();
    if let Some(endpoint) = endpoints.remove("default") {
        endpoints.insert("bridge".into(), endpoint);
    }
}

fn mounts(host: &mut HostConfig, version: ApiVersion) -> Result<(), UpgradeError> {
    for mount in host.mounts.iter_mut().flatten() {
        if version.before(40)
            && let Some(options) = &mut mount.bind_options
        {
            options.non_recursive = false;
        }
        if version.before(42) {
            if let Some(options) = &mut mount.bind_options {
                options.create_mountpoint = false;
            }
            mount.volume_options.take_if(|_| mount.kind != "volume");
            mount.tmpfs_options.take_if(|_| mount.kind != "tmpfs");
        }
        for (name, of, is_given) in [
            ("VolumeOptions", "volume", mount.volume_options.is_some()),
            ("BindOptions", "bind", mount.bind_options.is_some()),
            ("TmpfsOptions", "tmpfs", mount.tmpfs_options.is_some()),
        ] {
            if version.at_least(42) && is_given && mount.kind != of {
                let kind = &mount.kind;
                return invalid(format!("{name} must not be specified on mount type {kind:?}"));
            }
        }
        let forced = mount.bind_options.as_ref().is_some_and(|o| o.read_only_force_recursive);
        if version.before(44) && mount.kind == "bind" && forced {
            return invalid("BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer");
        }
        let subpath = mount.volume_options.as_ref().is_some_and(|o| !o.subpath.is_empty());
        if version.before(45) && subpath {
            return invalid("VolumeOptions.Subpath needs API v1.45 or newer");
        }
        if version.before(48) && mount.kind == "image" {
            return invalid("Mount type \"Image\" needs API v1.48 or newer");
        }
    }
    Ok(())
}

/// The endpoint of the network that the mode names, made when there is none at all.
fn main_endpoint<'a>(
    mode: &str,
    endpoints: &'a mut Endpoints,
    version: ApiVersion,
) -> Result<&'a mut EndpointSettings, UpgradeError> {
    let key = if endpoints.is_empty() || endpoints.contains_key(mode) {
        mode.to_owned()
    } else {
        // Old versions had one endpoint at most, whatever its name.
        match endpoints.keys().next().filter(|_| version.before(44)) {
            Some(only) => only.clone(),
            None => {
                return invalid(
                    "HostConfig.NetworkMode must match the identity of a network in NetworkSettings.Networks",
                );
            }
        }
    };
    Ok(endpoints.entry(key).or_default().get_or_insert_default())
}

/// A hardware address of the container becomes that of its endpoint.
fn mac_address(
    mac: String,
    host: &HostConfig,
    endpoints: &mut Endpoints,
    version: ApiVersion,
) -> Result<Option<String>, UpgradeError> {
    let mode = host.network_mode.as_str();
    let takes_one = mode == "bridge" || is_user_defined(mode);
    if version.before(44) {
        if mac.is_empty() {
            // Endpoints had no address then: one that stands there was passed over.
            endpoints.values_mut().flatten().for_each(|e| e.mac_address.clear());
            return Ok(None);
        }
        if !takes_one {
            return invalid("conflicting options: mac-address and the network mode");
        }
        main_endpoint(mode, endpoints, version)?.mac_address = mac;
        return Ok(None);
    }
    if mac.is_empty() {
        return Ok(None);
    }
    if takes_one {
        let endpoint = main_endpoint(mode, endpoints, version).map_err(|e| {
            UpgradeError::Invalid(format!(
                "unable to migrate container-wide MAC address to a specific network: {e}"
            ))
        })?;
        if !endpoint.mac_address.is_empty() && endpoint.mac_address != mac {
            return invalid(
                "the container-wide MAC address must match the endpoint-specific MAC address for the main network, or be left empty",
            );
        }
        endpoint.mac_address = mac;
    }
    let warning = "The container-wide MacAddress field is now deprecated. It should be specified in EndpointsConfig instead.";
    Ok(Some(warning.to_owned()))
}

/// Kernel settings of `eth0` become those of the endpoint; since 1.48 clients write them there.
fn sysctls(
    host: &mut HostConfig,
    endpoints: &mut Endpoints,
    version: ApiVersion,
) -> Result<Option<String>, UpgradeError> {
    let mode = host.network_mode.clone();
    if mode == "host" || mode.starts_with("container:") {
        return Ok(None);
    }
    let (mut keys, mut settings) = (Vec::new(), Vec::new());
    for (key, value) in host.sysctls.iter().flatten() {
        let parts: Vec<&str> = key.splitn(5, '.').collect();
        let ["net", family, table, link, rest] = parts[..] else { continue };
        if !link.starts_with("eth") {
            continue;
        }
        if version.at_least(48) {
            return Err(UpgradeError::Fault(format!(
                "interface specific sysctl setting {key:?} must be supplied using driver option '{ENDPOINT_SYSCTLS}'"
            )));
        }
        main_endpoint(&mode, endpoints, version).map_err(|e| {
            UpgradeError::Invalid(format!("unable to find a network for sysctl {key}: {e}"))
        })?;
        if link != "eth0" {
            return Err(UpgradeError::Fault(format!(
                "unable to determine network endpoint for sysctl {key}, use driver option '{ENDPOINT_SYSCTLS}' to set per-interface sysctls"
            )));
        }
        settings.push(format!("net.{family}.{table}.IFNAME.{rest}={value}"));
        keys.push(key.clone());
    }
    if keys.is_empty() {
        return Ok(None);
    }
    let all = settings.join(",");
    let warning = format!(
        "Migrated sysctl {:?} to DriverOpts{{{ENDPOINT_SYSCTLS:?}:{all:?}}}.",
        keys.join(",")
    );
    let endpoint = main_endpoint(&mode, endpoints, version)?;
    let options = endpoint.driver_opts.get_or_insert_default();
    // What the endpoint says of itself comes last, and so holds.
    let own = options.get(ENDPOINT_SYSCTLS).map(|own| format!(",{own}")).unwrap_or_default();
    options.insert(ENDPOINT_SYSCTLS.to_owned(), all + &own);
    if let Some(sysctls) = &mut host.sysctls {
        sysctls.retain(|key, _| !keys.contains(key));
    }
    Ok(Some(warning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode;

    fn raised(version: u16, body: &str) -> Result<(ContainerCreateRequest, Upgraded), String> {
        let mut request: ContainerCreateRequest = decode(body.as_bytes()).unwrap();
        let upgraded = request.upgrade_request(ApiVersion::v1(version), true);
        upgraded.map(|u| (request, u)).map_err(|e| e.to_string())
    }

    fn endpoints(request: ContainerCreateRequest) -> Endpoints {
        request.networking_config.unwrap().endpoints_config.unwrap()
    }

    #[test]
    fn the_default_network_is_the_bridge_as_a_mode_and_as_an_endpoint() {
        let body =
            r#"{"Image":"x","NetworkingConfig":{"EndpointsConfig":{"default":{"Aliases":["a"]}}}}"#;
        let (request, _) = raised(51, body).unwrap();
        assert_eq!(request.host_config.as_ref().unwrap().network_mode, "bridge");
        assert!(endpoints(request)["bridge"].as_ref().unwrap().aliases.is_some());
    }

    #[test]
    fn a_containers_hardware_address_goes_to_its_endpoint() {
        let body = r#"{"Image":"x","MacAddress":"m"}"#;
        for (version, warnings) in [(43, 0), (51, 1)] {
            let (request, upgraded) = raised(version, body).unwrap();
            assert_eq!(upgraded.warnings.len(), warnings);
            assert_eq!(request.config.as_ref().unwrap().mac_address, "");
            assert_eq!(endpoints(request)["bridge"].as_ref().unwrap().mac_address, "m");
        }
        let other =
            r#"{"Image":"x","MacAddress":"m","NetworkingConfig":{"EndpointsConfig":{"n":{}}}}"#;
        assert!(raised(51, other).unwrap_err().ends_with("in NetworkSettings.Networks"));
        assert!(raised(43, other).is_ok());
        let host = r#"{"Image":"x","MacAddress":"m","HostConfig":{"NetworkMode":"host"}}"#;
        assert!(raised(43, host).unwrap_err().starts_with("conflicting options"));
        assert_eq!(raised(44, host).unwrap().1.warnings.len(), 1);
    }

    #[test]
    fn settings_of_eth0_become_the_endpoints_until_1_48() {
        let body = r#"{"Image":"x","HostConfig":{"Sysctls":{"net.ipv4.conf.eth0.forwarding":"1","kernel.x":"2"}}}"#;
        let (request, upgraded) = raised(47, body).unwrap();
        assert_eq!(
            upgraded.warnings,
            [
                r#"Migrated sysctl "net.ipv4.conf.eth0.forwarding" to DriverOpts{"com.docker.network.endpoint.sysctls":"net.ipv4.conf.IFNAME.forwarding=1"}."#
            ]
        );
        assert_eq!(request.host_config.as_ref().unwrap().sysctls.as_ref().unwrap().len(), 1);
        let options = endpoints(request)["bridge"].clone().unwrap().driver_opts.unwrap();
        assert_eq!(options[ENDPOINT_SYSCTLS], "net.ipv4.conf.IFNAME.forwarding=1");
        assert!(raised(48, body).unwrap_err().contains("must be supplied using driver option"));
    }

    #[test]
    fn options_of_another_kind_of_mount_are_passed_over_before_1_42_and_refused_since() {
        let body = r#"{"Image":"x","HostConfig":{"Mounts":[{"Type":"bind","VolumeOptions":{}}]}}"#;
        assert_eq!(
            raised(42, body).unwrap_err(),
            "VolumeOptions must not be specified on mount type \"bind\""
        );
        let (request, upgraded) = raised(41, body).unwrap();
        assert!(request.host_config.unwrap().mounts.unwrap()[0].volume_options.is_none());
        assert!(upgraded.read_only_at_top);
    }
}
