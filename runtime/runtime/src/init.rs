//! The child of `create`: from clone3 to execve.
//!
//! ```text
//! parent (create.rs)                          child (this file), in the new namespaces
//! ─────────────────                          ────────────────────────────────────────
//! state.json "creating", cgroup, limits       (v1: after clone3, beside namespaces and mounts)
//! bind sources, console socket, FIFO opened
//! clone3 ───────────────────────────────────▶ dies with its parent from here to Ready
//!        ◀──────────────────────── Grouped ── with the systemd driver alone: born outside
//! unit, cgroup, limits ────────── Grouped ──▶ is inside
//!        ◀───────────────────────── Mapped ── waits, if it has a user namespace
//! writes the maps ─────────────── Mapped ───▶ becomes root in it
//! v1 cgroups, limits ──────────── Grouped ──▶ heard before the mount of the cgroups
//! state.json with the pid                     joins namespaces by path, then the v1 cgroups
//!                                             (before the cgroup namespace: its root is where
//!                                             we are), new session, keyring
//!                                             root and mounts, /dev, terminal
//!        ◀────────────────────────── Hooks ── only if there are such hooks
//! prestart, createRuntime ─────── Hooks ────▶ createContainer; masks, read-only paths, sysctls
//!                                             (after the hooks, which may still mount), pivot_root
//!                                             host name, labels, limits, ids, capabilities
//!        ◀─────────────────────── Listener ── only if the filter has one
//! sends it on ─────────────────── Listener ─▶ working folder, program looked up
//!        ◀────────────────────────── Ready ── no longer dies with its parent
//! create: exits; run: ─────────── Ready ────▶ create: waits on the FIFO; run: on the channel
//!                                             startContainer, filter with no_new_privs, execve
//! ```

use crate::caps::Sets;
use crate::console;
use crate::dev;
use crate::error::{At, Error, Result};
use crate::hooks;
use crate::launch::Launch;
use crate::mounts::{self, Sources};
use crate::proc_root::ProcRoot;
use crate::process::{self, Last};
use crate::sync::{Channel, Message};
use crate::tree::Root;
use cgroup::Cgroup;
use oci::runtime::{State, Status};
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use sys::mount::{attr, set_attributes};
use sys::ns::flag;
use sys::privilege;

/// What the parent has prepared for the child.
#[derive(Debug)]
pub(crate) struct Init<'a> {
    pub(crate) launch: &'a Launch,
    pub(crate) sources: Option<Sources>,
    pub(crate) group: &'a Cgroup,
    /// How we get into it.
    pub(crate) entry: Entry,
    /// Opened when there is something to write to it.
    pub(crate) proc_root: Option<ProcRoot>,
    pub(crate) join: Vec<(u64, OwnedFd, String)>,
    pub(crate) console: Option<OwnedFd>,
    pub(crate) fifo: Option<OwnedFd>,
    pub(crate) caps: Option<Sets>,
    pub(crate) flags: Flags,
    pub(crate) state: State,
}

/// How the child gets into its cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is there: the child is born into it, or enters it first of all.
    AtOnce,
    /// It is made beside the first mounts; the parent says when.
    Beside,
    /// The parent puts the child into it, by way of a unit.
    InUnit,
}

/// Choices of the command line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Flags {
    /// Move the root instead of pivoting.
    pub no_pivot: bool,
    /// Keep the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors kept open beside the standard streams.
    pub preserve_fds: u32,
    /// How many of them are the service manager's.
    pub listen_fds: u32,
    /// Lacking rights on cgroups and groups is no error.
    pub rootless: bool,
}

