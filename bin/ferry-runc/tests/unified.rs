//! cgroup v2: that limits reach the kernel as they do with other runtimes, and that they bite. Runs
//! where v2 is alone, as in the virtual machine; elsewhere it says so and passes.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::{Bundle, eventually, runtimes, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/cgroup";

/// A bundle on a machine that has v2 alone.
fn unified(name: &str, args: &[&str]) -> Option<Bundle> {
    if !Path::new(ROOT).join("cgroup.controllers").exists() {
        eprintln!("SKIPPED: {name}: needs cgroup v2 alone (cargo xtask vm)");
        return None;
    }
    Bundle::new(name, args)
}

fn folder(bundle: &Bundle) -> PathBuf {
    Path::new(ROOT).join(&bundle.id)
}

fn read(bundle: &Bundle, file: &str) -> String {
    std::fs::read_to_string(folder(bundle).join(file)).unwrap_or_default().trim().to_owned()
}

fn figure(bundle: &Bundle, file: &str, key: &str) -> u64 {
    let text = read(bundle, file);
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn start(bundle: &Bundle) {
    let out = bundle.create();
    assert!(out.status.success(), "{}", text(&out.stderr));
    let out = bundle.runc(&["start", &bundle.id]);
    assert!(out.status.success(), "{}", text(&out.stderr));
}

/// Major and minor number of some disk.
fn disk() -> Option<(u64, u64)> {
    let entries = std::fs::read_dir("/sys/block").ok()?;
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    let disk = names.filter(|n| n.starts_with("vd") || n.starts_with("sd")).min()?;
    let numbers = std::fs::read_to_string(format!("/sys/block/{disk}/dev")).ok()?;
    let (major, minor) = numbers.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

const FILES: [&str; 16] = [
    "cpu.max",
    "cpu.weight",
    "cpu.max.burst",
    "cpu.idle",
    "cpuset.cpus",
    "cpuset.mems",
    "memory.max",
    "memory.low",
    "memory.high",
    "memory.swap.max",
    "pids.max",
    "io.weight",
    "io.max",
    "hugetlb.2MB.max",
    "hugetlb.2MB.rsvd.max",
    "cgroup.procs",
];

#[test]
fn every_limit_reaches_its_file_with_the_value_that_other_runtimes_write() {
    let mut seen: Vec<(&str, Vec<String>)> = Vec::new();
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = unified("limits", &["sleep", "1000"]) else { return };
        bundle.program = program;
        bundle.edit(|spec| {
            let (major, minor) = disk().unwrap();
            let rate = json!([{"major": major, "minor": minor, "rate": 1 << 20}]);
            let resources = &mut spec["linux"]["resources"];
            resources["memory"] = json!({"limit": 100 << 20, "swap": 150 << 20, "reservation": 50 << 20});
            resources["cpu"] =
                json!({"shares": 512, "quota": 50_000, "period": 200_000, "burst": 10_000, "cpus": "0", "mems": "0"});
            resources["pids"] = json!({"limit": 77});
            resources["blockIO"] =
                json!({"weight": 200, "throttleReadBpsDevice": rate, "throttleWriteIOPSDevice": rate});
            resources["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": 4 << 20}]);
            resources["unified"] = json!({"memory.high": "94371840"});
        });
        start(&bundle);
        let values = FILES.iter().map(|file| match *file {
            "cgroup.procs" => read(&bundle, file).lines().count().to_string(),
            file => format!("{file}: {}", read(&bundle, file)),
        });
        seen.push((runtime, values.collect()));
    }
    let ours = seen[0].1.clone();
    assert!(ours.contains(&"cpu.max: 50000 200000".to_owned()), "{ours:?}");
    assert!(ours.contains(&"memory.swap.max: 52428800".to_owned()), "{ours:?}");
    for (runtime, theirs) in &seen[1..] {
        // crun sets no reservation limit of huge pages, and counts shares by another curve.
        let differ = ["hugetlb.2MB.rsvd.max", "cpu.weight", "cpu.max.burst"];
        for (ours, theirs) in ours.iter().zip(theirs) {
            let known = *runtime == "crun-static" && differ.iter().any(|d| ours.starts_with(d));
            assert!(ours == theirs || known, "{runtime}: {ours} and {theirs}");
        }
    }
}

