//! config-linux.md: devices, links of `/dev`, cgroups and their limits on v1, personality, memory
//! policy. Limits on v2 are asked for in `unified`, in the virtual machine.

use crate::common::{Bundle, runtimes, text};
use crate::{ALONE, CRUN, accepted, push, refused};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[test]
fn devices_are_made_as_listed() {
    accepted(
        "made",
        "stat -c '%F %t:%T %a %u:%g' /dev/own /dev/deep/disk /dev/fifo",
        &[],
        |_, spec| {
            spec["linux"]["devices"] = json!([
                {"path": "/dev/own", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 5, "gid": 6},
                {"path": "/dev/deep/disk", "type": "b", "major": 7, "minor": 3, "fileMode": 0o600},
                {"path": "/dev/fifo", "type": "p", "fileMode": 0o622},
            ]);
        },
        |runtime, said| {
            let wanted = "character special file 1:5 640 5:6\nblock special file 7:3 600 0:0\n";
            assert!(said.starts_with(wanted), "{runtime}: {said}");
            assert!(said.ends_with("fifo 0:0 622 0:0\n"), "{runtime}: {said}");
        },
    );
}

#[test]
fn a_file_in_the_place_of_a_device_is_refused_and_the_device_itself_is_not() {
    let device = json!([{"path": "/etc/own", "type": "c", "major": 1, "minor": 5}]);
    // runc takes what is there; crun too.
    refused("inplace", "exists and is not that device", ALONE, |bundle, spec| {
        std::fs::write(bundle.path("rootfs/etc/own"), "").unwrap();
        spec["linux"]["devices"] = device.clone();
    });
    accepted(
        "already",
        "stat -c %t:%T /etc/own",
        &[],
        |bundle, spec| {
            let (kind, mode) = (rustix::fs::FileType::CharacterDevice, 0o666.into());
            let (path, number) = (bundle.path("rootfs/etc/own"), rustix::fs::makedev(1, 5));
            rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, number).unwrap();
            spec["linux"]["devices"] = device.clone();
        },
        |runtime, said| assert_eq!(said, "1:5\n", "{runtime}"),
    );
    refused("nokind", "invalid device type", &[CRUN], |_, spec| {
        spec["linux"]["devices"] =
            json!([{"path": "/dev/own", "type": "z", "major": 1, "minor": 5}]);
    });
}

#[test]
fn a_container_has_the_devices_and_links_that_every_one_has() {
    accepted(
        "default",
        "cd /dev; stat -c '%n %t:%T' null zero full random urandom tty; \
         for l in ptmx fd stdin stdout stderr; do readlink $l; done",
        &[],
        |_, _| (),
        |runtime, said| {
            let nodes = "null 1:3\nzero 1:5\nfull 1:7\nrandom 1:8\nurandom 1:9\ntty 5:0\n";
            let links =
                "pts/ptmx\n/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\n";
            assert_eq!(
                said.replace("/dev/pts/ptmx", "pts/ptmx"),
                format!("{nodes}{links}"),
                "{runtime}"
            );
        },
    );
}

#[test]
fn devices_that_no_rule_allows_cannot_be_opened() {
    let Some((kind, number)) =
        ["/dev/loop-control", "/dev/fuse", "/dev/vda"].iter().find_map(|path| {
            let stat = rustix::fs::stat(*path).ok()?;
            Some((if stat.st_mode & 0o170_000 == 0o060_000 { "b" } else { "c" }, stat.st_rdev))
        })
    else {
        eprintln!("SKIPPED: device rules: no device to try here");
        return;
    };
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    for (allowed, shown) in [(false, "no\n"), (true, "yes\n")] {
        accepted(
            "rules",
            "(exec 3</dev/own) 2>/dev/null && echo yes || echo no",
            &[],
            |_, spec| {
                spec["linux"]["devices"] =
                    json!([{"path": "/dev/own", "type": kind, "major": major, "minor": minor}]);
                if allowed {
                    let rule = json!({"allow": true, "type": kind, "major": major, "minor": minor, "access": "rwm"});
                    push(&mut spec["linux"]["resources"]["devices"], rule);
                }
            },
            |runtime, said| assert_eq!(said, shown, "{runtime}"),
        );
    }
}

const V1: &str = "/sys/fs/cgroup/memory/memory.limit_in_bytes";

/// The folder of a container in the hierarchy of a v1 controller.
fn folder(bundle: &Bundle, controller: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(controller).join(&bundle.id)
}

fn started(name: &str, program: &Path, change: impl Fn(&mut Value)) -> Option<Bundle> {
    let mut bundle = Bundle::new(name, &["sleep", "1000"])?;
    program.clone_into(&mut bundle.program);
    bundle.edit(change);
    let out = bundle.create();
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(bundle.runc(&["start", &bundle.id]).status.success());
    Some(bundle)
}

