//! AppArmor: profiles that hold, in whatever order no_new_privs comes, stacked ones, and what is said of
//! those that do not exist. Needs a kernel with it, as the virtual machine's; elsewhere it says so.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::{Bundle, runtimes, text};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Once;

const PROFILES: &str = "
profile ferry-test-a flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  signal,
  deny /tmp/a w,
}
profile ferry-test-b flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  signal,
  deny /tmp/b w,
}
";

/// Loads the profiles; false where there is no AppArmor.
fn load() -> bool {
    static LOADED: Once = Once::new();
    if !Path::new("/sys/kernel/security/apparmor/profiles").exists() {
        return false;
    }
    LOADED.call_once(|| {
        let file = std::env::temp_dir().join(format!("ferry-apparmor-{}", std::process::id()));
        std::fs::write(&file, PROFILES).unwrap();
        let mut parser = Command::new("apparmor_parser");
        let loaded = parser.arg("-Kr").arg(&file).stdin(Stdio::null()).status().unwrap();
        std::fs::remove_file(file).unwrap();
        assert!(loaded.success());
    });
    true
}

fn confined(name: &str, args: &[&str]) -> Option<Bundle> {
    if !load() {
        eprintln!("SKIPPED: {name}: needs a kernel with AppArmor (cargo xtask vm)");
        return None;
    }
    Bundle::new(name, args)
}

/// What can be written, and under which label.
const SCRIPT: &str = "cat /proc/self/attr/current; for f in a b c; do (echo > /tmp/$f) 2>/dev/null && echo $f; done; true";

fn run(bundle: &Bundle, profile: &str, no_new_privs: bool) -> String {
    bundle.edit(|spec| {
        spec["process"]["apparmorProfile"] = json!(profile);
        spec["process"]["noNewPrivileges"] = json!(no_new_privs);
    });
    let out = bundle.run();
    assert!(out.status.success(), "{profile}: {}", text(&out.stderr));
    text(&out.stdout)
}

#[test]
fn a_profile_holds_with_and_without_no_new_privs() {
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = confined("profile", &["sh", "-c", SCRIPT]) else { return };
        bundle.program = program;
        if runtime == "crun-static" {
            // Built without it.
            continue;
        }
        for no_new_privs in [true, false] {
            let said = run(&bundle, "ferry-test-a", no_new_privs);
            assert_eq!(said, "ferry-test-a (enforce)\nb\nc\n", "{runtime} {no_new_privs}");
            let said = run(&bundle, "unconfined", no_new_privs);
            assert_eq!(said, "unconfined\na\nb\nc\n", "{runtime} {no_new_privs}");
        }
    }
}

#[test]
fn stacked_profiles_hold_together() {
    let Some(bundle) = confined("stack", &["sh", "-c", SCRIPT]) else { return };
    let said = run(&bundle, "ferry-test-a//&ferry-test-b", true);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("ferry-test-a") && lines[0].contains("ferry-test-b"), "{said}");
    assert_eq!(lines[1..], ["c"]);
}

#[test]
fn an_exec_has_the_containers_profile_or_the_one_it_is_given() {
    let Some(bundle) = confined("aaexec", &["sleep", "1000"]) else { return };
    bundle.edit(|spec| spec["process"]["apparmorProfile"] = json!("ferry-test-a"));
    let out = bundle.create();
    assert!(out.status.success(), "{}", text(&out.stderr));
    bundle.runc(&["start", &bundle.id]);
    let exec = |more: &[&str]| {
        let words = [&["exec"], more, &[&bundle.id, "sh", "-c", SCRIPT]].concat();
        text(&bundle.runc(&words).stdout)
    };
    assert_eq!(exec(&[]), "ferry-test-a (enforce)\nb\nc\n");
    assert_eq!(exec(&["--apparmor", "ferry-test-b"]), "ferry-test-b (enforce)\na\nc\n");
}

#[test]
fn a_profile_that_is_not_loaded_is_refused_in_runcs_words() {
    for (runtime, program) in runtimes() {
        if runtime == "crun-static" {
            continue;
        }
        let Some(mut bundle) = confined("unknown", &["sleep", "1000"]) else { return };
        bundle.program = program;
        bundle.edit(|spec| spec["process"]["apparmorProfile"] = json!("ferry-test-none"));
        let out = bundle.run();
        let said = text(&out.stderr);
        let words = "error during container init: unable to apply apparmor profile: \
            apparmor failed to apply profile: write ";
        assert_eq!(out.status.code(), Some(1), "{runtime}: {said}");
        assert!(said.contains(words), "{runtime}: {said}");
        assert!(
            said.contains("attr/apparmor/exec: no such file or directory"),
            "{runtime}: {said}"
        );
        bundle.edit(|spec| spec["process"]["apparmorProfile"] = Value::Null);
        assert!(bundle.create().status.success());
        bundle.runc(&["start", &bundle.id]);
        let out = bundle.runc(&["exec", "--apparmor", "ferry-test-none", &bundle.id, "true"]);
        let said = text(&out.stderr);
        assert_eq!(out.status.code(), Some(255), "{runtime}: {said}");
        assert!(said.contains("apparmor failed to apply profile: write "), "{runtime}: {said}");
    }
}

#[test]
fn labels_are_refused_where_their_module_is_missing() {
    for (runtime, program) in runtimes() {
        if runtime == "crun-static" {
            continue;
        }
        let Some(mut bundle) = Bundle::new("labels", &["true"]) else { return };
        bundle.program = program;
        if !Path::new("/sys/fs/selinux/enforce").exists() {
            bundle.edit(|spec| spec["process"]["selinuxLabel"] = json!("a:b:c:d"));
            let said = text(&bundle.run().stderr);
            assert!(said.contains("selinux is disabled or not supported"), "{runtime}: {said}");
            bundle.edit(|spec| spec["process"]["selinuxLabel"] = Value::Null);
        }
        if !Path::new("/sys/kernel/security/apparmor/profiles").exists() {
            bundle.edit(|spec| spec["process"]["apparmorProfile"] = json!("x"));
            let said = text(&bundle.run().stderr);
            assert!(said.contains("apparmor"), "{runtime}: {said}");
        }
    }
}
