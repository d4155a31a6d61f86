//! Whoever is killed, containers go on, and neither a log line nor an exit code is lost.
//! Shown with counted lines.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use lab::{Engine, Kind, ours, run, wait_until};

const LINES: usize = 4000;
/// Prints numbered lines for some seconds, the last ones after a word, then ends with 7.
const COUNT: &str = "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); \
                     [ $((i % 100)) = 0 ] && sleep 0.1; \
                     while [ $i = 3900 -a ! -e /go ]; do sleep 0.1; done; done; exit 7";

fn kill(pid: u32) {
    run("kill", ["-KILL", &pid.to_string()]).unwrap();
}

fn kill_all_sinks(engine: &Engine) {
    let mark = engine.scratch().path().display().to_string();
    let sinks = run("pgrep", ["-f", &format!("containerd-shim-ferry-v2 sink.*{mark}")]).unwrap();
    for pid in sinks.stdout.split_whitespace() {
        kill(pid.parse().unwrap());
    }
}

fn docker(engine: &Engine, words: &[&str]) -> String {
    engine.stock_cli(words).unwrap().success().unwrap()
}

fn assert_all_lines(engine: &Engine, name: &str) {
    let log = docker(engine, &["logs", name]);
    let lines: Vec<&str> = log.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(*line, format!("line {number}"), "{name}: line {number} of {}", lines.len());
    }
    assert_eq!(lines.len(), LINES, "{name}");
}

/// Types a line into a container that has its stdin open.
fn type_line(engine: &Engine, name: &str, text: &str) {
    let cli = engine.stock_cli_path().unwrap();
    let mut attach = engine.client(&cli);
    attach.args(["attach", "--sig-proxy=false", name]);
    let mut child = attach.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.as_mut().unwrap().write_all(format!("{text}\n").as_bytes()).unwrap();
    let seen = || docker(engine, &["logs", name]).lines().any(|line| line == text);
    wait_until(text, Duration::from_secs(10), seen).unwrap();
    // Gone without a good-bye: a lost connection never closes a container's stdin.
    child.kill().unwrap();
    child.wait().unwrap();
}

fn daemons_die_and_nothing_is_lost(runtime: &[&str], kill_sinks: bool) {
    let mut engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    let start = |name: &str, extra: &[&str], command: &[&str]| {
        let words =
            [&["run", "-d", "--name", name], runtime, extra, &["busybox"], command].concat();
        docker(&engine, &words);
    };
    for name in ["count1", "count2", "count3"] {
        start(name, &[], &["sh", "-c", COUNT]);
    }
    start("typed", &["-i"], &["cat"]);
    type_line(&engine, "typed", "before");

    engine.kill();
    std::thread::sleep(Duration::from_millis(300));
    for pid in engine.supervisor_pids() {
        kill(pid);
    }
    if kill_sinks {
        kill_all_sinks(&engine);
    }
    std::thread::sleep(Duration::from_millis(300));
    engine.restart().unwrap();

    assert_eq!(docker(&engine, &["ps", "-q"]).lines().count(), 4, "{}", engine.log());
    assert_eq!(docker(&engine, &["exec", "typed", "echo", "in"]), "in\n");
    type_line(&engine, "typed", "after");
    for name in ["count1", "count2", "count3"] {
        docker(&engine, &["exec", name, "touch", "/go"]);
        assert_eq!(docker(&engine, &["wait", name]), "7\n", "{name}");
        assert_all_lines(&engine, name);
    }
    assert_eq!(docker(&engine, &["logs", "typed"]), "before\nafter\n");
    docker(&engine, &["stop", "-t", "1", "typed"]);
    assert_eq!(docker(&engine, &["inspect", "-f", "{{.State.Running}}", "typed"]), "false\n");
}

#[test]
fn killed_daemons_lose_no_line_no_exit_code_and_no_stdin() {
    lab::require!("docker");
    daemons_die_and_nothing_is_lost(&[], false);
}

