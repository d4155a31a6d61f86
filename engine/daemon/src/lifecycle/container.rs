//! A container as the rest of the daemon holds it, and the driver of its machine: each
//! step runs under a lock that is never held across an await; what the machine puts out
//! is done in order (record, row, events, replies), effects as tasks that report back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use containerd_api::types::Mount;
use containerd_rpc::Client;
use engine_api::{EndpointIpamConfig, StringMap};
use metastore::{Batch, Class, Store};
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::machine::{Answer, Event, Input, Machine, Message, Output, Refusal, Rules};
use super::{start, teardown};
use crate::attach::Parked;
use crate::engine::Engine;
use crate::events::Bus;
use crate::exec::Execs;
use crate::records::{self, Phase, Spec, State, Tombstone, now};

/// What every container's driver needs.
pub type Deps = Arc<Engine>;

type Reply = oneshot::Sender<Answer>;

/// What lists and events show of a container: its spec's short form and its state.
#[derive(Debug, Clone)]
pub struct Row {
    /// What create fixed, but for the name.
    pub fixed: Arc<Fixed>,
    /// The name, without slash.
    pub name: String,
    /// What it is doing.
    pub state: State,
    /// Removal is under way.
    pub removing: bool,
}

/// The part of a row that a run does not change.
#[derive(Debug, Clone, Default)]
pub struct Fixed {
    /// The image as it was asked for.
    pub image: String,
    /// Digest of the image's configuration.
    pub image_id: String,
    /// Command line.
    pub command: String,
    /// Nanoseconds since the epoch.
    pub created: i64,
    /// Labels.
    pub labels: StringMap,
    /// Ports that are exposed, as `80/tcp`.
    pub exposed: Vec<String>,
    /// Mount points as the list shows them.
    pub mounts: Vec<engine_api::MountPoint>,
    /// The network mode.
    pub network_mode: String,
    /// Terminal.
    pub tty: bool,
    /// Where output goes.
    pub log_driver: String,
    /// Input stays open.
    pub open_stdin: bool,
    /// Input closes with the first attacher.
    pub stdin_once: bool,
    /// Which snapshotter holds its root file system.
    pub snapshotter: String,
    /// Anonymous volumes.
    pub anonymous: Vec<String>,
    /// Networks that it joins, with the addresses that it asks for.
    pub networks: BTreeMap<String, Option<EndpointIpamConfig>>,
    /// The image's manifest.
    pub manifest: Option<engine_api::OciDescriptor>,
    /// Annotations.
    pub annotations: Option<StringMap>,
    /// The runtime's name.
    pub runtime: String,
    /// Who runs in it, unless an exec says otherwise.
    pub user: String,
    /// Groups of whoever runs in it.
    pub group_add: Vec<String>,
}

/// The command as the list shows it: what holds a space is quoted, and only that.
fn command_line(spec: &Spec) -> String {
    let mut line = spec.path.clone();
    for word in &spec.args {
        let quote = if word.contains(' ') { "'" } else { "" };
        for part in [" ", quote, word, quote] {
            line.push_str(part);
        }
    }
    line
}

impl Fixed {
    fn of(spec: &Spec) -> Self {
        Self {
            image: spec.config.image.clone(),
            image_id: spec.image.clone(),
            command: command_line(spec),
            created: spec.created,
            labels: spec.config.labels.clone().unwrap_or_default(),
            exposed: spec
                .config
                .exposed_ports
                .iter()
                .flatten()
                .map(|(port, ())| port.clone())
                .collect(),
            mounts: spec.mounts.iter().filter(|m| !m.hidden).map(|m| m.point.clone()).collect(),
            network_mode: spec.host.network_mode.clone(),
            tty: spec.config.tty,
            log_driver: spec.host.log_config.driver.clone(),
            open_stdin: spec.config.open_stdin,
            stdin_once: spec.config.stdin_once,
            snapshotter: spec.snapshotter.clone(),
            anonymous: spec
                .mounts
                .iter()
                .filter(|m| m.anonymous)
                .map(|m| m.point.name.clone())
                .collect(),
            networks: spec
                .endpoints
                .iter()
                .map(|(name, endpoint)| (name.clone(), endpoint.ipam_config.clone()))
                .collect(),
            manifest: spec.manifest.clone(),
            annotations: spec.host.annotations.clone(),
            runtime: spec.host.runtime.clone(),
            user: spec.config.user.clone(),
            group_add: spec.host.group_add.clone().unwrap_or_default(),
        }
    }
}

