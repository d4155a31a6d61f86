//! Fields of the runtime specification that need a real kernel, on ferry-runc and, where they claim
//! the same, on its peers. They need root and a busybox; where those are missing they say so and
//! pass.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::{Bundle, runtimes, text};
use serde_json::{Value, json};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Stdio};

/// Runs the same bundle on each runtime named and checks what it prints. Peers meet a machine they
/// can't work on now and then; then their error is shown and nothing is concluded.
fn on_each(
    names: &[&str],
    name: &str,
    args: &[&str],
    change: impl Fn(&Bundle, &mut Value),
    check: impl Fn(&str, &str),
) {
    for (runtime, program) in runtimes() {
        if !names.contains(&runtime) {
            continue;
        }
        let Some(mut bundle) = Bundle::new(name, args) else { return };
        bundle.program = program;
        bundle.edit(|spec| change(&bundle, spec));
        let out = bundle.run();
        if runtime != "ferry-runc" && !out.status.success() {
            eprintln!("SKIPPED: {name} on {runtime}: {}", text(&out.stderr));
            continue;
        }
        assert!(out.status.success(), "{runtime}: {}", text(&out.stderr));
        check(runtime, &text(&out.stdout));
    }
}

const ALL: [&str; 3] = ["ferry-runc", "runc", "crun-static"];

fn add_mount(spec: &mut Value, mount: Value) {
    spec["mounts"].as_array_mut().unwrap().push(mount);
}

fn add_namespace(spec: &mut Value, namespace: Value) {
    spec["linux"]["namespaces"].as_array_mut().unwrap().push(namespace);
}

#[test]
fn an_idmapped_mount_shows_other_owners() {
    on_each(
        &ALL,
        "idmap",
        &["stat", "-c", "%u", "/data/file"],
        |bundle, spec| {
            let data = bundle.path("data");
            std::fs::create_dir_all(&data).unwrap();
            std::fs::write(data.join("file"), "x").unwrap();
            std::os::unix::fs::chown(data.join("file"), Some(1000), Some(1000)).unwrap();
            let maps = json!([{"containerID": 1000, "hostID": 7000, "size": 10}]);
            add_mount(
                spec,
                json!({"destination": "/data", "type": "bind", "source": data.to_str().unwrap(),
                    "options": ["bind"], "uidMappings": maps, "gidMappings": maps}),
            );
        },
        |runtime, said| assert_eq!(said, "7000\n", "{runtime}"),
    );
}

#[test]
fn rro_makes_what_is_mounted_below_read_only_too() {
    let script = "touch /data/x 2>/dev/null || echo top; touch /data/sub/x 2>/dev/null || echo sub";
    let Some(bundle) = Bundle::new("rro", &["sh", "-c", script]) else { return };
    let data = bundle.path("data");
    std::fs::create_dir_all(data.join("sub")).unwrap();
    bundle.edit(|spec| {
        let source = data.to_str().unwrap();
        let options = ["rbind", "rro"];
        let mount =
            json!({"destination": "/data", "type": "bind", "source": source, "options": options});
        add_mount(spec, mount);
    });
    // A mount below the source, in a mount namespace that ends with the shell.
    let out = Command::new("unshare")
        .args(["-m", "sh", "-c", "mount -t tmpfs sub \"$0/sub\" && exec \"$@\""])
        .arg(&data)
        .arg(&bundle.program)
        .arg("--root")
        .arg(bundle.path("state"))
        .args(["run", "--bundle", bundle.folder.path().to_str().unwrap(), &bundle.id])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(text(&out.stdout), "top\nsub\n", "{}", text(&out.stderr));
}

#[test]
fn clocks_of_a_time_namespace_are_shifted_and_exec_sees_them_too() {
    let seconds = |said: &str| said.split('.').next().unwrap().parse::<i64>().unwrap();
    let shift = |_: &Bundle, spec: &mut Value| {
        add_namespace(spec, json!({"type": "time"}));
        spec["linux"]["timeOffsets"] = json!({"boottime": {"secs": 10_000_000}});
    };
    on_each(&ALL, "time", &["cat", "/proc/uptime"], shift, |runtime, said| {
        assert!(seconds(said) > 10_000_000, "{runtime}: {said}");
    });
    let Some(bundle) = Bundle::new("timexec", &["sleep", "100"]) else { return };
    bundle.edit(|spec| shift(&bundle, spec));
    assert!(bundle.create().status.success());
    bundle.runc(&["start", &bundle.id]);
    let out = bundle.runc(&["exec", &bundle.id, "cat", "/proc/uptime"]);
    assert!(seconds(&text(&out.stdout)) > 10_000_000, "{}", text(&out.stderr));
}