#[test]
fn killed_daemons_and_sinks_lose_nothing_with_the_stock_shim() {
    lab::require!("docker", "containerd-shim-runc-v2", "runc");
    daemons_die_and_nothing_is_lost(&["--runtime", "io.containerd.runc.v2"], true);
}

#[test]
fn an_exit_while_both_daemons_are_down_is_known_after_the_restart() {
    lab::require!("docker");
    let mut engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    docker(
        &engine,
        &["run", "-d", "--name", "late", "busybox", "sh", "-c", "sleep 1; echo done; exit 9"],
    );
    engine.kill();
    for pid in engine.supervisor_pids() {
        kill(pid);
    }
    std::thread::sleep(Duration::from_secs(2));
    engine.restart().unwrap();
    assert_eq!(docker(&engine, &["wait", "late"]), "9\n");
    assert_eq!(docker(&engine, &["logs", "late"]), "done\n");
}

#[test]
fn a_killed_shim_ends_its_own_container_only_with_137() {
    lab::require!("docker");
    let engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    let victim = docker(&engine, &["run", "-d", "--name", "victim", "busybox", "sleep", "1000"]);
    docker(&engine, &["run", "-d", "--name", "other", "busybox", "sleep", "1000"]);
    let shim = engine.shim_pids().into_iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|line| line.contains(victim.trim()))
    });
    kill(shim.expect("the victim has a shim"));
    assert_eq!(docker(&engine, &["wait", "victim"]), "137\n");
    assert_eq!(docker(&engine, &["inspect", "-f", "{{.State.Status}}", "other"]), "running\n");
    assert_eq!(docker(&engine, &["exec", "other", "echo", "alive"]), "alive\n");
}

#[test]
fn ferry_reads_what_the_stock_client_reads_after_a_restart() {
    lab::require!("docker");
    assert!(ours("ferry").is_some(), "ferry is not built");
    let mut engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    docker(
        &engine,
        &["run", "-d", "--name", "one", "busybox", "sh", "-c", "echo first; sleep 1000"],
    );
    engine.kill();
    engine.restart().unwrap();
    assert_eq!(engine.ferry(&["logs", "one"]).unwrap().success().unwrap(), "first\n");
    assert_eq!(engine.ferry(&["ps", "-q"]).unwrap().stdout, docker(&engine, &["ps", "-q"]));
}