/// A container.
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    row: ArcSwap<Row>,
    machine: Mutex<Machine<Reply>>,
    cancel: Mutex<CancellationToken>,
    /// Mounts of the root file system, from create until the first start.
    pub(crate) mounts: Mutex<Option<Vec<Mount>>>,
    /// Where its layers lie, as `inspect` shows it; known once somebody asked.
    pub(crate) layers: OnceLock<StringMap>,
    /// Id and path of the sandbox of the present run.
    sandbox: Mutex<Option<(String, String)>>,
    /// The process whose detached sink has told all output; 0: none yet.
    drained: watch::Sender<u32>,
    /// Attachers that wait for the start.
    pub(crate) parked: Mutex<Vec<Parked>>,
    /// Its execs.
    pub execs: Execs,
    deps: Deps,
}

/// The machine's rules from a spec.
pub fn rules(spec: &Spec, default_timeout: Duration) -> Rules {
    let policy = &spec.host.restart_policy;
    let timeout = spec.config.stop_timeout.map(|s| u64::try_from(s).ok().map(Duration::from_secs));
    Rules {
        auto_remove: spec.host.auto_remove,
        policy: super::restart::Policy::parse(&policy.name, policy.maximum_retry_count)
            .unwrap_or_default(),
        stop_signal: crate::signals::parse(&spec.config.stop_signal).unwrap_or_default(),
        stop_timeout: timeout.unwrap_or(Some(default_timeout)),
    }
}

/// How long `stop` waits when nothing is said.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(10);

impl Container {
    /// A container as its records say.
    pub fn new(deps: Deps, spec: &Spec, state: State) -> Arc<Self> {
        let row = Row {
            fixed: Arc::new(Fixed::of(spec)),
            name: spec.name.clone(),
            state: state.clone(),
            removing: false,
        };
        Arc::new(Self {
            id: spec.id.clone(),
            row: ArcSwap::from_pointee(row),
            machine: Mutex::new(Machine::new(state, rules(spec, STOP_TIMEOUT))),
            cancel: Mutex::default(),
            mounts: Mutex::default(),
            layers: OnceLock::new(),
            sandbox: Mutex::default(),
            drained: watch::Sender::new(0),
            parked: Mutex::default(),
            execs: Execs::default(),
            deps,
        })
    }

    /// What lists show.
    pub fn row(&self) -> Arc<Row> {
        self.row.load_full()
    }

    /// The daemon around it.
    pub fn deps(&self) -> &Deps {
        &self.deps
    }

