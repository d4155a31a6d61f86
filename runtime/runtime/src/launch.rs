//! From `config.json` to what will be done: every check that needs no kernel is made here, so that
//! a configuration that can't work changes nothing. The words of the errors are runc's.

mod checks;

use crate::error::{At, Error, Result};
use crate::options::{self, Options};
use crate::record;
use crate::seccomp::{self, Filter};
use oci::runtime::{IdMapping, Linux, Mount, NamespaceType, Process, Spec};
use rustix::fs::OFlags;
use std::path::{Path, PathBuf};
use sys::ns::flag;

/// A mount of the container.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct MountPlan {
    /// Path inside.
    pub destination: String,
    /// File system type; `bind` for bind mounts.
    pub kind: String,
    /// Device or, for a bind mount, a path on the host.
    pub source: String,
    /// Options.
    pub options: Options,
    /// Ids of an idmapped mount; empty takes those of the container.
    pub uid_mappings: Vec<IdMapping>,
    /// Ids of an idmapped mount.
    pub gid_mappings: Vec<IdMapping>,
}

impl MountPlan {
    /// Whether it shows the container's cgroups.
    pub(crate) fn is_of_cgroups(&self) -> bool {
        matches!(self.kind.as_str(), "cgroup" | "cgroup2")
    }

    /// Has a new file system labelled, of the kinds that take it at their mount.
    fn label(&mut self, label: &str) {
        let unlabelled = ["bind", "proc", "sysfs", "mqueue", "cgroup", "cgroup2"];
        if !unlabelled.contains(&self.kind.as_str()) {
            self.options.data.push(format!("context={label}"));
        }
    }
}

/// Everything known before the first effect.
#[derive(Debug)]
pub(crate) struct Launch {
    /// The configuration, without `process` and `linux`, which are below.
    pub spec: Spec,
    /// Its text, kept for `exec`.
    pub text: Vec<u8>,
    /// What runs.
    pub process: Process,
    /// What concerns Linux.
    pub linux: Linux,
    /// Absolute path.
    pub bundle: PathBuf,
    /// Absolute path.
    pub rootfs: PathBuf,
    /// `CLONE_NEW*` bits of the namespaces made.
    pub new: u64,
    /// Namespaces joined.
    pub join: Vec<(u64, PathBuf)>,
    /// Mounts, in order.
    pub mounts: Vec<MountPlan>,
    /// Propagation of the root; `rslave` when not said.
    pub propagation: (u64, bool),
    /// System call filter.
    pub filter: Option<Filter>,
    /// Resource limits: number, soft, hard.
    pub rlimits: Vec<(u32, u64, u64)>,
}

/// The `CLONE_NEW*` bit of a kind.
pub(crate) fn bit(kind: NamespaceType) -> u64 {
    match kind {
        NamespaceType::Mount => flag::MOUNT,
        NamespaceType::Pid => flag::PID,
        NamespaceType::Network => flag::NET,
        NamespaceType::Uts => flag::UTS,
        NamespaceType::Ipc => flag::IPC,
        NamespaceType::User => flag::USER,
        NamespaceType::Cgroup => flag::CGROUP,
        NamespaceType::Time => flag::TIME,
    }
}

const RLIMITS: [&str; 16] = [
    "RLIMIT_CPU",
    "RLIMIT_FSIZE",
    "RLIMIT_DATA",
    "RLIMIT_STACK",
    "RLIMIT_CORE",
    "RLIMIT_RSS",
    "RLIMIT_NPROC",
    "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK",
    "RLIMIT_AS",
    "RLIMIT_LOCKS",
    "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
];

/// Translates resource limits.
///
/// # Errors
/// When a name is unknown or given twice.
pub(crate) fn rlimits(process: &Process) -> Result<Vec<(u32, u64, u64)>> {
    let mut all: Vec<(u32, u64, u64)> = Vec::new();
    for limit in &process.rlimits {
        let number = RLIMITS
            .iter()
            .position(|name| *name == limit.kind)
            .ok_or_else(|| Error::Spec(format!("wrong rlimit value: {}", limit.kind)))?;
        if all.iter().any(|(other, _, _)| *other == number as u32) {
            return Err(Error::Spec(format!("rlimit {} is given twice", limit.kind)));
        }
        all.push((number as u32, limit.soft, limit.hard));
    }
    Ok(all)
}

