//! From a container's record to its OCI spec: looks up on the host what the pure plan
//! needs (ids, devices, namespaces of others, files for `/etc`).

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use containerd_api::types::Mount;
use engine_api::{DeviceMapping, DeviceRequest};
use network::files;
use oci::runtime::{ConsoleSize, Spec as OciSpec};
use plan::users::{self, Identity};
use plan::{Device, HostMount, Input, NamespaceChoice, TmpfsMount};

use super::container::Container;
use super::network::Joined;
use super::start::Failure;
use crate::logs;
use crate::records::Spec;
use crate::rootfs;

/// The spec of a start.
pub(super) fn oci_spec(
    container: &Container,
    spec: &Spec,
    root: &[Mount],
    joined: &Joined,
) -> Result<OciSpec, Failure> {
    let facts = &container.deps().facts;
    logs::options::read(spec).map_err(|e| {
        Failure::new(
            500,
            format!(
                "failed to create task for container: failed to initialize logging driver: {e}"
            ),
        )
    })?;
    let identity =
        identity(&spec.config.user, spec.host.group_add.as_deref().unwrap_or_default(), root)?;
    let args: Vec<String> = std::iter::once(&spec.path).chain(&spec.args).cloned().collect();
    let mut mounts = host_mounts(spec);
    mounts.extend(etc_files(container, spec, joined)?);
    let tmpfs = tmpfs_mounts(spec)?;
    if let Some(wish) = spec.host.resources.device_requests.iter().flatten().next() {
        return Err(no_driver(wish));
    }
    let devices = if spec.host.privileged { all_devices() } else { wanted_devices(spec)? };
    let numbers = block_numbers(spec)?;
    let (ipc, shm) = ipc(container, spec)?;
    let init = init_program(container, spec)?;
    plan::spec(&Input {
        id: &spec.id,
        config: &spec.config,
        host: &spec.host,
        facts,
        args: &args,
        identity: &identity,
        root: "rootfs",
        network: joined.choice.clone(),
        ipc,
        shm: &shm,
        pid: pid(container, spec)?,
        mounts: &mounts,
        tmpfs: &tmpfs,
        devices: &devices,
        block_numbers: &numbers,
        init: &init,
    })
    .map_err(|e| Failure::new(500, e.to_string()))
}

fn tmpfs_mounts(spec: &Spec) -> Result<Vec<TmpfsMount>, Failure> {
    let mounts = spec.mounts.iter().filter(|m| m.point.kind == "tmpfs");
    mounts
        .map(|m| {
            let options = plan::tmpfs_options(&m.tmpfs.join(","))
                .map_err(|e| Failure::new(500, e.to_string()))?;
            Ok(TmpfsMount { destination: m.point.destination.clone(), options })
        })
        .collect()
}

/// Devices are asked for by capability, of drivers of which Ferry has none.
fn no_driver(wish: &DeviceRequest) -> Failure {
    let sets: Vec<String> =
        wish.capabilities.iter().flatten().map(|set| format!("[{}]", set.join(" "))).collect();
    let (driver, sets) = (&wish.driver, sets.join(" "));
    Failure::new(
        500,
        format!("could not select device driver {driver:?} with capabilities: [{sets}]"),
    )
}

/// Who runs: numbers need no file when nothing else is asked.
pub(crate) fn identity(user: &str, add: &[String], root: &[Mount]) -> Result<Identity, Failure> {
    let layers = rootfs::layers(root);
    let passwd = rootfs::read_text(&layers, "etc/passwd").unwrap_or_default();
    let group = rootfs::read_text(&layers, "etc/group").unwrap_or_default();
    users::resolve(user, add, &passwd, &group).map_err(|e| Failure::new(500, e.to_string()))
}

