//! ferry-runc under the engines of others: the everyday commands of a stock dockerd, of podman and of
//! a stock containerd, and that limits bite.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{
    Containerd, Engine, Finished, Kind, Scratch, busybox_rootfs, ours, peer, run, wait_until,
};

const LONG: Duration = Duration::from_secs(60);
/// Takes more memory than it is given.
const HOG: [&str; 4] = ["dd", "if=/dev/zero", "of=/dev/null", "bs=64M"];
const BOMB: &str = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 1000 & done; echo all";
/// Refuses one call and counts as a profile of one's own.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
    "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;

/// An engine with docker's command line.
struct Stack<'a> {
    name: &'static str,
    cli: Box<dyn Fn(&[&str]) -> Finished + 'a>,
    /// Words of `run` before the image and the image itself.
    runtime: Vec<String>,
    image: Vec<String>,
    scratch: &'a Path,
}

impl Stack<'_> {
    fn docker(&self, words: &[&str]) -> String {
        (self.cli)(words).success().unwrap()
    }

    fn try_run(&self, flags: &[&str], tail: &[&str]) -> Finished {
        let mut words = vec!["run"];
        words.extend(self.runtime.iter().map(String::as_str));
        words.extend_from_slice(flags);
        words.extend(self.image.iter().map(String::as_str));
        words.extend_from_slice(tail);
        (self.cli)(&words)
    }

    fn run(&self, flags: &[&str], tail: &[&str]) -> String {
        self.try_run(&[&["--rm"], flags].concat(), tail).success().unwrap()
    }

    fn inspect(&self, container: &str, field: &str) -> String {
        self.docker(&["inspect", "--format", &format!("{{{{{field}}}}}"), container])
            .trim()
            .to_owned()
    }

    fn remove(&self, container: &str) {
        self.docker(&["rm", "-f", container]);
    }

    /// A number from a cgroup of a container, by its name on v1 and on v2.
    fn figure(&self, container: &str, v1: (&str, &str), v2: &str, key: &str) -> Option<u64> {
        let pid = self.inspect(container, ".State.Pid");
        figure(&pid, v1, v2, key)
    }
}

/// The file of a cgroup of a process: `key NUMBER`, or the number alone.
fn figure(pid: &str, v1: (&str, &str), v2: &str, key: &str) -> Option<u64> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let find = |controller: &str| {
        groups.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (names, path) = rest.split_once(':')?;
            names
                .split(',')
                .any(|name| name == controller)
                .then(|| path.trim_start_matches('/').to_owned())
        })
    };
    let file = match find(v1.0) {
        Some(path) => PathBuf::from("/sys/fs/cgroup").join(v1.0).join(path).join(v1.1),
        None => PathBuf::from("/sys/fs/cgroup").join(find("")?).join(v2),
    };
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| {
        if key.is_empty() { Some(line) } else { line.strip_prefix(key)?.strip_prefix(' ') }
    });
    line?.split(' ').next()?.parse().ok()
}

fn everyday(stack: &Stack) {
    let name = stack.name;
    assert_eq!(stack.run(&[], &["echo", "hello"]), "hello\n", "{name}");
    assert_eq!(stack.try_run(&["--rm"], &["sh", "-c", "exit 5"]).code, 5, "{name}");
    assert_eq!(stack.try_run(&["--rm"], &["nope"]).code, 127, "{name}");
    assert_eq!(stack.try_run(&["--rm"], &["/etc"]).code, 126, "{name}");
    let health = ["--health-cmd", "true", "--health-interval", "1s"];
    stack
        .try_run(&[&["-d", "--name", "stays"], &health[..]].concat(), &["sleep", "1000"])
        .success()
        .unwrap();
    assert_eq!(stack.docker(&["exec", "stays", "cat", "/proc/1/comm"]), "sleep\n", "{name}");
    let exec = [
        "exec",
        "-e",
        "A=b",
        "-w",
        "/tmp",
        "-u",
        "7",
        "stays",
        "sh",
        "-c",
        "echo $A $PWD $(id -u)",
    ];
    assert_eq!(stack.docker(&exec), "b /tmp 7\n", "{name}");
    assert_eq!((stack.cli)(&["exec", "stays", "sh", "-c", "exit 9"]).code, 9, "{name}");
    stack.docker(&["pause", "stays"]);
    assert_eq!(stack.inspect("stays", ".State.Status"), "paused", "{name}");
    stack.docker(&["unpause", "stays"]);
    assert_eq!(stack.inspect("stays", ".State.Status"), "running", "{name}");
    if name == "podman" {
        // Its timers are systemd's.
        stack.docker(&["healthcheck", "run", "stays"]);
    } else {
        wait_until("health", LONG, || stack.inspect("stays", ".State.Health.Status") == "healthy")
            .unwrap();
    }
    let limits = ["--memory", "48m", "--memory-swap", "48m", "--pids-limit", "9", "--cpus", "0.5"];
    stack.docker(&[&["update"], &limits[..], &["stays"]].concat());
    let memory = stack.figure("stays", ("memory", "memory.limit_in_bytes"), "memory.max", "");
    assert_eq!(memory, Some(48 << 20), "{name}");
    assert_eq!(stack.figure("stays", ("pids", "pids.max"), "pids.max", ""), Some(9), "{name}");
    let quota = stack.figure("stays", ("cpu", "cpu.cfs_quota_us"), "cpu.max", "");
    assert_eq!(quota, Some(50_000), "{name}");
    let stats =
        stack.docker(&["stats", "--no-stream", "--format", "{{.MemUsage}} {{.PIDs}}", "stays"]);
    assert!(stats.trim_end().ends_with(" 1"), "{name}: {stats}");
    assert!(stats.contains("48MiB") || stats.contains("50.33MB"), "{name}: {stats}");
    stack.remove("stays");
}