    /// Its full record.
    pub fn spec(&self) -> Result<Spec, String> {
        match records::spec(&self.deps.store, &self.id) {
            Ok(Some(spec)) => Ok(spec),
            Ok(None) => Err(format!("No such container: {}", self.id)),
            Err(e) => Err(e.to_string()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Machine<Reply>> {
        // A panic inside a step is a bug of the machine; the state it left is still the best known.
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks something and waits for the answer; dropping the future only drops the waiter.
    pub async fn ask(self: &Arc<Self>, message: impl FnOnce(Reply) -> Message<Reply>) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.deliver(Input::Message(message(reply)));
        answer.await.unwrap_or(Err(Refusal::Gone))
    }

    /// Asks something; the answer comes through the returned receiver.
    pub fn begin(
        self: &Arc<Self>,
        message: impl FnOnce(Reply) -> Message<Reply>,
    ) -> oneshot::Receiver<Answer> {
        let (reply, answer) = oneshot::channel();
        self.deliver(Input::Message(message(reply)));
        answer
    }

    /// One step of the machine, and what follows from it.
    pub fn deliver(self: &Arc<Self>, input: Input<Reply>) {
        let mut machine = self.lock();
        let outputs = machine.on(input, now());
        for output in outputs {
            self.perform(&mut machine, output);
        }
    }

    fn perform(self: &Arc<Self>, machine: &mut Machine<Reply>, output: Output<Reply>) {
        match output {
            Output::Record => self.record(machine),
            Output::Event(event) => self.publish(&event),
            Output::Reply(reply, answer) => {
                // Who left does not need the answer.
                let _ = reply.send(answer);
            }
            Output::Start(generation) => {
                let token = CancellationToken::new();
                *self.cancel.lock().unwrap_or_else(PoisonError::into_inner) = token.clone();
                self.deps.chores.spawn(start::run(Arc::clone(self), generation, token));
            }
            Output::CancelStart => {
                self.cancel.lock().unwrap_or_else(PoisonError::into_inner).cancel();
            }
            Output::Signal(signal, reply) => {
                tokio::spawn(teardown::signal(Arc::clone(self), signal, reply));
            }
            Output::Freeze(frozen, reply) => {
                tokio::spawn(teardown::freeze(Arc::clone(self), frozen, reply));
            }
            Output::Thaw => {
                tokio::spawn(teardown::thaw(Arc::clone(self)));
            }
            Output::TearDown(generation) => {
                crate::exec::run_over(&self.deps, self);
                self.deps.chores.spawn(teardown::run_ended(Arc::clone(self), generation));
            }
            Output::Forget(volumes) => self.forget(machine, volumes),
            Output::StopTimer(timer, after) => self.later(after, Input::StopExpired(timer)),
            Output::RestartTimer(timer, after) => self.later(after, Input::RestartDue(timer)),
        }
    }

    fn later(self: &Arc<Self>, after: Duration, input: Input<Reply>) {
        let container = Arc::downgrade(self);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(container) = container.upgrade() {
                container.deliver(input);
            }
        });
    }

    fn record(&self, machine: &mut Machine<Reply>) {
        machine.state.boot.clone_from(&self.deps.boot);
        let written = Batch::default()
            .put_json(records::STATES, self.id.as_bytes(), &machine.state)
            .and_then(|batch| self.deps.store.commit(Class::Crash, batch));
        if let Err(e) = written {
            error!("writing the state of container {}: {e}", self.id);
        }
        self.show(machine);
    }

    fn show(&self, machine: &Machine<Reply>) {
        let old = self.row.load();
        self.row.store(Arc::new(Row {
            fixed: Arc::clone(&old.fixed),
            name: old.name.clone(),
            state: machine.state.clone(),
            removing: machine.is_removing(),
        }));
    }

    /// Writes the tombstone in place of the records, frees the name, and begins the tear-down.
    fn forget(self: &Arc<Self>, machine: &Machine<Reply>, volumes: bool) {
        let row = self.row();
        let mut volumes = if volumes { row.fixed.anonymous.clone() } else { Vec::new() };
        if !volumes.is_empty() {
            // Another container may have taken one over with `--volumes-from`.
            let users = crate::volumes::users(&self.deps);
            volumes.retain(|name| users.get(name).is_none_or(|users| users.len() <= 1));
        }
        let tombstone = Tombstone { snapshotter: row.fixed.snapshotter.clone(), volumes };
        let mut batch = Batch::default().delete(records::SPECS, self.id.as_bytes());
        batch = batch.delete(records::STATES, self.id.as_bytes());
        for volume in &tombstone.volumes {
            batch = batch.delete(records::VOLUMES, volume.as_bytes());
        }
        let written = batch
            .put_json(records::TOMBSTONES, self.id.as_bytes(), &tombstone)
            .and_then(|batch| self.deps.store.commit(Class::Crash, batch));
        if let Err(e) = written {
            error!("removing the records of container {}: {e}", self.id);
        }
        self.show(machine);
        self.deps.drop_container(&self.id);
        for volume in &tombstone.volumes {
            self.deps.events.publish(
                "volume",
                "destroy",
                volume,
                StringMap::from([("driver".into(), "local".into())]),
            );
        }
        let burial = teardown::bury(Arc::clone(&self.deps), self.id.clone(), tombstone);
        self.deps.chores.spawn(burial);
    }

    /// Its record was changed: its name, limits, policy or networks.
    pub fn changed(&self, spec: &Spec) {
        let mut machine = self.lock();
        machine.rules = rules(spec, STOP_TIMEOUT);
        let old = self.row.load();
        let fixed = Arc::new(Fixed::of(spec));
        self.row.store(Arc::new(Row { name: spec.name.clone(), fixed, ..Row::clone(&old) }));
    }

    /// What its events carry: image, name, labels.
    pub fn attributes(&self) -> StringMap {
        let row = self.row.load();
        let mut attributes = row.fixed.labels.clone();
        attributes.insert("image".into(), row.fixed.image.clone());
        attributes.insert("name".into(), row.name.clone());
        attributes
    }

    /// Publishes an event of this container with further attributes.
    pub fn tell(&self, action: &str, more: &[(&str, String)]) {
        let mut attributes = self.attributes();
        attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        self.deps.events.publish("container", action, &self.id, attributes);
    }

    fn publish(&self, event: &Event) {
        match event {
            Event::Kill(signal) => self.tell("kill", &[("signal", signal.to_string())]),
            Event::Start => self.tell("start", &[]),
            Event::Disconnect => self.tell_disconnect(),
            Event::Stop => self.tell("stop", &[]),
            Event::Die(code, ran) => {
                self.tell(
                    "die",
                    &[("execDuration", ran.to_string()), ("exitCode", code.to_string())],
                );
            }
            Event::Restart => self.tell("restart", &[]),
            Event::Pause => self.tell("pause", &[]),
            Event::Unpause => self.tell("unpause", &[]),
            Event::Oom => self.tell("oom", &[]),
            Event::Destroy => self.tell("destroy", &[]),
        }
    }

    fn tell_disconnect(&self) {
        for mount in self.row.load().fixed.mounts.iter().filter(|m| m.kind == "volume") {
            let attributes = [
                ("container".to_owned(), self.id.clone()),
                ("driver".to_owned(), mount.driver.clone()),
            ];
            self.deps.events.publish("volume", "unmount", &mount.name, attributes.into());
        }
        for (network, name, driver) in super::network::joined(self) {
            self.deps.events.publish(
                "network",
                "disconnect",
                &network,
                network_attributes(&self.id, &name, &driver),
            );
        }
    }

    /// Its running process, if any.
    pub fn running(&self) -> Option<u32> {
        let row = self.row.load();
        row.state.phase.has_task().then_some(row.state.pid)
    }

    /// Whether its process runs and is not frozen.
    pub fn is_up(&self) -> bool {
        self.row.load().state.phase == Phase::Running
    }

    /// Id and path of the sandbox of the present run; unknown right after the daemon began.
    pub fn sandbox(&self) -> Option<(String, String)> {
        self.sandbox.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The detached sink of this process has told all output.
    pub(crate) fn set_drained(&self, pid: u32) {
        self.drained.send_replace(pid);
    }

    /// Completes once all output of this process is told by its detached sink.
    pub(crate) async fn output_drained(&self, pid: u32) {
        let mut drained = self.drained.subscribe();
        // The sender lives as long as the container does.
        let _ = drained.wait_for(|of| *of == pid).await;
    }

    /// Keeps what `inspect` shows of the sandbox.
    pub(crate) fn set_sandbox(&self, sandbox: &network::Sandbox) {
        let key =
            sandbox.key.as_ref().map(|k| k.to_string_lossy().into_owned()).unwrap_or_default();
        *self.sandbox.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((sandbox.id.to_string(), key));
    }

    /// The client of containerd.
    pub(crate) fn client(&self) -> &Client {
        &self.deps.client
    }

    /// The bus of events.
    pub(crate) fn events(&self) -> &Bus {
        &self.deps.events
    }

    /// The store of records.
    pub(crate) fn store(&self) -> &Store {
        &self.deps.store
    }
}

/// What a network's connect and disconnect carry.
pub fn network_attributes(container: &str, name: &str, driver: &str) -> StringMap {
    StringMap::from([
        ("container".to_owned(), container.to_owned()),
        ("name".to_owned(), name.to_owned()),
        ("type".to_owned(), driver.to_owned()),
    ])
}