#[test]
fn an_update_changes_what_it_names_and_keeps_the_rest() {
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = unified("update", &["sleep", "1000"]) else { return };
        if runtime == "crun-static" {
            continue;
        }
        bundle.program = program;
        bundle.edit(|spec| {
            spec["linux"]["resources"]["cpu"] = json!({"quota": 50_000, "period": 200_000});
            spec["linux"]["resources"]["memory"] = json!({"limit": 100 << 20});
        });
        start(&bundle);
        let update = |args: &[&str]| bundle.runc(&[&["update"], args, &[&bundle.id]].concat());
        assert!(update(&["--cpu-quota", "20000", "--pids-limit", "33"]).status.success());
        let values = ["cpu.max", "memory.max", "pids.max"].map(|file| read(&bundle, file));
        assert_eq!(values, ["20000 200000", "104857600", "33"], "{runtime}");
        assert!(update(&["--cpu-period", "50000"]).status.success());
        assert_eq!(read(&bundle, "cpu.max"), "20000 50000", "{runtime}");
        let memory = json!({"memory": {"limit": 4096, "checkBeforeUpdate": true}});
        std::fs::write(bundle.path("small.json"), memory.to_string()).unwrap();
        let out = update(&["--resources", bundle.path("small.json").to_str().unwrap()]);
        let said = text(&out.stderr);
        assert!(said.contains("rejecting memory limit 4096 <= usage "), "{runtime}: {said}");
        assert_eq!(read(&bundle, "memory.max"), "104857600", "{runtime}");
    }
}

#[test]
fn a_fork_bomb_stops_at_the_limit_of_tasks() {
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 1000 & done; sleep 1000";
    let Some(bundle) = unified("bomb", &["sh", "-c", script]) else { return };
    bundle.edit(|spec| spec["linux"]["resources"]["pids"] = json!({"limit": 8}));
    start(&bundle);
    eventually("the kernel refuses a task", || figure(&bundle, "pids.events", "max") > 0);
    let now: u64 = read(&bundle, "pids.current").parse().unwrap_or(0);
    assert!(now <= 8, "{now}");
}

