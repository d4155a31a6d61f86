//! Our shim under a stock containerd and under ferry-containerd, with ferry-runc, runc and crun:
//! everything that `ctr` can ask of a task.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lab::{Containerd, Scratch, ours, peer, run, wait_until};

/// The size comes a moment after the start; and `ctr` may drop what a terminal's last moment brings.
const SIZE: &str = "'until stty size 2>&1 | grep 101; do :; done; sleep 0.3'";
const IMAGE: &str = "docker.io/library/busybox:latest";

/// A containerd with the image, and the words by which `ctr run` picks our shim.
struct Stage {
    containerd: Containerd,
    scratch: Scratch,
    words: Vec<String>,
    /// Of its own: runtimes keep their state by namespace, whichever containerd asks.
    namespace: String,
    /// Terminals and exits are timed by people: one test at a time.
    _turn: MutexGuard<'static, ()>,
}

static TURN: Mutex<()> = Mutex::new(());

impl Stage {
    fn new(start: impl FnOnce(&Scratch) -> Containerd, words: Vec<String>) -> Stage {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let scratch = Scratch::new("shim").unwrap();
        let archive = lab::busybox_archive(scratch.path()).unwrap();
        let containerd = start(&scratch);
        let namespace = scratch.path().file_name().unwrap().to_str().unwrap().to_owned();
        let stage = Stage { containerd, scratch, words, namespace, _turn: turn };
        stage.ctr(&["image", "import", &archive.display().to_string()]);
        stage
    }

    /// With the runtime that lies beside the shim.
    fn own(start: impl FnOnce(&Scratch) -> Containerd) -> Stage {
        let shim = ours("containerd-shim-ferry-v2").expect("the shim is built");
        Stage::new(start, vec!["--runtime".into(), shim.display().to_string()])
    }

    /// With a runtime of choice: our shim takes the stock shim's name in PATH.
    fn with(runtime: &Path, start: impl FnOnce(&Scratch, &Path) -> Containerd) -> Stage {
        let shim = ours("containerd-shim-ferry-v2").expect("the shim is built");
        let words = ["--runtime", "io.containerd.runc.v2", "--runc-binary"].map(str::to_owned);
        let words = words.into_iter().chain([runtime.display().to_string()]).collect();
        Stage::new(
            |scratch| {
                let first = scratch.join("first");
                std::fs::create_dir(&first).unwrap();
                symlink(&shim, first.join("containerd-shim-runc-v2")).unwrap();
                start(scratch, &first)
            },
            words,
        )
    }

    fn try_ctr(&self, words: &[&str]) -> lab::Finished {
        self.containerd.ctr(&[&["-n", &self.namespace], words].concat()).unwrap()
    }

    fn ctr(&self, words: &[&str]) -> String {
        self.try_ctr(words).success().unwrap()
    }

