//! A stock dockerd that maps its containers' users to others (`userns-remap`), with ferry-runc as its
//! default runtime, and with the stock one, which must do the same.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use lab::{Engine, Kind, Scratch, ours, peer, run};

/// The first id of the range that root becomes.
const FIRST: u32 = 100_000;
const WHOLE: &str = "0 0 4294967295";

/// Runs a program where the user `nobody` has subordinate ids, which this machine's files may not say.
const WITH_IDS: &str = "mount --bind $0/ids /etc/subuid && mount --bind $0/ids /etc/subgid && \
                        exec \"$@\"";

struct Remapped {
    engine: Engine,
    folder: Scratch,
}

impl Remapped {
    fn start(runtime: &str) -> Remapped {
        let folder = Scratch::new("ids").unwrap();
        fs::write(folder.join("ids"), format!("nobody:{FIRST}:65536\nnogroup:{FIRST}:65536\n"))
            .unwrap();
        // Files to be mounted upon must be there.
        for file in ["/etc/subuid", "/etc/subgid"] {
            fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
        }
        let place = folder.path().display().to_string();
        let before = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", WITH_IDS, &place];
        let ferry = format!("ferry={}", ours("ferry-runc").unwrap().display());
        let flags = ["--userns-remap", "nobody:nogroup", "--add-runtime", &ferry];
        let flags = [&flags[..], &["--default-runtime", runtime]].concat();
        let engine = Engine::start_below(&before, Kind::Dockerd, &flags).unwrap();
        Remapped { engine, folder }
    }

    fn docker(&self, words: &[&str]) -> String {
        self.engine.stock_cli(words).unwrap().success().unwrap()
    }

    fn inspect(&self, container: &str, field: &str) -> String {
        self.docker(&["inspect", "--format", &format!("{{{{{field}}}}}"), container]).trim().into()
    }
}

fn map(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

fn runs_and_execs(d: &Remapped, runtime: &str) {
    let mapped = format!("0 {FIRST} 65536");
    let read = ["cat", "/proc/self/uid_map", "/proc/self/gid_map"];
    let both = format!("{mapped} {mapped}");
    assert_eq!(
        map(&d.docker(&[&["run", "--rm", "busybox"], &read[..]].concat())),
        both,
        "{runtime}"
    );
    d.docker(&["run", "-d", "--name", "stays", "--memory", "48m", "busybox", "sleep", "1000"]);
    let status = fs::read_to_string(format!("/proc/{}/status", d.inspect("stays", ".State.Pid")));
    let line = format!("\nUid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}\n");
    assert!(status.unwrap().contains(&line), "{runtime}");
    assert_eq!(map(&d.docker(&[&["exec", "stays"], &read[..]].concat())), both, "{runtime}");
    let who = ["exec", "-u", "7:8", "stays", "sh", "-c", "id -u; id -g; touch /tmp/seven"];
    assert_eq!(d.docker(&who), "7\n8\n", "{runtime}");
    let seen = ["exec", "stays", "stat", "-c", "%u:%g", "/tmp/seven", "/proc/1", "/"];
    assert_eq!(d.docker(&seen), "7:8\n0:0\n0:0\n", "{runtime}");
    // What belongs to nobody here is nobody's.
    let foreign = ["exec", "stays", "stat", "-c", "%u:%g", "/proc/sys"];
    assert_eq!(d.docker(&foreign), "65534:65534\n", "{runtime}");
    let tty = d.docker(&["run", "--rm", "-t", "busybox", "sh", "-c", "tty; stat -c %u $(tty)"]);
    assert_eq!(tty.replace('\r', ""), "/dev/pts/0\n0\n", "{runtime}");
    let net = d.docker(&["run", "--rm", "busybox", "ip", "-o", "-4", "addr", "show", "eth0"]);
    assert!(net.contains("inet "), "{runtime}: {net}");
    let host = ["run", "--rm", "--userns=host", "busybox", "cat", "/proc/self/uid_map"];
    assert_eq!(map(&d.docker(&host)), WHOLE, "{runtime}");
}

/// Files go in and out by `docker cp`, with the owners that the container sees.
fn copies(d: &Remapped, runtime: &str) {
    let file = d.folder.join("file");
    fs::write(&file, "in").unwrap();
    d.docker(&["cp", file.to_str().unwrap(), "stays:/tmp/file"]);
    let seen = [
        "exec",
        "stays",
        "sh",
        "-c",
        "stat -c %u:%g /tmp/file; cat /tmp/file; echo out > /tmp/out",
    ];
    assert_eq!(d.docker(&seen), "0:0\nin", "{runtime}");
    let out = d.folder.join("out");
    d.docker(&["cp", "stays:/tmp/out", out.to_str().unwrap()]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "out\n", "{runtime}");
    assert_eq!(owner(&out), (0, 0), "{runtime}");
}

/// A volume belongs to the container's root; a folder of the host's root can be looked at only.
fn volumes(d: &Remapped, runtime: &str) {
    let make = "touch /v/f; chown 5:6 /v/f; stat -c %u:%g /v /v/f";
    let said = d.docker(&["run", "--rm", "-v", "own:/v", "busybox", "sh", "-c", make]);
    assert_eq!(said, "0:0\n5:6\n", "{runtime}");
    let place = PathBuf::from(
        d.docker(&["volume", "inspect", "--format", "{{.Mountpoint}}", "own"]).trim(),
    );
    assert_eq!(owner(&place), (FIRST, FIRST), "{runtime}");
    assert_eq!(owner(&place.join("f")), (FIRST + 5, FIRST + 6), "{runtime}");
    let host =
        ["run", "--rm", "--userns=host", "-v", "own:/v", "busybox", "stat", "-c", "%u:%g", "/v"];
    assert_eq!(d.docker(&host), format!("{FIRST}:{FIRST}\n"), "{runtime}");
    let folder = d.folder.join("folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("f"), "host's").unwrap();
    let bind = format!("{}:/h", folder.display());
    let script = "cat /h/f; echo; stat -c %u:%g /h; touch /h/new || echo refused";
    let said = d.docker(&["run", "--rm", "-v", &bind, "busybox", "sh", "-c", script]);
    assert_eq!(said, "host's\n65534:65534\nrefused\n", "{runtime}");
    assert!(!folder.join("new").exists(), "{runtime}");
    d.docker(&["volume", "rm", "own"]);
}

fn has_user_namespaces(test: &str) -> bool {
    let there = run("unshare", ["--user", "true"]).is_ok_and(|done| done.code == 0);
    if !there {
        eprintln!("SKIPPED: {test}: needs user namespaces");
    }
    there
}

#[test]
fn a_stock_dockerd_remaps_users_with_ferry_runc_as_its_default_runtime() {
    lab::require!("dockerd", "docker", "containerd");
    if !has_user_namespaces("a_stock_dockerd_remaps_users_with_ferry_runc_as_its_default_runtime") {
        return;
    }
    let stock = peer("runc").map(|_| "runc");
    for runtime in ["ferry"].into_iter().chain(stock) {
        let d = Remapped::start(runtime);
        runs_and_execs(&d, runtime);
        copies(&d, runtime);
        volumes(&d, runtime);
        d.docker(&["rm", "-f", "stays"]);
    }
}
