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
