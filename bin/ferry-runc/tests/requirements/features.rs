//! features.md and features-linux.md: what the document names is had.

use crate::common::{Bundle, runtimes, text};
use crate::{accepted, push};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn document() -> Option<Value> {
    let bundle = Bundle::new("features", &["true"])?;
    Some(serde_json::from_slice(&bundle.runc(&["features"]).stdout).unwrap())
}

fn words(document: &Value, at: &str) -> Vec<String> {
    let list = document.pointer(at).unwrap_or_else(|| panic!("no {at}")).as_array().unwrap();
    list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
}

#[test]
fn both_ends_of_the_range_of_versions_are_accepted_and_in_order() {
    let Some(document) = document() else { return };
    let versions =
        ["ociVersionMin", "ociVersionMax"].map(|key| document[key].as_str().unwrap().to_owned());
    let number = |version: &str| -> Vec<u32> {
        version.split(['.', '-', '+']).take(3).map(|part| part.parse().unwrap()).collect()
    };
    assert!(number(&versions[0]) <= number(&versions[1]));
    for version in versions {
        accepted(
            "range",
            "true",
            crate::ALONE,
            |_, spec| spec["ociVersion"] = json!(version),
            |_, _| (),
        );
    }
}

#[test]
fn every_hook_of_the_document_runs() {
    let Some(document) = document() else { return };
    let kinds = words(&document, "/hooks");
    let Some(bundle) = Bundle::new("hookkinds", &["true"]) else { return };
    std::os::unix::fs::symlink("busybox", bundle.path("rootfs/bin/touch2")).unwrap();
    bundle.edit(|spec| {
        for kind in &kinds {
            let file = if kind == "startContainer" { "/tmp/ran".into() } else { bundle.path(kind) };
            let script = format!("echo >{}", file.display());
            spec["hooks"][kind] = json!([{"path": "/bin/sh", "args": ["sh", "-c", script]}]);
        }
    });
    let out = bundle.run();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    for kind in kinds {
        let file = if kind == "startContainer" { "rootfs/tmp/ran" } else { &kind };
        assert!(bundle.path(file).exists(), "{kind}");
    }
}

#[test]
fn every_mount_option_of_the_document_is_recognised_and_none_is_a_file_systems_own() {
    let Some(document) = document() else { return };
    let options = words(&document, "/mountOptions");
    assert!(!options.iter().any(|option| option.contains('=')), "{options:?}");
    // These need more than a tmpfs.
    let others = ["bind", "rbind", "remount", "idmap", "ridmap"];
    accepted(
        "mountoptions",
        "true",
        crate::ALONE,
        |_, spec| {
            for option in options.iter().filter(|option| !others.contains(&option.as_str())) {
                let at = format!("/m/{option}");
                let mount = json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": [option]});
                push(&mut spec["mounts"], mount);
            }
        },
        |_, _| (),
    );
}

#[test]
fn every_namespace_and_capability_of_the_document_is_recognised() {
    let Some(document) = document() else { return };
    let kinds = words(&document, "/linux/namespaces");
    let wanted = ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"];
    assert_eq!(kinds, wanted);
    let names = words(&document, "/linux/capabilities");
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    assert!(names.len() > last.trim().parse::<usize>().unwrap_or(40), "{names:?}");
    crate::each(
        "capnames",
        &["true"],
        crate::ALONE,
        |_, spec| spec["process"]["capabilities"]["bounding"] = json!(names),
        |seen| {
            assert_eq!(seen.code, Some(0), "{}", seen.error);
            // What the machine lacks is dropped with a warning, and nothing is unknown.
            let own = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = own.lines().find_map(|line| line.strip_prefix("CapPrm:\t")).unwrap();
            let own = u64::from_str_radix(line, 16).unwrap();
            let missing = names.len() as u32 - own.count_ones();
            assert_eq!(seen.error.matches("CAP_").count() as u32, missing, "{}", seen.error);
        },
    );
}

#[test]
fn every_word_of_the_document_on_filters_is_recognised() {
    let Some(document) = document() else { return };
    let list = |key: &str| words(&document, &format!("/linux/seccomp/{key}"));
    let (known, supported) = (list("knownFlags"), list("supportedFlags"));
    assert!(supported.iter().all(|flag| known.contains(flag)));
    let Some(bundle) = Bundle::new("filterwords", &["true"]) else { return };
    let agent = std::os::unix::net::UnixListener::bind(bundle.path("agent")).unwrap();
    let (actions, operators) = (list("actions"), list("operators"));
    for n in 0..actions.len().max(operators.len()) {
        let (action, operator) = (&actions[n % actions.len()], &operators[n % operators.len()]);
        bundle.edit(|spec| {
            let args = json!([{"index": 0, "value": 1, "valueTwo": 1, "op": operator}]);
            spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW", "architectures": list("archs"),
                "listenerPath": bundle.path("agent"),
                "syscalls": [{"names": ["swapoff"], "action": action, "args": args}]
            });
        });
        let out = bundle.run();
        assert_eq!(out.status.code(), Some(0), "{action} {operator}: {}", text(&out.stderr));
    }
    bundle.edit(|spec| {
        // Waiting with a listener alone.
        let rule = json!([{"names": ["swapoff"], "action": "SCMP_ACT_NOTIFY"}]);
        spec["linux"]["seccomp"]["syscalls"] = rule;
        spec["linux"]["seccomp"]["flags"] = json!(supported);
    });
    let out = bundle.run();
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    drop(agent);
}

#[test]
fn every_mode_and_flag_of_memory_policies_is_recognised() {
    let Some(document) = document() else { return };
    for mode in words(&document, "/linux/memoryPolicy/modes") {
        let Some(bundle) = Bundle::new("modes", &["true"]) else { return };
        let nodes = if ["MPOL_DEFAULT", "MPOL_LOCAL"].contains(&mode.as_str()) { "" } else { "0" };
        bundle.edit(|spec| spec["linux"]["memoryPolicy"] = json!({"mode": mode, "nodes": nodes}));
        let out = bundle.run();
        let said = text(&out.stderr);
        // A kernel may lack one; nobody may not know it.
        assert!(
            out.status.code() == Some(0) || said.contains("invalid argument"),
            "{mode}: {said}"
        );
        assert!(!said.contains(&mode), "{mode}: {said}");
    }
}

fn keys(value: &Value, at: &str, into: &mut BTreeSet<String>) {
    if let Value::Object(fields) = value {
        for (key, value) in fields {
            let path = format!("{at}/{key}");
            keys(value, &path, into);
            into.insert(path);
        }
    }
}

#[test]
fn the_document_has_every_field_of_runcs_and_nothing_that_the_specification_lacks() {
    let Some(ours) = document() else { return };
    let mut known = BTreeSet::new();
    keys(&ours, "", &mut known);
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = Bundle::new("fields", &["true"]) else { return };
        bundle.program = program;
        let theirs: Value = serde_json::from_slice(&bundle.runc(&["features"]).stdout).unwrap();
        let mut found = BTreeSet::new();
        keys(&theirs, "", &mut found);
        let missing: Vec<_> =
            found.difference(&known).filter(|key| !key.starts_with("/annotations")).collect();
        assert!(missing.is_empty(), "{runtime}: {missing:?}");
    }
}
