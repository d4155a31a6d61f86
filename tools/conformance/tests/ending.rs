//! How the daemons begin and end: one for each root, together in order, and on demand.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{Engine, Kind, ours, run, wait_until};

fn docker(engine: &Engine, words: &[&str]) -> String {
    engine.stock_cli(words).unwrap().success().unwrap()
}

fn alive(pid: &str) -> bool {
    Path::new("/proc").join(pid.trim()).exists()
}

/// The words of an engine's daemon with other values for some of its flags.
fn words_with(engine: &Engine, changes: &[(&str, &str)]) -> Vec<String> {
    let mut words = engine.words().to_vec();
    for (flag, value) in changes {
        let at = words.iter().position(|word| word == flag).unwrap();
        words[at + 1] = String::from(*value);
    }
    words
}

#[test]
fn a_root_in_use_is_refused_with_the_name_of_who_uses_it() {
    lab::require!("docker");
    let mut engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    let at = |name: &str| engine.scratch().join(name).display().to_string();
    let (data, exec) = (at("data"), at("exec"));
    let (other, socket) = (at("other"), format!("unix://{}", at("other.sock")));
    let second = |root: &str| {
        let changes =
            [(root, other.as_str()), ("--pidfile", "/dev/null/no"), ("--host", socket.as_str())];
        let words = words_with(&engine, &changes);
        let said = run(&words[0], &words[1..]).unwrap();
        assert_eq!(said.code, 1, "{said:?}");
        said.stderr
    };
    let pid = engine.pid();
    let said = second("--exec-root");
    let text = format!("data root {data}: it is in use by process {pid} (exec root {exec})");
    assert!(said.contains(&text), "{said}");
    let said = second("--data-root");
    let text = format!("exec root {exec}: it is in use by process {pid} (data root {data})");
    assert!(said.contains(&text), "{said}");
    // The first one noticed nothing.
    docker(&engine, &["run", "--rm", "busybox", "true"]);

    // A supervisor that a killed daemon left is named as well.
    engine.kill();
    let words = words_with(&engine, &[("--exec-root", &other), ("--host", &socket)]);
    let said = run(&words[0], &words[1..]).unwrap();
    let supervisor = engine.supervisor_pids()[0];
    let text = format!(
        "root {data}/containerd: it is in use by process {supervisor} (state {exec}/containerd)"
    );
    assert!(said.stderr.contains(&text), "{said:?}");
    engine.restart().unwrap();
    docker(&engine, &["run", "--rm", "busybox", "true"]);
}

#[test]
fn a_start_makes_one_supervisor() {
    let engine = Engine::start_empty(Kind::Ferryd, &[]).unwrap();
    engine.ferry(&["version"]).unwrap().success().unwrap();
    assert_eq!(engine.supervisor_pids().len(), 1);
    assert_eq!(engine.log().matches("started ferry-containerd").count(), 1, "{}", engine.log());
}

/// `systemctl stop` with live restore: the daemons end, containers go on, the next start finds
/// them.
fn containers_outlive_an_orderly_end(kind: Kind) {
    let mut engine = Engine::start(kind, &["--live-restore"]).unwrap();
    let count = "i=0; while [ ! -e /stop ]; do echo $i; i=$((i+1)); sleep 0.1; done; exit 5";
    docker(&engine, &["run", "-d", "--name", "counting", "busybox", "sh", "-c", count]);
    let pid = docker(&engine, &["inspect", "-f", "{{.State.Pid}}", "counting"]);
    assert_eq!(engine.stop().unwrap(), 0, "{}", engine.log());
    assert_eq!(engine.supervisor_pids(), [0_u32; 0]);
    assert!(alive(&pid));
    engine.restart().unwrap();
    assert_eq!(docker(&engine, &["inspect", "-f", "{{.State.Pid}}", "counting"]), pid);
    docker(&engine, &["exec", "counting", "touch", "/stop"]);
    assert_eq!(docker(&engine, &["wait", "counting"]), "5\n");
    let log = docker(&engine, &["logs", "counting"]);
    for (number, line) in log.lines().enumerate() {
        assert_eq!(line, number.to_string(), "{log}");
    }
}

#[test]
fn with_live_restore_containers_outlive_an_orderly_end_on_ferryd() {
    lab::require!("docker");
    containers_outlive_an_orderly_end(Kind::Ferryd);
}

#[test]
fn with_live_restore_containers_outlive_an_orderly_end_on_dockerd() {
    lab::require!("docker", "dockerd");
    containers_outlive_an_orderly_end(Kind::Dockerd);
}