fn rights(stack: &Stack) {
    let name = stack.name;
    let own = stack.run(
        &["--device", "/dev/zero:/dev/own"],
        &["sh", "-c", "stat -c %t:%T /dev/own; head -c 3 /dev/own | wc -c"],
    );
    assert_eq!(own, "1:5\n3\n", "{name}");
    let caps = stack.run(&["--cap-drop", "ALL"], &["grep", "CapEff", "/proc/self/status"]);
    assert_eq!(caps, "CapEff:\t0000000000000000\n", "{name}");
    let caps = stack.run(
        &["--cap-drop", "ALL", "--cap-add", "CHOWN"],
        &["grep", "CapEff", "/proc/self/status"],
    );
    assert_eq!(caps, "CapEff:\t0000000000000001\n", "{name}");
    let profile = stack.scratch.join("profile.json");
    fs::write(&profile, PROFILE).unwrap();
    let option = format!("seccomp={}", profile.display());
    let refused = stack.try_run(&["--rm", "--security-opt", &option], &["mkdir", "/x"]);
    assert!(refused.stderr.contains("Operation not permitted"), "{name}: {refused:?}");
    let seccomp = |option: &str| {
        stack.run(&["--security-opt", option], &["grep", "^Seccomp:", "/proc/self/status"])
    };
    assert_eq!(seccomp(&option), "Seccomp:\t2\n", "{name}");
    assert_eq!(seccomp("seccomp=unconfined"), "Seccomp:\t0\n", "{name}");
    let nnp = stack.run(
        &["--security-opt", "no-new-privileges"],
        &["grep", "NoNewPrivs", "/proc/self/status"],
    );
    assert_eq!(nnp, "NoNewPrivs:\t1\n", "{name}");
    let map = stack.run(&["--userns", "host"], &["cat", "/proc/self/uid_map"]);
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "0", "4294967295"], "{name}");
    let out = stack.run(
        &["--read-only", "--tmpfs", "/tmp"],
        &["sh", "-c", "touch /tmp/x && touch /x || echo no"],
    );
    assert_eq!(out, "no\n", "{name}");
}

fn limits_bite(stack: &Stack) {
    let name = stack.name;
    let memory = ["--memory", "16m", "--memory-swap", "16m"];
    let hog = stack.try_run(&[&["--name", "hog"], &memory[..]].concat(), &HOG);
    assert_eq!(hog.code, 137, "{name}: {hog:?}");
    wait_until("a report", LONG, || stack.inspect("hog", ".State.OOMKilled") == "true").unwrap();
    stack.remove("hog");
    let bomb = stack.try_run(&["--rm", "--pids-limit", "8"], &["sh", "-c", BOMB]);
    assert!(bomb.code != 0 && bomb.stderr.contains("fork"), "{name}: {bomb:?}");
    let busy = ["sh", "-c", "while :; do :; done"];
    stack.try_run(&["-d", "--name", "busy", "--cpus", "0.2"], &busy).success().unwrap();
    let stat = |key: &str| stack.figure("busy", ("cpu", "cpu.stat"), "cpu.stat", key).unwrap_or(0);
    wait_until("twenty periods", LONG, || stat("nr_periods") >= 20).unwrap();
    // By the kernel's own count, which other load on the machine does not change.
    let used = stack
        .figure("busy", ("cpuacct", "cpuacct.usage"), "cpu.stat", "")
        .filter(|_| Path::new("/sys/fs/cgroup/cpuacct").exists())
        .map_or_else(|| stat("usage_usec"), |nanos| nanos / 1000);
    let (periods, throttled) = (stat("nr_periods"), stat("nr_throttled"));
    assert!(throttled > 0, "{name}: {throttled} of {periods}");
    assert!(
        used > 0 && used <= (periods + 2) * 20_000 * 3 / 2,
        "{name}: {used} of {periods} periods"
    );
    stack.remove("busy");
}

