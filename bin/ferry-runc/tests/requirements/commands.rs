//! runc's command line: every command and flag, and what is said of those that make no sense.

use crate::common::{Bundle, peer, runtimes, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const LINES: &str = include_str!("command-lines.txt");

/// A container that runs, one that has ended, and bundles that make no sense.
struct Stage {
    bundle: Bundle,
}

impl Stage {
    fn new(program: &Path) -> Option<Self> {
        let mut bundle = Bundle::new("lines", &["sleep", "1000"])?;
        program.clone_into(&mut bundle.program);
        let spec: Value =
            serde_json::from_slice(&std::fs::read(bundle.path("config.json")).unwrap()).unwrap();
        let place = |name: &str, change: fn(&mut Value)| {
            std::fs::create_dir(bundle.path(name)).unwrap();
            let mut spec = spec.clone();
            spec["root"]["path"] = json!(bundle.path("rootfs"));
            spec["linux"]["cgroupsPath"] = json!(format!("/{}/{name}", bundle.id));
            change(&mut spec);
            std::fs::write(bundle.path(name).join("config.json"), spec.to_string()).unwrap();
        };
        place("run", |_| ());
        place("stopped", |_| ());
        place("x", |_| ());
        place("tty", |spec| spec["process"]["terminal"] = json!(true));
        place("noproc", |spec| crate::remove(spec, "process"));
        std::fs::create_dir(bundle.path("empty")).unwrap();
        std::fs::write(bundle.path("bad.json"), r#"{"args": 5}"#).unwrap();
        let stage = Self { bundle };
        for name in ["run", "stopped"] {
            let folder = stage.bundle.path(name);
            let line = ["run", "-d", "--bundle", folder.to_str().unwrap(), name];
            let out = stage.bundle.quietly(&[], &line);
            assert!(out.status.success(), "{}", text(&out.stderr));
        }
        assert!(stage.bundle.runc(&["kill", "stopped", "KILL"]).status.success());
        crate::common::eventually("an end", || {
            let state = stage.bundle.runc(&["state", "stopped"]).stdout;
            let state: Value = serde_json::from_slice(&state).unwrap();
            state["status"] == "stopped"
        });
        Some(stage)
    }

    fn run(&self, line: &str) -> Output {
        let folder = self.bundle.folder.path().to_str().unwrap();
        let line = line.replace("@B", folder);
        let words = line.split(' ').map(|word| if word == "''" { "" } else { word });
        let mut command = Command::new(&self.bundle.program);
        command.current_dir(self.bundle.path("x"));
        if !line.starts_with("--root") {
            command.arg("--root").arg(self.bundle.path("state"));
        }
        command.args(words).stdin(Stdio::null()).output().unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for name in ["run", "stopped", "x"] {
            self.bundle.runc(&["delete", "--force", name]);
        }
        for root in self.bundle.cgroups_left() {
            let _ = std::fs::remove_dir(root);
        }
    }
}

/// What the log holds after `msg=`, unquoted.
fn message(error: &str) -> String {
    let Some(at) = error.rfind("msg=") else { return String::new() };
    let text = error[at + 4..].trim_end();
    match text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inner) => inner.replace("\\\"", "\"").replace("\\n", ""),
        None => text.to_owned(),
    }
}

#[test]
fn every_command_line_is_answered_with_runcs_words_and_code() {
    for (runtime, program) in runtimes() {
        if runtime == crate::CRUN {
            continue;
        }
        let Some(stage) = Stage::new(&program) else { return };
        let v1 = !Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        for line in LINES.lines().filter(|line| !line.starts_with('#')) {
            let (line, only_v1) = match line.strip_prefix("v1 ") {
                Some(line) => (line, true),
                None => (line, false),
            };
            if only_v1 && !v1 {
                continue;
            }
            let (words, answer) = line.split_once(" => ").unwrap();
            let (code, wanted) = answer.split_once(' ').unwrap_or((answer, ""));
            let out = stage.run(words);
            let folder = stage.bundle.folder.path().to_str().unwrap();
            let said = message(&text(&out.stderr))
                .replace(program.to_str().unwrap(), "RUNTIME")
                .replace(folder, "@B");
            let got = (out.status.code().unwrap().to_string(), said);
            assert_eq!(got, (code.to_owned(), wanted.to_owned()), "{runtime} {words}");
            if words.starts_with("create") || words.starts_with("run") {
                stage.bundle.runc(&["delete", "--force", "x"]);
            }
        }
    }
}