#[test]
fn namespaces_are_joined_by_their_paths() {
    let kinds = [("network", "net"), ("uts", "uts"), ("ipc", "ipc"), ("pid", "pid")];
    let Some(owner) = Bundle::new("owner", &["sleep", "100"]) else { return };
    assert!(owner.create().status.success());
    owner.runc(&["start", &owner.id]);
    let state: Value = serde_json::from_slice(&owner.runc(&["state", &owner.id]).stdout).unwrap();
    let pid = state["pid"].as_i64().unwrap();
    let inode = |name: &str| std::fs::metadata(format!("/proc/{pid}/ns/{name}")).unwrap().ino();
    on_each(
        &ALL,
        "join",
        &["sh", "-c", "for n in net uts ipc pid; do readlink /proc/self/ns/$n; done"],
        |_, spec| {
            spec.as_object_mut().unwrap().remove("hostname");
            spec["linux"].as_object_mut().unwrap().remove("sysctl");
            for (kind, file) in kinds {
                let spaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
                let space = spaces.iter_mut().find(|n| n["type"] == kind).unwrap();
                space["path"] = json!(format!("/proc/{pid}/ns/{file}"));
            }
        },
        |runtime, said| {
            for (_, file) in kinds {
                assert!(said.contains(&format!("{file}:[{}]", inode(file))), "{runtime}: {said}");
            }
        },
    );
}

#[test]
fn exec_enters_a_user_namespace_as_its_root() {
    let Some(bundle) = Bundle::new("userexec", &["sleep", "100"]) else { return };
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(bundle.folder.path(), open).unwrap();
    bundle.edit(|spec| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        add_namespace(spec, json!({"type": "user"}));
    });
    let out = bundle.create();
    assert!(out.status.success(), "{}", text(&out.stderr));
    bundle.runc(&["start", &bundle.id]);
    let out = bundle.runc(&["exec", &bundle.id, "cat", "/proc/self/uid_map"]);
    let said = text(&out.stdout);
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536"], "{}", text(&out.stderr));
}

#[test]
fn descriptors_of_the_service_manager_are_handed_down() {
    for (runtime, program) in runtimes() {
        if runtime == "crun-static" {
            // It tells the number, but not for whom.
            continue;
        }
        let script = "cat <&3; echo $LISTEN_FDS $LISTEN_PID; ls /proc/self/fd | wc -l";
        let Some(mut bundle) = Bundle::new("listen", &["sh", "-c", script]) else { return };
        bundle.program = program;
        std::fs::write(bundle.path("given"), "given\n").unwrap();
        let out = Command::new("sh")
            .args(["-c", "exec 3<\"$0\"; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\""])
            .arg(bundle.path("given"))
            .arg(&bundle.program)
            .arg("--root")
            .arg(bundle.path("state"))
            .args(["run", "--bundle", bundle.folder.path().to_str().unwrap(), &bundle.id])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        if runtime != "ferry-runc" && !out.status.success() {
            eprintln!("SKIPPED: LISTEN_FDS on {runtime}: {}", text(&out.stderr));
            continue;
        }
        // The streams, the one given, and the folder that ls itself reads.
        assert_eq!(text(&out.stdout), "given\n1 1\n5\n", "{runtime}: {}", text(&out.stderr));
    }
}

#[test]
fn scheduler_and_io_priority_are_those_of_the_configuration() {
    let script = "awk '{print $19, $41}' /proc/self/stat";
    on_each(
        &ALL,
        "sched",
        &["sh", "-c", script],
        |_, spec| {
            spec["process"]["scheduler"] = json!({"policy": "SCHED_BATCH", "nice": 5});
            spec["process"]["ioPriority"] = json!({"class": "IOPRIO_CLASS_IDLE", "priority": 4});
        },
        // Nice value and policy; batch is 3.
        |runtime, said| assert_eq!(said, "5 3\n", "{runtime}"),
    );
}

#[test]
fn an_exec_runs_on_the_processors_of_its_affinity() {
    let Some(bundle) = Bundle::new("cpus", &["sleep", "100"]) else { return };
    assert!(bundle.create().status.success());
    bundle.runc(&["start", &bundle.id]);
    let process = json!({"args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "cwd": "/",
        "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "execCPUAffinity": {"initial": "0", "final": "0"}});
    std::fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    let file = bundle.path("process.json");
    let out = bundle.runc(&["exec", "--process", file.to_str().unwrap(), &bundle.id]);
    assert_eq!(text(&out.stdout), "Cpus_allowed_list:\t0\n", "{}", text(&out.stderr));
}

#[test]
fn the_listener_of_a_notifying_filter_reaches_the_agent_with_the_state() {
    let Some(bundle) = Bundle::new("listener", &["sh", "-c", "true"]) else { return };
    let path = bundle.path("agent.sock");
    let agent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    bundle.edit(|spec| {
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "listenerPath": path, "listenerMetadata": "hello",
            "syscalls": [{"names": ["swapoff"], "action": "SCMP_ACT_NOTIFY"}]
        });
    });
    let agent = std::thread::spawn(move || {
        let (mut stream, _) = agent.accept().unwrap();
        let mut buffer = [0u8; 4096];
        let (got, fd) = sys::tty::recv_fd(stream.as_fd(), &mut buffer).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        let state: Value = serde_json::from_slice(&[&buffer[..got], &rest].concat()).unwrap();
        (state, fd.is_some())
    });
    let out = bundle.run();
    assert!(out.status.success(), "{}", text(&out.stderr));
    let (state, sent) = agent.join().unwrap();
    assert!(sent);
    assert_eq!((&state["metadata"], &state["fds"][0]), (&json!("hello"), &json!("seccompFd")));
    assert_eq!(state["state"]["id"], bundle.id.as_str());
}
