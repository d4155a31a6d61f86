//! What was once wrong, or easily is: the order of start, cgroups that moved, procfs that lies,
//! hooks that fail, events, helpers. They need root and a busybox; where those are missing they say
//! so and pass.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::{Bundle, eventually, text};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn pid(bundle: &Bundle) -> i32 {
    let state: Value = serde_json::from_slice(&bundle.runc(&["state", &bundle.id]).stdout).unwrap();
    state["pid"].as_i64().unwrap() as i32
}

#[test]
fn a_start_that_breaks_off_never_leaves_a_container_that_counts_as_created() {
    let Some(bundle) = Bundle::new("fifo", &["sleep", "100"]) else { return };
    assert!(bundle.create().status.success());
    // The waiting process is stopped and its FIFO filled, so that the write of `start` fails.
    let init = pid(&bundle).to_string();
    assert!(Command::new("kill").args(["-STOP", &init]).status().unwrap().success());
    let fifo = bundle.path("state").join(&bundle.id).join("exec.fifo");
    let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NONBLOCK;
    let full = rustix::fs::open(&fifo, flags, rustix::fs::Mode::empty()).unwrap();
    while rustix::io::write(&full, &[0; 4096]).is_ok() {}
    while rustix::io::write(&full, &[0]).is_ok() {}
    assert!(!bundle.runc(&["start", &bundle.id]).status.success());
    assert_eq!(bundle.status(), "running");
}

#[test]
fn exec_goes_where_the_first_process_is_when_the_own_cgroup_takes_none() {
    let roots = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let Some(bundle) = Bundle::new("moved", &["sleep", "100"]) else { return };
    let Some(unified) = roots.into_iter().find(|r| r.join("cgroup.controllers").exists()) else {
        eprintln!("SKIPPED: a moved container: no v2 here");
        return;
    };
    let control = unified.join("cgroup.subtree_control");
    let had = std::fs::read_to_string(&control).unwrap().contains("hugetlb");
    if !had && std::fs::write(&control, "+hugetlb").is_err() {
        eprintln!("SKIPPED: a moved container: v2 has no controller to hand down");
        return;
    }
    assert!(bundle.create().status.success());
    assert!(bundle.runc(&["start", &bundle.id]).status.success());
    let group = unified.join(&bundle.id);
    let deeper = group.join("one/two");
    std::fs::create_dir_all(&deeper).unwrap();
    std::fs::write(deeper.join("cgroup.procs"), pid(&bundle).to_string()).unwrap();
    std::fs::write(group.join("cgroup.subtree_control"), "+hugetlb").unwrap();
    let out = bundle.runc(&["exec", &bundle.id, "grep", "^0::", "/proc/self/cgroup"]);
    let said = text(&out.stdout);
    assert!(said.trim_end().ends_with("/one/two"), "{said} {}", text(&out.stderr));
    drop(bundle);
    if !had {
        let _ = std::fs::write(&control, "-hugetlb");
    }
}

fn failing(hook: &str) -> Option<Bundle> {
    let bundle = Bundle::new(hook, &["sh", "-c", "sleep 0.1; exit 3"])?;
    bundle.edit(|spec| spec["hooks"] = json!({ hook: [{"path": "/bin/false"}] }));
    if hook == "startContainer" {
        std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin/false")).unwrap();
    }
    Some(bundle)
}

#[test]
fn a_failing_start_container_hook_is_the_containers_own_failure_as_with_runc() {
    for (name, program) in common::runtimes() {
        if name == "crun-static" {
            continue;
        }
        let Some(mut bundle) = failing("startContainer") else { return };
        bundle.program = program;
        let out = bundle.run();
        assert_eq!(out.status.code(), Some(255), "{name}: {}", text(&out.stderr));
        let said = text(&out.stderr);
        assert!(said.starts_with("error running startContainer hook #0: exit status 1"), "{said}");
    }
}

#[test]
fn a_failing_poststart_hook_fails_start_and_a_failing_poststop_hook_is_a_warning() {
    let Some(bundle) = failing("poststart") else { return };
    let out = bundle.run();
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1));
    assert!(said.contains("runc run failed: error running poststart hook #0"), "{said}");
    for (name, program) in common::runtimes() {
        if name == "crun-static" {
            continue;
        }
        let Some(mut bundle) = failing("poststop") else { return };
        bundle.program = program;
        let out = bundle.run();
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(3), "{name}: {said}");
        assert!(
            said.contains("unable to destroy container: error running poststop hook #0"),
            "{name}: {said}"
        );
    }
}

