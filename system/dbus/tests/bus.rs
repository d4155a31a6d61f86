//! The client against the reference bus, each test with a bus of its own in a private folder.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dbus::{Address, Connection, Error, Kind, Message, Rule, Value};
use rustix::event::{PollFd, PollFlags, poll};

const LONG: Duration = Duration::from_secs(60);

const CONFIG: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=FOLDER/bus</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"#;

struct Bus {
    daemon: Child,
    folder: tempfile::TempDir,
}

impl Bus {
    /// `None`, said loudly, where there is no dbus-daemon.
    fn start() -> Option<Self> {
        if !Path::new("/usr/bin/dbus-daemon").exists() {
            eprintln!("SKIPPED: dbus: needs dbus-daemon (cargo xtask setup)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("bus.conf");
        let text = CONFIG.replace("FOLDER", folder.path().to_str().unwrap());
        std::fs::write(&config, text).unwrap();
        let mut daemon = Command::new("/usr/bin/dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--print-address=1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It prints its address once it listens.
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("unix:"), "{line}");
        Some(Self { daemon, folder })
    }

    fn address(&self) -> Address {
        Address::parse(&format!("unix:path={}/bus", self.folder.path().display())).unwrap()
    }

    fn connect(&self) -> Connection {
        Connection::open(&self.address(), LONG).unwrap()
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// The next message but for what the bus says of our own name.
fn next(me: &mut Connection, limit: Duration) -> Option<Message> {
    loop {
        let message = me.receive(limit).unwrap()?;
        if !message.is_signal("org.freedesktop.DBus", "NameAcquired") {
            return Some(message);
        }
    }
}

fn to_bus(member: &str) -> Message {
    Message::call("/org/freedesktop/DBus", member)
        .to("org.freedesktop.DBus")
        .on("org.freedesktop.DBus")
}

fn everything() -> Vec<Value> {
    let entries = [
        Value::entry(Value::text("one"), Value::variant(Value::I16(-7))),
        Value::entry(Value::text("two"), Value::variant(Value::texts(["a", "ü"]))),
    ];
    vec![
        Value::Byte(200),
        Value::Bool(true),
        Value::I16(-2),
        Value::U16(65535),
        Value::I32(i32::MIN),
        Value::U32(u32::MAX),
        Value::I64(i64::MIN),
        Value::U64(u64::MAX),
        Value::F64(0.5),
        Value::text("text"),
        Value::Path("/org/x".into()),
        Value::Signature("a{sv}".into()),
        Value::Bytes(vec![1, 2, 3]),
        Value::array("(sv)", [Value::pair("Slice", Value::text("system.slice"))]),
        Value::array("(sa(sv))", []),
        Value::array("{sv}", entries),
        Value::Struct(vec![Value::Byte(1), Value::Struct(vec![Value::U64(2)])]),
        Value::variant(Value::variant(Value::array("ay", [Value::Bytes(vec![9])]))),
    ]
}

#[test]
fn hello_gives_a_name_and_the_bus_answers_calls() {
    let Some(bus) = Bus::start() else { return };
    let mut me = bus.connect();
    let name = me.unique_name().unwrap().to_owned();
    assert!(name.starts_with(":1."));
    let names = me.call(to_bus("ListNames"), LONG).unwrap();
    let names: Vec<_> = names.body[0].items().iter().filter_map(Value::as_text).collect();
    assert!(names.contains(&"org.freedesktop.DBus") && names.contains(&name.as_str()));
    assert_eq!(me.process_of(&name, LONG).unwrap(), std::process::id());
    assert!(me.is_owned(&name, LONG).unwrap() && !me.is_owned("no.Body", LONG).unwrap());
}

#[test]
fn an_error_reply_names_the_call_and_the_error() {
    let Some(bus) = Bus::start() else { return };
    let mut me = bus.connect();
    let error = me.call(to_bus("Nonsense"), LONG).unwrap_err();
    assert_eq!(error.name(), Some("org.freedesktop.DBus.Error.UnknownMethod"));
    assert!(error.to_string().starts_with("org.freedesktop.DBus.Nonsense: "), "{error}");
    // Nothing was sent that would have ended the connection.
    assert!(matches!(me.call(to_bus("bad name"), LONG), Err(Error::Invalid(_))));
    let call = Message::call("/x", "Y").to("not.There").without_start();
    let error = me.call(call, LONG).unwrap_err();
    assert_eq!(error.name(), Some("org.freedesktop.DBus.Error.NameHasNoOwner"));
    me.call(to_bus("ListNames"), LONG).unwrap();
}

#[test]
fn every_type_travels_through_the_bus_and_back() {
    let Some(bus) = Bus::start() else { return };
    let (mut me, mut other) = (bus.connect(), bus.connect());
    let call = |body: Vec<Value>| {
        let mut message =
            Message::call("/echo", "Echo").on("test.Echo").to(other.unique_name().unwrap());
        message.body = body;
        message
    };
    let (small, large) = (call(everything()), call(vec![Value::Bytes(vec![7; 1 << 20])]));
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let asked = next(&mut other, LONG).unwrap();
            assert_eq!(asked.member.as_deref(), Some("Echo"));
            assert!(asked.wants_reply());
            let mut reply = asked.reply();
            reply.body.clone_from(&asked.body);
            other.send(&reply).unwrap();
        }
        let asked = next(&mut other, LONG).unwrap();
        other.send(&asked.refuse("test.Echo.Full", "no more")).unwrap();
        other
    });
    assert_eq!(me.call(small, LONG).unwrap().body, everything());
    let reply = me.call(large.clone(), LONG).unwrap();
    assert_eq!(reply.body, large.body);
    let error = me.call(large, LONG).unwrap_err();
    assert_eq!(error.to_string(), "test.Echo.Echo: test.Echo.Full: no more");
    drop(server.join().unwrap());
}

#[test]
fn signals_that_a_rule_matches_arrive_also_while_a_reply_is_awaited() {
    let Some(bus) = Bus::start() else { return };
    let (mut me, mut other) = (bus.connect(), bus.connect());
    let name = other.unique_name().unwrap().to_owned();
    let rule = Rule::signals().from(&name).of("/a").on("b.C").member("D").first_argument("it's");
    me.subscribe(&rule, LONG).unwrap();
    let owner = Rule::signals()
        .from("org.freedesktop.DBus")
        .member("NameOwnerChanged")
        .first_argument(&name);
    me.subscribe(&owner, LONG).unwrap();
    for (member, text) in [("D", "other"), ("E", "it's"), ("D", "it's")] {
        other.send(&Message::signal("/a", "b.C", member).with(text)).unwrap();
    }
    // The signals are on their way before this is answered.
    other.call(to_bus("ListNames"), LONG).unwrap();
    me.call(to_bus("ListNames"), LONG).unwrap();
    let got = next(&mut me, Duration::ZERO).unwrap();
    assert!(got.is_signal("b.C", "D"), "{got:?}");
    assert_eq!(got.body[0].as_text(), Some("it's"));
    assert_eq!(got.sender.as_deref(), Some(name.as_str()));
    assert_eq!(next(&mut me, Duration::ZERO), None);
    // A poll loop is woken by the next.
    drop(other);
    poll(&mut [PollFd::from_borrowed_fd(me.as_fd(), PollFlags::IN)], None).unwrap();
    let got = next(&mut me, LONG).unwrap();
    assert!(got.is_signal("org.freedesktop.DBus", "NameOwnerChanged"));
    assert_eq!(got.body[2].as_text(), Some(""));
}

#[test]
fn a_call_that_nobody_answers_ends_at_its_deadline_and_its_late_reply_does_no_harm() {
    let Some(bus) = Bus::start() else { return };
    let (mut me, mut other) = (bus.connect(), bus.connect());
    let call = Message::call("/x", "Slow").to(other.unique_name().unwrap());
    let error = me.call(call, Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error}");
    let asked = next(&mut other, LONG).unwrap();
    other.send(&asked.reply().with("late")).unwrap();
    me.call(to_bus("ListNames"), LONG).unwrap();
    let late = next(&mut me, LONG).unwrap();
    assert_eq!((late.kind, late.body[0].as_text()), (Kind::Reply, Some("late")));
}

#[test]
fn several_calls_may_be_under_way_and_are_told_apart_by_number() {
    let Some(bus) = Bus::start() else { return };
    let mut me = bus.connect();
    let first = me.send(&to_bus("ListNames")).unwrap();
    let second = me.send(&to_bus("GetId")).unwrap();
    let replies = [next(&mut me, LONG).unwrap(), next(&mut me, LONG).unwrap()];
    let numbers: Vec<_> = replies.iter().filter_map(|r| r.reply_to).collect();
    assert_eq!(numbers, [first, second]);
    me.send(&to_bus("ListNames").without_reply()).unwrap();
    me.call(to_bus("GetId"), LONG).unwrap();
}

#[test]
fn a_bus_that_dies_is_an_error_at_once_and_from_then_on() {
    let Some(mut bus) = Bus::start() else { return };
    let mut me = bus.connect();
    bus.daemon.kill().unwrap();
    bus.daemon.wait().unwrap();
    assert!(matches!(me.call(to_bus("ListNames"), LONG), Err(Error::Closed(_))));
    assert!(matches!(me.call(to_bus("ListNames"), LONG), Err(Error::Closed(_))));
    let again = Connection::open(&bus.address(), LONG).unwrap_err();
    assert!(again.to_string().starts_with("connect to D-Bus at unix:path="), "{again}");
}

#[test]
fn programs_of_others_understand_us_and_we_them() {
    let Some(bus) = Bus::start() else { return };
    if !Path::new("/usr/bin/dbus-send").exists() {
        eprintln!("SKIPPED: dbus: needs dbus-send (cargo xtask setup)");
        return;
    }
    let mut me = bus.connect();
    me.call(to_bus("RequestName").with("test.Echo").with(0u32), LONG).unwrap();
    let args = [
        "string:hällo",
        "int16:-3",
        "uint64:18446744073709551615",
        "double:0.5",
        "byte:7",
        "boolean:true",
        "objpath:/a/b",
        "array:string:x,y",
        "dict:string:int32:a,1,b,-2",
        "variant:uint32:5",
    ];
    let send = Command::new("/usr/bin/dbus-send")
        .arg(format!("--bus={}", bus.address().as_str()))
        .args(["--print-reply", "--dest=test.Echo", "/obj", "test.Echo.Echo"])
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let asked = next(&mut me, LONG).unwrap();
    let entry = |key: &str, n: i32| Value::entry(Value::text(key), Value::I32(n));
    assert_eq!(
        asked.body,
        [
            Value::text("hällo"),
            Value::I16(-3),
            Value::U64(u64::MAX),
            Value::F64(0.5),
            Value::Byte(7),
            Value::Bool(true),
            Value::Path("/a/b".into()),
            Value::texts(["x", "y"]),
            Value::array("{si}", [entry("a", 1), entry("b", -2)]),
            Value::variant(Value::U32(5)),
        ]
    );
    let mut reply = asked.reply();
    reply.body = everything();
    me.send(&reply).unwrap();
    let out = send.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}");
    for line in ["uint64 18446744073709551615", "string \"Slice\"", "string \"ü\"", "int16 -7"] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}