fn host_mounts(spec: &Spec) -> Vec<HostMount> {
    let hosts = spec.mounts.iter().filter(|m| matches!(m.point.kind.as_str(), "bind" | "volume"));
    hosts
        .map(|m| HostMount {
            destination: m.point.destination.clone(),
            source: m.point.source.clone(),
            read_only: !m.point.rw,
            read_only_non_recursive: m.read_only_non_recursive,
            non_recursive: m.non_recursive,
            propagation: m.propagation.clone(),
        })
        .collect()
}

/// The folder of a container's generated files and log.
pub(crate) fn folder(data_root: &Path, id: &str) -> PathBuf {
    data_root.join("containers").join(id)
}

fn etc_files(
    container: &Container,
    spec: &Spec,
    joined: &Joined,
) -> Result<Vec<HostMount>, Failure> {
    let shared = spec.host.network_mode.strip_prefix("container:");
    let owner = match shared {
        Some(other) => {
            container.deps().find(other).map_err(|e| Failure::new(404, e.to_string()))?.id.clone()
        }
        None => spec.id.clone(),
    };
    let folder = folder(&container.deps().settings.data_root, &owner);
    if shared.is_none() {
        write_etc(container, spec, joined, &folder)?;
    }
    let covered = |place: &str| spec.mounts.iter().any(|m| m.point.destination == place);
    let files = [
        ("resolv.conf", "/etc/resolv.conf"),
        ("hostname", "/etc/hostname"),
        ("hosts", "/etc/hosts"),
    ];
    Ok(files
        .into_iter()
        .filter(|(_, place)| !covered(place))
        .map(|(name, place)| HostMount {
            destination: place.into(),
            source: folder.join(name).to_string_lossy().into_owned(),
            read_only: spec.host.readonly_rootfs,
            propagation: "rprivate".into(),
            ..HostMount::default()
        })
        .collect())
}

fn write_etc(
    container: &Container,
    spec: &Spec,
    joined: &Joined,
    folder: &Path,
) -> Result<(), Failure> {
    let settings = &container.deps().settings;
    let on_host = joined.choice == NamespaceChoice::Host;
    let extra = extra_hosts(spec)?;
    let hosts = if on_host {
        files::hosts_of_host(&read("/etc/hosts").unwrap_or_default(), &extra)
    } else {
        files::hosts(&extra, &joined.addresses, &spec.config.hostname, &spec.config.domainname)
    };
    let own = |list: &Option<Vec<String>>, default: &[String]| match list {
        Some(list) if !list.is_empty() => list.clone(),
        _ => default.to_vec(),
    };
    let default_dns: Vec<String> = settings.dns.iter().map(IpAddr::to_string).collect();
    let overrides = files::Overrides {
        servers: own(&spec.host.dns, &default_dns),
        search: own(&spec.host.dns_search, &settings.dns_search),
        options: own(&spec.host.dns_options, &settings.dns_options),
    };
    let ipv6 = joined.addresses.iter().any(IpAddr::is_ipv6);
    let mode = if on_host { files::ResolvMode::Host } else { files::ResolvMode::Direct { ipv6 } };
    let resolv = container.deps().resolv(mode, &overrides);
    let put = |name: &str, text: &str| {
        std::fs::write(folder.join(name), text).map_err(|e| {
            Failure::new(500, format!("writing {} of container {}: {e}", name, spec.id))
        })
    };
    put("hosts", &hosts)?;
    put("hostname", &files::hostname(&spec.config.hostname))?;
    put("resolv.conf", &resolv)
}

fn read(path: &str) -> io::Result<String> {
    std::fs::read_to_string(path)
}

fn extra_hosts(spec: &Spec) -> Result<Vec<(String, IpAddr)>, Failure> {
    let entries = spec.host.extra_hosts.iter().flatten();
    entries
        .filter_map(|entry| entry.split_once(':'))
        .map(|(name, address)| {
            let address = address.trim_matches(['[', ']']);
            let parsed = address.parse();
            parsed.map(|a| (name.to_owned(), a)).map_err(|_| {
                Failure::new(400, format!("invalid IP address in add-host: {address:?}"))
            })
        })
        .collect()
}

