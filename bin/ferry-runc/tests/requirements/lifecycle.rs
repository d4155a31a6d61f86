//! runtime.md: the state, the operations, and what must not change anything.

use crate::common::{Bundle, eventually, runtimes, text};
use serde_json::{Value, json};

fn state(bundle: &Bundle) -> Value {
    serde_json::from_slice(&bundle.runc(&["state", &bundle.id]).stdout).unwrap()
}

/// The same steps on every runtime.
fn live(name: &str, args: &[&str], steps: impl Fn(&str, &Bundle)) {
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = Bundle::new(name, args) else { return };
        bundle.program = program;
        let out = bundle.create();
        assert!(out.status.success(), "{runtime}: {}", text(&out.stderr));
        steps(runtime, &bundle);
    }
}

fn stop(bundle: &Bundle) {
    bundle.runc(&["kill", &bundle.id, "KILL"]);
    eventually("an end", || bundle.status() == "stopped");
}

#[test]
fn the_state_has_its_fields_at_every_step() {
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = Bundle::new("fields", &["sleep", "1000"]) else { return };
        bundle.program = program;
        bundle.edit(|spec| spec["annotations"] = json!({"com.example.key": "value"}));
        assert!(bundle.create().status.success(), "{runtime}");
        let common = |status: &str| {
            let state = state(&bundle);
            assert!(state["ociVersion"].as_str().unwrap().starts_with("1."), "{runtime}: {state}");
            assert_eq!(state["id"], bundle.id.as_str(), "{runtime}");
            assert_eq!(state["status"], status, "{runtime}");
            assert_eq!(state["bundle"], bundle.folder.path().to_str().unwrap(), "{runtime}");
            assert_eq!(state["annotations"]["com.example.key"], "value", "{runtime}");
            state["pid"].as_i64().unwrap_or(0)
        };
        let pid = common("created");
        assert!(std::path::Path::new(&format!("/proc/{pid}")).exists(), "{runtime}");
        assert!(bundle.runc(&["start", &bundle.id]).status.success(), "{runtime}");
        assert_eq!(common("running"), pid, "{runtime}");
        stop(&bundle);
        assert_eq!(common("stopped"), 0, "{runtime}");
    }
}

#[test]
fn a_created_container_has_its_namespaces_but_not_run_its_program() {
    live("notyet", &["sh", "-c", "echo >/tmp/ran; exec sleep 1000"], |runtime, bundle| {
        let ran = bundle.path("rootfs/tmp/ran");
        let pid = state(bundle)["pid"].to_string();
        let link = |who: &str| std::fs::read_link(format!("/proc/{who}/ns/net")).unwrap();
        assert_ne!(link(&pid), link("self"), "{runtime}");
        assert!(!ran.exists(), "{runtime}");
        // What the file says from now on is no longer the container's concern.
        bundle.edit(|spec| spec["process"]["args"] = json!(["sh", "-c", "echo >/tmp/other"]));
        assert!(bundle.runc(&["start", &bundle.id]).status.success(), "{runtime}");
        eventually("the program", || ran.exists());
        assert!(!bundle.path("rootfs/tmp/other").exists(), "{runtime}");
    });
}

#[test]
fn an_id_that_is_taken_or_no_id_is_refused_and_changes_nothing() {
    live("taken", &["sleep", "1000"], |runtime, bundle| {
        let pid = state(bundle)["pid"].clone();
        assert!(!bundle.create().status.success(), "{runtime}");
        assert_eq!(
            (bundle.status().as_str(), &state(bundle)["pid"]),
            ("created", &pid),
            "{runtime}"
        );
        let folder = bundle.folder.path().to_str().unwrap();
        for id in ["a/b", "../x", "a b", "."] {
            // crun takes what it can make a folder of.
            if runtime != crate::CRUN {
                let out = bundle.quietly(&[], &["create", "--bundle", folder, id]);
                assert!(!out.status.success(), "{runtime}: {id:?}");
            }
        }
    });
}

#[test]
fn a_container_is_started_once() {
    live("once", &["sh", "-c", "echo >>/tmp/ran; exec sleep 1000"], |runtime, bundle| {
        let ran = || std::fs::read_to_string(bundle.path("rootfs/tmp/ran")).unwrap_or_default();
        assert!(bundle.runc(&["start", &bundle.id]).status.success(), "{runtime}");
        eventually("the program", || ran() == "\n");
        assert!(!bundle.runc(&["start", &bundle.id]).status.success(), "{runtime}");
        assert_eq!((bundle.status().as_str(), ran().as_str()), ("running", "\n"), "{runtime}");
        stop(bundle);
        assert!(!bundle.runc(&["start", &bundle.id]).status.success(), "{runtime}");
        assert_eq!((bundle.status().as_str(), ran().as_str()), ("stopped", "\n"), "{runtime}");
    });
}

