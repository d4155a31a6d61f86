//! config.md, `hooks`, and their part of the life cycle in runtime.md.

use crate::common::{Bundle, runtimes, text};
use crate::{ALONE, CRUN, each};
use serde_json::{Value, json};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that writes its name, its mount namespace and the status that it is told of.
fn telling(log: &Path, name: &str) -> Value {
    let script = format!(
        "read -r state; s=${{state#*\\\"status\\\":\\\"}}; \
         echo {name} ${{s%%\\\"*}} $(readlink /proc/self/ns/mnt) $A >>{}",
        log.display()
    );
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["A=given", "PATH=/bin:/usr/bin"]})
}

fn all(bundle: &Bundle) -> Value {
    let mut hooks = json!({});
    for kind in KINDS {
        // The start's are the container's own, which sees its own files.
        let log = if kind == "startContainer" { "/tmp/hooks".into() } else { bundle.path("hooks") };
        let pair = [telling(&log, &format!("{kind}-1")), telling(&log, &format!("{kind}-2"))];
        hooks[kind] = json!(pair);
    }
    hooks
}

#[test]
fn hooks_run_in_order_in_their_namespaces_and_with_the_state_on_their_input() {
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = Bundle::new("allhooks", &["sh", "-c", "echo program >>/tmp/hooks"])
        else {
            return;
        };
        bundle.program = program;
        bundle.edit(|spec| spec["hooks"] = all(&bundle));
        let out = bundle.run();
        assert_eq!(out.status.code(), Some(0), "{runtime}: {}", text(&out.stderr));
        let host = format!("mnt:[{}]", std::fs::metadata("/proc/self/ns/mnt").unwrap().ino());
        let outside = std::fs::read_to_string(bundle.path("hooks")).unwrap();
        let inside = std::fs::read_to_string(bundle.path("rootfs/tmp/hooks")).unwrap();
        let seen: Vec<Vec<&str>> = outside.lines().map(|line| line.split(' ').collect()).collect();
        // crun hides the v2 hierarchy from itself and so runs in a mount namespace of its own.
        let is_host =
            |words: &[&str]| words[2] == host || (runtime == CRUN && words[2] == seen[0][2]);
        let order: Vec<&str> = seen.iter().map(|words| words[0]).collect();
        let wanted = [
            "prestart-1",
            "prestart-2",
            "createRuntime-1",
            "createRuntime-2",
            "createContainer-1",
            "createContainer-2",
            "poststart-1",
            "poststart-2",
            "poststop-1",
            "poststop-2",
        ];
        assert_eq!(order, wanted, "{runtime}");
        for words in &seen {
            assert_eq!(
                is_host(words),
                !words[0].starts_with("createContainer"),
                "{runtime}: {words:?}"
            );
            assert_eq!(words[3], "given", "{runtime}");
            let status = match words[0].split('-').next().unwrap() {
                "prestart" | "createRuntime" | "createContainer" => "creating",
                "poststart" => "running",
                _ => "stopped",
            };
            // crun tells of what is created before it is, runc of what runs before it does.
            let known = runtime == CRUN || runtime == "runc" && words[0].starts_with("poststart");
            assert!(words[1] == status || known, "{runtime}: {words:?}");
        }
        let inside: Vec<&str> = inside.lines().map(|l| l.split(' ').next().unwrap()).collect();
        assert_eq!(inside, ["startContainer-1", "startContainer-2", "program"], "{runtime}");
    }
}

#[test]
fn what_belongs_to_create_runs_at_create_and_what_belongs_to_start_at_start() {
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = Bundle::new("phases", &["sleep", "1000"]) else { return };
        bundle.program = program;
        bundle.edit(|spec| spec["hooks"] = all(&bundle));
        let names = || {
            let outside = std::fs::read_to_string(bundle.path("hooks")).unwrap_or_default();
            let inside =
                std::fs::read_to_string(bundle.path("rootfs/tmp/hooks")).unwrap_or_default();
            (outside.lines().count(), inside.lines().count())
        };
        let out = bundle.create();
        assert!(out.status.success(), "{runtime}: {}", text(&out.stderr));
        // runc runs the poststart hooks when it has created, before anything is started.
        assert_eq!(names(), (if runtime == "runc" { 8 } else { 6 }, 0), "{runtime}");
        assert!(bundle.runc(&["start", &bundle.id]).status.success(), "{runtime}");
        // The start's own may still be running when `start` returns; the poststart ones are done.
        assert_eq!(names().0, 8, "{runtime}");
        assert!(bundle.runc(&["delete", "--force", &bundle.id]).status.success(), "{runtime}");
        assert_eq!(names().0, 10, "{runtime}");
    }
}

#[test]
fn a_hook_that_fails_before_the_start_fails_the_creation_and_the_end_is_told() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        for (runtime, program) in runtimes() {
            let Some(mut bundle) = Bundle::new("failing", &["true"]) else { return };
            bundle.program = program;
            bundle.edit(|spec| {
                let mut hooks = all(&bundle);
                hooks[kind] = json!([{"path": "/bin/false"}]);
                spec["hooks"] = hooks;
            });
            let out = bundle.create();
            assert!(!out.status.success(), "{runtime} {kind}");
            assert!(!bundle.path("state").join(&bundle.id).exists(), "{runtime} {kind}");
            let told = std::fs::read_to_string(bundle.path("hooks")).unwrap_or_default();
            let ends = told.lines().filter(|line| line.starts_with("poststop")).count();
            assert!(ends == 2 || runtime != "ferry-runc", "{runtime} {kind}: {told}");
            assert!(!told.contains("poststart"), "{runtime} {kind}: {told}");
        }
    }
}

#[test]
fn a_hook_that_runs_too_long_is_killed_and_fails() {
    each(
        "long",
        &["true"],
        &[CRUN],
        |_, spec| {
            let hook = json!([{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]);
            spec["hooks"] = json!({"createRuntime": hook});
        },
        |seen| {
            assert_ne!(seen.code, Some(0), "{}", seen.runtime);
            let said = &seen.error;
            assert!(
                said.contains("hook ran past specified timeout of 1"),
                "{}: {said}",
                seen.runtime
            );
        },
    );
}

#[test]
fn a_hook_whose_path_is_not_absolute_or_whose_time_is_none_is_refused() {
    for (hook, why) in [
        (json!([{"path": "bin/true"}]), "must be an absolute path"),
        (json!([{"path": "/bin/true", "timeout": 0}]), "must be greater than zero"),
        (json!([{"path": "/bin/true", "timeout": -1}]), "must be greater than zero"),
    ] {
        for kind in KINDS {
            crate::refused("badhook", why, ALONE, |_, spec| spec["hooks"] = json!({kind: hook}));
        }
    }
}