const FILES: [(&str, &str); 16] = [
    ("memory", "memory.limit_in_bytes"),
    ("memory", "memory.memsw.limit_in_bytes"),
    ("memory", "memory.soft_limit_in_bytes"),
    ("memory", "memory.swappiness"),
    ("memory", "memory.oom_control"),
    ("cpu", "cpu.shares"),
    ("cpu", "cpu.cfs_quota_us"),
    ("cpu", "cpu.cfs_period_us"),
    ("cpu", "cpu.idle"),
    ("cpuset", "cpuset.cpus"),
    ("cpuset", "cpuset.mems"),
    ("pids", "pids.max"),
    ("net_cls", "net_cls.classid"),
    ("blkio", "blkio.throttle.read_bps_device"),
    ("blkio", "blkio.throttle.write_iops_device"),
    ("hugetlb", "hugetlb.2MB.limit_in_bytes"),
];

#[test]
fn every_limit_reaches_its_v1_file_with_the_value_that_other_runtimes_write() {
    if !Path::new(V1).exists() {
        eprintln!("SKIPPED: limits on v1: this machine has none");
        return;
    }
    let there = |controller: &str| Path::new("/sys/fs/cgroup").join(controller).is_dir();
    let mut seen: Vec<(&str, Vec<String>)> = Vec::new();
    for (runtime, program) in runtimes() {
        let change = |spec: &mut Value| {
            let resources = &mut spec["linux"]["resources"];
            resources["memory"] = json!({"limit": 100 << 20, "swap": 150 << 20, "reservation": 50 << 20,
                "swappiness": 33, "disableOOMKiller": true});
            resources["cpu"] = json!({"shares": 512, "quota": 50_000, "period": 200_000, "cpus": "0", "mems": "0"});
            resources["pids"] = json!({"limit": 77});
            if there("net_cls") {
                resources["network"] = json!({"classID": 0x0010_0001});
            }
            if there("hugetlb") {
                resources["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": 4 << 20}]);
            }
            if let (true, Ok(stat)) = (there("blkio"), rustix::fs::stat("/dev/vda")) {
                let (major, minor) =
                    (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                let rate = json!([{"major": major, "minor": minor, "rate": 1 << 20}]);
                resources["blockIO"] =
                    json!({"throttleReadBpsDevice": rate, "throttleWriteIOPSDevice": rate});
            }
        };
        let Some(bundle) = started("v1limits", &program, change) else { return };
        let values = FILES.iter().map(|(controller, file)| {
            let value = std::fs::read_to_string(folder(&bundle, controller).join(file));
            format!("{file}: {}", value.unwrap_or_default().trim())
        });
        seen.push((runtime, values.collect()));
    }
    let ours = &seen[0].1;
    assert!(ours.contains(&"memory.limit_in_bytes: 104857600".to_owned()), "{ours:?}");
    assert!(ours.contains(&"cpu.cfs_quota_us: 50000".to_owned()), "{ours:?}");
    assert!(ours.contains(&"pids.max: 77".to_owned()), "{ours:?}");
    for (runtime, theirs) in &seen[1..] {
        assert_eq!(ours, theirs, "{runtime}");
    }
}