#[test]
fn ps_is_the_hosts_ps_with_the_options_given() {
    for (name, program) in common::runtimes() {
        let Some(mut bundle) = Bundle::new("ps", &["sleep", "100"]) else { return };
        if name == "crun-static" || !Path::new("/usr/bin/ps").exists() {
            continue;
        }
        bundle.program = program;
        assert!(bundle.create().status.success());
        bundle.runc(&["start", &bundle.id]);
        let out = bundle.runc(&["ps", &bundle.id, "-o", "pid,comm"]);
        let pid = pid(&bundle);
        let said = text(&out.stdout);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{name}: {said} {}", text(&out.stderr));
        assert_eq!(lines[1].split_whitespace().next().unwrap(), pid.to_string(), "{name}");
        assert!(text(&bundle.runc(&["ps", &bundle.id]).stdout).contains("sleep 100"), "{name}");
        let wrong = bundle.runc(&["ps", &bundle.id, "-o", "comm"]);
        assert!(text(&wrong.stderr).contains("couldn't find PID field in ps output"), "{name}");
    }
}

#[test]
fn events_tell_figures_and_memory_that_ran_out_until_the_end() {
    let script = "sleep 0.6; dd if=/dev/zero of=/dev/null bs=64M count=1; sleep 0.4";
    let Some(bundle) = Bundle::new("events", &["sh", "-c", script]) else { return };
    bundle.edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    assert!(bundle.create().status.success(), "create");
    let watcher = Command::new(&bundle.program)
        .arg("--root")
        .arg(bundle.path("state"))
        .args(["events", "--interval", "200ms", &bundle.id])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    assert!(bundle.runc(&["start", &bundle.id]).status.success());
    let out = watcher.wait_with_output().unwrap();
    let said = text(&out.stdout);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let events: Vec<Value> = said.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(events.iter().filter(|e| e["type"] == "stats").count() >= 2, "{said}");
    assert!(events.iter().any(|e| e["type"] == "oom" && e["id"] == bundle.id.as_str()), "{said}");
}

#[test]
fn readiness_is_passed_on_to_the_service_manager_and_nothing_else() {
    let Some(bundle) = Bundle::new("notify", &["sleep", "100"]) else { return };
    let host = bundle.path("host.sock");
    let manager = std::os::unix::net::UnixDatagram::bind(&host).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let run = |command: &str| {
        Command::new(&bundle.program)
            .env("NOTIFY_SOCKET", &host)
            .arg("--root")
            .arg(bundle.path("state"))
            .args(if command == "create" {
                vec!["create", "--bundle", bundle.folder.path().to_str().unwrap()]
            } else {
                vec![command]
            })
            .arg(&bundle.id)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    assert!(run("create").wait().unwrap().success());
    let mut start = run("start");
    let inside = bundle.path("state").join(&bundle.id).join("notify/notify.sock");
    eventually("a socket for the container", || {
        std::fs::metadata(&inside).is_ok_and(|m| m.permissions().mode() & 0o777 == 0o777)
    });
    let container = std::os::unix::net::UnixDatagram::unbound().unwrap();
    for message in ["STATUS=loading\nMAINPID=1", "STATUS=done\nREADY=1"] {
        container.send_to(message.as_bytes(), &inside).unwrap();
    }
    let heard = || {
        let mut buffer = [0u8; 256];
        let got = manager.recv(&mut buffer).unwrap();
        text(&buffer[..got])
    };
    assert_eq!(
        (heard(), heard()),
        ("READY=1\n".into(), format!("MAINPID={}", pid(&bundle)) + "\n")
    );
    assert!(start.wait().unwrap().success());
    let env = format!("/proc/{}/environ", pid(&bundle));
    eventually("the container's own variable", || {
        text(&std::fs::read(&env).unwrap()).contains("NOTIFY_SOCKET=/run/notify/notify.sock")
    });
}

#[test]
fn network_devices_move_in_with_name_and_address() {
    let Some(bundle) = Bundle::new("netdev", &["ip", "addr", "show", "dev", "inner0"]) else {
        return;
    };
    bundle.edit(|spec| spec["linux"]["netDevices"] = json!({"outer0": {"name": "inner0"}}));
    // The host's side is a network namespace of its own, which ends with its shell.
    let script = "ip link add outer0 type veth peer name other0 && ip addr add 10.77.0.5/24 dev outer0 && \
        \"$@\" && ! ip link show outer0 2>/dev/null";
    let out = Command::new("unshare")
        .args(["-n", "sh", "-c", script, "sh"])
        .arg(&bundle.program)
        .arg("--root")
        .arg(bundle.path("state"))
        .args(["run", "--bundle", bundle.folder.path().to_str().unwrap(), &bundle.id])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, error) = (text(&out.stdout), text(&out.stderr));
    if error.contains("Unknown device type") || error.contains("not found") {
        eprintln!("SKIPPED: network devices: no veth, or no ip command, here");
        return;
    }
    assert!(out.status.success(), "{said} {error}");
    assert!(said.contains("10.77.0.5/24") && said.contains("UP"), "{said} {error}");
}
