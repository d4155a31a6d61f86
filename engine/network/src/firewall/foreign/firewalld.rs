//! firewalld refuses forwarded packets by a rule of its own table, which only it may change: our
//! bridges go into its zone `trusted`, asked for over the system bus. It may be slow, or starting,
//! so nothing waits for it on the way to a container: questions go out, answers come as events.
//!
//! A bridge that the administrator's permanent configuration puts into another zone stays there,
//! and so does one that somebody moves while we run (until firewalld is reloaded, which forgets
//! that): both are told in a warning unless that zone accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use dbus::{Address, Connection, Kind, Message, Rule, Value};

const NAME: &str = "org.fedoraproject.FirewallD1";
const PATH: &str = "/org/fedoraproject/FirewallD1";
const ZONE: &str = "org.fedoraproject.FirewallD1.zone";
const CONFIG: &str = "org.fedoraproject.FirewallD1.config";
const CONFIG_PATH: &str = "/org/fedoraproject/FirewallD1/config";
const BUS: &str = "org.freedesktop.DBus";
const TRUSTED: &str = "trusted";

/// The bus itself answers at once, or is in trouble.
const BUS_ANSWER: Duration = Duration::from_secs(2);
/// A bus in trouble is left alone for so long.
const BUS_PAUSE: Duration = Duration::from_secs(30);
/// firewalld refuses while it starts; asked again after this.
const AGAIN: Duration = Duration::from_millis(500);
/// And no more often than this, for one bridge, until it reloads.
const ATTEMPTS: u32 = 40;

/// What a bridge is waiting for, or how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Asked,
    Trusted,
    /// Somebody else's decision.
    Elsewhere {
        zone: String,
        accepts: bool,
    },
    Failed(String),
}

/// What an answer will be to.
#[derive(Clone, Debug)]
enum Question {
    /// In which zone is it?
    Zone,
    /// And in the permanent configuration?
    Permanent { zone: String },
    /// What does that zone do?
    Settings { zone: String },
    /// Put it into `trusted`.
    Put,
}

#[derive(Debug)]
struct Bridge {
    state: State,
    attempts: u32,
}

/// The bus, firewalld's presence, and each bridge's zone.
#[derive(Debug)]
pub(super) struct Firewalld {
    address: Option<Address>,
    bus: Option<Connection>,
    not_before: Option<Instant>,
    /// Whether it runs, for this network namespace.
    present: bool,
    bridges: BTreeMap<String, Bridge>,
    asked: BTreeMap<u32, (String, Question)>,
    again: Option<Instant>,
}

impl Firewalld {
    pub(super) fn new(address: Option<Address>) -> Self {
        Self {
            address,
            bus: None,
            not_before: None,
            present: false,
            bridges: BTreeMap::new(),
            asked: BTreeMap::new(),
            again: None,
        }
    }

    /// Wants exactly these bridges trusted. Those that we put there and no longer want are taken
    /// out: firewalld remembers links that are gone.
    pub(super) fn keep(&mut self, links: &BTreeSet<String>) {
        if self.bus.is_none() && !links.is_empty() {
            self.connect();
        }
        let gone: Vec<String> =
            self.bridges.keys().filter(|name| !links.contains(*name)).cloned().collect();
        for name in gone {
            let ours = self.bridges.remove(&name).is_some_and(|b| b.state == State::Trusted);
            if ours && self.present {
                let call = zone_call("removeInterface").with(TRUSTED).with(name.as_str());
                self.send(call.without_reply());
            }
        }
        for name in links {
            if !self.bridges.contains_key(name) {
                let bridge = Bridge { state: State::Asked, attempts: 0 };
                self.bridges.insert(name.clone(), bridge);
                self.ask(name);
            }
        }
    }

    /// Opens the bus when it is there, and asks again what failed.
    pub(super) fn connect(&mut self) {
        let due = self.not_before.is_none_or(|at| Instant::now() >= at);
        if self.bus.is_none()
            && due
            && let Some(address) = &self.address
            && let Some(bus) = open(address, &mut self.not_before)
        {
            self.bus = Some(bus);
            self.arrive();
        }
        if self.again.is_some_and(|at| Instant::now() >= at) {
            self.again = None;
            let failed = |b: &Bridge| matches!(b.state, State::Failed(_));
            let names = self.bridges.iter().filter(|(_, b)| failed(b));
            let names: Vec<String> = names.map(|(name, _)| name.clone()).collect();
            for name in names {
                self.ask(&name);
            }
        }
    }

