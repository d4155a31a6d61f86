//! The spec against what a stock engine was seen to write.

use super::*;

struct Case {
    config: ContainerConfig,
    host: HostConfig,
}

fn case() -> Case {
    Case {
        config: ContainerConfig {
            hostname: "83f203f33a83".into(),
            env: Some(vec!["PATH=/bin".into()]),
            ..Default::default()
        },
        host: HostConfig { shm_size: 64 << 20, ipc_mode: "private".into(), ..Default::default() },
    }
}

fn plan(case: &Case, change: impl FnOnce(&mut Input<'_>)) -> Result<Spec, PlanError> {
    let facts = HostFacts {
        caps: CapSet::all(),
        machine: "x86_64".into(),
        hostname: "vm".into(),
        cgroup_parent: "/docker".into(),
        open_ports: true,
        ..HostFacts::default()
    };
    let (args, identity, numbers) = (
        ["sleep".to_owned()],
        Identity { groups: vec![0], ..Identity::default() },
        BTreeMap::new(),
    );
    let mut input = Input {
        id: "ID",
        config: &case.config,
        host: &case.host,
        facts: &facts,
        args: &args,
        identity: &identity,
        root: "rootfs",
        network: NamespaceChoice::New,
        ipc: NamespaceChoice::New,
        shm: "",
        pid: NamespaceChoice::New,
        mounts: &[],
        tmpfs: &[],
        devices: &[],
        block_numbers: &numbers,
        init: "",
    };
    change(&mut input);
    spec(&input)
}

#[test]
fn the_default_spec_is_the_one_that_users_know() {
    let spec = plan(&case(), |_| {}).unwrap();
    let process = spec.process.unwrap();
    assert_eq!(process.env, ["PATH=/bin", "HOSTNAME=83f203f33a83"]);
    assert_eq!(process.capabilities.unwrap().bounding.len(), 14);
    let linux = spec.linux.unwrap();
    assert_eq!(linux.cgroups_path, "/docker/ID");
    assert_eq!((linux.masked_paths.len(), linux.readonly_paths.len()), (12, 5));
    assert_eq!(linux.sysctl["net.ipv4.ping_group_range"], "0 2147483647");
    assert_eq!(linux.resources.unwrap().devices.len(), 8);
    let kinds: Vec<_> = linux.namespaces.iter().map(|n| n.kind).collect();
    use NamespaceType::{Ipc, Mount, Network, Pid, Uts};
    assert_eq!(kinds, [Mount, Network, Uts, Pid, Ipc]);
    let places: Vec<_> = spec.mounts.iter().map(|m| m.destination.as_str()).collect();
    assert_eq!(
        places,
        ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"]
    );
}

#[test]
fn privileged_lifts_masks_filters_and_device_rules() {
    let mut case = case();
    case.host.privileged = true;
    let spec = plan(&case, |_| {}).unwrap();
    let linux = spec.linux.unwrap();
    assert!(
        linux.seccomp.is_none() && linux.masked_paths.is_empty() && linux.readonly_paths.is_empty()
    );
    assert_eq!(linux.resources.unwrap().devices.len(), 1);
    assert!(spec.mounts.iter().all(|m| !m.options.iter().any(|o| o == "ro")));
    assert_eq!(spec.process.unwrap().capabilities.unwrap().bounding.len(), caps::ALL.len());
}

#[test]
fn the_hosts_namespaces_are_left_out() {
    let mut case = case();
    case.host.uts_mode = "host".into();
    let spec = plan(&case, |input| {
        input.network = NamespaceChoice::Host;
        input.pid = NamespaceChoice::Host;
        input.ipc = NamespaceChoice::Host;
        input.shm = "/dev/shm";
    })
    .unwrap();
    assert_eq!(spec.hostname, "");
    // The name of the configuration all the same, as dockerd does.
    let name = &case.config.hostname;
    assert_eq!(spec.process.unwrap().env[1], format!("HOSTNAME={name}"));
    let linux = spec.linux.unwrap();
    assert_eq!(linux.namespaces.len(), 1);
    assert!(linux.sysctl.is_empty());
}

#[test]
fn a_field_without_support_is_refused_by_name() {
    let mut case = case();
    case.host.volume_driver = "nfs".into();
    assert_eq!(
        plan(&case, |_| {}).unwrap_err().to_string(),
        "VolumeDriver is not supported by Ferry yet"
    );
}

#[test]
fn device_rules_are_parsed_strictly() {
    assert_eq!(device_rule("c 42:* rmw").unwrap().minor, Some(-1));
    for bad in ["x", "c 1 r", "c 1:3 q", "c 1:3 r x"] {
        assert!(device_rule(bad).is_none(), "{bad}");
    }
}

#[test]
fn an_exec_has_its_own_words_over_the_containers_environment() {
    let base = Process { env: vec!["A=1".into(), "B=2".into()], ..Process::default() };
    let got = exec_process(&base, vec!["x".into()], &["A=3".into(), "B".into()], None, None);
    assert_eq!((got.args, got.env), (vec!["x".to_owned()], vec!["A=3".to_owned()]));
}
