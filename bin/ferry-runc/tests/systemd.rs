//! The systemd driver, against a real systemd, beside runc. Needs a machine booted with systemd, as
//! the virtual machine of that flavour is; elsewhere it says so and passes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::{Bundle, runtimes, text};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

fn with_systemd(name: &str, args: &[&str]) -> Option<Bundle> {
    if !booted() {
        eprintln!(
            "SKIPPED: {name}: needs a machine booted with systemd (cargo xtask vm --systemd)"
        );
        return None;
    }
    let bundle = Bundle::new(name, args)?;
    bundle.edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!(format!("ferry-test.slice:pre:{}", bundle.id));
    });
    Some(bundle)
}

/// The runtime with the systemd driver.
fn driven(bundle: &Bundle, words: &[&str]) -> Output {
    bundle.quietly(&["--systemd-cgroup"], words)
}

fn start(bundle: &Bundle) {
    let folder = bundle.folder.path().to_str().unwrap();
    let out = driven(bundle, &["run", "--detach", "--bundle", folder, &bundle.id]);
    let log = std::fs::read(bundle.path("log")).unwrap_or_default();
    assert!(out.status.success(), "{}", text(&log));
}

fn unit(bundle: &Bundle) -> String {
    format!("pre-{}.scope", bundle.id)
}