impl Init<'_> {
    /// What the child unshares itself, beside the making of its cgroups: all but the pid namespace,
    /// which one must be born into, and those that follow only later.
    pub(crate) fn own_namespaces(&self) -> u64 {
        let alone = flag::MOUNT | flag::NET | flag::UTS | flag::IPC;
        if self.entry == Entry::Beside { self.launch.new & alone } else { 0 }
    }

    /// Runs in the child and never returns.
    pub(crate) fn run(self, channel: &Channel) -> ! {
        let error = match self.set_up(channel) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let text = match error {
            Error::Start(text) => text,
            Error::Hook(text) if channel.is_muted() => text,
            other => format!("error during container init: {other}"),
        };
        if channel.say(&Message::Failed(text.clone())).is_err() {
            // Nobody listens after `create` has returned: the container's own stderr is all there is.
            let _ = rustix::io::write(rustix::stdio::stderr(), format!("{text}\n").as_bytes());
        }
        sys::clone::exit_now(255)
    }

    fn set_up(mut self, channel: &Channel) -> Result<std::convert::Infallible> {
        privilege::parent_death_signal(9).at(|| "prctl".into())?;
        sys::clone::reset_signals();
        self.enter(channel)?;
        // Changes of ids may have undone what the parent did, and one without rights can't do it
        // before: it writes our maps.
        privilege::set_dumpable(false).at(|| "prctl".into())?;
        rustix::process::setsid().at(|| "setsid".into())?;
        if !self.flags.no_new_keyring {
            self.keyring()?;
        }
        privilege::set_umask(0);
        let root = self.mount(channel)?;
        let slave = self.terminal(&root)?;
        let hooks = self.launch.spec.hooks.clone().unwrap_or_default();
        if self.launch.has_steps_of_parent() {
            channel.ask(&Message::Hooks)?;
        }
        hooks::run_all("createContainer", &hooks.create_container, &self.state)?;
        self.restrict(&root)?;
        self.pivot(&root)?;
        drop(root);
        if let Some(slave) = slave {
            console::become_stdio(slave.as_fd())?;
        }
        let init = "error during container init: unable to apply apparmor profile";
        process::label(&self.launch.process, self.proc_root.as_ref()).map_err(|why| match why {
            Error::Start(text) => Error::Start(format!("{init}: {text}")),
            other => other,
        })?;
        self.finish(channel, &hooks.start_container)
    }

    /// Namespaces, cgroups, ids.
    fn enter(&self, channel: &Channel) -> Result<()> {
        let new = self.launch.new;
        match self.entry {
            Entry::AtOnce => self.join_v1()?,
            Entry::Beside => {
                sys::ns::unshare(self.own_namespaces()).at(|| "unshare namespaces".into())?;
            }
            Entry::InUnit => {
                channel.ask(&Message::Grouped)?;
                self.join_v1()?;
            }
        }
        if new & flag::USER != 0 {
            channel.ask(&Message::Mapped)?;
        }
        for (bit, fd, path) in &self.join {
            sys::ns::setns(fd.as_fd(), *bit).at(|| format!("setns {path}"))?;
        }
        if self.launch.in_user_namespace() {
            privilege::set_gid(0).at(|| "setgid in user namespace".into())?;
            privilege::set_uid(0).at(|| "setuid in user namespace".into())?;
            privilege::parent_death_signal(9).at(|| "prctl".into())?;
        }
        if new & flag::USER != 0 && new & flag::IPC != 0 {
            sys::ns::unshare(flag::IPC).at(|| "unshare ipc namespace".into())?;
        }
        if self.entry == Entry::Beside { Ok(()) } else { self.own_cgroups() }
    }

    fn join_v1(&self) -> Result<()> {
        match self.group.join_v1() {
            Err(error) if self.flags.rootless && error.is_denied() => Ok(()),
            other => Ok(other?),
        }
    }

    /// Only once inside, so that its root is the container's cgroup; on v2 the clone did both.
    fn own_cgroups(&self) -> Result<()> {
        let born = self.entry != Entry::InUnit && self.group.is_unified();
        if self.launch.new & flag::CGROUP != 0 && !born {
            sys::ns::unshare(flag::CGROUP).at(|| "unshare cgroup namespace".into())?;
        }
        Ok(())
    }

    /// Enters the v1 cgroups once the parent has made them.
    fn enter_cgroups(&self, channel: &Channel) -> Result<()> {
        match channel.hear()? {
            Message::Grouped => {}
            _ => return Err(Error::Start("the runtime is gone".into())),
        }
        self.join_v1()?;
        self.own_cgroups()
    }

    fn keyring(&self) -> Result<()> {
        let name = CString::new(format!("_ses.{}", self.state.id)).unwrap_or_default();
        match privilege::new_session_keyring(&name) {
            Ok(key) => {
                // Without it the container could not use its own keyring; not worth failing for.
                let _ = privilege::allow_key_search(key);
                Ok(())
            }
            // No keyrings in this kernel, or a quota reached: the container is none the worse.
            Err(e) if matches!(e.raw_os_error(), Some(1 | 38 | 122)) => Ok(()),
            Err(e) => Err(e).at(|| "unable to join session keyring".into()),
        }
    }

    fn mount(&mut self, channel: &Channel) -> Result<Root> {
        let launch = self.launch;
        sys::mount::set_propagation(c"/", root_flags(launch)).at(|| "make / a slave".into())?;
        let sources = match self.sources.take() {
            Some(sources) => sources,
            None => Sources::open(launch, &|mount| crate::idmap::namespace(launch, mount))?,
        };
        let root =
            Root { dir: rustix::io::fcntl_dupfd_cloexec(&sources.root, 3).at(|| "dup".into())? };
        self.attach_root(&sources)?;
        // What shows the cgroups, and what is mounted after it, waits for them.
        let late = self.entry == Entry::Beside;
        let first = if late { mounts::before_cgroups(launch) } else { launch.mounts.len() };
        mounts::mount_all(launch, &sources, 0..first, &root, self.group)?;
        if late {
            self.enter_cgroups(channel)?;
            mounts::mount_all(launch, &sources, first..launch.mounts.len(), &root, self.group)?;
        }
        if dev::is_ours(launch) {
            dev::fill(launch, &root)?;
        }
        Ok(root)
    }

    /// The root goes where it lies; where the mapped root may not go, over `/` itself.
    fn attach_root(&self, sources: &Sources) -> Result<()> {
        let path = &self.launch.rootfs;
        let flags = rustix::mount::MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        let tree = &sources.root;
        match rustix::mount::move_mount(tree, c"", rustix::fs::CWD, path, flags) {
            Err(rustix::io::Errno::ACCESS) => {
                rustix::mount::move_mount(tree, c"", rustix::fs::CWD, c"/", flags)
            }
            other => other,
        }
        .at(|| format!("attach rootfs {}", path.display()))
    }

    fn terminal(&self, root: &Root) -> Result<Option<OwnedFd>> {
        let Some(socket) = &self.console else { return Ok(None) };
        let slave = console::open(root, self.launch.process.console_size.as_ref(), socket.as_fd())?;
        if dev::is_ours(self.launch) {
            console::show(root, slave.as_fd())?;
        }
        Ok(Some(slave))
    }

    /// What the container must not see or change, and the kernel's settings for it.
    fn restrict(&self, root: &Root) -> Result<()> {
        let linux = &self.launch.linux;
        mounts::finish_read_only(self.launch, root)?;
        for (key, value) in &linux.sysctl {
            // As sysctl(8): in names with slashes a dot is a dot, else they change places.
            let path = if key.contains('/') { key.clone() } else { key.replace('.', "/") };
            let root = self.proc_root.as_ref().ok_or(Error::NotFound)?;
            root.write(&format!("sys/{path}"), value)?;
        }
        dev::make_read_only(&linux.readonly_paths, root)?;
        dev::mask(&linux.masked_paths, root)?;
        // Docker relies on it: a working folder that the image lacks is made.
        root.folder(&self.launch.process.cwd)?;
        if self.launch.spec.root.as_ref().is_some_and(|r| r.readonly) {
            set_attributes(root.dir.as_fd(), false, attr::RDONLY, 0, 0, None)
                .at(|| "make the root read-only".into())?;
        }
        Ok(())
    }

    fn pivot(&self, root: &Root) -> Result<()> {
        let spec = &self.launch.spec;
        rustix::process::fchdir(&root.dir).at(|| "chdir to root".into())?;
        if self.flags.no_pivot {
            sys::mount::move_root_here().at(|| "error jailing process inside rootfs".into())?;
        } else {
            sys::mount::pivot_here()
                .at(|| "error jailing process inside rootfs: pivot_root".into())?;
        }
        let (bit, recursive) = self.launch.propagation;
        let wanted = bit | if recursive { ms_rec() } else { 0 };
        if bit != crate::options::propagation::SLAVE {
            sys::mount::set_propagation(c"/", wanted).at(|| "set root propagation".into())?;
        }
        if !spec.hostname.is_empty() {
            sys::ns::set_hostname(&spec.hostname).at(|| "sethostname".into())?;
        }
        if !spec.domainname.is_empty() {
            sys::ns::set_domainname(&spec.domainname).at(|| "setdomainname".into())?;
        }
        Ok(())
    }

    fn finish(
        self,
        channel: &Channel,
        start_hooks: &[oci::runtime::Hook],
    ) -> Result<std::convert::Infallible> {
        let launch = self.launch;
        if let Some(personality) = &launch.linux.personality {
            let domain = match personality.domain.as_str() {
                "LINUX" => 0,
                "LINUX32" => 8,
                other => return Err(Error::Spec(format!("unknown personality domain {other}"))),
            };
            privilege::set_personality(domain).at(|| "personality".into())?;
        }
        crate::numa::apply(launch.linux.memory_policy.as_ref())?;
        // Before `prepare` closes whatever is not kept: what is owned here must not be closed twice.
        drop((self.sources, self.proc_root, self.join, self.console));
        let last = Last {
            process: &launch.process,
            filter: launch.filter.as_ref(),
            rlimits: &launch.rlimits,
            caps: self.caps,
            keep_fds: self.flags.preserve_fds,
            listen_fds: self.flags.listen_fds,
            rootless: self.flags.rootless || launch.in_user_namespace(),
            talks: self.fifo.iter().map(AsFd::as_fd).chain([channel.as_fd()]).collect(),
        };
        let mut listener = |fd| channel.ask(&Message::Listener(Some(fd)));
        let program = last.prepare(&mut listener)?;
        privilege::parent_death_signal(0).at(|| "prctl".into())?;
        // A failure from here on is the container's own, as with runc: its text goes to the
        // container's stderr, its code is 255.
        if let Some(fifo) = &self.fifo {
            channel.say(&Message::Ready)?;
            channel.mute();
            let mut byte = [0u8; 1];
            rustix::io::retry_on_intr(|| rustix::io::read(fifo, &mut byte[..]))
                .at(|| "wait for start".into())?;
        } else {
            channel.ask(&Message::Ready)?;
            channel.mute();
        }
        let state = State { status: Status::Created, ..self.state };
        hooks::run_all("startContainer", start_hooks, &state)?;
        Err(last.execute(&program, &mut listener))
    }
}

fn ms_rec() -> u64 {
    1 << 14
}

/// The host's mounts become receivers, so that nothing of ours shows on the host.
fn root_flags(launch: &Launch) -> u64 {
    use crate::options::propagation::{PRIVATE, SLAVE};
    let private = launch.propagation.0 == PRIVATE;
    ms_rec() | if private { PRIVATE } else { SLAVE }
}
