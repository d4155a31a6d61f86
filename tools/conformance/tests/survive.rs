//! Whoever is killed, containers go on, and neither a log line nor an exit code is lost.
//! Shown with counted lines.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use lab::{Engine, Kind, ours, run, wait_until};

const LINES: usize = 4000;
/// Prints numbered lines for about four seconds, then ends with 7.
const COUNT: &str = "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); \
                     [ $((i % 100)) = 0 ] && sleep 0.1; done; exit 7";

fn kill(pid: u32) {
    run("kill", ["-KILL", &pid.to_string()]).unwrap();
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
        let mark = engine.scratch().path().display().to_string();
        let sinks =
            run("pgrep", ["-f", &format!("containerd-shim-ferry-v2 sink.*{mark}")]).unwrap();
        for pid in sinks.stdout.split_whitespace() {
            kill(pid.parse().unwrap());
        }
    }
    std::thread::sleep(Duration::from_millis(300));
    engine.restart().unwrap();

    assert_eq!(docker(&engine, &["ps", "-q"]).lines().count(), 4, "{}", engine.log());
    assert_eq!(docker(&engine, &["exec", "typed", "echo", "in"]), "in\n");
    type_line(&engine, "typed", "after");
    for name in ["count1", "count2", "count3"] {
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
