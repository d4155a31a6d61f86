//! A bundle for tests: a busybox root with the shape of Docker's default configuration, run by this
//! build's ferry-runc or by another runtime.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, dead_code, reason = "a test may")]

use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub(crate) struct Bundle {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) id: String,
    /// The runtime.
    pub(crate) program: PathBuf,
}

/// What of tests like these is mounted on the host, to compare before and after.
pub(crate) fn mounts() -> usize {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    table.lines().filter(|line| line.contains("/ferry-runc-")).count()
}

impl Bundle {
    /// A bundle whose program is `args`, or `None` where containers can't run.
    pub(crate) fn new(name: &str, args: &[&str]) -> Option<Self> {
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|p| Path::new(p).exists());
        let (true, Some(busybox)) = (rustix::process::geteuid().is_root(), busybox) else {
            eprintln!("SKIPPED: {name}: needs root and a static busybox");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("ferry-runc-").tempdir().unwrap();
        let root = folder.path().join("rootfs");
        for dir in ["bin", "etc", "proc", "sys", "dev", "tmp"] {
            std::fs::create_dir_all(root.join(dir)).unwrap();
        }
        copy(Path::new(busybox), &root.join("bin/busybox"));
        for applet in [
            "sh", "cat", "sleep", "true", "id", "ls", "kill", "touch", "grep", "tty", "mkdir",
            "stat", "ip", "env", "readlink", "nc", "awk", "wc", "dd", "mount", "head", "umount",
            "stty", "uname", "hostname", "sed",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
        let id = format!("ferry-test-{name}-{}", unique());
        let program = PathBuf::from(env!("CARGO_BIN_EXE_ferry-runc"));
        let bundle = Self { folder, id, program };
        bundle.edit(|spec| *spec = default_spec(args, &bundle.id));
        Some(bundle)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn edit(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path("config.json");
        let mut spec =
            std::fs::read(&path).map_or(Value::Null, |b| serde_json::from_slice(&b).unwrap());
        change(&mut spec);
        std::fs::write(path, spec.to_string()).unwrap();
    }

    pub(crate) fn runc(&self, args: &[&str]) -> Output {
        Command::new(&self.program)
            .arg("--root")
            .arg(self.path("state"))
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// With the bundle and the id filled in.
    pub(crate) fn create(&self) -> Output {
        let folder = self.folder.path().to_str().unwrap();
        self.quietly(&[], &["create", "--bundle", folder, &self.id])
    }

    /// With its streams closed to us, since a detached container keeps them; the log as stderr.
    pub(crate) fn quietly(&self, global: &[&str], words: &[&str]) -> Output {
        let status = Command::new(&self.program)
            .args(global)
            .arg("--root")
            .arg(self.path("state"))
            .arg("--log")
            .arg(self.path("log"))
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        let stderr = std::fs::read(self.path("log")).unwrap_or_default();
        Output { status, stdout: Vec::new(), stderr }
    }

    pub(crate) fn run(&self) -> Output {
        self.runc(&["run", "--bundle", self.folder.path().to_str().unwrap(), &self.id])
    }

    pub(crate) fn status(&self) -> String {
        let out = self.runc(&["state", &self.id]).stdout;
        let state: Value = serde_json::from_slice(&out).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    pub(crate) fn cgroups_left(&self) -> Vec<PathBuf> {
        std::fs::read_dir("/sys/fs/cgroup")
            .unwrap()
            .filter_map(Result::ok)
            .map(|e| e.path().join(&self.id))
            .chain([Path::new("/sys/fs/cgroup").join(&self.id)])
            .filter(|p| p.exists())
            .collect()
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        self.runc(&["delete", "--force", &self.id]);
        if self.program != Path::new(env!("CARGO_BIN_EXE_ferry-runc")) {
            // What another runtime leaves is not ours to judge.
            self.cgroups_left().into_iter().for_each(|folder| drop(std::fs::remove_dir(folder)));
        }
        assert_eq!(self.cgroups_left(), Vec::<PathBuf>::new(), "cgroups stay behind");
    }
}

fn default_spec(args: &[&str], id: &str) -> Value {
    let caps = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_RAW"]);
    let device = |major, minor| json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"});
    json!({
        "ociVersion": "1.2.1",
        "process": {
            "user": {"uid": 0, "gid": 0, "additionalGids": [0]},
            "args": args, "env": ["PATH=/bin"], "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps}
        },
        "root": {"path": "rootfs"}, "hostname": "ferry",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro", "nosuid", "noexec", "nodev"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]}
        ],
        "linux": {
            "sysctl": {"net.ipv4.ip_unprivileged_port_start": "0"},
            "resources": {"devices": [{"allow": false, "access": "rwm"}, device(1, 3), device(1, 5)]},
            "cgroupsPath": format!("/{id}"),
            "namespaces": [{"type": "mount"}, {"type": "network"}, {"type": "uts"}, {"type": "pid"}, {"type": "ipc"}],
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]
            },
            "maskedPaths": ["/proc/keys", "/proc/timer_list", "/sys/firmware"],
            "readonlyPaths": ["/proc/sys", "/proc/irq"]
        }
    })
}

/// Copies a program. By another process: one that another test starts just now would inherit our
/// descriptor, and what is open for writing can't be executed.
pub(crate) fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// Waits for something that takes a moment, longer on a busy or emulated machine.
pub(crate) fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !check() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Exchanges two names over and over, as another container does with those of a shared volume.
pub(crate) struct Exchange {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Exchange {
    pub(crate) fn begin(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !seen.load(Ordering::Relaxed) {
                let (here, how) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
                rustix::fs::renameat_with(here, &one, here, &other, how).unwrap();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A user and a cgroup namespace, and the cgroup's own file system writable.
pub(crate) fn with_own_cgroup(spec: &mut Value) {
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    spec["linux"]["uidMappings"] = map.clone();
    spec["linux"]["gidMappings"] = map;
    spec["linux"].as_object_mut().unwrap().remove("seccomp");
    let spaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
    spaces.push(json!({"type": "user"}));
    spaces.push(json!({"type": "cgroup"}));
    for mount in spec["mounts"].as_array_mut().unwrap() {
        if mount["type"] == "cgroup" {
            mount["options"] = json!(["nosuid", "noexec", "nodev"]);
        }
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// crun refuses hybrid cgroups; it gets a mount namespace in which the v2 side is not seen.
fn without_hybrid(program: &Path) -> PathBuf {
    if !Path::new("/sys/fs/cgroup/unified").exists() {
        return program.to_owned();
    }
    let script = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crun-{}", unique()));
    let text = format!(
        "#!/bin/sh\nexec unshare -m --propagation slave sh -c 'umount /sys/fs/cgroup/unified; \
         export LISTEN_PID=$$; exec {} \"$@\"' sh \"$@\"\n",
        program.display()
    );
    std::fs::write(&script, text).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).unwrap();
    script
}

fn unique() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A real program, where it is installed.
pub(crate) fn peer(name: &str) -> Option<PathBuf> {
    let peers = std::env::var("FERRY_PEERS").unwrap_or_else(|_| "/opt/ferry-peers/bin".into());
    Some(Path::new(&peers).join(name)).filter(|path| path.exists())
}

/// Ferry's runtime, and those of its peers that are installed; alone when `FERRY_PEERS` is empty.
pub(crate) fn runtimes() -> Vec<(&'static str, PathBuf)> {
    let mut all = vec![("ferry-runc", PathBuf::from(env!("CARGO_BIN_EXE_ferry-runc")))];
    if std::env::var_os("FERRY_PEERS").is_some_and(|folder| folder.is_empty()) {
        return all;
    }
    for name in ["runc", "crun-static"] {
        if let Some(path) = peer(name) {
            all.push((name, if name == "runc" { path } else { without_hybrid(&path) }));
        } else {
            eprintln!("SKIPPED: the same on {name}: not installed");
        }
    }
    all
}