/// The flags that a help text lists.
fn flags(program: &Path, command: &str) -> BTreeSet<String> {
    let mut help = Command::new(program);
    let out = if command.is_empty() { &mut help } else { help.arg(command) }.arg("--help").output();
    let said = text(&out.unwrap().stdout);
    let options = said.split("OPTIONS:").nth(1).unwrap_or_default().to_owned();
    let lines =
        options.lines().filter_map(|line| line.trim_start().strip_prefix('-').map(|_| line));
    let names = lines.flat_map(|line| line.trim_start().split("  ").next().unwrap().split(", "));
    names.map(|name| name.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn every_command_has_every_flag_that_runcs_has() {
    let Some(runc) = peer("runc") else {
        eprintln!("SKIPPED: flags beside runc's: not installed");
        return;
    };
    let ours = Path::new(env!("CARGO_BIN_EXE_ferry-runc"));
    let commands = [
        "",
        "checkpoint",
        "create",
        "delete",
        "events",
        "exec",
        "features",
        "kill",
        "list",
        "pause",
        "ps",
        "restore",
        "resume",
        "run",
        "spec",
        "start",
        "state",
        "update",
    ];
    for command in commands {
        let (ours, theirs) = (flags(ours, command), flags(&runc, command));
        let missing: Vec<_> = theirs.difference(&ours).collect();
        assert!(missing.is_empty(), "{command}: {missing:?}");
        assert!(
            command != "run" || theirs.len() > 8,
            "the help text was not understood: {theirs:?}"
        );
    }
}

#[test]
fn a_log_in_json_has_level_message_and_time() {
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = Bundle::new("log", &["true"]) else { return };
        bundle.program = program;
        let log = bundle.path("log");
        let global = ["--log", log.to_str().unwrap(), "--log-format", "json"];
        let out = bundle.runc(&[&global[..], &["state", "nope"]].concat());
        assert_eq!(out.status.code(), Some(1), "{runtime}");
        let line: Value = serde_json::from_slice(&std::fs::read(log).unwrap()).unwrap();
        assert_eq!(line["level"], "error", "{runtime}");
        let words = if runtime == crate::CRUN { "nope" } else { "does not exist" };
        assert!(line["msg"].as_str().unwrap().contains(words), "{runtime}: {line}");
        assert!(line["time"].as_str().unwrap().contains('T'), "{runtime}: {line}");
    }
}

#[test]
fn containers_are_listed_as_runc_lists_them() {
    let shape = |program: &Path| {
        let stage = Stage::new(program)?;
        let table = text(&stage.run("list").stdout);
        let heads: Vec<String> =
            table.lines().next().unwrap().split_whitespace().map(str::to_owned).collect();
        let quiet = text(&stage.run("list -q").stdout);
        let all: Value = serde_json::from_slice(&stage.run("list -f json").stdout).unwrap();
        let keys: BTreeSet<String> = all[0].as_object().unwrap().keys().cloned().collect();
        let states: Vec<Value> =
            all.as_array().unwrap().iter().map(|one| one["status"].clone()).collect();
        Some((heads, quiet, keys, states))
    };
    let seen: Vec<_> =
        runtimes().iter().filter(|(n, _)| *n != crate::CRUN).map(|(_, p)| shape(p)).collect();
    for other in &seen[1..] {
        assert_eq!(&seen[0], other);
    }
}

#[test]
fn an_exec_has_the_user_groups_variables_folder_and_terminal_asked_for() {
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = Bundle::new("execflags", &["sleep", "1000"]) else { return };
        bundle.program = program;
        assert!(bundle.create().status.success());
        bundle.runc(&["start", &bundle.id]);
        let exec = |flags: &[&str], args: &[&str]| {
            let out = bundle.runc(&[&["exec"], flags, &[&bundle.id], args].concat());
            text(&out.stdout).replace('\r', "") + &text(&out.stderr)
        };
        let said = exec(&["--user", "1000:1001"], &["sh", "-c", "id -u; id -g"]);
        assert_eq!(said, "1000\n1001\n", "{runtime}");
        let said = exec(
            &["--env", "A=b", "--env", "C=d=e", "--env", "PATH=/bin"],
            &["sh", "-c", "echo $A $C $PATH"],
        );
        assert_eq!(said, "b d=e /bin\n", "{runtime}");
        assert_eq!(
            exec(&["--cwd", "/tmp"], &["readlink", "/proc/self/cwd"]),
            "/tmp\n",
            "{runtime}"
        );
        let said = exec(&["--no-new-privs"], &["grep", "NoNewPrivs", "/proc/self/status"]);
        assert_eq!(said, "NoNewPrivs:\t1\n", "{runtime}");
        if runtime == "ferry-runc" {
            // They want a terminal of their own first.
            let said = exec(&["--tty"], &["tty"]);
            assert!(said.starts_with("/dev/pts/"), "{runtime}: {said}");
        }
        if runtime != crate::CRUN {
            let said = exec(&["-g", "5", "-g", "6"], &["id", "-G"]);
            assert_eq!(said, "0 5 6\n", "{runtime}");
        }
    }
}