/// Properties of a unit, `NAME=VALUE`.
fn show(unit: &str, names: &[&str]) -> Vec<String> {
    let out = Command::new("systemctl").args(["show", unit, "-p", &names.join(",")]).output();
    let mut lines: Vec<String> = text(&out.unwrap().stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn exists(unit: &str) -> bool {
    show(unit, &["LoadState"]) == ["LoadState=loaded"]
}

const PROPERTIES: [&str; 24] = [
    "Slice",
    "Delegate",
    "Transient",
    "CollectMode",
    "DefaultDependencies",
    "CPUAccounting",
    "CPUWeight",
    "CPUQuotaPerSecUSec",
    "CPUQuotaPeriodUSec",
    "AllowedCPUs",
    "AllowedMemoryNodes",
    "IOAccounting",
    "MemoryAccounting",
    "MemoryMax",
    "MemoryLow",
    "MemoryHigh",
    "MemorySwapMax",
    "MemoryMin",
    "TasksAccounting",
    "TasksMax",
    "DevicePolicy",
    "DeviceAllow",
    "TimeoutStopUSec",
    "ActiveState",
];

fn limits(spec: &mut Value) {
    spec["annotations"] = json!({
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.TimeoutStopSec": "uint64 7",
    });
    let resources = &mut spec["linux"]["resources"];
    resources["memory"] = json!({"limit": 100 << 20, "swap": 150 << 20, "reservation": 50 << 20});
    // A quota that systemd has to round.
    resources["cpu"] =
        json!({"shares": 512, "quota": 12_345, "period": 50_000, "cpus": "0", "mems": "0"});
    resources["pids"] = json!({"limit": 77});
    resources["unified"] = json!({"memory.high": "94371840"});
}

#[test]
fn a_container_is_a_unit_with_the_properties_that_runc_gives_it() {
    let mut seen = Vec::new();
    for (runtime, program) in runtimes() {
        if runtime == "crun-static" {
            continue;
        }
        let Some(mut bundle) = with_systemd("unit", &["sleep", "1000"]) else { return };
        bundle.program = program;
        bundle.edit(limits);
        start(&bundle);
        let cgroup = Path::new("/sys/fs/cgroup/ferry.slice/ferry-test.slice").join(unit(&bundle));
        let files = ["cpu.max", "cpu.weight", "memory.max", "memory.swap.max", "pids.max"];
        let file = |name: &&str| std::fs::read_to_string(cgroup.join(name)).unwrap();
        let written: Vec<String> = files.iter().map(file).collect();
        let made = show(&unit(&bundle), &PROPERTIES);
        let update = [
            "update",
            "--pids-limit",
            "33",
            "--memory",
            "80000000",
            "--memory-swap",
            "90000000",
            "--cpu-quota",
            "30000",
            &bundle.id,
        ];
        assert!(bundle.runc(&update).status.success());
        let changed = show(&unit(&bundle), &PROPERTIES);
        // By default the scope would be cleaned away only when it has not failed.
        assert!(made.contains(&"CollectMode=inactive-or-failed".to_owned()), "{made:?}");
        assert!(made.contains(&"TimeoutStopUSec=7s".to_owned()), "{made:?}");
        assert!(changed.contains(&"TasksMax=33".to_owned()), "{changed:?}");
        seen.push((written, made, changed));
    }
    assert_eq!(seen[0].0[0], "12500 50000\n");
    if let [ours, theirs] = &seen[..] {
        assert_eq!(ours, theirs);
    }
}

#[test]
fn exec_joins_the_unit_and_nothing_of_it_stays_after_delete() {
    let Some(bundle) = with_systemd("gone", &["sleep", "1000"]) else { return };
    start(&bundle);
    assert!(exists(&unit(&bundle)));
    let out = bundle.runc(&["exec", &bundle.id, "cat", "/proc/self/cgroup"]);
    let place = format!("/ferry.slice/ferry-test.slice/{}", unit(&bundle));
    assert!(text(&out.stdout).contains(&place), "{} {}", text(&out.stdout), text(&out.stderr));
    assert!(bundle.runc(&["pause", &bundle.id]).status.success());
    assert_eq!(bundle.status(), "paused");
    assert!(bundle.runc(&["resume", &bundle.id]).status.success());
    assert!(bundle.runc(&["delete", "--force", &bundle.id]).status.success());
    assert!(!exists(&unit(&bundle)));
    assert!(!Path::new("/sys/fs/cgroup").join(&place[1..]).exists());
}

#[test]
fn a_container_that_ended_by_itself_leaves_no_unit_either() {
    let Some(bundle) = with_systemd("ended", &["sh", "-c", "exit 3"]) else { return };
    let folder = bundle.folder.path().to_str().unwrap();
    let out = driven(&bundle, &["run", "--bundle", folder, &bundle.id]);
    assert_eq!(out.status.code(), Some(3), "{:?}", std::fs::read_to_string(bundle.path("log")));
    assert!(!exists(&unit(&bundle)));
}

#[test]
fn a_creation_that_fails_later_leaves_no_unit() {
    let Some(bundle) = with_systemd("later", &["nope"]) else { return };
    let folder = bundle.folder.path().to_str().unwrap();
    let out = driven(&bundle, &["create", "--bundle", folder, &bundle.id]);
    assert_eq!(out.status.code(), Some(1));
    let log = std::fs::read_to_string(bundle.path("log")).unwrap();
    assert!(log.contains("executable file not found in $PATH"), "{log}");
    assert!(!exists(&unit(&bundle)));
}

#[test]
fn a_unit_that_is_anothers_is_left_alone() {
    let Some(first) = with_systemd("first", &["sleep", "1000"]) else { return };
    start(&first);
    let Some(second) = with_systemd("second", &["sleep", "1000"]) else { return };
    second.edit(|spec| {
        spec["linux"]["cgroupsPath"] = json!(format!("ferry-test.slice:pre:{}", first.id));
    });
    let folder = second.folder.path().to_str().unwrap();
    let out = driven(&second, &["create", "--bundle", folder, &second.id]);
    let log = std::fs::read_to_string(second.path("log")).unwrap();
    assert_eq!(out.status.code(), Some(1), "{log}");
    assert!(log.contains("unable to start unit"), "{log}");
    assert_eq!(first.status(), "running");
    assert!(exists(&unit(&first)));
}

#[test]
fn the_root_of_a_user_namespace_gets_the_unit_s_cgroup() {
    let script = "stat -c %u /sys/fs/cgroup/cgroup.procs";
    for (runtime, program) in runtimes() {
        if runtime == "crun-static" {
            continue;
        }
        let Some(mut bundle) = with_systemd("owner", &["sh", "-c", script]) else { return };
        bundle.program = program;
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(bundle.folder.path(), open).unwrap();
        bundle.edit(common::with_own_cgroup);
        let folder = bundle.folder.path();
        let out = Command::new(&bundle.program)
            .arg("--systemd-cgroup")
            .arg("--root")
            .arg(bundle.path("state"))
            .args(["run", "--bundle", folder.to_str().unwrap(), &bundle.id])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(text(&out.stdout), "0\n", "{runtime}: {}", text(&out.stderr));
    }
}

#[test]
fn what_systemd_or_the_driver_refuses_is_told_in_runcs_words() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change, &str); 4] = [
        ("path", |s| s["linux"]["cgroupsPath"] = json!("/a/b"), "slice:prefix:name"),
        ("slice", |s| s["linux"]["cgroupsPath"] = json!("a--b.slice:x:y"), "invalid slice name"),
        (
            "annotation",
            |s| s["annotations"] = json!({"org.systemd.property.Nope": "true"}),
            "unable to start unit",
        ),
        (
            "value",
            |s| s["annotations"] = json!({"org.systemd.property.CollectMode": "'"}),
            "value parse error",
        ),
    ];
    for (name, change, words) in changes {
        for (runtime, program) in runtimes() {
            if runtime == "crun-static" {
                continue;
            }
            let Some(mut bundle) = with_systemd(name, &["true"]) else { return };
            bundle.program = program;
            bundle.edit(change);
            let folder = bundle.folder.path().to_str().unwrap();
            let out = driven(&bundle, &["create", "--bundle", folder, &bundle.id]);
            let log = std::fs::read_to_string(bundle.path("log")).unwrap();
            assert_eq!(out.status.code(), Some(1), "{runtime}: {log}");
            assert!(log.contains(words), "{name} {runtime}: {log}");
        }
    }
}