#[test]
fn a_stock_dockerd_runs_its_everyday_commands_on_ferry_runc() {
    lab::require!("dockerd", "docker", "containerd");
    let ferry = format!("ferry={}", ours("ferry-runc").unwrap().display());
    let engine = Engine::start(Kind::Dockerd, &["--add-runtime", &ferry]).unwrap();
    let stack = Stack {
        name: "dockerd",
        cli: Box::new(|words| engine.stock_cli(words).unwrap()),
        runtime: ["--runtime", "ferry", "--network", "none"].map(str::to_owned).into(),
        image: vec!["busybox".to_owned()],
        scratch: engine.scratch().path(),
    };
    everyday(&stack);
    rights(&stack);
    limits_bite(&stack);
}

#[test]
fn podman_runs_its_everyday_commands_on_ferry_runc() {
    lab::require!("podman", "conmon");
    let scratch = Scratch::new("p").unwrap();
    let rootfs = scratch.join("rootfs");
    busybox_rootfs(&rootfs).unwrap();
    let runtime = ours("ferry-runc").unwrap().display().to_string();
    let folders = ["root", "run"].map(|name| scratch.join(name).display().to_string());
    let podman = |tail: &[&str]| {
        let head = ["--root", &folders[0], "--runroot", &folders[1], "--runtime", &runtime];
        run(peer("podman").unwrap(), head.iter().copied().chain(tail.iter().copied())).unwrap()
    };
    let stack = Stack {
        name: "podman",
        cli: Box::new(podman),
        runtime: ["--network", "none"].map(str::to_owned).into(),
        image: vec!["--rootfs".to_owned(), rootfs.display().to_string()],
        scratch: scratch.path(),
    };
    everyday(&stack);
    rights(&stack);
    limits_bite(&stack);
    let users = ["--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"];
    let map = stack.run(&users, &["cat", "/proc/self/uid_map"]);
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
}

const IMAGE: &str = "docker.io/library/busybox:latest";

#[test]
fn a_stock_containerd_runs_its_everyday_commands_on_ferry_runc() {
    lab::require!("containerd", "ctr", "containerd-shim-runc-v2");
    let scratch = Scratch::new("ctr").unwrap();
    let containerd = Containerd::stock(&scratch).unwrap();
    let archive = lab::busybox_archive(scratch.path()).unwrap();
    let try_ctr = |words: &[&str]| containerd.ctr(words).unwrap();
    let ctr = |words: &[&str]| try_ctr(words).success().unwrap();
    ctr(&["image", "import", &archive.display().to_string()]);
    let binary = ours("ferry-runc").unwrap().display().to_string();
    let head = ["run", "--runtime", "io.containerd.runc.v2", "--runc-binary", &binary];
    let run = |flags: &[&str], id: &str, tail: &[&str]| {
        try_ctr(&[&head[..], flags, &[IMAGE, id], tail].concat())
    };
    assert_eq!(run(&["--rm"], "one", &["echo", "hi"]).success().unwrap(), "hi\n");
    assert_eq!(run(&["--rm"], "two", &["sh", "-c", "exit 6"]).code, 6);
    let status = ["grep", "CapEff", "/proc/self/status"];
    let caps = ["--rm", "--cap-drop", "CAP_CHOWN", "--cap-drop", "CAP_KILL"];
    let said = run(&caps, "caps", &status).success().unwrap();
    let bits = u64::from_str_radix(said.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    assert_eq!(bits & 0x21, 0, "{said}");
    let profile = scratch.join("profile.json");
    fs::write(&profile, PROFILE).unwrap();
    let seccomp = ["--rm", "--seccomp", "--seccomp-profile", profile.to_str().unwrap()];
    assert!(run(&seccomp, "profile", &["mkdir", "/x"]).stderr.contains("Operation not permitted"));
    let device = ["--rm", "--device", "/dev/zero"];
    assert_eq!(
        run(&device, "device", &["stat", "-c", "%t:%T", "/dev/zero"]).success().unwrap(),
        "1:5\n"
    );
    let users = ["--rm", "--uidmap", "0:100000:65536", "--gidmap", "0:100000:65536"];
    let map = run(&users, "users", &["cat", "/proc/self/uid_map"]).success().unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    let hog = run(&["--rm", "--memory-limit", "16777216"], "hog", &HOG);
    assert_eq!(hog.code, 137, "{hog:?}");
    run(&["-d", "--cpus", "0.2"], "stays", &["sh", "-c", "while :; do :; done"]).success().unwrap();
    let exec = ["task", "exec", "--exec-id", "e", "stays", "cat", "/proc/1/comm"];
    assert_eq!(ctr(&exec), "sh\n");
    ctr(&["task", "pause", "stays"]);
    assert!(ctr(&["task", "ls"]).contains("PAUSED"));
    ctr(&["task", "resume", "stays"]);
    assert!(ctr(&["task", "metrics", "stays"]).contains("pids.current"));
    let list = ctr(&["task", "ls"]);
    let pid = list
        .lines()
        .find(|line| line.starts_with("stays"))
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap();
    let throttled = || figure(pid, ("cpu", "cpu.stat"), "cpu.stat", "nr_throttled").unwrap_or(0);
    wait_until("a quota that holds", LONG, || throttled() > 5).unwrap();
    ctr(&["task", "rm", "-f", "stays"]);
    ctr(&["container", "rm", "stays"]);
}
