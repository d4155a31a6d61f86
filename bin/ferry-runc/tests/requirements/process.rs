//! config.md, `process`: what the program finds itself with.

use crate::{CRUN, accepted, push, refused};
use serde_json::json;

#[test]
fn the_program_gets_its_arguments_variables_and_folder() {
    let change = |_: &_, spec: &mut serde_json::Value| {
        spec["process"]["args"] = json!(["sh", "-c", "echo $1 $A $PWD", "sh", "one two"]);
        push(&mut spec["process"]["env"], json!("A=b c"));
        spec["process"]["cwd"] = json!("/etc");
    };
    accepted("given", "", &[], change, |runtime, said| {
        assert_eq!(said, "one two b c /etc\n", "{runtime}");
    });
}

#[test]
fn a_working_folder_that_is_not_absolute_or_missing_is_refused() {
    for (cwd, why) in
        [("tmp", "Cwd must be an absolute path"), ("", "Cwd property must not be empty")]
    {
        refused("cwd", why, &[CRUN], |_, spec| spec["process"]["cwd"] = json!(cwd));
    }
}

#[test]
fn a_process_without_arguments_is_refused() {
    refused("noargs", "args must not be empty", &[], |_, spec| spec["process"]["args"] = json!([]));
}

#[test]
fn a_size_of_the_terminal_counts_only_with_a_terminal() {
    let size = json!({"height": 33, "width": 101});
    accepted(
        "size",
        "stty size",
        // They pass on what their own terminal is, and have none here.
        crate::ALONE,
        |_, spec| {
            spec["process"]["terminal"] = json!(true);
            spec["process"]["consoleSize"] = size.clone();
        },
        |runtime, said| assert_eq!(said, "33 101\r\n", "{runtime}"),
    );
    let change =
        |_: &_, spec: &mut serde_json::Value| spec["process"]["consoleSize"] = size.clone();
    accepted("nosize", "true", &[], change, |_, _| ());
}

