//! A whole Debian, as a person would use it: imported, entered through a real terminal,
//! a package installed over the bridge network, stopped, started, removed.

use std::path::Path;
use std::time::Duration;

use conformance::Leftovers;
use lab::{Engine, Kind, Scratch, Terminal, ours, run};

/// A root file system made by debootstrap, as a tar; kept between runs of one machine.
fn debian_tar() -> Option<std::path::PathBuf> {
    let kept = Path::new("/var/tmp/ferry-lab-debian-1.tar");
    if kept.is_file() {
        return Some(kept.to_owned());
    }
    let scratch = Scratch::new("debian").unwrap();
    let root = scratch.join("root");
    let words = ["--variant=minbase".to_owned(), "bookworm".to_owned(), root.display().to_string()];
    let made = run("debootstrap", words).unwrap();
    if made.code != 0 {
        eprintln!(
            "SKIPPED: the Debian session: debootstrap: {}",
            made.stderr.lines().last().unwrap_or_default()
        );
        return None;
    }
    let fresh = kept.with_extension("new");
    let tar = ["-C".as_ref(), root.as_os_str(), "-cf".as_ref(), fresh.as_os_str(), ".".as_ref()];
    run("tar", tar).unwrap().success().unwrap();
    std::fs::rename(&fresh, kept).unwrap();
    Some(kept.to_owned())
}

fn session(engine: &Engine, cli: &Path, tar: &Path, install: bool) {
    let say = |words: &[&str]| engine.cli(cli, words).unwrap().success().unwrap();
    let before = Leftovers::of(engine);
    say(&["import", &tar.display().to_string(), "debian:lab"]);

    let terminal = Terminal::open().unwrap();
    let client =
        format!("DOCKER_HOST={} DOCKER_CONFIG=/nonexistent {}", engine.host(), cli.display());
    terminal
        .line(&format!("{client} run -it --name box debian:lab /bin/bash; echo code-$?"))
        .unwrap();
    let (short, long) = (Duration::from_secs(30), Duration::from_secs(240));
    terminal.line("echo in-$((40+2))").unwrap();
    terminal.wait_line("in-42", short).unwrap();
    terminal.resize(90, 25).unwrap();
    terminal
        .line("until [ \"$(stty size)\" = '25 90' ]; do sleep 0.1; done; echo resized")
        .unwrap();
    terminal.wait_line("resized", short).unwrap();
    if install {
        terminal.line("apt-get update && apt-get install -y toilet; echo apt-$?").unwrap();
        terminal.wait_line("apt-0", long).unwrap();
        terminal.line("clear; toilet Docker | grep -c '#\\|m\\|\"'; echo drawn-$?").unwrap();
        terminal.wait_line("drawn-0", short).unwrap();
    }
    terminal.line("echo kept > /root/kept; exit 4").unwrap();
    terminal.wait_line("code-4", short).unwrap();

    assert!(!Path::new("/usr/bin/toilet").exists(), "the host must not have it");
    say(&["start", "box"]);
    assert_eq!(say(&["exec", "box", "cat", "/root/kept"]), "kept\n");
    if install {
        say(&["exec", "box", "toilet", "again"]);
    }
    terminal.line(&format!("{client} attach box; echo left-$?")).unwrap();
    terminal.line("echo again-$((1+1))").unwrap();
    terminal.wait_line("again-2", short).unwrap();
    terminal.keys(&["C-p", "C-q"]).unwrap();
    terminal.wait_line("left-1", short).unwrap();
    assert_eq!(say(&["inspect", "-f", "{{.State.Running}}", "box"]), "true\n");
    say(&["stop", "-t", "1", "box"]);
    say(&["rm", "box"]);
    say(&["rmi", "debian:lab"]);
    before.assert_nothing_more(engine);
}

#[test]
fn a_debian_is_lived_in_through_ferry() {
    lab::require!("docker");
    let Some(tar) = debian_tar() else { return };
    let engine = Engine::start_on_host_network(Kind::Ferryd, &[]).unwrap();
    session(&engine, &ours("ferry").expect("ferry is built"), &tar, true);
}

#[test]
fn the_stock_cli_lives_the_same_session_on_ferryd() {
    lab::require!("docker");
    let Some(tar) = debian_tar() else { return };
    let engine = Engine::start_empty(Kind::Ferryd, &[]).unwrap();
    session(&engine, &engine.stock_cli_path().unwrap(), &tar, false);
}

#[test]
fn ferry_lives_the_same_session_on_a_stock_dockerd() {
    lab::require!("docker", "dockerd");
    let Some(tar) = debian_tar() else { return };
    let engine = Engine::start_empty(Kind::Dockerd, &[]).unwrap();
    // The stock CLI first: what the reference fails is a wrong test.
    session(&engine, &engine.stock_cli_path().unwrap(), &tar, false);
    session(&engine, &ours("ferry").expect("ferry is built"), &tar, false);
}