/// Without live restore everything ends, and comes back as the policies say.
fn everything_ends(kind: Kind) {
    let mut engine = Engine::start(kind, &["--live-restore=false"]).unwrap();
    let trap = "trap 'exit 3' TERM; sleep 1000 & wait";
    let run_one = |name: &str, policy: &str| {
        docker(
            &engine,
            &["run", "-d", "--name", name, "--restart", policy, "busybox", "sh", "-c", trap],
        );
    };
    run_one("always", "always");
    run_one("unless", "unless-stopped");
    run_one("never", "no");
    run_one("stopped", "unless-stopped");
    docker(&engine, &["stop", "stopped"]);
    // One that is between two runs keeps its wish.
    let fails = ["run", "-d", "--name", "fails", "--restart", "unless-stopped", "busybox", "false"];
    docker(&engine, &fails);
    let pid = docker(&engine, &["inspect", "-f", "{{.State.Pid}}", "always"]);
    assert_eq!(engine.stop().unwrap(), 0, "{}", engine.log());
    assert!(!alive(&pid));
    assert_eq!(engine.supervisor_pids(), [0_u32; 0]);
    assert_eq!(engine.shim_pids(), [0_u32; 0]);
    if kind == Kind::Ferryd {
        let scratch = engine.scratch().path().display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let left: Vec<_> = mounts.lines().filter(|line| line.contains(&scratch)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    engine.restart().unwrap();
    let state = |name: &str| {
        docker(&engine, &["inspect", "-f", "{{.State.Running}} {{.State.ExitCode}}", name])
    };
    for name in ["always", "unless"] {
        assert_eq!(state(name), "true 0\n", "{name}");
    }
    assert_eq!(state("never"), "false 3\n");
    assert_eq!(state("stopped"), "false 3\n");
    let restarts = || {
        let said = docker(&engine, &["inspect", "-f", "{{.RestartCount}}", "fails"]);
        said.trim().parse::<u32>().unwrap()
    };
    wait_until("the next run", Duration::from_secs(60), || restarts() > 0).unwrap();
}

#[test]
fn without_live_restore_everything_ends_and_comes_back_on_ferryd() {
    lab::require!("docker");
    everything_ends(Kind::Ferryd);
}

#[test]
fn without_live_restore_everything_ends_and_comes_back_on_dockerd() {
    lab::require!("docker", "dockerd");
    everything_ends(Kind::Dockerd);
}

#[test]
fn a_daemon_that_is_asked_three_times_ends_at_once() {
    lab::require!("docker");
    let mut engine = Engine::start(Kind::Ferryd, &["--live-restore=false"]).unwrap();
    let stubborn = ["run", "-d", "--stop-timeout", "500", "busybox", "sh", "-c"];
    docker(&engine, &[&stubborn[..], &["trap '' TERM; sleep 1000"]].concat());
    let pid = engine.pid().to_string();
    for word in ["ending in order, on signal 15", "ending in order, on signal 2"] {
        let signal = if word.ends_with("15") { "-TERM" } else { "-INT" };
        run("kill", [signal, &pid]).unwrap().success().unwrap();
        let told = || engine.log().contains(word);
        wait_until(word, Duration::from_secs(60), told).unwrap();
    }
    run("kill", ["-INT", &pid]).unwrap().success().unwrap();
    assert_eq!(engine.wait().unwrap(), 130);
    engine.restart().unwrap();
    assert_eq!(docker(&engine, &["ps", "-q"]).lines().count(), 1);
}

#[test]
fn a_daemon_that_is_stopped_while_it_starts_leaves_no_process() {
    let mut engine = Engine::start_empty(Kind::Ferryd, &[]).unwrap();
    for round in 0..8_u64 {
        engine.stop().unwrap();
        let words = engine.words();
        let mut child =
            Command::new(&words[0]).args(&words[1..]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(round * 12));
        run("kill", ["-TERM", &child.id().to_string()]).unwrap();
        child.wait().unwrap();
        // Asked before it could hear it died at once, perhaps with a supervisor just started,
        // which the next one finds.
        engine.restart().unwrap();
        engine.ferry(&["version"]).unwrap().success().unwrap();
        assert_eq!(engine.supervisor_pids().len(), 1);
    }
    engine.stop().unwrap();
    assert_eq!(engine.supervisor_pids(), [0_u32; 0]);
}

#[test]
fn clients_that_come_at_once_start_one_daemon_on_demand() {
    let ferry = ours("ferry").expect("ferry is built");
    // In namespaces of their own, so that the well-known paths are free and all ends with them.
    let script = "
        mount -t tmpfs none /run && mkdir -p /var/lib && mount -t tmpfs none /var/lib || exit 9
        ip link set lo up
        for i in 1 2 3 4; do \"$0\" version > /run/out.$i 2> /run/err.$i & done; wait
        cat /run/out.* | grep -c '^Server'
        cat /run/err.* | grep -c 'Starting ferryd'
        pgrep -xc ferryd; pgrep -xc ferry-container
        kill -TERM $(cat /run/ferry/ferryd.pid)
        while pgrep -x ferryd > /dev/null; do sleep 0.05; done
        pgrep -xc ferry-container
        rm /var/lib/ferry/ferryd.lock && mkdir /var/lib/ferry/ferryd.lock
        \"$0\" version 2>&1 > /dev/null; echo $?";
    let words = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"];
    let said = run("unshare", words.into_iter().chain([script, &ferry.display().to_string()]));
    let said = said.unwrap();
    let lines: Vec<&str> = said.stdout.lines().collect();
    assert_eq!(lines[..5], ["4", "1", "1", "1", "0"], "{said:?}");
    assert!(lines[5].contains("Starting ferryd in the background"), "{said:?}");
    let why = "starting ferryd: failed to start daemon: data root /var/lib/ferry: Is a directory";
    assert!(said.stdout.contains(why), "{said:?}");
    assert_eq!(lines.last(), Some(&"1"), "{said:?}");
}
