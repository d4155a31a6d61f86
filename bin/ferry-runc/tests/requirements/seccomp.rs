//! config-linux.md, `seccomp`.

use crate::{ALONE, CRUN, accepted, refused};
use serde_json::{Value, json};

fn filter(default: &str, rules: Value) -> Value {
    json!({"defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules})
}

#[test]
fn a_filter_answers_with_the_error_asked_for() {
    for (action, shown) in [
        (json!({"action": "SCMP_ACT_ERRNO"}), "Operation not permitted"),
        (json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 38}), "Function not implemented"),
    ] {
        accepted(
            "errno",
            "mkdir /tmp/x 2>&1; true",
            &[],
            |_, spec| {
                let mut rule = action.clone();
                rule["names"] = json!(["mkdir", "mkdirat"]);
                spec["linux"]["seccomp"] = filter("SCMP_ACT_ALLOW", json!([rule]));
            },
            |runtime, said| assert!(said.contains(shown), "{runtime}: {said}"),
        );
    }
}

#[test]
fn a_filter_kills_or_traps_when_asked_to() {
    for (action, code) in [
        ("SCMP_ACT_KILL", "159"),
        ("SCMP_ACT_KILL_THREAD", "159"),
        ("SCMP_ACT_KILL_PROCESS", "159"),
        ("SCMP_ACT_TRAP", "159"),
        ("SCMP_ACT_LOG", "0"),
        ("SCMP_ACT_ALLOW", "0"),
    ] {
        accepted(
            "kills",
            "mkdir /tmp/x; echo $?",
            &[],
            |_, spec| {
                let rule = json!([{"names": ["mkdir", "mkdirat"], "action": action}]);
                let default =
                    if action == "SCMP_ACT_ALLOW" { "SCMP_ACT_LOG" } else { "SCMP_ACT_ALLOW" };
                spec["linux"]["seccomp"] = filter(default, rule);
            },
            |runtime, said| assert_eq!(said, format!("{code}\n"), "{runtime} {action}"),
        );
    }
}

#[test]
fn every_comparison_of_an_argument_holds() {
    // The second argument of mkdir is its mode: 0777 here.
    let (mode, other) = (0o777, 0o776);
    for (operator, value, two, hits) in [
        ("SCMP_CMP_EQ", mode, 0, true),
        ("SCMP_CMP_EQ", other, 0, false),
        ("SCMP_CMP_NE", mode, 0, false),
        ("SCMP_CMP_NE", other, 0, true),
        ("SCMP_CMP_LT", mode, 0, false),
        ("SCMP_CMP_LE", mode, 0, true),
        ("SCMP_CMP_GE", mode, 0, true),
        ("SCMP_CMP_GT", mode, 0, false),
        ("SCMP_CMP_GT", other, 0, true),
        ("SCMP_CMP_MASKED_EQ", 0o700, 0o700, true),
        ("SCMP_CMP_MASKED_EQ", 0o700, 0o600, false),
    ] {
        accepted(
            "compare",
            "mkdir /tmp/x 2>/dev/null && echo no || echo yes",
            &[],
            |_, spec| {
                let arg = json!({"index": 1, "value": value, "valueTwo": two, "op": operator});
                spec["linux"]["seccomp"] = filter(
                    "SCMP_ACT_ALLOW",
                    json!([{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "args": [arg]}]),
                );
            },
            |runtime, said| {
                // The mask comes first to libseccomp and second to nobody.
                let known = operator == "SCMP_CMP_MASKED_EQ" && value != two;
                let wanted = if hits { "yes\n" } else { "no\n" };
                assert!(said == wanted || known, "{runtime} {operator} {value:o}: {said}");
            },
        );
    }
}

#[test]
fn filters_that_make_no_sense_are_refused() {
    let rule = |more: Value| {
        let mut rule = json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"});
        rule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([rule])
    };
    let arg = |index: u32, op: &str| json!({"args": [{"index": index, "value": 0, "op": op}]});
    let bad: [(&str, &str, Value, &[&str]); 9] = [
        ("SCMP_ACT_BOGUS", "SCMP_ACT_BOGUS", json!([]), &[]),
        ("SCMP_ACT_NOTIFY", "cannot be used as default action", json!([]), &[]),
        ("SCMP_ACT_ALLOW", "BOGUS", rule(json!({"action": "BOGUS"})), &[]),
        ("SCMP_ACT_ALLOW", "invalid seccomp argument index 6", rule(arg(6, "SCMP_CMP_EQ")), &[]),
        ("SCMP_ACT_ALLOW", "SCMP_CMP_BOGUS", rule(arg(0, "SCMP_CMP_BOGUS")), &[]),
        ("SCMP_ACT_ALLOW", "invalid errno", rule(json!({"errnoRet": 5000})), ALONE),
        ("SCMP_ACT_ALLOW", "names no system call", rule(json!({"names": []})), ALONE),
        (
            "SCMP_ACT_ERRNO",
            "errno cannot be used with action",
            rule(json!({"action": "SCMP_ACT_ALLOW", "errnoRet": 1})),
            ALONE,
        ),
        (
            "SCMP_ACT_ALLOW",
            "cannot be used for the write",
            rule(json!({"names": ["write"], "action": "SCMP_ACT_NOTIFY"})),
            &[CRUN],
        ),
    ];
    for (default, why, rules, but) in bad {
        refused("badfilter", why, but, |bundle, spec| {
            spec["linux"]["seccomp"] = filter(default, rules.clone());
            spec["linux"]["seccomp"]["listenerPath"] = json!(bundle.path("agent"));
        });
    }
    let change = |key: &'static str, value: Value| {
        move |_: &crate::Bundle, spec: &mut Value| {
            spec["linux"]["seccomp"] = filter("SCMP_ACT_ALLOW", json!([]));
            spec["linux"]["seccomp"][key] = value.clone();
        }
    };
    refused(
        "badarch",
        "is not a valid arch",
        &[],
        change("architectures", json!(["SCMP_ARCH_BOGUS"])),
    );
    refused("badflag", "BOGUS", &[], change("flags", json!(["BOGUS"])));
    refused("defaulterrno", "errno cannot be used", ALONE, change("defaultErrnoRet", json!(1)));
    refused("metadata", "listenerMetadata", ALONE, change("listenerMetadata", json!("x")));
}

#[test]
fn a_listener_that_cannot_be_sent_is_an_error() {
    refused("noagent", "agent", &[], |bundle, spec| {
        let rule = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
        spec["linux"]["seccomp"] = filter("SCMP_ACT_ALLOW", rule);
        spec["linux"]["seccomp"]["listenerPath"] = json!(bundle.path("agent"));
    });
    refused("nopath", "listenerPath", &[CRUN], |_, spec| {
        let rule = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
        spec["linux"]["seccomp"] = filter("SCMP_ACT_ALLOW", rule);
    });
}
