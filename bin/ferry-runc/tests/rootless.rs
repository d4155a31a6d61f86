//! Containers of an ordinary user: with the own id alone and with subordinate ids, without a cgroup and
//! with a delegated one. They begin as root, to become that user.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::{Bundle, runtimes, text};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A user of this machine, or a number that is nobody's.
#[derive(Clone, Copy)]
struct User {
    id: u32,
    /// First subordinate id and how many.
    subordinate: Option<(u32, u32)>,
}

const NOBODY: User = User { id: 4242, subordinate: None };

/// A user with subordinate ids.
fn with_subordinate_ids() -> Option<User> {
    let ids = std::fs::read_to_string("/etc/subuid").unwrap_or_default();
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    ids.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let entry = passwd.lines().find(|l| l.starts_with(&format!("{name}:")))?;
        let id = entry.split(':').nth(2)?.parse().ok().filter(|id| *id != 0)?;
        Some(User { id, subordinate: Some((first.parse().ok()?, count.parse().ok()?)) })
    })
}

/// Makes a bundle one that this user can run.
fn prepare(bundle: &Bundle, user: User) {
    bundle.edit(|spec| {
        let mut maps = vec![json!({"containerID": 0, "hostID": user.id, "size": 1})];
        if let Some((first, count)) = user.subordinate {
            maps.push(json!({"containerID": 1, "hostID": first, "size": count}));
        }
        spec["linux"]["uidMappings"] = json!(maps);
        spec["linux"]["gidMappings"] = json!(maps);
        let linux = spec["linux"].as_object_mut().unwrap();
        linux.remove("resources");
        linux.remove("cgroupsPath");
        linux["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        spec["process"]["user"] = json!({"uid": 0, "gid": 0});
        for mount in spec["mounts"].as_array_mut().unwrap() {
            let options = mount["options"].as_array_mut().unwrap();
            options.retain(|o| !o.as_str().unwrap().starts_with("gid="));
        }
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| m["type"] != "cgroup");
    });
    let (whole, owner) = (bundle.folder.path(), format!("{0}:{0}", user.id));
    assert!(Command::new("chown").args(["-R", &owner]).arg(whole).status().unwrap().success());
    let program = bundle.path("runtime");
    common::copy(&bundle.program, &program);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The runtime as that user, with the bundle's own copy of ours where it is ours.
fn command(bundle: &Bundle, user: User, global: &[&str], words: &[&str]) -> Command {
    let ours = bundle.program == Path::new(env!("CARGO_BIN_EXE_ferry-runc"));
    let program = if ours { bundle.path("runtime") } else { bundle.program.clone() };
    let mut command = Command::new("setpriv");
    let id = user.id;
    command.args([format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".into()]);
    command.arg(program).arg("--root").arg(bundle.path("state"));
    command.args(global).args(words).stdin(Stdio::null());
    command
}

fn run(bundle: &Bundle, user: User, global: &[&str]) -> Output {
    let folder = bundle.folder.path().to_str().unwrap();
    command(bundle, user, global, &["run", "--bundle", folder, &bundle.id]).output().unwrap()
}

#[test]
fn an_ordinary_user_runs_a_container_with_the_own_id_alone() {
    let Some(bundle) = Bundle::new("rootless", &["sh", "-c", "id -u; cat /proc/self/uid_map"])
    else {
        return;
    };
    prepare(&bundle, NOBODY);
    let out = run(&bundle, NOBODY, &[]);
    let said = text(&out.stdout);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let words: Vec<&str> = said.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "4242", "1"]);
}

#[test]
fn ids_that_are_not_ones_own_are_refused_by_the_set_user_id_helpers() {
    let Some(bundle) = Bundle::new("foreign", &["id", "-u"]) else { return };
    // This user has no subordinate ids, so the helper refuses, and its words are passed on.
    let user = User { subordinate: Some((500_000, 1000)), ..NOBODY };
    prepare(&bundle, user);
    let out = run(&bundle, user, &[]);
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains("newuidmap"), "{said}");
}

#[test]
fn subordinate_ids_are_mapped_and_can_be_used() {
    let Some(user) = with_subordinate_ids() else {
        eprintln!("SKIPPED: subordinate ids: no user here has any (cargo xtask vm)");
        return;
    };
    let script =
        "cat /proc/self/uid_map; touch /tmp/f && busybox chown 1:1 /tmp/f && stat -c %u /tmp/f";
    let Some(bundle) = Bundle::new("subids", &["sh", "-c", script]) else { return };
    prepare(&bundle, user);
    bundle.edit(|spec| {
        let caps = json!(["CAP_CHOWN"]);
        spec["process"]["capabilities"] =
            json!({"bounding": caps, "effective": caps, "permitted": caps});
    });
    let out = run(&bundle, user, &[]);
    let said = text(&out.stdout);
    assert!(out.status.success(), "{said} {}", text(&out.stderr));
    let (first, count) = user.subordinate.unwrap();
    let words: Vec<u32> = said.split_whitespace().map(|w| w.parse().unwrap()).collect();
    assert_eq!(words, [0, user.id, 1, 1, first, count, 1]);
}