    fn run_words<'a>(&'a self, flags: &[&'a str], id: &'a str, tail: &[&'a str]) -> Vec<&'a str> {
        let mut words = vec!["run"];
        words.extend(self.words.iter().map(String::as_str));
        words.extend_from_slice(flags);
        words.extend([IMAGE, id]);
        words.extend_from_slice(tail);
        words
    }

    fn run(&self, id: &str, tail: &[&str]) -> lab::Finished {
        self.try_ctr(&self.run_words(&["--rm"], id, tail))
    }

    fn command(&self) -> (PathBuf, [String; 4]) {
        let socket = self.containerd.socket().display().to_string();
        (peer("ctr").unwrap(), ["--address".into(), socket, "-n".into(), self.namespace.clone()])
    }

    /// Runs ctr with input, under a time limit that its own signal proxy can't swallow.
    fn feed(&self, words: &[&str], input: &str) -> (bool, String) {
        let (ctr, address) = self.command();
        let mut child = Command::new("timeout")
            .args(["-s", "KILL", "20"])
            .arg(ctr)
            .args(address)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_owned());
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let out = child.wait_with_output().unwrap();
        // A program that ends early does not read all: its answer tells.
        writer.join().unwrap().ok();
        let shown = String::from_utf8_lossy(&out.stdout).into_owned();
        eprint!("{}", String::from_utf8_lossy(&out.stderr));
        (out.status.success(), shown)
    }

    /// Runs ctr on a terminal of 33 × 101; what the terminal showed.
    fn terminal(&self, words: &[&str]) -> String {
        let (ctr, address) = self.command();
        let line = format!("{} {} {}", ctr.display(), address.join(" "), words.join(" "));
        let line = format!("stty rows 33 cols 101; {line}");
        let words = ["-s", "KILL", "20", "script", "-qec", &line, "/dev/null"];
        let mut command = Command::new("timeout");
        // Its own input stays open, or the terminal would hang up.
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take();
        let out = child.wait_with_output().unwrap();
        drop(input);
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    fn status(&self, id: &str) -> String {
        let list = self.ctr(&["task", "ls"]);
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(id));
        line.and_then(|l| l.split_whitespace().nth(2)).unwrap_or("none").to_owned()
    }

    fn wait_status(&self, id: &str, status: &str) {
        wait_until(status, Duration::from_secs(20), || self.status(id) == status).unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let Ok(list) = self.containerd.ctr(&["-n", &self.namespace, "task", "ls", "-q"]) else {
            return;
        };
        for id in list.stdout.lines() {
            self.containerd.ctr(&["-n", &self.namespace, "task", "rm", "-f", id]).ok();
        }
    }
}

fn once(stage: &Stage) {
    assert_eq!(stage.run("one", &["echo", "hi"]).success().unwrap(), "hi\n");
    assert_eq!(stage.run("two", &["sh", "-c", "exit 6"]).code, 6);
    let failed = stage.run("three", &["nope-nope"]);
    assert!(failed.code != 0 && failed.stderr.contains("nope-nope"), "{failed:?}");
    // Closing input must end the shell: each time, however quick the client is.
    for n in 0..5 {
        let id = format!("fed-{n}");
        let words = stage.run_words(&["--rm"], &id, &["sh"]);
        assert_eq!(stage.feed(&words, "echo fed\n"), (true, "fed\n".to_owned()));
    }
    let much = "0123456789abcde\n".repeat(40_000);
    let words = stage.run_words(&["--rm"], "much", &["cat"]);
    let (well, back) = stage.feed(&words, &much);
    assert!(well && back == much, "{} of {} bytes came back", back.len(), much.len());
    let words = stage.run_words(&["--rm", "-t"], "tty", &["sh", "-c", SIZE]);
    let shown = stage.terminal(&words);
    assert!(shown.contains("33 101"), "{shown:?}");
}

fn stays(stage: &Stage) {
    let script = "trap : TERM; while :; do sleep 1; done";
    stage.ctr(&stage.run_words(&["-d"], "stays", &["sh", "-c", script]));
    assert_eq!(stage.status("stays"), "RUNNING");
    let exec = |name: &str, tail: &[&str]| {
        stage.try_ctr(&[&["task", "exec", "--exec-id", name, "stays"], tail].concat())
    };
    assert_eq!(exec("e1", &["cat", "/proc/1/comm"]).success().unwrap(), "sh\n");
    assert_eq!(exec("e2", &["sh", "-c", "exit 9"]).code, 9);
    let failed = exec("e3", &["nope-nope"]);
    assert!(failed.code != 0 && failed.stderr.contains("nope-nope"), "{failed:?}");
    let words = ["task", "exec", "--exec-id", "e4", "stays", "cat"];
    assert_eq!(stage.feed(&words, "through\n"), (true, "through\n".to_owned()));
    let shown =
        stage.terminal(&["task", "exec", "-t", "--exec-id", "e5", "stays", "sh", "-c", SIZE]);
    assert!(shown.contains("33 101"), "{shown:?}");
    let ps = stage.ctr(&["task", "ps", "stays"]);
    assert!(ps.lines().count() >= 2, "{ps}");
    let metrics = stage.ctr(&["task", "metrics", "stays"]);
    assert!(metrics.contains("pids.current"), "{metrics}");
    stage.ctr(&["task", "pause", "stays"]);
    assert_eq!(stage.status("stays"), "PAUSED");
    stage.ctr(&["task", "resume", "stays"]);
    assert_eq!(stage.status("stays"), "RUNNING");
    stage.ctr(&["task", "kill", "-s", "KILL", "stays"]);
    stage.wait_status("stays", "STOPPED");
    let gone = stage.try_ctr(&["task", "rm", "stays"]);
    assert!(gone.code == 0 && gone.stderr.contains("exit code 137"), "{gone:?}");
    stage.ctr(&["container", "rm", "stays"]);
}

#[test]
fn a_stock_containerd_drives_our_shim_with_ferry_runc() {
    lab::require!("containerd", "ctr");
    let stage = Stage::own(|scratch| Containerd::stock(scratch).unwrap());
    once(&stage);
    stays(&stage);
}

#[test]
fn ferry_containerd_drives_our_shim_with_ferry_runc() {
    lab::require!("ctr");
    let stage = Stage::own(|scratch| Containerd::ours(scratch).unwrap());
    once(&stage);
    stays(&stage);
}

#[test]
fn our_shim_drives_runc() {
    lab::require!("containerd", "ctr", "runc");
    let runc = peer("runc").unwrap();
    let stage =
        Stage::with(&runc, |scratch, first| Containerd::stock_with(scratch, first).unwrap());
    once(&stage);
    stays(&stage);
}

#[test]
fn our_shim_drives_crun() {
    lab::require!("containerd", "ctr", "crun-static");
    let crun = peer("crun-static").unwrap();
    let stage =
        Stage::with(&crun, |scratch, first| Containerd::stock_on_v1(scratch, first).unwrap());
    once(&stage);
    stays(&stage);
}

#[test]
fn files_and_loggers_get_output_as_from_the_stock_shim() {
    lab::require!("containerd", "ctr", "containerd-shim-runc-v2");
    let stage = Stage::own(|scratch| Containerd::stock(scratch).unwrap());
    let logger = stage.scratch.join("logger.sh");
    let script = "#!/bin/sh\nexec 5>&-\ncat <&3 >\"$2.out\" &\ncat <&4 >\"$2.err\"\nwait\n\
        echo \"$CONTAINER_NAMESPACE $CONTAINER_ID\" >\"$2.env\"\n";
    std::fs::write(&logger, script).unwrap();
    run("chmod", ["755".as_ref(), logger.as_os_str()]).unwrap().success().unwrap();
    let speak = ["sh", "-c", "printf 'a\\0b\\n'; echo error >&2; printf end"];
    let read = |name: &str| std::fs::read_to_string(stage.scratch.join(name)).unwrap_or_default();
    for (kind, shim) in [("ours", None), ("stock", Some("io.containerd.runc.v2"))] {
        let file = format!("file://{}", stage.scratch.join(&format!("{kind}.file")).display());
        let out = stage.scratch.join(kind);
        let binary = format!("binary://{}?base={}", logger.display(), out.display());
        for (id, uri) in [("file", &file), ("binary", &binary)] {
            let id = format!("{kind}-{id}");
            let flags = ["-d", "--log-uri", uri];
            let mut words = stage.run_words(&flags, &id, &speak);
            if let Some(shim) = shim {
                words[2] = shim;
            }
            stage.ctr(&words);
            stage.wait_status(&id, "STOPPED");
            stage.ctr(&["task", "rm", &id]);
            stage.ctr(&["container", "rm", &id]);
        }
        let done = || read(&format!("{kind}.err")) == "error\n";
        wait_until(kind, Duration::from_secs(10), done).unwrap();
        assert_eq!(read(&format!("{kind}.out")), "a\0b\nend");
        assert_eq!(read(&format!("{kind}.err")), "error\n");
        // The stock shim may end its logger before it has seen the end.
        if shim.is_none() {
            let done = || !read("ours.env").is_empty();
            wait_until("the logger's end", Duration::from_secs(10), done).unwrap();
            assert_eq!(read("ours.env"), format!("{} ours-binary\n", stage.namespace));
        }
        let said = || read(&format!("{kind}.file")).replace('\n', "");
        // The stock shim may write on when its task is deleted already.
        if shim.is_some() {
            let all = || said().len() >= "a\0berrorend".len();
            wait_until("the stock shim's output", Duration::from_secs(10), all).ok();
        }
        assert_eq!(said().len(), "a\0berrorend".len(), "{kind} {:?}", said());
    }
}

type Start = fn(&Scratch) -> Containerd;

#[test]
fn an_exit_while_containerd_is_down_is_delivered_afterwards() {
    lab::require!("containerd", "ctr");
    let starts: [Start; 2] = [|s| Containerd::stock(s).unwrap(), |s| Containerd::ours(s).unwrap()];
    for start in starts {
        let mut stage = Stage::own(start);
        let go = stage.scratch.join("go");
        run("mkfifo", [&go]).unwrap().success().unwrap();
        let mount = format!("type=bind,src={},dst=/go,options=bind:rw", go.display());
        let tail = ["sh", "-c", "read x </go; exit 7"];
        let words: Vec<String> = stage
            .run_words(&["-d", "--mount", &mount], "late", &tail)
            .into_iter()
            .map(str::to_owned)
            .collect();
        stage.ctr(&words.iter().map(String::as_str).collect::<Vec<_>>());
        // Two restarts: what was not acknowledged is sent again each time.
        for _ in 0..2 {
            stage.containerd.kill();
            stage.containerd.restart().unwrap();
            assert_eq!(stage.status("late"), "RUNNING");
        }
        stage.containerd.kill();
        std::fs::write(&go, "go\n").unwrap();
        std::thread::sleep(Duration::from_millis(300));
        stage.containerd.restart().unwrap();
        stage.wait_status("late", "STOPPED");
        let gone = stage.try_ctr(&["task", "rm", "late"]);
        assert!(gone.stderr.contains("exit code 7"), "{gone:?}");
    }
}