fn other(container: &Container, reference: &str, what: &str) -> Result<(String, u32), Failure> {
    let other = container.deps().find(reference).map_err(|e| Failure::new(404, e.to_string()))?;
    let pid = other.running().filter(|pid| *pid != 0);
    let not_running = || {
        Failure::new(409, format!("cannot join {what} of a non running container: {}", other.id))
    };
    Ok((other.id.clone(), pid.ok_or_else(not_running)?))
}

fn ipc(container: &Container, spec: &Spec) -> Result<(NamespaceChoice, String), Failure> {
    match spec.host.ipc_mode.as_str() {
        "host" => Ok((NamespaceChoice::Host, "/dev/shm".into())),
        mode => match mode.strip_prefix("container:") {
            None => Ok((NamespaceChoice::New, String::new())),
            Some(reference) => {
                let (_, pid) = other(container, reference, "IPC")?;
                let path = format!("/proc/{pid}/ns/ipc");
                Ok((NamespaceChoice::Path(path), format!("/proc/{pid}/root/dev/shm")))
            }
        },
    }
}

fn pid(container: &Container, spec: &Spec) -> Result<NamespaceChoice, Failure> {
    match spec.host.pid_mode.as_str() {
        "host" => Ok(NamespaceChoice::Host),
        mode => match mode.strip_prefix("container:") {
            None => Ok(NamespaceChoice::New),
            Some(reference) => {
                let (_, pid) = other(container, reference, "PID namespace")?;
                Ok(NamespaceChoice::Path(format!("/proc/{pid}/ns/pid")))
            }
        },
    }
}

fn init_program(container: &Container, spec: &Spec) -> Result<String, Failure> {
    if !spec.host.init.unwrap_or(container.deps().settings.init) {
        return Ok(String::new());
    }
    let path = container.deps().settings.init_path.clone().unwrap_or_else(|| "docker-init".into());
    match crate::engine::program(&path) {
        Some(found) => Ok(found.to_string_lossy().into_owned()),
        None => Err(Failure::new(500, format!("init program {} not found", path.display()))),
    }
}

fn device_at(path: &Path, place: &str, access: &str) -> io::Result<Option<Device>> {
    let meta = std::fs::metadata(path)?;
    let kind = match meta.file_type() {
        kind if kind.is_char_device() => "c",
        kind if kind.is_block_device() => "b",
        _ => return Ok(None),
    };
    let numbers = meta.rdev();
    Ok(Some(Device {
        path: place.into(),
        kind: kind.into(),
        major: i64::from(rustix::fs::major(numbers)),
        minor: i64::from(rustix::fs::minor(numbers)),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
        access: access.into(),
    }))
}

fn wanted_devices(spec: &Spec) -> Result<Vec<Device>, Failure> {
    let mut out = Vec::new();
    for mapping in spec.host.resources.devices.iter().flatten() {
        let found = devices_below(Path::new(&mapping.path_on_host), mapping);
        let failed = |e: io::Error| {
            let text = match e.kind() {
                io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => e.to_string(),
            };
            Failure::new(
                500,
                format!(
                    "error gathering device information while adding custom device {:?}: {text}",
                    mapping.path_on_host
                ),
            )
        };
        out.extend(found.map_err(failed)?);
    }
    Ok(out)
}

/// The device of a mapping, or all devices below its folder.
fn devices_below(path: &Path, mapping: &DeviceMapping) -> io::Result<Vec<Device>> {
    let access =
        if mapping.cgroup_permissions.is_empty() { "rwm" } else { &mapping.cgroup_permissions };
    if let Some(device) = device_at(path, &mapping.path_in_container, access)? {
        return Ok(vec![device]);
    }
    let mut out = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let place =
            format!("{}/{}", mapping.path_in_container, entry.file_name().to_string_lossy());
        if let Ok(Some(device)) = device_at(&entry.path(), &place, access) {
            out.push(device);
        }
    }
    if out.is_empty() {
        return Err(io::Error::other("not a device node"));
    }
    Ok(out)
}

