//! One test a vulnerability that container runtimes have had, in order of their numbers: each makes
//! the attack as it was described to the public. Where the attack is a look or a write, the same is
//! first tried on something that allows it, so that a broken attack is not taken for a defence.
//! They need root and a busybox; where those are missing they say so and pass.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::{Bundle, Exchange, copy, eventually, mounts, text, with_own_cgroup};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::CWD;
use serde_json::{Value, json};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

fn add_mount(bundle: &Bundle, mount: Value) {
    bundle.edit(|spec| spec["mounts"].as_array_mut().unwrap().push(mount));
}

fn without_mounts(bundle: &Bundle, gone: &[&str]) {
    bundle.edit(|spec| {
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|m| !gone.contains(&m["destination"].as_str().unwrap()));
    });
}

fn start(bundle: &Bundle) {
    let out = bundle.create();
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(bundle.runc(&["start", &bundle.id]).status.success());
}

fn spawn(bundle: &Bundle, words: &[&str]) -> Child {
    let mut command = Command::new(&bundle.program);
    command.arg("--root").arg(bundle.path("state")).args(words);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn content(bundle: &Bundle, path: &str) -> String {
    std::fs::read_to_string(bundle.path("rootfs").join(path)).unwrap_or_default()
}

/// A volume at `/vol` in which `x` is now a folder, now a link.
fn volume(bundle: &Bundle, link: &str) -> Exchange {
    let vol = bundle.path("vol");
    std::fs::create_dir_all(vol.join("x")).unwrap();
    symlink(link, vol.join("y")).unwrap();
    add_mount(
        bundle,
        json!({"destination": "/vol", "type": "bind", "source": vol, "options": ["rbind"]}),
    );
    Exchange::begin(vol.join("x"), vol.join("y"))
}

/// A filter that stops a process in its execve until the agent answers, which it never does.
fn stopping_at_execve(agent: &Path) -> Value {
    json!({
        "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "listenerPath": agent, "syscalls": [{"names": ["execve"], "action": "SCMP_ACT_NOTIFY"}]
    })
}

/// The filter's descriptor, once a process is stopped.
fn stopped(agent: &UnixListener) -> OwnedFd {
    let (stream, _) = agent.accept().unwrap();
    let (_, fd) = sys::tty::recv_fd(stream.as_fd(), &mut [0; 8192]).unwrap();
    let fd = fd.unwrap();
    poll(&mut [PollFd::new(&fd, PollFlags::IN)], None).unwrap();
    fd
}

/// Looks into a process of its own, then into every other process that it sees.
const LOOK: &str = r"
    look() {
        for f in /proc/$1/exe /proc/$1/root /proc/$1/cwd /proc/$1/fd/*; do readlink $f; done
    }
    sleep 1000 & own=$!
    echo >/tmp/ready
    until [ -e /tmp/go ]; do sleep 0.05; done
    look $own >/tmp/control
    for p in /proc/[0-9]*; do
        p=${p#/proc/}
        [ $p = 1 ] || [ $p = $own ] && continue
        echo $p >>/tmp/seen; look $p >>/tmp/reached
    done
    echo >/tmp/done; exec sleep 1000";

fn looking(kind: &str) -> Option<Bundle> {
    let bundle = Bundle::new(&format!("look-{kind}"), &["sh", "-c", LOOK])?;
    let tmp = bundle.path("rootfs/tmp");
    std::fs::set_permissions(tmp, PermissionsExt::from_mode(0o777)).unwrap();
    std::fs::set_permissions(bundle.folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
    bundle.edit(|spec| {
        spec["process"]["noNewPrivileges"] = json!(true);
        if kind == "user" {
            with_own_cgroup(spec);
        }
    });
    start(&bundle);
    eventually("a container that looks", || bundle.path("rootfs/tmp/ready").exists());
    Some(bundle)
}

/// The container looks while `process` is stopped at its execve, all that it has still open.
fn look(bundle: &Bundle, agent: &UnixListener, process: &mut Child) {
    let listener = stopped(agent);
    std::fs::write(bundle.path("rootfs/tmp/go"), "").unwrap();
    eventually("a look", || bundle.path("rootfs/tmp/done").exists());
    drop(listener);
    process.wait().unwrap();
    assert!(content(bundle, "tmp/control").contains("/bin/busybox"), "it can't look at all");
    assert_ne!(content(bundle, "tmp/seen"), "", "it saw nobody");
    assert_eq!(content(bundle, "tmp/reached"), "");
}

#[test]
fn cve_2016_9962_a_container_cannot_look_into_a_process_that_joins_it() {
    for kind in ["plain", "user"] {
        let Some(bundle) = looking(kind) else { return };
        let agent = UnixListener::bind(bundle.path("agent")).unwrap();
        // The filter of what joins alone: the container itself runs already.
        let kept = bundle.path("state").join(&bundle.id).join("config.json");
        let mut spec: Value = serde_json::from_slice(&std::fs::read(&kept).unwrap()).unwrap();
        spec["linux"]["seccomp"] = stopping_at_execve(&bundle.path("agent"));
        std::fs::write(&kept, spec.to_string()).unwrap();
        // And not the one that was compiled for the container.
        std::fs::remove_file(kept.with_file_name("filter")).ok();
        let mut exec = spawn(&bundle, &["exec", &bundle.id, "id"]);
        look(&bundle, &agent, &mut exec);
    }
}

#[test]
fn cve_2016_9962_a_container_cannot_look_into_one_that_is_created_in_its_pid_namespace() {
    let Some(bundle) = looking("pid") else { return };
    let state: Value = serde_json::from_slice(&bundle.runc(&["state", &bundle.id]).stdout).unwrap();
    let Some(second) = Bundle::new("looked-at", &["true"]) else { return };
    let agent = UnixListener::bind(second.path("agent")).unwrap();
    second.edit(|spec| {
        spec["process"]["noNewPrivileges"] = json!(true);
        spec["linux"]["seccomp"] = stopping_at_execve(&second.path("agent"));
        let spaces = spec["linux"]["namespaces"].as_array_mut().unwrap();
        let pids = spaces.iter_mut().find(|n| n["type"] == "pid").unwrap();
        pids["path"] = json!(format!("/proc/{}/ns/pid", state["pid"]));
    });
    let folder = second.folder.path().to_str().unwrap().to_owned();
    let mut run = spawn(&second, &["run", "--bundle", &folder, &second.id]);
    look(&bundle, &agent, &mut run);
}

/// Holds the executable of a process open and writes to it once nothing runs it any more.
const OVERWRITE: &str = r#"
    overwrite() { (
        exec 9</proc/$1/exe
        echo >/tmp/$2.open
        n=0
        while [ $n -lt 80 ]; do
            (: >/proc/self/fd/9) 2>/dev/null && echo >/tmp/$2.written && exit
            n=$((n+1)); sleep 0.05
        done
    ) }
    /own/sleep 2 & pid=$!
    # Until then it is still the shell's own.
    until read -r name </proc/$pid/comm && [ "$name" = sleep ]; do :; done
    overwrite $pid control
    echo >/tmp/ready
    while :; do
        for p in /proc/[0-9]*; do
            read -r name <$p/comm
            [ "$name" = exe ] && overwrite ${p#/proc/} runtime && echo >/tmp/done && exec sleep 1000
        done 2>/dev/null
        sleep 0.05
    done"#;

/// What a program needs from the host to run in the root: nothing, if it is static.
fn bring_libraries(program: &Path, root: &Path) {
    let out = Command::new("ldd").arg(program).output();
    let list = out.map_or(String::new(), |out| text(&out.stdout));
    for path in list.split_whitespace().filter(|word| word.starts_with('/')) {
        let inside = root.join(path.trim_start_matches('/'));
        std::fs::create_dir_all(inside.parent().unwrap()).unwrap();
        copy(Path::new(path), &inside);
    }
}

#[test]
fn cve_2019_5736_the_runtimes_binary_cannot_be_overwritten_from_inside() {
    let Some(mut bundle) = Bundle::new("binary", &["sh", "-c", OVERWRITE]) else { return };
    let (root, runtime) = (bundle.path("rootfs"), bundle.path("runtime/ferry-runc"));
    for folder in [runtime.parent().unwrap(), &root.join("own")] {
        std::fs::create_dir(folder).unwrap();
    }
    copy(&root.join("bin/busybox"), &root.join("own/sleep"));
    copy(&bundle.program, &runtime);
    bring_libraries(&bundle.program, &root);
    bundle.program.clone_from(&runtime);
    let before = std::fs::read(&runtime).unwrap();
    start(&bundle);
    eventually("an attacker", || bundle.path("rootfs/tmp/ready").exists());
    // The image makes the joining runtime execute itself, where it waits for its input.
    let line = ["exec", &bundle.id, "/proc/self/exe", "--root", "/tmp", "update", "-r", "-", "x"];
    let mut exec = spawn(&bundle, &line);
    eventually("a runtime held open", || bundle.path("rootfs/tmp/runtime.open").exists());
    drop(exec.stdin.take());
    exec.wait().unwrap();
    eventually("an end of the attack", || bundle.path("rootfs/tmp/done").exists());
    assert!(bundle.path("rootfs/tmp/control.written").exists(), "the attack does not work");
    assert!(!bundle.path("rootfs/tmp/runtime.written").exists());
    assert!(std::fs::read(&runtime).unwrap() == before, "the runtime was changed");
}

#[test]
fn cve_2019_16884_a_volume_of_the_image_cannot_stand_in_for_procfs() {
    for destination in ["/proc", "/proc/", "/proc/self", "/proc/self/attr", "/proc/sys/kernel"] {
        let Some(bundle) = Bundle::new("inproc", &["true"]) else { return };
        let fake = bundle.path("fake");
        std::fs::create_dir_all(fake.join("self/attr")).unwrap();
        std::fs::write(fake.join("self/attr/exec"), "").unwrap();
        add_mount(
            &bundle,
            json!({"destination": destination, "type": "bind", "source": fake, "options": ["rbind"]}),
        );
        let out = bundle.run();
        assert!(!out.status.success(), "{destination}");
        let said = text(&out.stderr);
        assert!(said.contains("cannot be mounted because it is inside /proc"), "{said}");
    }
}

#[test]
fn cve_2019_16884_what_is_meant_for_procfs_is_not_written_to_files_of_the_image() {
    let name = "sys/net/ipv4/ip_unprivileged_port_start";
    let Some(bundle) = Bundle::new("fakeproc", &["cat", &format!("/other/{name}")]) else { return };
    let fake = bundle.path("rootfs/proc").join(name);
    std::fs::create_dir_all(fake.parent().unwrap()).unwrap();
    std::fs::write(&fake, "untouched").unwrap();
    bundle.edit(|spec| spec["mounts"][0]["destination"] = json!("/other"));
    let out = bundle.run();
    assert_eq!(text(&out.stdout), "0\n", "{}", text(&out.stderr));
    assert_eq!(std::fs::read_to_string(fake).unwrap(), "untouched");
}

/// An image whose `name` is a link, with the file system meant for it at `destination`.
fn through_a_link(name: &str, link: &str, destination: &str) -> Option<(Bundle, String)> {
    let bundle = Bundle::new("link", &["true"])?;
    let place = bundle.path("rootfs").join(name);
    std::fs::remove_dir(&place).unwrap();
    std::fs::create_dir(bundle.path("rootfs/vol")).unwrap();
    symlink(link, place).unwrap();
    let at = format!("/{name}");
    bundle.edit(|spec| {
        for mount in spec["mounts"].as_array_mut().unwrap() {
            if mount["destination"] == at.as_str() {
                mount["destination"] = json!(destination);
            }
        }
    });
    let before = mounts();
    let out = bundle.run();
    assert!(!out.status.success(), "{destination} by way of {link}");
    assert_eq!(mounts(), before);
    Some((bundle, text(&out.stderr)))
}

#[test]
fn cve_2019_19921_procfs_is_not_mounted_through_a_link_into_a_volume() {
    for link in ["/vol", "vol", "../vol", "/nowhere", "/dev/../vol"] {
        let Some((_bundle, said)) = through_a_link("proc", link, "/proc") else { return };
        assert!(said.contains("must be mounted on ordinary directory"), "{said}");
    }
}

#[test]
fn cve_2021_30465_a_mount_does_not_leave_the_root_while_its_target_turns_into_a_link() {
    let script = "grep ' evil ' /proc/self/mountinfo";
    let Some(bundle) = Bundle::new("turning", &["sh", "-c", script]) else { return };
    let outside = bundle.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let link = format!("/../../../../..{}", outside.display());
    let exchange = volume(&bundle, &link);
    add_mount(&bundle, json!({"destination": "/vol/x", "type": "tmpfs", "source": "evil"}));
    let before = mounts();
    for _ in 0..15 {
        let out = bundle.run();
        let said = text(&out.stderr);
        // A mount that the container doesn't see has left it.
        let seen = text(&out.stdout).lines().count();
        assert!(seen == 1 || said.contains("error mounting"), "{seen}: {said}");
        assert_eq!(mounts(), before);
    }
    drop(exchange);
}

#[test]
fn cve_2022_29162_no_capability_is_inheritable_that_was_not_asked_for() {
    let Some(bundle) = Bundle::new("inherit", &["sleep", "1000"]) else { return };
    // Revision 2, little endian: nothing permitted, everything inheritable.
    let inheritable = [0, 0, 0, 2, 0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 255, 1, 0, 0];
    let file = bundle.path("rootfs/tmp/cat");
    copy(&bundle.path("rootfs/bin/busybox"), &file);
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(&file, "security.capability", &inheritable, flags).unwrap();
    start(&bundle);
    for caps in [&[][..], &["--cap", "CAP_NET_RAW"], &["--cap", "CAP_NET_ADMIN"]] {
        for (user, program) in [("0:0", "cat"), ("1000:1000", "/tmp/cat")] {
            let line =
                [&["exec", "--user", user], caps, &[&bundle.id, program, "/proc/self/status"]];
            let out = bundle.runc(&line.concat());
            let said = text(&out.stdout);
            assert!(said.contains("CapInh:\t0000000000000000\n"), "{said}{}", text(&out.stderr));
            if user != "0:0" {
                assert!(said.contains("CapPrm:\t0000000000000000\n"), "{said}");
            }
        }
    }
}

#[test]
fn cve_2023_27561_neither_procfs_nor_sysfs_is_mounted_through_a_link_however_it_is_spelt() {
    for (name, spellings) in [
        ("proc", ["/proc", "/proc/", "/proc/.", "//proc", "/dev/../proc", "proc"]),
        ("sys", ["/sys", "/sys/", "/sys/.", "//sys", "/dev/../sys", "sys"]),
    ] {
        for destination in spellings {
            let Some((_bundle, said)) = through_a_link(name, "/vol", destination) else { return };
            assert!(said.contains("must be mounted on ordinary directory"), "{said}");
        }
    }
}

#[test]
fn cve_2023_28642_nothing_is_mounted_in_procfs_by_way_of_a_link_to_it() {
    for (link, destination) in [("/proc", "/innocent/self"), ("/proc/self", "/innocent/attr")] {
        for kind in ["tmpfs", "bind"] {
            let Some(bundle) = Bundle::new("linkproc", &["true"]) else { return };
            symlink(link, bundle.path("rootfs/innocent")).unwrap();
            std::fs::create_dir(bundle.path("fake")).unwrap();
            let source = bundle.path("fake");
            add_mount(&bundle, json!({"destination": destination, "type": kind, "source": source}));
            let out = bundle.run();
            assert!(!out.status.success(), "{kind} at {destination}");
            let said = text(&out.stderr);
            assert!(said.contains("because it is inside /proc"), "{said}");
        }
    }
}

#[test]
fn cve_2024_21626_no_folder_of_the_host_can_be_worked_in_or_run_from() {
    let Some(bundle) = Bundle::new("cwd", &["sleep", "1000"]) else { return };
    let Some(other) = Bundle::new("cwdrun", &["ls", "."]) else { return };
    start(&bundle);
    for fd in (3..20).map(|n| format!("/proc/self/fd/{n}")) {
        // By exec, with a folder of the caller's open besides.
        let line = format!("exec 9</; exec \"$0\" --root \"$@\" --cwd {fd} {} ls .", bundle.id);
        let mut exec = Command::new("sh");
        exec.args(["-c", &line]).arg(&bundle.program).arg(bundle.path("state")).arg("exec");
        let out = exec.stdin(Stdio::null()).output().unwrap();
        assert!(!out.status.success(), "exec in {fd}: {}", text(&out.stdout));
        // By the configuration, directly and through a link of the image's.
        other.edit(|spec| spec["process"]["cwd"] = json!(fd));
        let out = other.run();
        assert!(!out.status.success(), "run in {fd}: {}", text(&out.stdout));
        // As the program: a file of the host's, by way of a folder's descriptor.
        let program = format!("{fd}/../../../../../../bin/busybox");
        let out = bundle.runc(&["exec", &bundle.id, &program, "true"]);
        assert!(!out.status.success(), "{program} ran");
    }
    symlink("/proc/self/fd/7/../../..", other.path("rootfs/work")).unwrap();
    other.edit(|spec| spec["process"]["cwd"] = json!("/work"));
    assert!(!other.run().status.success());
    let out = bundle.runc(&["exec", &bundle.id, "sh", "-c", "ls /proc/self/fd | wc -l"]);
    assert_eq!(text(&out.stdout), "4\n", "descriptors stay open");
}

#[test]
fn cve_2024_45310_nothing_is_made_on_the_host_while_a_target_turns_into_a_link() {
    let Some(bundle) = Bundle::new("making", &["true"]) else { return };
    let outside = bundle.path("outside");
    std::fs::create_dir(&outside).unwrap();
    let exchange = volume(&bundle, outside.to_str().unwrap());
    std::fs::write(bundle.path("file"), "").unwrap();
    let file = bundle.path("file");
    add_mount(&bundle, json!({"destination": "/vol/x/a/b", "type": "tmpfs", "source": "tmpfs"}));
    add_mount(
        &bundle,
        json!({"destination": "/vol/x/c/file", "type": "bind", "source": file, "options": ["bind"]}),
    );
    for _ in 0..15 {
        bundle.run();
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }
    drop(exchange);
}

#[test]
fn cve_2025_31133_paths_are_masked_by_the_hosts_null_device_not_by_the_images() {
    let script = "cat /proc/keys; echo forged >/proc/keys; stat -c %t:%T /proc/keys; cat /victim";
    let Some(bundle) = Bundle::new("masks", &["sh", "-c", script]) else { return };
    let dev = bundle.path("rootfs/dev");
    std::fs::write(bundle.path("rootfs/victim"), "whole\n").unwrap();
    symlink("/victim", dev.join("null")).unwrap();
    // With a fresh /dev the image's is not seen.
    let out = bundle.run();
    assert_eq!(text(&out.stdout), "1:3\nwhole\n", "{}", text(&out.stderr));
    without_mounts(&bundle, &["/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"]);
    let out = bundle.run();
    assert!(text(&out.stderr).contains("exists and is not that device"), "{}", text(&out.stderr));
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, 0o666.into());
    rustix::fs::mknodat(CWD, dev.join("other"), kind, mode, rustix::fs::makedev(1, 3)).unwrap();
    let exchange = Exchange::begin(dev.join("null"), dev.join("other"));
    for _ in 0..10 {
        let out = bundle.run();
        let (said, error) = (text(&out.stdout), text(&out.stderr));
        assert!(said == "1:3\nwhole\n" || error.contains("is not that device"), "{said}{error}");
    }
    drop(exchange);
}

#[test]
fn cve_2025_52565_the_console_is_no_link_and_its_terminal_no_file_of_the_images() {
    for target in ["outside", "/proc/sys/kernel/core_pattern", "/proc/keys"] {
        let Some(bundle) = Bundle::new("console", &["cat", "/proc/self/mountinfo"]) else { return };
        let victim = bundle.path("outside");
        std::fs::write(&victim, "whole").unwrap();
        let link = bundle.path("rootfs/dev/console");
        let target = if target == "outside" { victim.to_str().unwrap() } else { target };
        symlink(target, &link).unwrap();
        bundle.edit(|spec| spec["process"]["terminal"] = json!(true));
        without_mounts(&bundle, &["/dev"]);
        let out = bundle.run();
        let said = text(&out.stdout) + &text(&out.stderr);
        assert!(!out.status.success() && said.contains("/dev/console"), "{target}: {said}");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "whole");
        assert!(link.symlink_metadata().unwrap().is_symlink());
    }
    let Some(bundle) = Bundle::new("terminal", &["true"]) else { return };
    std::fs::create_dir(bundle.path("rootfs/dev/pts")).unwrap();
    std::fs::write(bundle.path("rootfs/dev/pts/ptmx"), "whole").unwrap();
    bundle.edit(|spec| spec["process"]["terminal"] = json!(true));
    without_mounts(&bundle, &["/dev", "/dev/pts"]);
    let out = bundle.run();
    assert!(text(&out.stderr).contains("is no devpts"), "{}", text(&out.stderr));
}

#[test]
fn cve_2025_52881_writes_to_procfs_cannot_be_redirected() {
    let name = "net/ipv4/ip_unprivileged_port_start";
    let script =
        format!("grep -c ' /proc[^ ]* .* evil ' /proc/self/mountinfo; cat /proc/sys/{name}");
    let Some(bundle) = Bundle::new("redirected", &["sh", "-c", &script]) else { return };
    // A mount of the caller's lies over the files that are to be written.
    let outer = format!(
        "mount -t tmpfs decoy /proc/sys/net && mkdir -p /proc/sys/net/ipv4 && \
         echo decoy >/proc/sys/{name} && \"$@\"; code=$?; cat /proc/sys/{name} >&2; exit $code"
    );
    let folder = bundle.folder.path().to_str().unwrap();
    let mut run = Command::new("unshare");
    run.args(["-m", "sh", "-c", &outer, "sh"]).arg(&bundle.program);
    run.arg("--root").arg(bundle.path("state")).args(["run", "--bundle", folder, &bundle.id]);
    let out = run.stdin(Stdio::null()).output().unwrap();
    assert_eq!((text(&out.stdout), text(&out.stderr)), ("0\n0\n".into(), "decoy\n".into()));
    // A volume's folder turns into a link to the process's own part of procfs and back.
    let exchange = volume(&bundle, "/proc/self");
    add_mount(&bundle, json!({"destination": "/vol/x", "type": "tmpfs", "source": "evil"}));
    for _ in 0..10 {
        let out = bundle.run();
        let (said, error) = (text(&out.stdout), text(&out.stderr));
        assert!(said == "0\n0\n" || error.contains("error mounting"), "{said}{error}");
    }
    drop(exchange);
    // A name that leaves the settings of the container's own namespaces.
    for key in ["net.ipv4/../../kernel.core_pattern", "net/../kernel/core_pattern", "net..kernel"] {
        bundle.edit(|spec| spec["linux"]["sysctl"] = json!({key: "evil"}));
        let out = bundle.run();
        assert!(text(&out.stderr).contains("is not a valid name"), "{key}: {}", text(&out.stderr));
    }
}
