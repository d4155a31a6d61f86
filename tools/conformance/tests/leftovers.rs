//! What goes wrong leaves nothing behind: mounts, namespaces, links, cgroups, files and
//! shims are the same before and after.

use conformance::Leftovers;
use lab::{Engine, Kind};

/// Commands that fail, each at another depth: in the CLI, in validation, at the network,
/// in the runtime, after the start.
const FAILING: &[&[&str]] = &[
    &["run", "missing:1"],
    &["run", "--rm", "--network", "nope", "busybox", "true"],
    &["run", "--rm", "busybox", "nope"],
    &["run", "--rm", "busybox", "/etc"],
    &["run", "--rm", "-v", "/nope/x:relative", "busybox", "true"],
    &["run", "--rm", "-w", "/proc/self/exe/x", "busybox", "true"],
    &["run", "--rm", "-u", "nobody:nogroupofthatname", "busybox", "true"],
    &["run", "--rm", "--memory", "1m", "busybox", "true"],
    &["run", "--rm", "--device", "/dev/nope", "busybox", "true"],
    &["run", "--rm", "--entrypoint", "/etc/passwd", "busybox"],
    &["run", "--rm", "--network", "container:nope", "busybox", "true"],
    &["run", "--rm", "--security-opt", "seccomp=/etc/passwd", "busybox", "true"],
    &["run", "--rm", "--runtime", "nope", "busybox", "true"],
    &["run", "--rm", "-v", "/proc/nope:/x", "busybox", "true"],
    &["run", "--rm", "--tmpfs", "/t:nope=1", "busybox", "true"],
    &["run", "--rm", "--restart", "always", "busybox", "true"],
    &["load", "-i", "/etc/passwd"],
    &["import", "/etc/passwd"],
    &["import", "/etc/nope"],
    // Not the first process itself: the kernel spares it its own signals.
    &["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"],
];

#[test]
fn failing_commands_leave_nothing_behind() {
    lab::require!("docker");
    let engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    // The first container makes what stays by design, such as the bridge.
    engine.stock_cli(&["run", "--rm", "busybox", "true"]).unwrap().success().unwrap();
    let before = Leftovers::of(&engine);
    for words in FAILING {
        let failed = engine.stock_cli(words).unwrap();
        assert_ne!(failed.code, 0, "{words:?} succeeded");
        before.assert_nothing_more(&engine);
    }
}

#[test]
fn removing_a_running_container_leaves_nothing_behind() {
    lab::require!("docker");
    let engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    engine.stock_cli(&["run", "--rm", "busybox", "true"]).unwrap().success().unwrap();
    let before = Leftovers::of(&engine);
    for round in 0..3 {
        let name = format!("busy{round}");
        let run = ["run", "-d", "--name", &name, "-v", "/data", "busybox", "sleep", "1000"];
        engine.stock_cli(&run).unwrap().success().unwrap();
        let refused = engine.stock_cli(&["rm", &name]).unwrap();
        assert_eq!(refused.code, 1);
        assert!(
            refused.stderr.contains(
                "container is running: stop the container before removing or force remove"
            ),
            "{refused:?}"
        );
        engine.stock_cli(&["rm", "-fv", &name]).unwrap().success().unwrap();
    }
    before.assert_nothing_more(&engine);
    assert_eq!(engine.stock_cli(&["ps", "-aq"]).unwrap().stdout, "");
}

#[test]
fn execs_leave_nothing_behind_however_they_end() {
    lab::require!("docker", "containerd-shim-runc-v2", "runc");
    let engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    let docker = |words: &[&str]| engine.stock_cli(words).unwrap();
    for runtime in ["ferry-runc", "io.containerd.runc.v2"] {
        let run = ["run", "-d", "--name", "cc", "--runtime", runtime, "busybox", "sleep", "1000"];
        docker(&run).success().unwrap();
        // The first exec makes what stays with the container.
        assert_eq!(docker(&["exec", "cc", "echo", "hi"]).success().unwrap(), "hi\n");
        let before = Leftovers::of(&engine);
        for (words, code) in [
            (&["exec", "cc", "sh", "-c", "exit 3"][..], 3),
            (&["exec", "cc", "nope"], 127),
            (&["exec", "cc", "/etc"], 126),
            (&["exec", "-w", "/nope", "cc", "true"], 127),
            (&["exec", "-u", "nobody:nogroupofthatname", "cc", "true"], 1),
            (&["exec", "-d", "cc", "sh", "-c", "sh -c 'kill -9 $$'"], 0),
        ] {
            let done = docker(words);
            assert_eq!(done.code, code, "{runtime}: {done:?}");
            before.assert_nothing_more(&engine);
        }
        docker(&["exec", "-d", "cc", "sleep", "1000"]).success().unwrap();
        docker(&["rm", "-f", "cc"]).success().unwrap();
        before.assert_nothing_more(&engine);
    }
}
