//! Real containers, from a busybox root with the shape of Docker's default configuration. They need
//! root and a busybox; where those are missing they say so and pass.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::{Bundle, mounts, text};
use serde_json::{Value, json};

#[test]
fn a_container_runs_and_nothing_of_it_stays() {
    let script = "id -u; cat /proc/sys/kernel/hostname; cat /proc/keys; echo 1 >/proc/sys/net/ipv4/ip_forward; mkdir /tmp/d; exit 7";
    let Some(bundle) = Bundle::new("run", &["sh", "-c", script]) else { return };
    let before = mounts();
    let out = bundle.run();
    assert_eq!(out.status.code(), Some(7), "{}", text(&out.stderr));
    assert!(text(&out.stdout).starts_with("0\nferry\n"), "{}", text(&out.stdout));
    assert!(text(&out.stderr).contains("Read-only file system"), "{}", text(&out.stderr));
    assert!(!bundle.path("state").join(&bundle.id).exists());
    assert_eq!(mounts(), before);
}

#[test]
fn a_created_container_waits_for_start_and_is_deleted_by_force() {
    let Some(bundle) = Bundle::new("life", &["sleep", "100"]) else { return };
    let out = bundle.create();
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!(bundle.status(), "created");
    assert!(bundle.runc(&["start", &bundle.id]).status.success());
    assert_eq!(bundle.status(), "running");
    let again = bundle.runc(&["start", &bundle.id]);
    assert!(text(&again.stderr).contains("cannot start an already running container"));
    let refused = bundle.runc(&["delete", &bundle.id]);
    assert!(text(&refused.stderr).contains("that is not stopped: running"));
    let exec =
        bundle.runc(&["exec", "--user", "1000:1000", &bundle.id, "sh", "-c", "id -u; exit 3"]);
    assert_eq!((exec.status.code(), text(&exec.stdout)), (Some(3), "1000\n".into()));
    assert!(bundle.runc(&["delete", "--force", &bundle.id]).status.success());
    assert!(!bundle.runc(&["state", &bundle.id]).status.success());
}

#[test]
fn exec_in_a_frozen_container_is_refused_before_it_could_hang() {
    let Some(bundle) = Bundle::new("pause", &["sleep", "100"]) else { return };
    assert!(bundle.create().status.success());
    bundle.runc(&["start", &bundle.id]);
    assert!(bundle.runc(&["pause", &bundle.id]).status.success());
    assert_eq!(bundle.status(), "paused");
    let exec = bundle.runc(&["exec", &bundle.id, "true"]);
    assert_eq!(exec.status.code(), Some(255));
    assert!(text(&exec.stderr).contains("cannot exec in a paused container"));
    assert!(bundle.runc(&["resume", &bundle.id]).status.success());
    assert!(bundle.runc(&["exec", &bundle.id, "true"]).status.success());
}

#[test]
fn a_program_that_cannot_be_executed_fails_create_with_runcs_words() {
    for (program, words) in [
        ("nope", "exec: \\\"nope\\\": executable file not found in $PATH"),
        ("/nope", "exec: \\\"/nope\\\": stat /nope: no such file or directory"),
        ("/etc/passwd", "exec: \\\"/etc/passwd\\\": permission denied"),
        ("/bin", "exec: \\\"/bin\\\": is a directory"),
    ] {
        let Some(bundle) = Bundle::new("missing", &[program]) else { return };
        let before = mounts();
        let out = bundle.create();
        assert_eq!(out.status.code(), Some(1));
        assert!(text(&out.stderr).contains(words), "{}", text(&out.stderr));
        assert_eq!((mounts(), bundle.cgroups_left().len()), (before, 0));
        assert!(!bundle.path("state").join(&bundle.id).exists());
    }
}

#[test]
fn a_failure_at_any_stage_leaves_nothing() {
    type Break = fn(&mut Value);
    let breaks: [(&str, Break); 8] = [
        ("unified", |s| s["linux"]["resources"]["unified"] = json!({"nope": "1"})),
        ("personality", |s| s["linux"]["personality"] = json!({"domain": "LINUX", "flags": ["X"]})),
        ("limit", |s| s["linux"]["resources"]["pids"] = json!({"limit": 1_u64 << 60})),
        ("source", |s| {
            s["mounts"][0] = json!({"destination": "/x", "type": "bind", "source": "/proc/nope"});
        }),
        ("options", |s| s["mounts"][1]["options"] = json!(["nonsense=1"])),
        ("sysctl", |s| s["linux"]["sysctl"]["net.nonsense"] = json!("1")),
        ("hook", |s| s["hooks"] = json!({"createRuntime": [{"path": "/bin/false"}]})),
        ("user", |s| s["process"]["user"]["uid"] = json!(u32::MAX)),
    ];
    for (name, change) in breaks {
        let Some(bundle) = Bundle::new(name, &["true"]) else { return };
        bundle.edit(change);
        let before = mounts();
        let out = bundle.create();
        assert_eq!(out.status.code(), Some(1), "{name}");
        assert_eq!((mounts(), bundle.cgroups_left()), (before, Vec::new()), "{name}");
        assert!(!bundle.path("state").join(&bundle.id).exists(), "{name}");
    }
}

