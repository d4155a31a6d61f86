//! `cargo xtask vm`: a command in a virtual machine with Debian's stock kernel, for what this
//! machine may lack. Built once by `tools/lab/vm.sh`; started anew for each command, its disk thrown
//! away afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::run::{check, command, which, workspace_root};
use crate::{host, setup};

mod suites;

pub use suites::run as test;

const HELP: &str = "\
cargo xtask vm [OPTIONS] [COMMAND]

Runs a shell command as root in a virtual machine (without one: a shell). The workspace and the
real programs of the seam suites are at their own paths inside; what is written there stays inside.

  --systemd            boot systemd, run the command as a unit of it
  --cgroup v2|v1|hybrid  (default v2)
  --share FOLDER       a further folder, at its own path
  --cpus N --memory MIB --limit SECONDS

`cargo xtask vm test` runs the runtime's tests in it, as `cargo xtask test` does.
";

/// How long a machine may take until its command runs, and how often it is tried.
const BOOT: Duration = Duration::from_secs(180);
const BOOTS: u32 = 3;

/// How a machine is started.
pub struct Machine {
    systemd: bool,
    cgroup: String,
    cpus: u32,
    memory: u32,
    limit: Duration,
    shares: Vec<PathBuf>,
}

impl Machine {
    /// A machine with cgroup v2, with systemd or without an init system.
    pub fn new(systemd: bool) -> Machine {
        Machine {
            systemd,
            cgroup: "v2".to_owned(),
            cpus: 2,
            memory: 2048,
            limit: Duration::from_secs(900),
            shares: Vec::new(),
        }
    }

    fn option(&mut self, name: &str, value: &str) -> Result<()> {
        match name {
            "--cgroup" if ["v1", "v2", "hybrid"].contains(&value) => {
                value.clone_into(&mut self.cgroup);
            }
            "--cgroup" => bail!("--cgroup {value}: v1, v2 or hybrid"),
            "--share" => self.shares.push(fs::canonicalize(value).context(value.to_owned())?),
            "--cpus" => self.cpus = value.parse().context("--cpus")?,
            "--memory" => self.memory = value.parse().context("--memory")?,
            "--limit" => self.limit = Duration::from_secs(value.parse().context("--limit")?),
            other => bail!("no option {other}\n{HELP}"),
        }
        Ok(())
    }

    /// Boots and begins to run `script`, or a shell when it is empty.
    pub fn run(&self, script: &str, stdout: fn() -> Stdio) -> Result<Running> {
        for _ in 1..BOOTS {
            let mut running = self.boot(script, stdout())?;
            if running.has_started()? {
                return Ok(running);
            }
            eprintln!("the machine did not come up; once more");
        }
        self.boot(script, stdout())
    }

    fn boot(&self, script: &str, stdout: Stdio) -> Result<Running> {
        let job = tempfile::Builder::new().prefix("ferry-vm-").tempdir()?;
        let init = workspace_root().join("tools/lab/vm-init.sh");
        fs::copy(&init, job.path().join("init")).context("tools/lab/vm-init.sh")?;
        fs::write(job.path().join("command"), script)?;
        let workspace = fs::canonicalize(workspace_root())?;
        fs::write(job.path().join("folder"), workspace.to_string_lossy().as_bytes())?;
        let mut shares = vec![workspace];
        // The peers' links lead into the folder beside theirs.
        shares.extend(setup::peers_folder().parent().filter(|p| p.is_dir()).map(Path::to_owned));
        shares.extend(self.shares.iter().cloned());
        let list: String = shares
            .iter()
            .enumerate()
            .map(|(n, path)| format!("share{n} {}\n", path.display()))
            .collect();
        fs::write(job.path().join("shares"), list)?;
        let mut qemu = self.qemu(job.path(), &shares);
        qemu.stdout(stdout).stdin(if script.is_empty() { Stdio::inherit() } else { Stdio::null() });
        let child = qemu.spawn().context("cannot start qemu-system-x86_64")?;
        Ok(Running { child, job, deadline: Instant::now() + self.limit })
    }

    fn qemu(&self, job: &Path, shares: &[PathBuf]) -> Command {
        let disk = folder();
        let mut qemu = command("qemu-system-x86_64", accelerator().split(' '));
        qemu.args(["-M", "q35,usb=off,vmport=off", "-nodefaults", "-no-user-config", "-no-reboot"]);
        qemu.args(["-display", "none", "-m", &self.memory.to_string()]);
        qemu.args(["-smp", &self.cpus.to_string()]);
        qemu.arg("-kernel").arg(disk.join("vmlinuz")).arg("-initrd").arg(disk.join("initrd"));
        qemu.args(["-append", &self.kernel_line()]);
        let drive = "if=none,id=d0,format=raw,snapshot=on,cache=unsafe,file=";
        qemu.args(["-drive", &format!("{drive}{}", disk.join("rootfs.ext4").display())]);
        qemu.args(["-device", "virtio-blk-pci,drive=d0"]);
        let share = |path: &Path, tag: &str, more: &str| {
            let model = "security_model=passthrough,multidevs=remap";
            format!("local,path={},mount_tag={tag},{model}{more}", path.display())
        };
        qemu.args(["-virtfs", &share(job, "job", "")]);
        for (n, path) in shares.iter().enumerate() {
            qemu.args(["-virtfs", &share(path, &format!("share{n}"), ",readonly=on")]);
        }
        qemu.args(["-object", "rng-random,id=r0,filename=/dev/urandom"]);
        qemu.args(["-device", "virtio-rng-pci,rng=r0", "-device", "virtio-serial-pci"]);
        qemu.args(["-chardev", "stdio,id=c0,signal=off", "-device", "virtconsole,chardev=c0"]);
        let console = format!("file,id=c1,path={}", job.join("console").display());
        qemu.args(["-chardev", &console, "-serial", "chardev:c1"]);
        qemu
    }