/// Makes an exec by the API, as clients that are gone later do; its id.
fn exec(engine: &Engine, container: &str, command: &str) -> String {
    let path = format!("/containers/{container}/exec");
    let reply = post(engine, &path, &format!(r#"{{"Cmd":["sh","-c",{command:?}]}}"#));
    let id = reply.split("\"Id\":\"").nth(1).and_then(|rest| rest.split('"').next());
    id.unwrap_or_else(|| panic!("{reply}")).to_owned()
}

fn start_exec(engine: &Engine, id: &str) -> String {
    post(engine, &format!("/exec/{id}/start"), r#"{"Detach":true}"#)
}

fn inspect_exec(engine: &Engine, id: &str) -> serde_json::Value {
    let reply = ask(engine, "GET", &format!("/exec/{id}/json"), "");
    serde_json::from_str(reply.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

fn post(engine: &Engine, path: &str, body: &str) -> String {
    ask(engine, "POST", path, body)
}

fn ask(engine: &Engine, method: &str, path: &str, body: &str) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(engine.scratch().join("s")).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n");
    let kind = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    stream.write_all(format!("{head}{kind}\r\n{body}").as_bytes()).unwrap();
    let mut reply = String::new();
    std::io::Read::read_to_string(&mut stream, &mut reply).unwrap();
    reply
}

/// Waits until an exec has ended; its exit code.
fn exit_of(engine: &Engine, id: &str) -> i64 {
    let code = || inspect_exec(engine, id)["ExitCode"].as_i64();
    wait_until("the exit of an exec", Duration::from_secs(30), || code().is_some()).unwrap();
    code().unwrap()
}

fn execs_outlive_the_daemons(runtime: &[&str], kill_sinks: bool) {
    let mut engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    let run = [&["run", "-d", "--name", "cc"], runtime, &["busybox", "sleep", "1000"]].concat();
    docker(&engine, &run);
    let [stays, ends, talks, ended, waits] = [
        "exec sleep 1000",
        "while [ ! -e /end ]; do sleep 0.1; done; exit 5",
        // More than pipe and FIFO hold: it goes on only if somebody reads.
        "while [ ! -e /end ]; do sleep 0.1; done; head -c 3000000 /dev/zero; exit 6",
        "exit 7",
        "exit 8",
    ]
    .map(|command| exec(&engine, "cc", command));
    for id in [&stays, &ends, &talks, &ended] {
        assert!(start_exec(&engine, id).starts_with("HTTP/1.1 200"));
    }
    assert_eq!(exit_of(&engine, &ended), 7);
    let pid = inspect_exec(&engine, &stays)["Pid"].clone();

    engine.kill();
    for pid in engine.supervisor_pids() {
        kill(pid);
    }
    if kill_sinks {
        kill_all_sinks(&engine);
    }
    let rootfs = format!("/proc/{pid}/root/end");
    std::fs::write(rootfs, "").unwrap();
    engine.restart().unwrap();

    let ids = docker(&engine, &["inspect", "-f", "{{json .ExecIDs}}", "cc"]);
    assert!(ids.contains(&stays) && !ids.contains(&ended), "{ids}");
    let state = inspect_exec(&engine, &stays);
    assert_eq!((&state["Running"], &state["Pid"]), (&true.into(), &pid));
    assert_eq!(exit_of(&engine, &ends), 5);
    assert_eq!(exit_of(&engine, &talks), 6);
    assert_eq!(exit_of(&engine, &ended), 7);
    assert!(start_exec(&engine, &ended).contains("has already run"));
    assert!(start_exec(&engine, &stays).contains("is already running"));
    assert!(start_exec(&engine, &waits).starts_with("HTTP/1.1 200"));
    assert_eq!(exit_of(&engine, &waits), 8);
    docker(&engine, &["kill", "cc"]);
    assert_eq!(exit_of(&engine, &stays), 137);
}

#[test]
fn execs_outlive_the_daemons_with_their_exit_codes() {
    lab::require!("docker");
    execs_outlive_the_daemons(&[], false);
}

#[test]
fn execs_outlive_the_daemons_and_their_sinks_with_the_stock_shim() {
    lab::require!("docker", "containerd-shim-runc-v2", "runc");
    execs_outlive_the_daemons(&["--runtime", "io.containerd.runc.v2"], true);
}

#[test]
fn inspect_tells_the_same_after_a_restart() {
    lab::require!("docker");
    let mut engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    docker(&engine, &["network", "create", "--subnet", "10.50.0.0/24", "n1"]);
    let on_n = ["--network", "n1", "--ip", "10.50.0.9", "--network-alias", "x"];
    for (name, extra) in [
        ("plain", &["--mac-address", "02:42:ac:11:00:99"][..]),
        ("own", &on_n),
        ("host", &["--network", "host"]),
        ("none", &["--network", "none"]),
        ("shared", &["--network", "container:own"]),
        ("frozen", &["-v", "/data", "--memory", "64m"]),
    ] {
        let run = [&["run", "-d", "--name", name], extra, &["busybox", "sleep", "1000"]].concat();
        docker(&engine, &run);
    }
    docker(&engine, &["pause", "frozen"]);
    docker(&engine, &["create", "--name", "new", "busybox", "true"]);
    docker(&engine, &["run", "--name", "over", "busybox", "true"]);
    let names = ["plain", "own", "host", "none", "shared", "frozen", "new", "over"];
    let inspect = [&["inspect", "-s"][..], &names].concat();
    let (inspected, listed) = (docker(&engine, &inspect), docker(&engine, &["ps", "-aq"]));
    engine.kill();
    engine.restart().unwrap();
    assert_eq!(docker(&engine, &inspect), inspected);
    assert_eq!(docker(&engine, &["ps", "-aq"]), listed);
}