    /// firewalld appeared, or forgot: every bridge is asked about anew.
    fn arrive(&mut self) {
        self.asked.clear();
        self.present = match &mut self.bus {
            Some(bus) => here(bus),
            None => false,
        };
        let names: Vec<String> = self.bridges.keys().cloned().collect();
        for name in names {
            if let Some(bridge) = self.bridges.get_mut(&name) {
                *bridge = Bridge { state: State::Asked, attempts: 0 };
            }
            self.ask(&name);
        }
    }

    fn ask(&mut self, name: &str) {
        if self.present {
            let call = zone_call("getZoneOfInterface").with(name);
            self.question(name, Question::Zone, call);
        }
    }

    fn question(&mut self, name: &str, question: Question, call: Message) {
        if let Some(serial) = self.send(call) {
            self.asked.insert(serial, (name.to_owned(), question));
        }
    }

    fn send(&mut self, call: Message) -> Option<u32> {
        let sent = self.bus.as_mut()?.send(&call);
        match sent {
            Ok(serial) => Some(serial),
            Err(error) => {
                self.lose(&error);
                None
            }
        }
    }

    fn lose(&mut self, error: &dbus::Error) {
        tracing::debug!(%error, "system bus lost");
        self.bus = None;
        self.present = false;
        self.asked.clear();
    }

    /// Takes answers and signals; true when a warning may have changed.
    pub(super) fn hear(&mut self) -> bool {
        let mut heard = false;
        while let Some(message) = self.next(Duration::ZERO) {
            self.take(&message);
            heard = true;
        }
        heard
    }

    fn next(&mut self, limit: Duration) -> Option<Message> {
        match self.bus.as_mut()?.receive(limit) {
            Ok(message) => message,
            Err(error) => {
                self.lose(&error);
                None
            }
        }
    }

    /// Waits until nothing is asked any more.
    pub(super) fn settle(&mut self, limit: Duration) {
        let end = Instant::now() + limit;
        while !self.asked.is_empty() {
            let Some(message) = self.next(end.saturating_duration_since(Instant::now())) else {
                return;
            };
            self.take(&message);
        }
    }

    fn take(&mut self, message: &Message) {
        match message.kind {
            Kind::Call if message.wants_reply() => {
                let error = "org.freedesktop.DBus.Error.UnknownMethod";
                self.send(message.refuse(error, "nothing is served here"));
            }
            Kind::Call => {}
            Kind::Signal => self.signal(message),
            Kind::Reply | Kind::Error => {
                let asked = message.reply_to.and_then(|serial| self.asked.remove(&serial));
                // Who is no longer wanted is not asked about further.
                if let Some((name, question)) = asked
                    && self.bridges.contains_key(&name)
                {
                    self.answer(&name, question, message);
                }
            }
        }
    }

    fn signal(&mut self, message: &Message) {
        let text = |at: usize| message.body.get(at).and_then(Value::as_text).unwrap_or_default();
        if message.is_signal(BUS, "NameOwnerChanged") && text(0) == NAME {
            self.present = false;
            if !text(2).is_empty() {
                self.arrive();
            }
        } else if message.is_signal(NAME, "Reloaded") {
            self.arrive();
        } else if message.is_signal(ZONE, "InterfaceRemoved") && self.bridges.contains_key(text(1))
        {
            self.ask(text(1));
        } else if message.is_signal(ZONE, "ZoneOfInterfaceChanged")
            || message.is_signal(ZONE, "InterfaceAdded")
        {
            let (zone, name) = (text(0), text(1));
            if zone == TRUSTED {
                self.set(name, State::Trusted);
            } else if self.bridges.contains_key(name) {
                self.look_at(name, zone);
            }
        }
    }

    fn set(&mut self, name: &str, state: State) {
        if let Some(bridge) = self.bridges.get_mut(name) {
            bridge.state = state;
        }
    }

    /// The bridge stays in that zone; whether it matters is the zone's settings' affair.
    fn look_at(&mut self, name: &str, zone: &str) {
        let call = zone_call("getZoneSettings2").with(zone);
        self.question(name, Question::Settings { zone: zone.to_owned() }, call);
    }