#[test]
fn without_systemd_the_driver_is_refused_as_by_runc() {
    if booted() {
        return;
    }
    for (runtime, program) in runtimes() {
        if runtime == "crun-static" {
            continue;
        }
        let Some(mut bundle) = Bundle::new("nosystemd", &["true"]) else { return };
        bundle.program = program;
        bundle.edit(|spec| spec["linux"]["cgroupsPath"] = json!("system.slice:x:y"));
        let folder = bundle.folder.path().to_str().unwrap();
        let out = driven(&bundle, &["create", "--bundle", folder, &bundle.id]);
        let log = std::fs::read_to_string(bundle.path("log")).unwrap();
        assert_eq!(out.status.code(), Some(1), "{runtime}: {log}");
        assert!(log.contains("systemd not running on this host"), "{runtime}: {log}");
    }
}

#[test]
fn an_ordinary_users_container_is_a_unit_of_the_users_own_manager() {
    if !booted() {
        eprintln!("SKIPPED: a user's own service manager: needs a machine booted with systemd");
        return;
    }
    let Some(bundle) = Bundle::new("users", &["sleep", "1000"]) else { return };
    let id = 1000;
    let begun = Command::new("systemctl").args(["start", &format!("user@{id}.service")]).status();
    if !begun.is_ok_and(|s| s.success()) {
        eprintln!("SKIPPED: a user's own service manager: none can be started here");
        return;
    }
    bundle.edit(|spec| {
        let map = json!([{"containerID": 0, "hostID": id, "size": 1}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        spec["linux"]["cgroupsPath"] = json!(format!("user.slice:pre:{}", bundle.id));
        spec["linux"]["resources"]["pids"] = json!({"limit": 20});
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        spec["process"]["user"] = json!({"uid": 0, "gid": 0});
        for mount in spec["mounts"].as_array_mut().unwrap() {
            let options = mount["options"].as_array_mut().unwrap();
            options.retain(|o| !o.as_str().unwrap().starts_with("gid="));
        }
    });
    let whole = bundle.folder.path();
    let owner = format!("{id}:{id}");
    assert!(Command::new("chown").args(["-R", &owner]).arg(whole).status().unwrap().success());
    let program = bundle.path("runtime");
    common::copy(&bundle.program, &program);
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    let command = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command
            .args([&format!("--reuid={id}"), &format!("--regid={id}"), "--clear-groups"])
            .arg(&program)
            .args(["--systemd-cgroup", "--root"])
            .arg(bundle.path("state"))
            .args(["--log"])
            .arg(bundle.path("log"))
            .args(words)
            .env("XDG_RUNTIME_DIR", format!("/run/user/{id}"))
            .env_remove("DBUS_SESSION_BUS_ADDRESS")
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    };
    let run = |words: &[&str]| command(words).output().unwrap();
    let log = || std::fs::read_to_string(bundle.path("log")).unwrap_or_default();
    let folder = whole.to_str().unwrap();
    // A container keeps its streams, so they must not be our pipes.
    let create =
        command(&["create", "--bundle", folder, &bundle.id]).stdout(Stdio::null()).status();
    assert!(create.unwrap().success(), "{}", log());
    assert!(run(&["start", &bundle.id]).status.success(), "{}", log());
    let out = run(&["exec", &bundle.id, "cat", "/proc/self/cgroup"]);
    let place = format!("user@{id}.service/user.slice/{}", unit(&bundle));
    assert!(text(&out.stdout).contains(&place), "{} {}", text(&out.stdout), log());
    let cgroup =
        Path::new("/sys/fs/cgroup/user.slice").join(format!("user-{id}.slice")).join(&place);
    let limit = || std::fs::read_to_string(cgroup.join("pids.max")).unwrap();
    assert_eq!(limit(), "20\n");
    assert!(run(&["update", "--pids-limit", "9", &bundle.id]).status.success(), "{}", log());
    assert_eq!(limit(), "9\n");
    assert!(run(&["delete", "--force", &bundle.id]).status.success(), "{}", log());
    assert!(!cgroup.exists());
}

#[test]
fn podman_with_the_systemd_manager_gets_the_same_from_both_runtimes() {
    let Some(podman) = common::peer("podman") else {
        eprintln!("SKIPPED: podman with systemd: podman is not installed");
        return;
    };
    let mut seen = Vec::new();
    for (runtime, program) in runtimes() {
        if runtime == "crun-static" {
            continue;
        }
        let Some(bundle) = with_systemd("podman", &["true"]) else { return };
        let name = format!("ferry-test-podman-{}", std::process::id());
        let store = bundle.path("store");
        let run = |words: &[&str]| {
            Command::new(&podman)
                .args(["--cgroup-manager=systemd", "--runtime"])
                .arg(&program)
                .arg("--conmon")
                .arg(common::peer("conmon").unwrap())
                .arg("--root")
                .arg(&store)
                .args(["--storage-driver=vfs", "--events-backend=none"])
                .args(words)
                .stdin(Stdio::null())
                .output()
                .unwrap()
        };
        let rootfs = bundle.path("rootfs");
        let out = run(&[
            "run",
            "-d",
            "--name",
            &name,
            "--network=none",
            "--memory=100m",
            "--cpus=0.5",
            "--pids-limit=50",
            "--rootfs",
            rootfs.to_str().unwrap(),
            "sleep",
            "1000",
        ]);
        assert!(out.status.success(), "{runtime}: {}", text(&out.stderr));
        let unit = format!("libpod-{}.scope", text(&out.stdout).trim());
        let properties: Vec<String> = show(&unit, &PROPERTIES)
            .into_iter()
            .filter(|line| !line.starts_with("DeviceAllow"))
            .collect();
        let said =
            run(&["exec", &name, "sh", "-c", "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/cpu.max"]);
        let inside = text(&said.stdout);
        assert!(run(&["rm", "-f", "-t", "0", &name]).status.success(), "{runtime}");
        assert!(!exists(&unit), "{runtime}");
        assert_eq!(inside, "50\n50000 100000\n", "{runtime}: {}", text(&said.stderr));
        seen.push(properties);
    }
    assert!(seen[0].contains(&"MemoryMax=104857600".to_owned()), "{seen:?}");
    if let [ours, theirs] = &seen[..] {
        assert_eq!(ours, theirs);
    }
}