#[test]
fn limits_are_those_configured() {
    accepted(
        "rlimits",
        "grep -E 'open files|core file' /proc/self/limits",
        &[],
        |_, spec| {
            spec["process"]["rlimits"] = json!([
                {"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99},
                {"type": "RLIMIT_CORE", "soft": 0, "hard": 4096},
            ]);
        },
        |runtime, said| {
            let words: Vec<&str> = said.split_whitespace().collect();
            assert!(words.windows(2).any(|w| w == ["77", "99"]), "{runtime}: {said}");
            assert!(words.windows(2).any(|w| w == ["0", "4096"]), "{runtime}: {said}");
        },
    );
}

#[test]
fn limits_that_do_not_exist_or_are_given_twice_are_refused() {
    let limit = |kind: &str| json!({"type": kind, "soft": 10, "hard": 10});
    refused("badlimit", "wrong rlimit value: RLIMIT_BOGUS", &[], |_, spec| {
        spec["process"]["rlimits"] = json!([limit("RLIMIT_BOGUS")]);
    });
    refused("twice", "is given twice", &[CRUN, "runc"], |_, spec| {
        spec["process"]["rlimits"] = json!([limit("RLIMIT_NOFILE"), limit("RLIMIT_NOFILE")]);
    });
}

#[test]
fn the_five_sets_of_capabilities_are_those_configured() {
    accepted(
        "caps",
        "grep ^Cap /proc/self/status",
        &[],
        |_, spec| {
            let (chown, kill, raw) = ("CAP_CHOWN", "CAP_KILL", "CAP_NET_RAW");
            spec["process"]["capabilities"] = json!({
                "bounding": [chown, kill, raw], "permitted": [chown, kill], "effective": [chown],
                "inheritable": [chown, kill], "ambient": [chown],
            });
            spec["process"]["user"]["uid"] = json!(1000);
        },
        |runtime, said| {
            // After its execve an ordinary user has what is ambient.
            let sets = [("Inh", 0x21), ("Prm", 1), ("Eff", 1), ("Bnd", 0x2021), ("Amb", 1)];
            for (name, bits) in sets {
                let line = format!("Cap{name}:\t{bits:016x}\n");
                assert!(said.contains(&line), "{runtime}: no {line} in {said}");
            }
        },
    );
}

#[test]
fn a_capability_that_cannot_be_had_is_a_warning_and_no_error() {
    crate::each(
        "unknowncap",
        &["true"],
        &[],
        |_, spec| push(&mut spec["process"]["capabilities"]["bounding"], json!("CAP_BOGUS")),
        |seen| {
            assert_eq!(seen.code, Some(0), "{}: {}", seen.runtime, seen.error);
            let told = seen.runtime == CRUN || seen.error.contains("CAP_BOGUS");
            assert!(told, "{}: {}", seen.runtime, seen.error);
        },
    );
}

#[test]
fn no_new_privileges_holds_when_asked_for_and_only_then() {
    for (asked, shown) in [(true, "1"), (false, "0")] {
        accepted(
            "nnp",
            "grep NoNewPrivs /proc/self/status",
            &[],
            |_, spec| spec["process"]["noNewPrivileges"] = json!(asked),
            |runtime, said| assert_eq!(said, format!("NoNewPrivs:\t{shown}\n"), "{runtime}"),
        );
    }
}

#[test]
fn the_oom_score_is_the_one_configured_and_else_the_one_there_was() {
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let more = own.trim().parse::<i32>().unwrap() + 7;
    for wanted in [None, Some(more)] {
        accepted(
            "oom",
            "cat /proc/self/oom_score_adj",
            &[],
            |_, spec| {
                if let Some(score) = wanted {
                    spec["process"]["oomScoreAdj"] = json!(score);
                }
            },
            |runtime, said| {
                let score = wanted.map_or(own.clone(), |score| format!("{score}\n"));
                assert_eq!(said, score, "{runtime}");
            },
        );
    }
}

#[test]
fn scheduling_that_does_not_exist_is_refused() {
    let class = |class: &str, priority: i32| json!({"class": class, "priority": priority});
    refused("policy", "invalid scheduler policy: SCHED_BOGUS", &[], |_, spec| {
        spec["process"]["scheduler"] = json!({"policy": "SCHED_BOGUS"});
    });
    refused("flag", "invalid scheduler flag: SCHED_FLAG_BOGUS", &[], |_, spec| {
        let flags = ["SCHED_FLAG_BOGUS"];
        spec["process"]["scheduler"] = json!({"policy": "SCHED_OTHER", "flags": flags});
    });
    refused("class", "invalid ioPriority.class", &[], |_, spec| {
        spec["process"]["ioPriority"] = class("IOPRIO_CLASS_BOGUS", 1);
    });
    refused("level", "between 0 and 7", &["runc", CRUN], |_, spec| {
        spec["process"]["ioPriority"] = class("IOPRIO_CLASS_BE", 8);
    });
}

#[test]
fn an_exec_without_affinity_keeps_the_processors_there_were() {
    for (runtime, program) in crate::runtimes() {
        let Some(mut bundle) = crate::Bundle::new("keepcpus", &["sleep", "1000"]) else { return };
        bundle.program = program;
        assert!(bundle.create().status.success());
        bundle.runc(&["start", &bundle.id]);
        let line = ["exec", &bundle.id, "grep", "Cpus_allowed:", "/proc/self/status"];
        let said = crate::text(&bundle.runc(&line).stdout);
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        assert!(own.contains(said.trim_end()) && !said.is_empty(), "{runtime}: {said}");
    }
}

#[test]
fn user_groups_and_mask_are_those_configured() {
    accepted(
        "user",
        "id -u; id -g; id -G; umask",
        &[],
        |_, spec| {
            spec["process"]["user"] =
                json!({"uid": 1000, "gid": 1001, "umask": 0o27, "additionalGids": [5, 6]});
        },
        |runtime, said| assert_eq!(said, "1000\n1001\n1001 5 6\n0027\n", "{runtime}"),
    );
}

#[test]
fn a_variable_without_a_value_or_a_name_is_refused() {
    for (entry, why) in [("A", "missing '='"), ("=b", "name cannot be empty")] {
        // To crun it is as good as any.
        refused("env", why, &[CRUN], |_, spec| push(&mut spec["process"]["env"], json!(entry)));
    }
}

#[test]
fn host_and_domain_names_are_those_configured_and_need_a_namespace() {
    accepted(
        "names",
        "hostname; cat /proc/sys/kernel/domainname",
        &[],
        |_, spec| {
            spec["hostname"] = json!("inner");
            spec["domainname"] = json!("example.org");
        },
        |runtime, said| assert_eq!(said, "inner\nexample.org\n", "{runtime}"),
    );
    for (name, why) in
        [("hostname", "unable to set hostname"), ("domainname", "unable to set domainname")]
    {
        refused("noname", why, &[], |_, spec| {
            crate::remove(spec, "hostname");
            spec[name] = json!("inner");
            crate::without_namespace(spec, "uts");
        });
    }
}
