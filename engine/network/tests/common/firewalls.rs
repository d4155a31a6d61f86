//! Other people's firewalls and engines, started in the test's network namespace: ufw and
//! firewalld unpacked over /usr and /etc in a mount namespace of their own, a stock dockerd.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::World;

const LIMIT: Duration = Duration::from_secs(60);

/// A program that ends with its value.
pub struct Running(Child);

impl Running {
    /// Asks it to end, and waits.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let deadline = Instant::now() + LIMIT;
        while matches!(self.0.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.0.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn peers() -> PathBuf {
    std::env::var_os("FERRY_PEERS").map_or_else(|| "/opt/ferry-peers/bin".into(), PathBuf::from)
}

const OVER: &str = r#"set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1/usr:/usr" /usr
mount -t overlay overlay -o "lowerdir=$1/etc:/etc,upperdir=$2/upper,workdir=$2/work" /etc
mount -t tmpfs tmpfs /var/log
touch /run/xtables.lock "$2/lock"
mount --bind /run/xtables.lock "$2/lock"
mount -t tmpfs tmpfs /run
touch /run/xtables.lock
mount --bind "$2/lock" /run/xtables.lock
echo ready
exec cat"#;

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=FOLDER/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
<allow own="*"/><allow user="*"/></policy></busconfig>"#;

/// A host on which ufw and firewalld are installed: this test's namespace, and nobody else's.
pub struct Host {
    folder: PathBuf,
    holder: Child,
}

impl Host {
    /// `None`, said loudly, where they were not unpacked or the machine can't run them.
    pub fn start(world: &World) -> Option<Self> {
        let from = peers().parent()?.join("firewalls");
        if !from.join("ready-1").exists() {
            println!("SKIPPED: network: needs {} (cargo xtask setup)", from.display());
            return None;
        }
        let modules = "import nftables, gi, dbus";
        let python = Command::new("/usr/bin/python3").args(["-c", modules]).output();
        if !python.is_ok_and(|out| out.status.success()) {
            println!("SKIPPED: network: needs python3 with nftables, gi, dbus (cargo xtask setup)");
            return None;
        }
        let folder = world.folder.join("host");
        for name in ["upper", "work"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        let mut holder = Command::new("unshare")
            .args(["--mount", "sh", "-c", OVER, "sh"])
            .args([&from, &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if line != "ready\n" {
            let _ = holder.wait();
            println!("SKIPPED: network: no overlay over /usr can be mounted here");
            return None;
        }
        Some(Self { folder, holder })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--mount=/proc/{}/ns/mnt", self.holder.id()));
        command.args(["--", program]).stdin(Stdio::null());
        command.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", self.bus().display()));
        // Not whatever Python a developer has.
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    pub fn try_run(&self, program: &str, args: &[&str]) -> Output {
        self.command(program).args(args).output().unwrap()
    }

    /// Runs a program there that must succeed; its output.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.try_run(program, args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {args:?}: {text}{errors}");
        text
    }

    /// Where the system bus is, once it runs.
    pub fn bus(&self) -> PathBuf {
        self.folder.join("bus")
    }

    /// Starts a system bus.
    pub fn start_bus(&self) -> Running {
        let config = self.folder.join("bus.conf");
        fs::write(&config, BUS.replace("FOLDER", self.folder.to_str().unwrap())).unwrap();
        let mut daemon = self
            .command("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--print-address=1"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("unix:"), "dbus-daemon: {line}");
        Running(daemon)
    }

    /// Starts firewalld and waits until it is up.
    pub fn start_firewalld(&self) -> Running {
        let log = File::create(self.folder.join("firewalld.log")).unwrap();
        let daemon = self
            .command("firewalld")
            .args(["--nofork", "--nopid"])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let running = Running(daemon);
        let deadline = Instant::now() + LIMIT;
        while !self.try_run("firewall-cmd", &["--state"]).status.success() {
            let log = fs::read_to_string(self.folder.join("firewalld.log")).unwrap_or_default();
            assert!(Instant::now() < deadline, "firewalld is not up: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        running
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// A stock dockerd in the test's namespace; `iptables` is the program of that name that it finds.
pub fn start_dockerd(world: &World, iptables: &Path) -> Option<Running> {
    let folder = peers();
    let Some(dockerd) = Some(folder.join("dockerd")).filter(|path| path.exists()) else {
        println!("SKIPPED: network: no dockerd in {} (cargo xtask setup)", folder.display());
        return None;
    };
    let at = |name: &str| world.folder.join(name).display().to_string();
    let path = format!("{}:{}:/usr/sbin:/usr/bin", iptables.display(), folder.display());
    let socket = at("d.sock");
    let _ = fs::remove_file(&socket);
    let errors = world.folder.join("d.err");
    let child = Command::new(dockerd)
        .args(["--config-file", "/dev/null", "--data-root", &at("d-data")])
        .args(["--exec-root", &at("d-exec"), "--pidfile", &at("d.pid")])
        .args(["--host", &format!("unix://{socket}"), "--storage-driver", "vfs"])
        .arg("--userland-proxy=false")
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&errors).unwrap())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        // The socket is there before the daemon has networks; its log tells when it serves.
        let log = fs::read_to_string(&errors).unwrap_or_default();
        if log.contains("API listen on") {
            return Some(running);
        }
        let ended = !matches!(running.0.try_wait(), Ok(None));
        if ended || Instant::now() > deadline {
            println!("SKIPPED: network: dockerd: {}", log.lines().last().unwrap_or_default());
            return None;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A folder in which `iptables` and its kin are the legacy ones, or those of nftables.
pub fn iptables_folder(world: &World, kind: &str) -> PathBuf {
    let folder = world.folder.join(format!("iptables-{kind}"));
    fs::create_dir_all(&folder).unwrap();
    for name in ["iptables", "ip6tables"] {
        for action in ["", "-save", "-restore"] {
            let target = format!("/usr/sbin/{name}-{kind}{action}");
            let _ = std::os::unix::fs::symlink(target, folder.join(format!("{name}{action}")));
        }
    }
    folder
}