#[test]
fn a_memory_hog_is_killed_and_counted() {
    let hog = "dd if=/dev/zero of=/dev/null bs=64M count=1";
    let Some(bundle) = unified("hog", &["sh", "-c", hog]) else { return };
    bundle.edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    let out = bundle.run();
    // The shell tells of its killed child as 128 and the signal.
    assert_eq!(out.status.code(), Some(137), "{}", text(&out.stderr));
    let Some(bundle) = unified("hogs", &["sleep", "1000"]) else { return };
    bundle.edit(|spec| {
        spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    start(&bundle);
    let out = bundle.runc(&["exec", &bundle.id, "sh", "-c", hog]);
    assert_eq!(out.status.code(), Some(137), "{}", text(&out.stderr));
    assert!(figure(&bundle, "memory.events", "oom_kill") >= 1);
    assert_eq!(bundle.status(), "running");
}

#[test]
fn a_quota_of_processor_time_holds_whatever_the_container_does() {
    let script = "while :; do :; done";
    let Some(bundle) = unified("quota", &["sh", "-c", script]) else { return };
    let (quota, period) = (20_000, 100_000);
    bundle.edit(|spec| {
        spec["linux"]["resources"]["cpu"] = json!({"quota": quota, "period": period});
    });
    start(&bundle);
    eventually("twenty periods", || figure(&bundle, "cpu.stat", "nr_periods") >= 20);
    // By the kernel's own count, which other load on the machine does not change.
    let used = figure(&bundle, "cpu.stat", "usage_usec");
    let periods = figure(&bundle, "cpu.stat", "nr_periods");
    let throttled = figure(&bundle, "cpu.stat", "nr_throttled");
    assert!(throttled > 0, "{throttled} of {periods}");
    assert!(used <= (periods + 2) * quota * 3 / 2, "{used} of {periods} periods");
}

#[test]
fn everything_in_the_cgroup_is_killed_at_once() {
    let Some(bundle) = unified("killall", &["sh", "-c", "sleep 1000 & sleep 1000 & wait"]) else {
        return;
    };
    bundle.edit(|spec| {
        let spaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        spaces.retain(|n| n["type"] != "pid");
    });
    start(&bundle);
    eventually("three processes", || read(&bundle, "cgroup.procs").lines().count() == 3);
    assert!(bundle.runc(&["kill", &bundle.id, "KILL"]).status.success());
    eventually("none is left", || figure(&bundle, "cgroup.events", "populated") == 0);
    assert!(bundle.runc(&["delete", &bundle.id]).status.success());
}

fn keys(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    match value {
        // What is in memory.stat is the kernel's; an entry of a list is as good as another.
        Value::Object(_) if at.ends_with("/raw") => {}
        Value::Object(fields) => {
            for (key, value) in fields {
                keys(value, &format!("{at}/{key}"), into);
            }
        }
        _ => drop(into.insert(at.to_owned())),
    }
}

#[test]
fn figures_have_the_shape_of_runcs() {
    let script = "dd if=/dev/zero of=/tmp/x bs=1M count=4; while :; do :; done";
    let mut shapes: Vec<BTreeSet<String>> = Vec::new();
    for (runtime, program) in runtimes() {
        if runtime == "crun-static" {
            continue;
        }
        let Some(mut bundle) = unified("shape", &["sh", "-c", script]) else { return };
        bundle.program = program;
        bundle.edit(|spec| {
            let resources = &mut spec["linux"]["resources"];
            resources["cpu"] = json!({"quota": 10_000, "period": 50_000});
            resources["memory"] = json!({"limit": 64 << 20});
            resources["pids"] = json!({"limit": 20});
        });
        start(&bundle);
        eventually("a throttled period", || figure(&bundle, "cpu.stat", "throttled_usec") > 0);
        let out = bundle.runc(&["events", "--stats", &bundle.id]);
        let event: Value = serde_json::from_slice(&out.stdout).unwrap();
        let mut all = BTreeSet::new();
        keys(&event, "", &mut all);
        // Written only when they are not zero.
        all.retain(|key| !key.contains("/blkio/io") && !key.ends_with("/cache"));
        shapes.push(all);
    }
    assert!(shapes[0].contains("/data/memory/psi/some/avg10"), "{:?}", shapes[0]);
    if let [ours, theirs] = &shapes[..] {
        assert_eq!(ours, theirs);
    }
}

#[test]
fn a_cgroup_is_given_to_the_root_of_a_user_namespace_that_may_divide_it() {
    let script = "stat -c %u /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory.max && mkdir /sys/fs/cgroup/own";
    let Some(bundle) = unified("owner", &["sh", "-c", script]) else { return };
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bundle.folder.path(), open).unwrap();
    bundle.edit(common::with_own_cgroup);
    let out = bundle.run();
    // The files that delegation gives are its own; those of its limits stay the host's.
    assert_eq!(text(&out.stdout), "0\n65534\n", "{}", text(&out.stderr));
    assert!(out.status.success(), "{}", text(&out.stderr));
}

#[test]
fn files_that_do_not_exist_are_refused_by_name() {
    for (files, words) in [
        (json!({"memory.nope": "1"}), "memory.nope"),
        (json!({"a/b": "1"}), "must be a file name (no slashes)"),
        (json!({"nope.max": "1"}), "nope.max"),
    ] {
        let Some(bundle) = unified("files", &["true"]) else { return };
        bundle.edit(|spec| spec["linux"]["resources"]["unified"] = files.clone());
        let out = bundle.run();
        assert_eq!(out.status.code(), Some(1));
        assert!(text(&out.stderr).contains(words), "{files}: {}", text(&out.stderr));
    }
}
