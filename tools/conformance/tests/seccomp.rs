//! Seccomp profiles in Docker's dialect mean on ferryd what they mean on a stock dockerd: the
//! same call is refused or goes through, and a wrong profile is told with the same words.

use lab::{Engine, Kind};

/// What stands for a rule that refuses `mkdir`, under a condition.
const RULE: &str = r#"{"names":["mkdir"],"action":"SCMP_ACT_ERRNO""#;

/// Flags of `run`, and a profile; `RULE` is the beginning of a rule, `OPEN` of a profile that lets all through.
const PROFILES: &[(&[&str], &str)] = &[
    (&[], "{}"),
    (&[], "null"),
    (&[], "[]"),
    (&[], r#""x""#),
    (&[], r#"{"defaultAction":5}"#),
    (&[], r#"{"defaultAction":"SCMP_ACT_FOO"}"#),
    (&[], r#"{OPEN,"syscalls":{}}"#),
    (&[], r#"{OPEN,"syscalls":[{"names":"x"}]}"#),
    (&[], r#"{OPEN,"syscalls":[{"names":["mkdir"]}]}"#),
    (&[], r#"{OPEN,"syscalls":[{"names":["mkdir"],"action":"FOO"}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"args":[{"index":"x"}]}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"args":[{"index":1,"value":511,"op":"FOO"}]}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"args":[{"index":1,"value":511,"op":"SCMP_CMP_EQ"}]}]}"#),
    (&[], r#"{OPEN,"architectures":["FOO"]}"#),
    (&[], r#"{OPEN,"flags":["SECCOMP_FILTER_FLAG_FOO"]}"#),
    (
        &[],
        r#"{OPEN,"architectures":["SCMP_ARCH_X86_64"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#,
    ),
    (
        &[],
        r#"{OPEN,"archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[RULE}]}"#,
    ),
    (&[], r#"{OPEN,"syscalls":[{"name":"mkdir","action":"SCMP_ACT_ERRNO","comment":"old"}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"name":"mkdir"}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"errnoRet":38}]}"#),
    (&[], r#"{"DEFAULTACTION":"SCMP_ACT_ALLOW","Syscalls":[RULE}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"includes":null,"excludes":{},"args":null}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"includes":{"arches":["amd64","arm64"]}}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"includes":{"arches":["s390x"]}}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"excludes":{"arches":["amd64","arm64"]}}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"includes":{"minKernel":"4.8"}}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"includes":{"minKernel":"99.0"}}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"excludes":{"minKernel":"4.8"}}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"includes":{"minKernel":"x"}}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"includes":{"minKernel":5}}]}"#),
    (&[], r#"{OPEN,"syscalls":[RULE,"includes":{"caps":["CAP_SYS_ADMIN"]}}]}"#),
    (
        &["--cap-add", "SYS_ADMIN"],
        r#"{OPEN,"syscalls":[RULE,"includes":{"caps":["CAP_SYS_ADMIN"]}}]}"#,
    ),
    (&[], r#"{OPEN,"syscalls":[RULE,"excludes":{"caps":["CAP_SYS_ADMIN"]}}]}"#),
    (
        &["--cap-add", "SYS_ADMIN"],
        r#"{OPEN,"syscalls":[RULE,"excludes":{"caps":["CAP_SYS_ADMIN"]}}]}"#,
    ),
    (&["--privileged"], r#"{OPEN,"syscalls":[RULE}]}"#),
];

#[test]
fn profiles_mean_the_same_as_on_a_stock_dockerd() {
    lab::require!("dockerd", "docker", "containerd", "runc");
    let engines = [Kind::Dockerd, Kind::Ferryd].map(|kind| Engine::start(kind, &[]).unwrap());
    let mut different = Vec::new();
    for (flags, profile) in PROFILES {
        let profile = profile.replace("RULE", RULE);
        let profile = profile.replace("OPEN", r#""defaultAction":"SCMP_ACT_ALLOW""#);
        let [expected, got] = engines.each_ref().map(|engine| {
            let file = engine.scratch().join("profile.json");
            std::fs::write(&file, &profile).unwrap();
            let option = format!("seccomp={}", file.display());
            let command = ["busybox", "sh", "-c", "mkdir /tmp/x && echo made"];
            let words = ["run", "--rm", "--security-opt", &option];
            let done = engine.stock_cli(&[&words, *flags, &command].concat()).unwrap();
            (done.code, done.stdout, done.stderr)
        });
        if expected != got {
            different
                .push(format!("{flags:?} {profile}\n  dockerd {expected:?}\n  ferryd  {got:?}"));
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