#[test]
fn a_signal_reaches_the_process_of_a_created_or_running_container_and_no_other() {
    let script = "trap 'echo >/tmp/heard' USR1; echo >/tmp/ready; while :; do sleep 0.1; done";
    live("signals", &["sh", "-c", script], |runtime, bundle| {
        assert!(bundle.runc(&["start", &bundle.id]).status.success(), "{runtime}");
        eventually("a trap", || bundle.path("rootfs/tmp/ready").exists());
        assert!(bundle.runc(&["kill", &bundle.id, "USR1"]).status.success(), "{runtime}");
        eventually("the signal", || bundle.path("rootfs/tmp/heard").exists());
        stop(bundle);
        assert!(!bundle.runc(&["kill", &bundle.id, "TERM"]).status.success(), "{runtime}");
        assert_eq!(bundle.status(), "stopped", "{runtime}");
    });
    live("killcreated", &["sleep", "1000"], |_, bundle| stop(bundle));
}

#[test]
fn a_container_that_runs_is_not_deleted_and_one_that_ended_leaves_nothing_of_its_own() {
    live("deleted", &["sleep", "1000"], |runtime, bundle| {
        assert!(bundle.runc(&["start", &bundle.id]).status.success(), "{runtime}");
        assert!(!bundle.runc(&["delete", &bundle.id]).status.success(), "{runtime}");
        assert_eq!(bundle.status(), "running", "{runtime}");
        stop(bundle);
        let before = crate::common::mounts();
        assert!(bundle.runc(&["delete", &bundle.id]).status.success(), "{runtime}");
        assert!(!bundle.runc(&["state", &bundle.id]).status.success(), "{runtime}");
        assert_eq!(bundle.cgroups_left().len(), 0, "{runtime}");
        assert_eq!(crate::common::mounts(), before, "{runtime}");
        assert!(!bundle.path("state").join(&bundle.id).exists(), "{runtime}");
        // What is not the container's own stays.
        assert!(bundle.path("rootfs/bin/busybox").exists() && bundle.path("config.json").exists());
    });
}

#[test]
fn a_namespace_that_was_joined_outlives_the_container() {
    for (runtime, program) in runtimes() {
        let Some(owner) = Bundle::new("lender", &["sleep", "1000"]) else { return };
        assert!(owner.create().status.success());
        let pid = state(&owner)["pid"].to_string();
        let Some(mut bundle) = Bundle::new("borrower", &["true"]) else { return };
        bundle.program = program;
        bundle.edit(|spec| {
            crate::namespace(spec, "network")["path"] = json!(format!("/proc/{pid}/ns/net"));
        });
        let out = bundle.run();
        if runtime != "ferry-runc" && out.status.code() != Some(0) {
            eprintln!("SKIPPED: a joined namespace on {runtime}: {}", text(&out.stderr));
            continue;
        }
        assert_eq!(out.status.code(), Some(0), "{runtime}: {}", text(&out.stderr));
        assert_eq!(owner.status(), "created", "{runtime}");
    }
}

#[test]
fn an_error_leaves_what_there_was() {
    live("unchanged", &["sleep", "1000"], |runtime, bundle| {
        for line in [
            &["pause", "nope"][..],
            &["resume", &bundle.id],
            &["exec", "nope", "true"],
            &["delete", "nope"],
            &["kill", &bundle.id, "BOGUS"],
        ] {
            // crun thaws what is not frozen without a word.
            if runtime != crate::CRUN || line[0] != "resume" {
                assert!(!bundle.runc(line).status.success(), "{runtime} {line:?}");
            }
            assert_eq!(bundle.status(), "created", "{runtime} {line:?}");
        }
    });
}

#[test]
fn a_paused_container_is_thawed_by_resume_and_runs_on() {
    let script = "n=0; while :; do n=$((n+1)); echo $n >/tmp/n; sleep 0.05; done";
    live("frozen", &["sh", "-c", script], |runtime, bundle| {
        assert!(bundle.runc(&["start", &bundle.id]).status.success(), "{runtime}");
        let count = || std::fs::read_to_string(bundle.path("rootfs/tmp/n")).unwrap_or_default();
        eventually("a count", || count().trim().parse::<u32>().is_ok_and(|n| n > 2));
        assert!(bundle.runc(&["pause", &bundle.id]).status.success(), "{runtime}");
        assert_eq!(bundle.status(), "paused", "{runtime}");
        let before = count();
        assert!(bundle.runc(&["resume", &bundle.id]).status.success(), "{runtime}");
        assert_eq!(bundle.status(), "running", "{runtime}");
        eventually("another count", || !count().is_empty() && count() != before);
    });
}
