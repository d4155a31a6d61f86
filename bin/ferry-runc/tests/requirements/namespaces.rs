//! config-linux.md, `namespaces`, maps of ids, clocks, sysctls.

use crate::common::{Bundle, with_own_cgroup};
use crate::{ALONE, CRUN, accepted, namespace, push, refused, remove, without_namespace};
use serde_json::json;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

const KINDS: [(&str, &str); 7] = [
    ("network", "net"),
    ("uts", "uts"),
    ("ipc", "ipc"),
    ("pid", "pid"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

const SHOW: &str = "for n in net uts ipc pid mnt cgroup time; do readlink /proc/self/ns/$n; done";

fn own(file: &str) -> String {
    let inode = std::fs::metadata(format!("/proc/self/ns/{file}")).unwrap().ino();
    format!("{file}:[{inode}]")
}

#[test]
fn a_namespace_that_is_listed_is_new() {
    accepted(
        "new",
        SHOW,
        &[],
        |_, spec| {
            for kind in ["cgroup", "time"] {
                push(&mut spec["linux"]["namespaces"], json!({"type": kind}));
            }
        },
        |runtime, said| {
            for (kind, file) in KINDS {
                assert!(!said.contains(&own(file)), "{runtime} {kind}: {said}");
            }
        },
    );
}

#[test]
fn a_namespace_that_is_not_listed_is_the_runtimes_own() {
    accepted(
        "inherited",
        SHOW,
        &[],
        |_, spec| {
            remove(spec, "hostname");
            remove(&mut spec["linux"], "sysctl");
            for kind in ["network", "uts", "ipc", "pid"] {
                without_namespace(spec, kind);
            }
            // A new instance of these needs a namespace of its own.
            let mounts = spec["mounts"].as_array_mut().unwrap();
            mounts.retain(|m| m["type"] != "mqueue" && m["type"] != "sysfs");
        },
        |runtime, said| {
            for (kind, file) in KINDS.into_iter().filter(|(kind, _)| *kind != "mount") {
                assert!(said.contains(&own(file)), "{runtime} {kind}: {said}");
            }
        },
    );
}

#[test]
fn a_namespace_given_twice_or_of_no_kind_is_refused() {
    refused("twice", "duplicated ns", &[CRUN], |_, spec| {
        push(&mut spec["linux"]["namespaces"], json!({"type": "uts"}));
    });
    refused("bogus", "bogus", &[], |_, spec| {
        push(&mut spec["linux"]["namespaces"], json!({"type": "bogus"}));
    });
}

#[test]
fn a_path_that_is_no_such_namespace_or_not_absolute_is_refused() {
    refused("wrongkind", "setns", &[], |_, spec| {
        remove(&mut spec["linux"], "sysctl");
        namespace(spec, "network")["path"] = json!("/proc/self/ns/uts");
    });
    refused("nofile", "no such file", &[], |_, spec| {
        namespace(spec, "network")["path"] = json!("/nowhere");
    });
    refused("noabsolute", "must be an absolute path", ALONE, |bundle, spec| {
        std::os::unix::fs::symlink("/proc/self/ns/net", bundle.path("net")).unwrap();
        namespace(spec, "network")["path"] = json!("net");
    });
}

#[test]
fn ids_are_mapped_and_the_owners_of_files_stay() {
    accepted(
        "maps",
        "cat /proc/self/uid_map /proc/self/gid_map; touch /tmp/made",
        &[],
        |bundle, spec| {
            with_own_cgroup(spec);
            spec["mounts"].as_array_mut().unwrap().retain(|m| m["type"] != "cgroup");
            let open = |path| std::fs::set_permissions(path, PermissionsExt::from_mode(0o777));
            open(bundle.folder.path().to_owned()).unwrap();
            open(bundle.path("rootfs/tmp")).unwrap();
            spec["linux"]["gidMappings"] =
                json!([{"containerID": 0, "hostID": 200_000, "size": 100}]);
        },
        |runtime, said| {
            let words: Vec<&str> = said.split_whitespace().collect();
            assert_eq!(words, ["0", "100000", "65536", "0", "200000", "100"], "{runtime}");
        },
    );
    let Some(bundle) = Bundle::new("owners", &["true"]) else { return };
    bundle.edit(with_own_cgroup);
    let owner = || std::fs::metadata(bundle.path("rootfs/bin/busybox")).unwrap().uid();
    let before = owner();
    std::fs::set_permissions(bundle.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(bundle.run().status.code(), Some(0));
    assert_eq!(owner(), before);
}

#[test]
fn maps_and_a_user_namespace_come_together() {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 10}]);
    refused("mapless", "no uid or gid mappings found", &[CRUN], |_, spec| {
        push(&mut spec["linux"]["namespaces"], json!({"type": "user"}));
    });
    refused("userless", "user namespace isn't enabled", ALONE, |_, spec| {
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map.clone();
    });
}

#[test]
fn clocks_are_shifted_in_a_time_namespace_alone() {
    let offsets = json!({"monotonic": {"secs": 1000}, "boottime": {"secs": 2000}});
    accepted(
        "offsets",
        "cat /proc/self/timens_offsets",
        &[],
        |_, spec| {
            push(&mut spec["linux"]["namespaces"], json!({"type": "time"}));
            spec["linux"]["timeOffsets"] = offsets.clone();
        },
        |runtime, said| {
            let words: Vec<&str> = said.split_whitespace().collect();
            assert_eq!(words, ["monotonic", "1000", "0", "boottime", "2000", "0"], "{runtime}");
        },
    );
    refused("nooffsets", "time namespace isn't enabled", &[CRUN], |_, spec| {
        spec["linux"]["timeOffsets"] = offsets.clone();
    });
}

#[test]
fn settings_of_the_containers_namespaces_are_written_and_no_others() {
    accepted(
        "sysctl",
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni /proc/sys/fs/mqueue/msg_max",
        &[],
        |_, spec| {
            spec["linux"]["sysctl"] = json!({
                "net.ipv4.ip_forward": "1", "kernel.shmmni": "111", "fs.mqueue.msg_max": "22",
            });
        },
        |runtime, said| assert_eq!(said, "1\n111\n22\n", "{runtime}"),
    );
    for (key, kind) in [("net.ipv4.ip_forward", "network"), ("kernel.shmmni", "ipc")] {
        refused("hostsysctl", "namespace", &[], |_, spec| {
            spec["linux"]["sysctl"] = json!({key: "1"});
            without_namespace(spec, kind);
        });
    }
    refused("globalsysctl", "is not in a separate kernel namespace", &[], |_, spec| {
        spec["linux"]["sysctl"] = json!({"vm.swappiness": "1"});
    });
}