    fn kernel_line(&self) -> String {
        let init = if self.systemd { "systemd" } else { "none" };
        let cgroup = &self.cgroup;
        let unified = u8::from(cgroup == "v2");
        let legacy = u8::from(cgroup == "v1");
        format!(
            "quiet loglevel=3 panic=-1 rdinit=/init console=ttyS0 mitigations=off no_timer_check \
             tsc=reliable random.trust_cpu=on apparmor=1 security=apparmor init={init} \
             cgroup={cgroup} systemd.unified_cgroup_hierarchy={unified} \
             systemd.legacy_systemd_cgroup_controller={legacy} systemd.unit=ferry-job.service \
             systemd.show_status=0 systemd.log_target=kmsg"
        )
    }
}

/// A machine that runs.
pub struct Running {
    child: std::process::Child,
    job: tempfile::TempDir,
    deadline: Instant,
}

impl Running {
    /// Waits until its command runs; false when it hangs, and is then ended. Emulated machines do
    /// that now and then on their way up.
    fn has_started(&mut self) -> Result<bool> {
        let end =
            Instant::now() + BOOT.min(self.deadline.saturating_duration_since(Instant::now()));
        while self.child.try_wait()?.is_none() && !self.job.path().join("started").exists() {
            if Instant::now() > end {
                self.child.kill()?;
                self.child.wait()?;
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(true)
    }

    /// Its output, when it was piped.
    pub fn output(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for its end; the exit status of the command.
    pub fn wait(mut self) -> Result<i32> {
        while self.child.try_wait()?.is_none() {
            if Instant::now() > self.deadline {
                self.child.kill()?;
                self.child.wait()?;
                bail!("the machine took too long; its console:\n{}", self.console());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let status = fs::read_to_string(self.job.path().join("status")).unwrap_or_default();
        match status.trim().parse() {
            Ok(code) => Ok(code),
            Err(_) => bail!("the machine ended without a status; its console:\n{}", self.console()),
        }
    }

    fn console(&self) -> String {
        let text = fs::read(self.job.path().join("console")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// Where the built machine lies: `$FERRY_VM`, else beside the peers.
fn folder() -> PathBuf {
    std::env::var_os("FERRY_VM").map_or_else(
        || setup::peers_folder().parent().unwrap_or(Path::new("/opt")).join("vm"),
        PathBuf::from,
    )
}

const KVM: &str = "-accel kvm -cpu host";
const EMULATED: &str = "-accel tcg,thread=multi,tb-size=512 -cpu max";
/// How long a first try with hardware help may take; it boots in two seconds where it works.
const TRY: Duration = Duration::from_secs(40);

/// What was found out when the machine was built.
fn accelerator() -> String {
    fs::read_to_string(folder().join("accelerator")).unwrap_or_else(|_| EMULATED.to_owned())
}

/// Hardware help where it works: a nested KVM may be there and yet refuse, or hang.
fn choose_accelerator() -> Result<()> {
    let file = folder().join("accelerator");
    if file.exists() {
        return Ok(());
    }
    fs::write(&file, KVM)?;
    let tried = Path::new("/dev/kvm").exists()
        && Machine { limit: TRY, ..Machine::new(false) }
            .boot("true", Stdio::null())
            .and_then(Running::wait)
            .is_ok_and(|code| code == 0);
    if !tried {
        fs::write(&file, EMULATED)?;
    }
    Ok(())
}

/// Builds the machine if that was not done yet.
pub fn set_up() -> Result<()> {
    ensure!(host::is_root(), "needs root");
    let mut build = command("bash", ["tools/lab/vm.sh"]);
    build.env("FERRY_VM", folder());
    check(build).context("tools/lab/vm.sh")?;
    ensure!(which("qemu-system-x86_64").is_some(), "no qemu-system-x86_64");
    choose_accelerator()
}

/// The command line.
pub fn main(args: &[String]) -> Result<()> {
    let mut machine = Machine::new(false);
    let mut args = args.iter();
    let mut script = String::new();
    while let Some(word) = args.next() {
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(());
            }
            "--systemd" => machine.systemd = true,
            option if option.starts_with("--") && option != "--" => {
                let value = args.next().with_context(|| format!("{option} needs a value"))?;
                machine.option(option, value)?;
            }
            first => {
                let rest = args.map(String::as_str);
                let first = Some(first).filter(|word| *word != "--");
                script = first.into_iter().chain(rest).collect::<Vec<_>>().join(" ");
                break;
            }
        }
    }
    set_up()?;
    if script == "test" {
        ensure!(!suites::run(&mut Vec::new(), &mut Vec::new())?, "tests failed");
        return Ok(());
    }
    let code = machine.run(&script, Stdio::inherit)?.wait()?;
    std::process::exit(code)
}