    fn answer(&mut self, name: &str, question: Question, message: &Message) {
        let text = message.body.first().and_then(Value::as_text).unwrap_or_default();
        if message.kind == Kind::Error && !matches!(question, Question::Settings { .. }) {
            self.fail(name, text);
            return;
        }
        match question {
            Question::Zone if text == TRUSTED => self.set(name, State::Trusted),
            Question::Zone if text.is_empty() => {
                let call = zone_call("addInterface").with(TRUSTED).with(name);
                self.question(name, Question::Put, call);
            }
            Question::Zone => {
                let call = Message::call(CONFIG_PATH, "getZoneOfInterface").to(NAME).on(CONFIG);
                let zone = text.to_owned();
                self.question(name, Question::Permanent { zone }, call.with(name));
            }
            Question::Permanent { zone } if zone == text => self.look_at(name, &zone),
            Question::Permanent { .. } => {
                let call = zone_call("changeZoneOfInterface").with(TRUSTED).with(name);
                self.question(name, Question::Put, call);
            }
            Question::Put => {
                self.set(name, State::Trusted);
                tracing::info!(bridge = name, "put into firewalld's zone trusted");
            }
            Question::Settings { zone } => {
                let target = message.body.first().and_then(|all| all.get("target"));
                let accepts = target.and_then(Value::as_text) == Some("ACCEPT");
                self.set(name, State::Elsewhere { zone, accepts });
            }
        }
    }

    fn fail(&mut self, name: &str, text: &str) {
        let Some(bridge) = self.bridges.get_mut(name) else { return };
        bridge.attempts += 1;
        bridge.state = State::Failed(text.to_owned());
        if bridge.attempts < ATTEMPTS {
            self.again = Some(Instant::now() + AGAIN);
        }
    }

    /// What keeps packets of bridges from passing; `table`: firewalld's rules are in the kernel.
    pub(super) fn warnings(&self, table: bool) -> Vec<String> {
        let line = |name: &str, verb: &str| {
            format!("firewall-cmd --zone={TRUSTED} --{verb}-interface={name}")
        };
        let one = |(name, bridge): (&String, &Bridge)| match &bridge.state {
            State::Failed(why) => Some(format!(
                "containers of bridge {name} may be cut off: firewalld did not take it into its zone {TRUSTED}: {why}; to let them pass: {}",
                line(name, "add")
            )),
            State::Elsewhere { zone, accepts: false } => Some(format!(
                "bridge {name} is in firewalld's zone {zone}, which may cut its containers off; to let them pass: {}",
                line(name, "change")
            )),
            State::Asked if table && !self.present => Some(format!(
                "containers of bridge {name} may be cut off: firewalld's rules are loaded and it can't be asked over the system bus; to let them pass: {}",
                line(name, "add")
            )),
            _ => None,
        };
        self.bridges.iter().filter_map(one).collect()
    }

    pub(super) fn again(&self) -> Option<Duration> {
        self.again.map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub(super) fn waker(&self) -> Option<BorrowedFd<'_>> {
        self.bus.as_ref().map(AsFd::as_fd)
    }
}

fn zone_call(member: &str) -> Message {
    Message::call(PATH, member).to(NAME).on(ZONE).without_start()
}

/// Opens the bus and hears of firewalld from then on; `None`, with a pause, where that fails.
fn open(address: &Address, not_before: &mut Option<Instant>) -> Option<Connection> {
    let opened = Connection::open(address, BUS_ANSWER).and_then(|mut bus| {
        let owner = Rule::signals().from(BUS).member("NameOwnerChanged").first_argument(NAME);
        let reload = Rule::signals().from(NAME).on(NAME).member("Reloaded");
        for rule in [owner, reload, Rule::signals().from(NAME).on(ZONE)] {
            bus.subscribe(&rule, BUS_ANSWER)?;
        }
        Ok(bus)
    });
    match opened {
        Ok(bus) => Some(bus),
        // Without a bus there is no firewalld, and asking costs next to nothing.
        Err(dbus::Error::Connect { .. }) => None,
        Err(error) => {
            tracing::warn!(%error, "system bus can't be used to ask firewalld");
            *not_before = Some(Instant::now() + BUS_PAUSE);
            None
        }
    }
}

/// Whether firewalld runs, and for the network namespace that we are in: a bus may be shared with
/// namespaces whose links it knows nothing of.
fn here(bus: &mut Connection) -> bool {
    let Ok(pid) = bus.process_of(NAME, BUS_ANSWER) else { return false };
    let namespace = |path: String| std::fs::read_link(path).ok();
    let (theirs, ours) = (
        namespace(format!("/proc/{pid}/ns/net")),
        namespace("/proc/thread-self/ns/net".to_owned()),
    );
    // Where it can't be seen it is taken for ours.
    theirs.is_none() || theirs == ours
}