/// Checks a process, of a configuration or of `exec --process`.
///
/// # Errors
/// runc's texts.
pub(crate) fn check_process(process: &Process) -> Result<()> {
    if process.cwd.is_empty() {
        return Err(Error::Spec("Cwd property must not be empty".into()));
    }
    if !process.cwd.starts_with('/') {
        return Err(Error::Spec("Cwd must be an absolute path".into()));
    }
    let user = &process.user;
    if user.additional_gids.iter().chain([&user.uid, &user.gid]).any(|id| *id == u32::MAX) {
        // To the kernel that number means "leave as it is".
        return Err(Error::Spec(format!("user or group id {} is not valid", u32::MAX)));
    }
    if process.args.is_empty() {
        return Err(Error::Spec("args must not be empty".into()));
    }
    let strings = process.args.iter().chain(&process.env).chain([&process.cwd]);
    if strings.clone().any(|s| s.contains('\0')) {
        return Err(Error::Spec("a string of the process contains a null byte".into()));
    }
    if !process.selinux_label.is_empty() && !exists("/sys/fs/selinux/enforce") {
        return Err(Error::Spec(
            "selinux label is specified in config, but selinux is disabled or not supported".into(),
        ));
    }
    let profile = &process.apparmor_profile;
    if !profile.is_empty()
        && profile != "unconfined"
        && !exists("/sys/kernel/security/apparmor/profiles")
    {
        return Err(Error::Spec("apparmor: config provided but apparmor not supported".into()));
    }
    Ok(())
}

fn exists(path: &str) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXISTS).is_ok()
}

/// Checks a configuration for a bundle without doing anything of what it says.
///
/// # Errors
/// When no container can be created from it.
pub fn check(text: Vec<u8>, bundle: &Path) -> Result<()> {
    Launch::parse(text, Path::new("config.json"), bundle.to_owned()).map(drop)
}

impl Launch {
    /// Reads and checks the configuration of a bundle.
    ///
    /// # Errors
    /// When the bundle, the file or its contents are wrong.
    pub(crate) fn read(bundle: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(bundle, flags, rustix::fs::Mode::empty())
            .at(|| format!("chdir {}", bundle.display()))?;
        let bundle = std::path::absolute(bundle).at(|| "bundle".into())?;
        let file = bundle.join("config.json");
        if !file.exists() {
            return Err(Error::Spec("JSON specification file config.json not found".into()));
        }
        Self::parse(record::read_file(&file)?, &file, bundle)
    }

    /// Reads and checks a configuration that is in memory.
    ///
    /// # Errors
    /// When it is wrong.
    fn parse(text: Vec<u8>, file: &Path, bundle: PathBuf) -> Result<Self> {
        let mut spec: Spec = serde_json::from_slice(&text)
            .map_err(|e| Error::Spec(format!("{}: {e}", file.display())))?;
        let process = spec
            .process
            .take()
            .ok_or_else(|| Error::Spec("process property must not be empty".into()))?;
        let linux = spec.linux.take().unwrap_or_default();
        Self::check(spec, text, process, linux, bundle)
    }