#[test]
fn a_limit_or_a_place_that_cannot_be_had_is_an_error_as_with_runc() {
    type Change = fn(&mut Value);
    let changes: [(&str, Change); 2] = [
        ("limit", |s| s["linux"]["resources"] = json!({"pids": {"limit": 5}})),
        ("place", |s| s["linux"]["cgroupsPath"] = json!("/ferry-test-no-such-place")),
    ];
    for (name, change) in changes {
        for (runtime, program) in runtimes() {
            if runtime == "crun-static" {
                continue;
            }
            let Some(mut bundle) = Bundle::new(name, &["true"]) else { return };
            bundle.program = program;
            prepare(&bundle, NOBODY);
            bundle.edit(change);
            let out = run(&bundle, NOBODY, &[]);
            let said = text(&out.stderr);
            assert_eq!(out.status.code(), Some(1), "{name} {runtime}: {said}");
            let words = ["permission denied", "could not join or create cgroup"];
            assert!(words.iter().any(|w| said.contains(w)), "{name} {runtime}: {said}");
        }
    }
}

#[test]
fn an_ordinary_user_enters_the_own_container() {
    let Some(bundle) = Bundle::new("enter", &["sleep", "1000"]) else { return };
    prepare(&bundle, NOBODY);
    let folder = bundle.folder.path().to_str().unwrap();
    let log = std::fs::File::create(bundle.path("create")).unwrap();
    let create = command(&bundle, NOBODY, &[], &["create", "--bundle", folder, &bundle.id])
        .stdout(Stdio::null())
        .stderr(log)
        .status();
    let said = std::fs::read_to_string(bundle.path("create")).unwrap();
    assert!(create.unwrap().success(), "{said}");
    let words = |words: &[&str]| command(&bundle, NOBODY, &[], words).output().unwrap();
    assert!(words(&["start", &bundle.id]).status.success());
    let out = words(&["exec", &bundle.id, "sh", "-c", "id -u; cat /proc/1/comm; exit 5"]);
    let said = text(&out.stdout);
    assert_eq!(
        (out.status.code(), said.as_str()),
        (Some(5), "0\nsleep\n"),
        "{}",
        text(&out.stderr)
    );
    assert!(words(&["delete", "--force", &bundle.id]).status.success());
}

#[test]
fn being_rootless_can_be_said_and_denied() {
    let Some(bundle) = Bundle::new("flag", &["true"]) else { return };
    prepare(&bundle, NOBODY);
    let denied = run(&bundle, NOBODY, &["--rootless=false"]);
    assert!(text(&denied.stderr).contains("permission denied"), "{}", text(&denied.stderr));
    assert!(run(&bundle, NOBODY, &["--rootless", "true"]).status.success());
    let wrong = run(&bundle, NOBODY, &["--rootless=maybe"]);
    let said = text(&wrong.stderr);
    assert!(said.contains(r#"parsing \"maybe\": invalid syntax"#), "{said}");
}

/// A cgroup that belongs to a user, as a service manager would give it.
struct Delegated(PathBuf);

impl Delegated {
    fn new(user: User) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        if !root.join("cgroup.controllers").exists() {
            eprintln!("SKIPPED: a delegated cgroup: needs cgroup v2 alone (cargo xtask vm)");
            return None;
        }
        let folder = root.join(format!("ferry-given-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("session")).unwrap();
        for name in
            ["", "cgroup.procs", "cgroup.subtree_control", "session", "session/cgroup.procs"]
        {
            let owner = Some(user.id);
            std::os::unix::fs::chown(folder.join(name), owner, owner).unwrap();
        }
        Some(Self(folder))
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.0.join("session"));
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn a_delegated_cgroup_takes_the_container_and_its_limits() {
    let Some(place) = Delegated::new(NOBODY) else { return };
    let script = "cat /proc/self/cgroup; sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000";
    let Some(bundle) = Bundle::new("delegated", &["sh", "-c", script]) else { return };
    prepare(&bundle, NOBODY);
    bundle.edit(|spec| spec["linux"]["resources"] = json!({"pids": {"limit": 3}}));
    let folder = bundle.folder.path().to_str().unwrap();
    let inner = command(&bundle, NOBODY, &[], &["run", "--bundle", folder, &bundle.id]);
    // From inside of what was given, as a login session would be.
    let out = Command::new("sh")
        .args(["-c", "echo $$ > \"$0/session/cgroup.procs\"; exec \"$@\""])
        .arg(&place.0)
        .arg(inner.get_program())
        .args(inner.get_args())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let (said, error) = (text(&out.stdout), text(&out.stderr));
    assert!(error.contains("fork"), "{said} {error}");
    let name = place.0.file_name().unwrap().to_str().unwrap();
    assert_eq!(said.trim(), format!("0::/{name}/{}", bundle.id), "{error}");
    assert!(!place.0.join(&bundle.id).exists());
}
