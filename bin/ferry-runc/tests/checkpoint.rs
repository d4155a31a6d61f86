//! Checkpoint and restore through CRIU: where it is installed and the kernel has what it needs, as in the
//! virtual machine; elsewhere it says so and passes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::{Bundle, eventually, runtimes, text};
use serde_json::json;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Counts in memory and tells in a file.
const COUNT: &str = "i=0; while :; do i=$((i+1)); echo $i > /tmp/n; sleep 0.1; done";

fn can_save() -> bool {
    Command::new("criu")
        .arg("check")
        .stdin(Stdio::null())
        .output()
        .is_ok_and(|o| o.status.success())
}

fn counting(name: &str) -> Option<Bundle> {
    if !can_save() {
        eprintln!("SKIPPED: {name}: needs CRIU and a kernel for it (cargo xtask vm)");
        return None;
    }
    let bundle = Bundle::new(name, &["sh", "-c", COUNT])?;
    bundle.edit(|spec| {
        spec["linux"]["resources"]["pids"] = json!({"limit": 20});
        let spaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        spaces.push(json!({"type": "cgroup"}));
        // CRIU can't bring a bound file of the host back without being told of it.
        let host = bundle.path("host");
        std::fs::write(&host, "the host's\n").unwrap();
        let mount = json!({"destination": "/etc/host", "type": "bind", "source": host, "options": ["bind", "ro"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    Some(bundle)
}

fn quietly(bundle: &Bundle, words: &[&str]) -> Output {
    bundle.quietly(&[], words)
}

fn start(bundle: &Bundle) {
    let folder = bundle.folder.path().to_str().unwrap();
    let out = quietly(bundle, &["run", "--detach", "--bundle", folder, &bundle.id]);
    assert!(out.status.success(), "{}", text(&out.stderr));
}

fn count(bundle: &Bundle) -> u64 {
    let text = std::fs::read_to_string(bundle.path("rootfs/tmp/n")).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn save(bundle: &Bundle, more: &[&str]) -> Output {
    let images = bundle.path("images");
    let words = ["checkpoint", "--image-path", images.to_str().unwrap()];
    quietly(bundle, &[&words, more, &[&bundle.id]].concat())
}

fn bring_back(bundle: &Bundle, more: &[&str]) -> Output {
    let images = bundle.path("images");
    let folder = bundle.folder.path().to_str().unwrap();
    let words =
        ["restore", "--image-path", images.to_str().unwrap(), "--bundle", folder, "--detach"];
    quietly(bundle, &[&words, more, &[&bundle.id]].concat())
}

fn criu_roots() -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains("criu-root")).count()
}

#[test]
fn a_container_goes_on_where_it_was_saved() {
    for (runtime, program) in runtimes() {
        if runtime == "crun-static" {
            continue;
        }
        let Some(mut bundle) = counting("save") else { return };
        bundle.program = program;
        start(&bundle);
        eventually("it counts", || count(&bundle) > 5);
        let out = save(&bundle, &[]);
        assert!(out.status.success(), "{runtime}: {}", text(&out.stderr));
        let saved = count(&bundle);
        assert!(!bundle.runc(&["state", &bundle.id]).status.success(), "{runtime}");
        assert_eq!(bundle.cgroups_left().len(), 0, "{runtime}");
        let pid_file = bundle.path("pid");
        let out = bring_back(&bundle, &["--pid-file", pid_file.to_str().unwrap()]);
        assert!(out.status.success(), "{runtime}: {}", text(&out.stderr));
        eventually("it counts on", || count(&bundle) > saved);
        // From where it was, not from the beginning.
        assert!(count(&bundle) >= saved, "{runtime}");
        let pid = std::fs::read_to_string(&pid_file).unwrap();
        let group = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap();
        assert!(group.contains(&bundle.id), "{runtime}: {group}");
        let out = bundle.runc(&["exec", &bundle.id, "cat", "/etc/host"]);
        assert_eq!(text(&out.stdout), "the host's\n", "{runtime}: {}", text(&out.stderr));
        assert!(bundle.runc(&["delete", "--force", &bundle.id]).status.success(), "{runtime}");
        assert_eq!(criu_roots(), 0, "{runtime}");
    }
}

#[test]
fn what_was_left_running_runs_and_memory_can_be_saved_beforehand() {
    let Some(bundle) = counting("running") else { return };
    start(&bundle);
    eventually("it counts", || count(&bundle) > 2);
    let images = bundle.path("images");
    let (before, after) = (images.join("before"), images.join("after"));
    let word = |path: &Path| path.to_str().unwrap().to_owned();
    let out =
        quietly(&bundle, &["checkpoint", "--pre-dump", "--image-path", &word(&before), &bundle.id]);
    if text(&out.stderr).contains("missing features") {
        eprintln!("SKIPPED: saving memory beforehand: the kernel can't track it");
        return;
    }
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(bundle.status(), "running");
    let (work, after) = (word(&bundle.path("work")), word(&after));
    let words = [
        "checkpoint",
        "--leave-running",
        "--parent-path",
        "../before",
        "--image-path",
        &after,
        "--work-path",
        &work,
        "--file-locks",
        "--tcp-established",
        "--ext-unix-sk",
        "--link-remap",
        "--manage-cgroups-mode",
        "soft",
        "--auto-dedup",
        &bundle.id,
    ];
    let out = quietly(&bundle, &words);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(bundle.path("work/dump.log").exists());
    let now = count(&bundle);
    eventually("it still counts", || count(&bundle) > now);
}

#[test]
fn a_restore_in_the_foreground_ends_with_the_containers_own_code() {
    let Some(bundle) = counting("front") else { return };
    bundle.edit(|spec| {
        let script = "while [ ! -e /tmp/go ]; do sleep 0.1; done; exit 7";
        spec["process"]["args"] = json!(["sh", "-c", script]);
    });
    start(&bundle);
    assert!(save(&bundle, &[]).status.success());
    std::fs::write(bundle.path("rootfs/tmp/go"), "").unwrap();
    let images = bundle.path("images");
    let folder = bundle.folder.path().to_str().unwrap();
    let words =
        ["restore", "--image-path", images.to_str().unwrap(), "--bundle", folder, &bundle.id];
    let out = quietly(&bundle, &words);
    assert_eq!(out.status.code(), Some(7), "{}", text(&out.stderr));
    assert!(!bundle.path("state").join(&bundle.id).exists());
}

#[test]
fn without_a_cgroup_namespace_the_new_cgroup_takes_the_place_of_the_old_one() {
    let Some(bundle) = counting("nocgroupns") else { return };
    bundle.edit(|spec| {
        let spaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        spaces.retain(|n| n["type"] != "cgroup");
    });
    start(&bundle);
    eventually("it counts", || count(&bundle) > 2);
    let out = save(&bundle, &[]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let out = bring_back(&bundle, &[]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let now = count(&bundle);
    eventually("it counts on", || count(&bundle) > now);
}

/// Takes the terminal that a runtime sends to a socket.
fn receive_terminal(listener: UnixListener) -> std::thread::JoinHandle<std::os::fd::OwnedFd> {
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut name = [0u8; 64];
        sys::tty::recv_fd(stream.as_fd(), &mut name).unwrap().1.unwrap()
    })
}

#[test]
fn a_terminal_comes_back_through_the_console_socket() {
    let Some(bundle) = counting("terminal") else { return };
    bundle.edit(|spec| {
        spec["process"]["terminal"] = json!(true);
        spec["process"]["args"] = json!(["sh", "-c", "while read line; do echo \"<$line>\"; done"]);
    });
    let socket = bundle.path("console.sock");
    let word = socket.to_str().unwrap();
    let folder = bundle.folder.path().to_str().unwrap();
    let first = receive_terminal(UnixListener::bind(&socket).unwrap());
    let words = ["run", "--detach", "--bundle", folder, "--console-socket", word, &bundle.id];
    let out = quietly(&bundle, &words);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let master = first.join().unwrap();
    let out = save(&bundle, &[]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    drop(master);
    std::fs::remove_file(&socket).unwrap();
    let second = receive_terminal(UnixListener::bind(&socket).unwrap());
    let out = bring_back(&bundle, &["--console-socket", word]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let mut terminal = std::fs::File::from(second.join().unwrap());
    terminal.write_all(b"hello\n").unwrap();
    let mut said = Vec::new();
    while !text(&said).contains("<hello>") {
        let mut part = [0u8; 256];
        let got = terminal.read(&mut part).unwrap();
        assert!(got > 0, "{}", text(&said));
        said.extend_from_slice(&part[..got]);
    }
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let Some(bundle) = counting("broken") else { return };
    start(&bundle);
    assert!(save(&bundle, &[]).status.success());
    std::fs::write(bundle.path("images/inventory.img"), "no image").unwrap();
    let out = bring_back(&bundle, &[]);
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("criu failed"), "{}", text(&out.stderr));
    assert!(!bundle.path("state").join(&bundle.id).exists());
    assert_eq!((bundle.cgroups_left().len(), criu_roots()), (0, 0));
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_done() {
    let Some(bundle) = Bundle::new("refused", &["sleep", "1000"]) else { return };
    assert!(bundle.create().status.success());
    let says = |words: &[&str]| {
        let out = bundle.runc(&[words, &[&bundle.id]].concat());
        assert_eq!(out.status.code(), Some(1), "{words:?}");
        text(&out.stderr)
    };
    let said = says(&["checkpoint"]);
    assert!(said.contains("Container cannot be checkpointed in created state"), "{said}");
    bundle.runc(&["start", &bundle.id]);
    for (words, expected) in [
        (&["checkpoint", "--empty-ns", "pid"][..], "namespace \\\"pid\\\" is not supported"),
        (&["checkpoint", "--page-server", "nowhere"], "ADDRESS:PORT"),
        (&["checkpoint", "--page-server", "a:b"], "Invalid port number"),
        (&["checkpoint", "--parent-path", "/abs"], "--parent-path must be relative"),
        (&["checkpoint", "--status-fd", "99", "--lazy-pages"], "status-fd"),
        (&["restore", "--no-pivot"], "--no-pivot is not supported by restore"),
    ] {
        let images = bundle.path("images");
        let more = ["--image-path", images.to_str().unwrap()];
        let said = says(&[words, &more].concat());
        let without_criu = said.contains("\\\"criu\\\": executable file not found");
        assert!(said.contains(expected) || without_criu, "{words:?}: {said}");
    }
}