    fn check(
        spec: Spec,
        text: Vec<u8>,
        process: Process,
        linux: Linux,
        bundle: PathBuf,
    ) -> Result<Self> {
        checks::check_version(&spec.oci_version)?;
        check_process(&process)?;
        checks::check_hooks(&spec)?;
        let root =
            spec.root.as_ref().ok_or_else(|| Error::Spec("root must be specified".into()))?;
        let rootfs = bundle.join(&root.path);
        let real = rustix::fs::lstat(&rootfs).map_err(|e| {
            Error::Spec(format!("invalid rootfs: {}", crate::error::Lower(&e.into())))
        })?;
        if real.st_mode & 0o170_000 != 0o040_000 {
            return Err(Error::Spec("invalid rootfs: not an absolute path, or a symlink".into()));
        }
        let (new, join) = checks::namespaces(&linux)?;
        let all = join.iter().fold(new, |all, (bit, _)| all | bit);
        if all & flag::MOUNT == 0 {
            return Err(Error::Spec("mount namespace is required".into()));
        }
        checks::check_ids(&linux, new, all)?;
        checks::check_names(&spec, &linux, all)?;
        let mut mounts: Vec<MountPlan> =
            spec.mounts.iter().map(|m| plan_mount(m, &bundle)).collect::<Result<_>>()?;
        if !linux.mount_label.is_empty() {
            for mount in &mut mounts {
                mount.label(&linux.mount_label);
            }
        }
        let propagation = match linux.rootfs_propagation.as_str() {
            "" => (options::propagation::SLAVE, true),
            word => {
                let (bit, _) = options::parse_propagation(word).ok_or_else(|| {
                    Error::Spec(format!("rootfsPropagation={word} is not supported"))
                })?;
                (bit, word.starts_with('r'))
            }
        };
        let filter = linux.seccomp.as_ref().map(seccomp::compile).transpose()?;
        let needs_listener = filter.as_ref().is_some_and(Filter::has_listener);
        if needs_listener && linux.seccomp.as_ref().is_some_and(|s| s.listener_path.is_empty()) {
            return Err(Error::Spec("listenerPath must be set when using SCMP_ACT_NOTIFY".into()));
        }
        let rlimits = rlimits(&process)?;
        Ok(Self {
            spec,
            text,
            process,
            linux,
            bundle,
            rootfs,
            new,
            join,
            mounts,
            propagation,
            filter,
            rlimits,
        })
    }

    /// Whether the container has a user namespace of its own or joins one.
    pub(crate) fn in_user_namespace(&self) -> bool {
        self.new & flag::USER != 0 || self.join.iter().any(|(bit, _)| *bit == flag::USER)
    }

    /// Whether the parent has steps to do, the hooks' among them, once the child has mounted: the
    /// child asks for them then.
    pub(crate) fn has_steps_of_parent(&self) -> bool {
        let hooks = self.spec.hooks.as_ref();
        hooks.is_some_and(|all| !(all.prestart.is_empty() && all.create_runtime.is_empty()))
            || !self.linux.net_devices.is_empty()
    }

    /// Whether a namespace is made or joined.
    pub(crate) fn separates(&self, bit: u64) -> bool {
        self.new & bit != 0 || self.join.iter().any(|(b, _)| *b == bit)
    }
}

/// A path from the root in its shortest spelling: one that ends in a slash or a dot would be followed
/// where a link must not be. A relative one is taken from the root, as runc does with a warning.
pub(crate) fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

pub(crate) fn plan_mount(mount: &Mount, bundle: &Path) -> Result<MountPlan> {
    let mut options = Options::parse(&mount.options);
    if mount.kind == "bind" && !options.bind {
        options.bind = true;
    }
    if options.bind && mount.source.is_empty() {
        return Err(Error::Spec(format!("mount of {} has no source", mount.destination)));
    }
    if options.bind && !options.data.is_empty() {
        return Err(Error::Spec(format!(
            "invalid mount {}: bind mounts cannot have any filesystem-specific options applied",
            mount.destination
        )));
    }
    if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
        return Err(Error::Spec(format!(
            "invalid mount {}: uidMappings and gidMappings must be specified together",
            mount.destination
        )));
    }
    if !mount.uid_mappings.is_empty() && options.idmap.is_none() {
        options.idmap = Some(false);
    }
    if options.idmap.is_some() && !options.bind {
        return Err(Error::Spec(format!(
            "invalid mount {}: id-mapped mounts are only supported for bind-mounts",
            mount.destination
        )));
    }
    let source = if options.bind {
        bundle.join(&mount.source).to_string_lossy().into_owned()
    } else {
        mount.source.clone()
    };
    if mount.destination.is_empty()
        || [&mount.destination, &source].iter().any(|s| s.contains('\0'))
    {
        return Err(Error::Spec(format!("invalid mount destination {:?}", mount.destination)));
    }
    Ok(MountPlan {
        destination: clean(&mount.destination),
        kind: if options.bind { "bind".into() } else { mount.kind.clone() },
        source,
        options,
        uid_mappings: mount.uid_mappings.clone(),
        gid_mappings: mount.gid_mappings.clone(),
    })
}
