//! The sink's log beside a stock dockerd's, byte for byte but for the times; and a detached sink
//! that is killed.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::{Engine, Kind, Scratch, ours, run, wait_until};

/// What is hard to log: long lines, NUL, bytes that are no UTF-8, no newline at the end.
fn awkward() -> Vec<u8> {
    let mut bytes = b"plain\n\n\ttab \"quoted\" <&> \\ \r\n".to_vec();
    bytes.extend(b"\0nul \xff\xfe\xc3( \xe2\x80\xa8 \xe2\x82\xac \x7f \x1b[0m\n");
    for length in [16383, 16384, 16385, 40000] {
        bytes.extend(vec![b'x'; length]);
        bytes.push(b'\n');
    }
    bytes.extend(b"no newline");
    bytes
}

/// The records without their times.
fn untimed(log: &str) -> Vec<String> {
    let cut =
        |line: &str| line.split_once(",\"time\":\"").map_or(line, |(head, _)| head).to_owned();
    log.lines().map(cut).collect()
}

/// Starts a detached sink on a FIFO; it serves once this returns.
fn sink(scratch: &Scratch, fifo: &Path) {
    let shim = ours("containerd-shim-ferry-v2").expect("the shim is built");
    let at = |name: &str| scratch.join(name).display().to_string();
    let uri = format!(
        "binary://{}?v=1&id=c&driver=json-file&log={}&exit={}&sock={}&stdin=none&tty=0",
        shim.display(),
        at("log"),
        at("exit"),
        at("sock")
    );
    let fifo = fifo.display().to_string();
    let said = run(&shim, ["sink", "--uri", &uri, "--stdout", &fifo]).unwrap().success().unwrap();
    assert!(said.starts_with("READY "), "{said}");
}

fn sink_pids(scratch: &Scratch) -> Vec<String> {
    let mark = scratch.path().display().to_string();
    let found = run("pgrep", ["-f", &format!("^[^ ]*containerd-shim-ferry-v2 sink .*{mark}")]);
    found.unwrap().stdout.lines().map(str::to_owned).collect()
}

fn writer(bytes: &Path, fifo: &Path) -> Child {
    let out = File::options().write(true).open(fifo).unwrap();
    Command::new("cat").arg(bytes).stdin(Stdio::null()).stdout(out).spawn().unwrap()
}

#[test]
fn the_log_equals_a_stock_dockerds() {
    lab::require!("dockerd", "docker", "containerd");
    let scratch = Scratch::new("log").unwrap();
    fs::write(scratch.join("bytes"), awkward()).unwrap();
    let engine = Engine::start(Kind::Dockerd, &[]).unwrap();
    let mount = format!("{}:/bytes:ro", scratch.join("bytes").display());
    let words =
        ["run", "--network", "none", "--name", "logs", "-v", &mount, "busybox", "cat", "/bytes"];
    engine.stock_cli(&words).unwrap().success().unwrap();
    let path = engine.stock_cli(&["inspect", "-f", "{{.LogPath}}", "logs"]).unwrap();
    let theirs = fs::read_to_string(path.success().unwrap().trim()).unwrap();
    let fifo = scratch.join("fifo");
    run("mkfifo", [&fifo]).unwrap().success().unwrap();
    sink(&scratch, &fifo);
    assert!(writer(&scratch.join("bytes"), &fifo).wait().unwrap().success());
    let end = || sink_pids(&scratch).is_empty();
    wait_until("the sink's end", Duration::from_secs(10), end).unwrap();
    let ours = fs::read_to_string(scratch.join("log")).unwrap();
    let (ours, theirs) = (untimed(&ours), untimed(&theirs));
    for (n, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
        assert!(ours == theirs, "record {n}:\n{ours:.200}\n{theirs:.200}");
    }
    assert_eq!(ours.len(), theirs.len());
}