/// The host's devices, as a privileged container sees them.
fn all_devices() -> Vec<Device> {
    let mut out = Vec::new();
    collect_devices(Path::new("/dev"), 0, &mut out);
    out.sort_by(|a, b| a.path.cmp(&b.path));
    out
}

fn collect_devices(folder: &Path, depth: u32, out: &mut Vec<Device>) {
    const SKIPPED: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if depth < 8 && !SKIPPED.iter().any(|s| name == *s) {
                collect_devices(&entry.path(), depth + 1, out);
            }
        } else if !kind.is_symlink() && name != "console" {
            let path = entry.path();
            if let Ok(Some(device)) = device_at(&path, &path.to_string_lossy(), "rwm") {
                out.push(device);
            }
        }
    }
}

fn block_numbers(spec: &Spec) -> Result<BTreeMap<String, (i64, i64)>, Failure> {
    let mut out = BTreeMap::new();
    for path in plan::blkio_wishes(&spec.host.resources) {
        let meta =
            std::fs::metadata(path).map_err(|e| Failure::new(500, format!("{path}: {e}")))?;
        let numbers =
            (i64::from(rustix::fs::major(meta.rdev())), i64::from(rustix::fs::minor(meta.rdev())));
        out.insert(path.to_owned(), numbers);
    }
    Ok(out)
}

/// The process of an exec: the container's own, with what the exec asks for.
pub async fn exec_process(
    container: &Container,
    exec: &crate::exec::Exec,
    terminal: Terminal,
) -> Result<oci::runtime::Process, crate::http::ApiError> {
    use crate::http::ApiError;
    use containerd_api::services::containers::v1::GetContainerRequest;

    let request = GetContainerRequest { id: container.id.clone() };
    let answer = container.client().containers().get(request).await;
    let record = answer
        .map_err(|e| ApiError::internal(e.message()))?
        .into_inner()
        .container
        .unwrap_or_default();
    let bytes = record.spec.map(|any| any.value).unwrap_or_default();
    let oci: OciSpec = serde_json::from_slice(&bytes)
        .map_err(|e| ApiError::internal(format!("spec of container {}: {e}", container.id)))?;
    let mut base = oci.process.unwrap_or_default();
    let is_one = terminal != Terminal::No;
    let had_tty = std::mem::replace(&mut base.terminal, is_one);
    if is_one && !had_tty {
        base.env.push("TERM=xterm".into());
    }
    let asked = &exec.request;
    if !asked.working_dir.is_empty() {
        base.cwd.clone_from(&asked.working_dir);
    }
    let identity = if asked.user.is_empty() {
        None
    } else {
        let found = running_identity(container, &asked.user);
        Some(found.map_err(|e| ApiError::bad_request(e.to_string()))?)
    };
    let caps = asked.privileged.then_some(container.deps().facts.caps);
    let args = asked.cmd.clone().unwrap_or_default();
    let env = asked.env.as_deref().unwrap_or_default();
    let mut process = plan::exec_process(&base, args, env, caps, identity.as_ref());
    if let Terminal::OfSize([height, width]) = terminal {
        process.console_size = Some(ConsoleSize { height, width });
    }
    Ok(process)
}

/// Whether a process has a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// Plain streams.
    No,
    /// A terminal whose size is told later.
    Yes,
    /// A terminal of this height and width.
    OfSize([u64; 2]),
}

/// Who `user` is in a running container: read through its own root.
pub fn running_identity(container: &Container, user: &str) -> Result<Identity, users::UnknownUser> {
    let pid = container.running().unwrap_or_default();
    let root = [PathBuf::from(format!("/proc/{pid}/root"))];
    let passwd = rootfs::read_text(&root, "etc/passwd").unwrap_or_default();
    let group = rootfs::read_text(&root, "etc/group").unwrap_or_default();
    users::resolve(user, &container.row().fixed.group_add, &passwd, &group)
}
