//! Each part beside the real one: the cells of the swap table, one test each.

use std::fs;

use lab::{Containerd, Engine, Kind, Scratch, busybox_rootfs, ours, peer, run};

/// A few everyday commands, enough to know that a stack works end to end.
fn everyday(engine: &Engine, runtime: &[&str]) {
    let docker = |words: &[&str]| engine.stock_cli(words).unwrap().success().unwrap();
    let run_rm = |tail: &[&str]| docker(&[&["run", "--rm"], runtime, tail].concat());
    assert_eq!(run_rm(&["busybox", "echo", "hello"]), "hello\n");
    assert_eq!(
        run_rm(&["--memory", "64m", "--pids-limit", "50", "busybox", "hostname", "-i"])
            .lines()
            .count(),
        1
    );
    docker(
        &[
            &["run", "-d", "--name", "stays"],
            runtime,
            &["busybox", "sh", "-c", "echo begun; exec sleep 1000"],
        ]
        .concat(),
    );
    assert_eq!(docker(&["exec", "stays", "cat", "/proc/1/comm"]), "sleep\n");
    assert_eq!(docker(&["logs", "stays"]), "begun\n");
    docker(&["pause", "stays"]);
    assert_eq!(docker(&["ps", "-q", "--filter", "status=paused"]).lines().count(), 1);
    docker(&["unpause", "stays"]);
    docker(&["stop", "-t", "0", "stays"]);
    assert_eq!(docker(&["wait", "stays"]), "137\n");
    docker(&["rm", "stays"]);
    let failed =
        engine.stock_cli(&[&["run", "--rm"], runtime, &["busybox", "nope"]].concat()).unwrap();
    assert_eq!(failed.code, 127, "{failed:?}");
    let failed = engine
        .stock_cli(&[&["run", "--rm"], runtime, &["busybox", "sh", "-c", "exit 5"]].concat())
        .unwrap();
    assert_eq!(failed.code, 5, "{failed:?}");
}

fn path_of(program: Option<std::path::PathBuf>) -> String {
    program.expect("built or installed").display().to_string()
}

#[test]
fn ferryd_runs_on_its_own_containerd() {
    lab::require!("docker");
    everyday(&Engine::start(Kind::Ferryd, &[]).unwrap(), &[]);
}

#[test]
fn ferryd_runs_on_a_stock_containerd() {
    lab::require!("docker", "containerd", "ctr");
    let scratch = Scratch::new("c").unwrap();
    let containerd = Containerd::stock(&scratch).unwrap();
    let socket = containerd.socket().display().to_string();
    everyday(&Engine::start(Kind::Ferryd, &["--containerd", &socket]).unwrap(), &[]);
}

#[test]
fn our_shim_runs_runc_and_crun() {
    lab::require!("docker", "runc", "crun-static");
    let runc = format!("stock-runc={}", path_of(peer("runc")));
    let crun = format!("stock-crun={}", path_of(peer("crun-static")));
    let engine =
        Engine::start(Kind::Ferryd, &["--add-runtime", &runc, "--add-runtime", &crun]).unwrap();
    everyday(&engine, &["--runtime", "stock-runc"]);
    if fs::exists("/sys/fs/cgroup/unified").unwrap() {
        eprintln!(
            "SKIPPED: our shim with crun: it refuses hybrid cgroups whose v2 mount holds a controller"
        );
    } else {
        everyday(&engine, &["--runtime", "stock-crun"]);
    }
}

#[test]
fn ferryd_runs_the_stock_shim() {
    lab::require!("docker", "containerd-shim-runc-v2", "runc");
    everyday(&Engine::start(Kind::Ferryd, &[]).unwrap(), &["--runtime", "io.containerd.runc.v2"]);
}

#[test]
fn a_stock_dockerd_runs_containers_with_ferry_runc() {
    lab::require!("dockerd", "docker", "containerd");
    let ferry = format!("ferry={}", path_of(ours("ferry-runc")));
    everyday(
        &Engine::start(Kind::Dockerd, &["--add-runtime", &ferry]).unwrap(),
        &["--runtime", "ferry"],
    );
}

#[test]
fn a_stock_dockerd_runs_on_ferry_containerd() {
    lab::require!("dockerd", "docker");
    for features in [&[][..], &["--feature", "containerd-snapshotter=true"]] {
        let scratch = Scratch::new("fc").unwrap();
        let containerd = Containerd::ours(&scratch).unwrap();
        let socket = containerd.socket().display().to_string();
        let words = [&["--containerd", &socket], features].concat();
        everyday(&Engine::start(Kind::Dockerd, &words).unwrap(), &[]);
    }
}

#[test]
fn a_stock_containerd_starts_our_shim() {
    lab::require!("containerd", "ctr", "runc");
    let scratch = Scratch::new("c").unwrap();
    let containerd = Containerd::stock(&scratch).unwrap();
    let archive = lab::busybox_archive(scratch.path()).unwrap();
    containerd
        .ctr(&["image", "import", &archive.display().to_string()])
        .unwrap()
        .success()
        .unwrap();
    // The shim runs the ferry-runc that lies beside it.
    let shim = path_of(ours("containerd-shim-ferry-v2"));
    let run = |id: &str, command: &[&str]| {
        let head = ["run", "--rm", "--runtime", &shim, "docker.io/library/busybox:latest", id];
        containerd.ctr(&[&head, command].concat()).unwrap()
    };
    assert_eq!(run("one", &["echo", "hi"]).success().unwrap(), "hi\n");
    assert_eq!(run("two", &["sh", "-c", "exit 6"]).code, 6);
}

#[test]
fn podman_runs_containers_with_ferry_runc() {
    lab::require!("podman", "conmon");
    let scratch = Scratch::new("p").unwrap();
    busybox_rootfs(&scratch.join("rootfs")).unwrap();
    let runtime = path_of(ours("ferry-runc"));
    let (root, runroot, rootfs) =
        (scratch.join("root"), scratch.join("run"), scratch.join("rootfs"));
    let podman = |tail: &[&str]| {
        let head = [
            "--root".into(),
            root.display().to_string(),
            "--runroot".into(),
            runroot.display().to_string(),
            "--runtime".into(),
            runtime.clone(),
        ];
        run(peer("podman").unwrap(), head.iter().map(String::as_str).chain(tail.iter().copied()))
            .unwrap()
    };
    let rootfs = rootfs.display().to_string();
    let out = podman(&["run", "--rm", "--network", "none", "--rootfs", &rootfs, "echo", "hello"]);
    assert_eq!(out.success().unwrap(), "hello\n");
    podman(&[
        "run",
        "-d",
        "--name",
        "stays",
        "--network",
        "none",
        "--rootfs",
        &rootfs,
        "sleep",
        "1000",
    ])
    .success()
    .unwrap();
    assert_eq!(podman(&["exec", "stays", "cat", "/proc/1/comm"]).success().unwrap(), "sleep\n");
    podman(&["rm", "-f", "-t", "0", "stays"]).success().unwrap();
}