#[test]
fn an_exec_takes_its_process_from_a_file() {
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = Bundle::new("execfile", &["sleep", "1000"]) else { return };
        bundle.program = program;
        assert!(bundle.create().status.success());
        bundle.runc(&["start", &bundle.id]);
        let script = "id -u; echo $A; exit 5";
        let process = json!({"args": ["sh", "-c", script], "cwd": "/tmp", "env": ["PATH=/bin", "A=b"],
            "user": {"uid": 7, "gid": 8}});
        let file = bundle.path("process.json");
        std::fs::write(&file, process.to_string()).unwrap();
        let out = bundle.runc(&["exec", "--process", file.to_str().unwrap(), &bundle.id]);
        assert_eq!(out.status.code(), Some(5), "{runtime}: {}", text(&out.stderr));
        assert_eq!(text(&out.stdout), "7\nb\n", "{runtime}");
    }
}

#[test]
fn a_detached_exec_and_a_created_container_write_their_pid_files() {
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = Bundle::new("pidfile", &["sleep", "1000"]) else { return };
        bundle.program = program;
        let (init, other) = (bundle.path("init.pid"), bundle.path("exec.pid"));
        let folder = bundle.folder.path().to_str().unwrap();
        let line = ["run", "-d", "--pid-file", init.to_str().unwrap(), "-b", folder, &bundle.id];
        assert!(bundle.quietly(&[], &line).status.success(), "{runtime}");
        let line =
            ["exec", "-d", "--pid-file", other.to_str().unwrap(), &bundle.id, "sleep", "1000"];
        assert!(bundle.quietly(&[], &line).status.success(), "{runtime}");
        let state: Value =
            serde_json::from_slice(&bundle.runc(&["state", &bundle.id]).stdout).unwrap();
        assert_eq!(std::fs::read_to_string(init).unwrap(), state["pid"].to_string(), "{runtime}");
        let pid = std::fs::read_to_string(other).unwrap();
        crate::common::eventually("the program", || {
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == b"sleep\x001000\x00")
        });
    }
}

#[test]
fn run_keeps_a_container_when_asked_and_else_removes_it() {
    for (runtime, program) in runtimes() {
        let Some(mut bundle) = Bundle::new("keep", &["sh", "-c", "exit 3"]) else { return };
        bundle.program = program;
        let out = bundle.run();
        assert_eq!(out.status.code(), Some(3), "{runtime}: {}", text(&out.stderr));
        assert!(!bundle.runc(&["state", &bundle.id]).status.success(), "{runtime}");
        let folder = bundle.folder.path().to_str().unwrap();
        let out = bundle.runc(&["run", "--keep", "--bundle", folder, &bundle.id]);
        assert_eq!(out.status.code(), Some(3), "{runtime}: {}", text(&out.stderr));
        assert_eq!(bundle.status(), "stopped", "{runtime}");
    }
}

#[test]
fn a_template_of_a_configuration_runs_and_has_the_parts_of_runcs() {
    let keys = |program: &Path, flags: &[&str]| {
        let bundle = Bundle::new("template", &["true"])?;
        std::fs::remove_file(bundle.path("config.json")).unwrap();
        let mut line = Command::new(program);
        assert!(
            line.arg("spec")
                .args(flags)
                .current_dir(bundle.folder.path())
                .status()
                .unwrap()
                .success()
        );
        let spec = std::fs::read(bundle.path("config.json")).unwrap();
        let spec: Value = serde_json::from_slice(&spec).unwrap();
        let names =
            |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let all =
            (names(&spec), names(&spec["process"]), names(&spec["linux"]), spec["mounts"].clone());
        bundle.edit(|spec| {
            spec["process"]["terminal"] = json!(false);
            spec["process"]["args"] = json!(["/bin/true"]);
            spec["linux"]["cgroupsPath"] = json!(format!("/{}", bundle.id));
        });
        if flags.is_empty() {
            assert_eq!(bundle.run().status.code(), Some(0));
        }
        Some(all)
    };
    for flags in [&[][..], &["--rootless"]] {
        let Some(ours) = keys(Path::new(env!("CARGO_BIN_EXE_ferry-runc")), flags) else { return };
        let Some(runc) = peer("runc") else { return };
        assert_eq!(Some(ours), keys(&runc, flags), "{flags:?}");
    }
}