#[test]
fn a_bind_mount_follows_a_link_of_the_image_inside_the_root() {
    let Some(bundle) = Bundle::new("link", &["cat", "/etc/target"]) else { return };
    let outside = bundle.path("outside");
    std::fs::write(&outside, "outside").unwrap();
    std::fs::write(bundle.path("source"), "inside").unwrap();
    std::os::unix::fs::symlink(&outside, bundle.path("rootfs/etc/target")).unwrap();
    bundle.edit(|spec| {
        let mount = json!({"destination": "/etc/target", "type": "bind", "source": "source", "options": ["bind", "ro"]});
        spec["mounts"].as_array_mut().unwrap().push(mount);
    });
    let before = mounts();
    let out = bundle.run();
    assert_eq!(text(&out.stdout), "inside", "{}", text(&out.stderr));
    assert_eq!(std::fs::read_to_string(outside).unwrap(), "outside");
    assert_eq!(mounts(), before);
}

#[test]
fn a_user_namespace_maps_root_to_an_ordinary_user() {
    let Some(bundle) = Bundle::new("users", &["sh", "-c", "id -u; cat /proc/self/uid_map"]) else {
        return;
    };
    std::fs::set_permissions(
        bundle.folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    bundle.edit(|spec| {
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
        spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
    });
    let out = bundle.run();
    assert!(text(&out.stdout).starts_with("0\n"), "{}", text(&out.stderr));
    assert!(text(&out.stdout).contains("100000"), "{}", text(&out.stdout));
}

#[test]
fn hooks_run_in_order_and_get_the_state() {
    let Some(bundle) = Bundle::new("hooks", &["true"]) else { return };
    let log = bundle.path("hooks");
    let hook = |name: &str| {
        let script = format!("echo {name} >>{0}; cat >>{0}; echo >>{0}", log.display());
        json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}])
    };
    bundle.edit(|spec| {
        spec["hooks"] = json!({
            "prestart": hook("prestart"), "createRuntime": hook("createRuntime"),
            "poststart": hook("poststart"), "poststop": hook("poststop"),
        });
    });
    let out = bundle.run();
    assert!(out.status.success(), "{}", text(&out.stderr));
    let said = std::fs::read_to_string(&log).unwrap();
    let names: Vec<&str> = said.lines().filter(|l| !l.is_empty() && !l.starts_with('{')).collect();
    assert_eq!(names, ["prestart", "createRuntime", "poststart", "poststop"]);
    assert!(said.contains(&format!("\"id\":\"{}\"", bundle.id)), "{said}");
}

#[test]
fn an_interrupted_creation_is_removed_by_delete_force() {
    let Some(bundle) = Bundle::new("killed", &["true"]) else { return };
    // The hook kills the runtime while it waits for it: everything exists, nothing is finished.
    bundle.edit(|spec| {
        let script = "kill -9 $PPID; exec sleep 1";
        let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        spec["hooks"] = json!({ "createRuntime": hook });
    });
    let out = bundle.create();
    assert!(!out.status.success());
    assert!(bundle.path("state").join(&bundle.id).exists());
    let before = mounts();
    assert!(bundle.runc(&["delete", "--force", &bundle.id]).status.success());
    assert!(!bundle.path("state").join(&bundle.id).exists());
    assert_eq!(mounts(), before);
}

#[test]
fn a_device_rule_may_take_back_part_of_a_wider_one_where_v2_is() {
    let script = "exec 3</dev/own && echo read; (exec 3>/dev/own) 2>/dev/null || echo not written";
    let Some(bundle) = Bundle::new("devices", &["sh", "-c", script]) else { return };
    // Some device that is none of the usual ones and that can be opened both ways here.
    let device = ["/dev/loop-control", "/dev/fuse", "/dev/kvm", "/dev/vda"]
        .into_iter()
        .find(|path| std::fs::File::options().read(true).write(true).open(path).is_ok());
    let v2 = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let has_v2 = v2.iter().any(|r| std::path::Path::new(r).join("cgroup.controllers").exists());
    let (Some(device), true) = (device, has_v2) else {
        eprintln!("SKIPPED: device rules in order: no device to try, or no cgroup v2, here");
        return;
    };
    let stat = rustix::fs::stat(device).unwrap();
    let kind = if stat.st_mode & 0o170_000 == 0o060_000 { "b" } else { "c" };
    let number = stat.st_rdev;
    let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
    bundle.edit(|spec| {
        let device = json!({"path": "/dev/own", "type": kind, "major": major, "minor": minor, "fileMode": 0o600});
        spec["linux"]["devices"] = json!([device]);
        spec["linux"]["resources"]["devices"] = json!([
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": kind, "major": major, "access": "rwm"},
            {"allow": false, "type": kind, "major": major, "minor": minor, "access": "w"},
        ]);
    });
    let out = bundle.run();
    assert_eq!(text(&out.stdout), "read\nnot written\n", "{}", text(&out.stderr));
}