#[test]
fn an_update_reaches_the_v1_files_by_every_flag_and_by_a_document() {
    if !Path::new(V1).exists() {
        eprintln!("SKIPPED: updates on v1: this machine has none");
        return;
    }
    for (runtime, program) in runtimes() {
        if runtime == CRUN {
            continue;
        }
        let Some(bundle) = started("v1update", &program, |_| ()) else { return };
        let update = |args: &[&str]| {
            let out = bundle.runc(&[&["update"], args, &[&bundle.id]].concat());
            assert!(out.status.success(), "{runtime} {args:?}: {}", text(&out.stderr));
        };
        let read = |controller: &str, file: &str| {
            std::fs::read_to_string(folder(&bundle, controller).join(file))
                .unwrap()
                .trim()
                .to_owned()
        };
        update(&["--memory", "64M", "--memory-swap", "96M", "--memory-reservation", "32M"]);
        assert_eq!(read("memory", "memory.limit_in_bytes"), (64 << 20).to_string(), "{runtime}");
        assert_eq!(
            read("memory", "memory.memsw.limit_in_bytes"),
            (96 << 20).to_string(),
            "{runtime}"
        );
        assert_eq!(
            read("memory", "memory.soft_limit_in_bytes"),
            (32 << 20).to_string(),
            "{runtime}"
        );
        update(&["--cpu-quota", "30000", "--cpu-period", "60000", "--cpu-share", "200"]);
        assert_eq!(read("cpu", "cpu.cfs_quota_us"), "30000", "{runtime}");
        assert_eq!(read("cpu", "cpu.cfs_period_us"), "60000", "{runtime}");
        assert_eq!(read("cpu", "cpu.shares"), "200", "{runtime}");
        update(&["--cpuset-cpus", "0", "--cpuset-mems", "0", "--pids-limit", "20"]);
        assert_eq!(read("cpuset", "cpuset.cpus"), "0", "{runtime}");
        assert_eq!(read("pids", "pids.max"), "20", "{runtime}");
        let document = bundle.path("resources.json");
        std::fs::write(&document, r#"{"pids": {"limit": 21}, "cpu": {"shares": 300}}"#).unwrap();
        update(&["--resources", document.to_str().unwrap()]);
        assert_eq!(
            (read("pids", "pids.max"), read("cpu", "cpu.shares")),
            ("21".into(), "300".into()),
            "{runtime}"
        );
        // What the document does not name stays.
        assert_eq!(read("memory", "memory.limit_in_bytes"), (64 << 20).to_string(), "{runtime}");
    }
}

#[test]
fn the_same_cgroups_path_is_the_same_place_and_an_absolute_one_is_below_the_mount_point() {
    for (runtime, program) in runtimes() {
        let Some(bundle) = started("place", &program, |_| ()) else { return };
        let state: Value =
            serde_json::from_slice(&bundle.runc(&["state", &bundle.id]).stdout).unwrap();
        let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", state["pid"])).unwrap();
        let own = groups.lines().filter(|line| line.ends_with(&format!(":/{}", bundle.id))).count();
        assert!(own >= 1, "{runtime}: {groups}");
        bundle.runc(&["delete", "--force", &bundle.id]);
        assert_eq!(bundle.cgroups_left(), Vec::<PathBuf>::new(), "{runtime}");
    }
}

#[test]
fn a_cgroup_that_has_processes_is_no_place_for_another_container() {
    for (runtime, program) in runtimes() {
        if runtime == CRUN {
            continue;
        }
        let Some(first) = started("occupied", &program, |_| ()) else { return };
        let Some(mut second) = Bundle::new("occupant", &["true"]) else { return };
        second.program = program;
        second.edit(|spec| spec["linux"]["cgroupsPath"] = format!("/{}", first.id).into());
        let out = second.run();
        let error = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{runtime}: {error}");
        let why = "container's cgroup is not empty: 1 process(es) found";
        assert!(error.contains(why), "{runtime}: {error}");
        assert_eq!(first.status(), "running", "{runtime}");
    }
}

#[test]
fn unified_limits_are_refused_without_v2() {
    if !Path::new(V1).exists() {
        return;
    }
    refused("v1unified", "unified", &[], |_, spec| {
        spec["linux"]["resources"]["unified"] = json!({"memory.high": "1000000"});
    });
}

#[test]
fn personality_and_memory_policy_are_those_configured() {
    accepted(
        "personality",
        "uname -m",
        &[],
        |_, spec| spec["linux"]["personality"] = json!({"domain": "LINUX32"}),
        |runtime, said| assert_eq!(said, "i686\n", "{runtime}"),
    );
    refused("nodomain", "personality", &[], |_, spec| {
        spec["linux"]["personality"] = json!({"domain": "BOGUS"});
    });
    accepted(
        "policy",
        "grep -m1 stack /proc/self/numa_maps",
        // Newer than they are.
        ALONE,
        |_, spec| spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BIND", "nodes": "0"}),
        |runtime, said| assert!(said.contains("bind:0"), "{runtime}: {said}"),
    );
    refused("nomode", "MPOL_BOGUS", ALONE, |_, spec| {
        spec["linux"]["memoryPolicy"] = json!({"mode": "MPOL_BOGUS", "nodes": "0"});
    });
}

#[test]
fn shares_of_the_cache_are_refused_where_there_is_no_resctrl() {
    if std::fs::read_to_string("/proc/mounts").unwrap().contains(" resctrl ") {
        return;
    }
    refused("rdt", "Intel RDT is not enabled", &[CRUN], |_, spec| {
        spec["linux"]["intelRdt"] = json!({"closID": "x", "l3CacheSchema": "L3:0=f"});
    });
}

#[test]
fn a_device_name_that_the_container_has_already_is_refused() {
    let Some(bundle) = Bundle::new("taken", &["true"]) else { return };
    bundle.edit(|spec| spec["linux"]["netDevices"] = json!({"outer1": {"name": "lo"}}));
    let script = "ip link add outer1 type veth peer name other1 && exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["-n", "sh", "-c", script, "sh"]).arg(&bundle.program);
    let folder = bundle.folder.path().to_str().unwrap();
    command.arg("--root").arg(bundle.path("state")).args(["run", "--bundle", folder, &bundle.id]);
    let out = command.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(!out.status.success());
    let said = text(&out.stderr).to_lowercase();
    assert!(said.contains("file exists") || said.contains("not found"), "{said}");
}
