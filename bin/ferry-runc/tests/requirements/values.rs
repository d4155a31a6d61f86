//! config.md: versions, annotations, what nobody knows, what makes no sense; bundle.md.

use crate::{ALONE, CRUN, accepted, each, refused, remove};
use serde_json::{Value, json};

#[test]
fn the_version_must_be_a_semantic_one_that_is_known() {
    for version in ["", "1", "1.0", "one", "v1.0.0", "1.0.x", "2.0.0"] {
        // The peers don't look, or at the first number alone.
        refused("version", "ociVersion", ALONE, |_, spec| spec["ociVersion"] = json!(version));
    }
    for version in ["1.0.0", "1.0.0-rc5", "1.1.0", "1.2.1+dev", "1.3.0"] {
        accepted("version", "true", &[], |_, spec| spec["ociVersion"] = json!(version), |_, _| ());
    }
}

#[test]
fn properties_that_nobody_knows_are_ignored() {
    accepted(
        "unknown",
        "echo well",
        &[],
        |_, spec| {
            let own = json!({"any": ["thing"]});
            spec["com.example.own"] = own.clone();
            for part in ["process", "root", "linux"] {
                spec[part]["com.example.own"] = own.clone();
            }
            spec["mounts"][0]["com.example.own"] = own.clone();
            spec["linux"]["resources"]["com.example.own"] = own.clone();
            spec["annotations"] = json!({"com.example.own": "x", "org.opencontainers.own": "y"});
        },
        |runtime, said| assert_eq!(said, "well\n", "{runtime}"),
    );
}

#[test]
fn parts_for_other_systems_are_ignored() {
    let change = |_: &_, spec: &mut Value| {
        spec["solaris"] = json!({"milestone": "x"});
        spec["windows"] = json!({"layerFolders": ["x"]});
        spec["process"]["commandLine"] = json!("x");
        spec["process"]["user"]["username"] = json!("x");
    };
    accepted("others", "true", &[], change, |_, _| ());
}

#[test]
fn annotations_are_strings() {
    refused("annotation", "expected a string", &[CRUN], |_, spec| {
        spec["annotations"] = json!({"a": 1});
    });
    refused("annotations", "", &[CRUN], |_, spec| spec["annotations"] = json!(["a"]));
}

#[test]
fn values_of_the_wrong_kind_are_refused() {
    let wrong: [(&str, Value); 9] = [
        ("/process/args", json!("sh")),
        ("/process/user/uid", json!(-1)),
        ("/process/env", json!({"A": "b"})),
        ("/root/readonly", json!("yes")),
        ("/mounts", json!("none")),
        ("/linux/namespaces", json!("none")),
        ("/linux/resources/memory", json!({"limit": "much"})),
        ("/linux/maskedPaths", json!("/proc/keys")),
        ("/hostname", json!(["a"])),
    ];
    for (at, value) in wrong {
        // crun reads numbers and words with more goodwill.
        refused("wrong", "config.json", &[CRUN], |_, spec| {
            let (parent, key) = at.rsplit_once('/').unwrap();
            spec.pointer_mut(parent).unwrap()[key] = value.clone();
        });
    }
}

#[test]
fn a_file_that_is_no_document_or_has_no_process_is_refused() {
    for text in ["", "{", "[]", "null", "{\"ociVersion\": \"1.0.0\"}"] {
        for (runtime, program) in crate::runtimes() {
            let Some(mut bundle) = crate::Bundle::new("document", &["true"]) else { return };
            bundle.program = program;
            std::fs::write(bundle.path("config.json"), text).unwrap();
            assert_ne!(bundle.run().status.code(), Some(0), "{runtime}: {text:?}");
        }
    }
    refused("noprocess", "process property must not be empty", &[CRUN], |_, spec| {
        remove(spec, "process");
    });
}

#[test]
fn numbers_at_their_bounds_neither_crash_nor_wrap() {
    for limit in [i64::MAX, i64::MIN, -1, 0] {
        each(
            "bounds",
            &["true"],
            ALONE,
            |_, spec| {
                spec["linux"]["resources"]["memory"] =
                    json!({"limit": limit, "reservation": limit});
                spec["linux"]["resources"]["cpu"] = json!({"quota": limit, "period": 100_000});
                spec["linux"]["resources"]["pids"] = json!({"limit": limit});
            },
            |seen| {
                let well = seen.code == Some(0) || seen.error.contains("level=error");
                assert!(well, "{limit}: {:?} {}", seen.code, seen.error);
            },
        );
    }
}
