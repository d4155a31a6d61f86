//! The runtime's tests in the virtual machine: what this machine lacks, that one has.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Machine;
use crate::build;
use crate::run::{command, output};
use crate::setup;

/// What runs on the kernel alone, beside no other runtime: those are compared on the host, and take
/// their time under emulation.
const ALONE: [&str; 8] =
    ["containers", "spec", "defects", "cves", "rootless", "apparmor", "ipvs", "checkpoint"];
/// What is compared with other runtimes there, since only there it can be.
const BESIDE_PEERS: [&str; 1] = ["unified"];
/// What needs systemd.
const WITH_SYSTEMD: [&str; 1] = ["systemd"];
/// Podman under emulation takes minutes; `cargo xtask vm --systemd` runs it by hand.
const TOO_SLOW: &str = "podman";

/// Runs them; true when one failed twice. What was skipped there is added to the list, and which
/// machine failed at first.
pub fn run(skipped: &mut Vec<String>, unsteady: &mut Vec<String>) -> Result<bool> {
    let binaries = build()?;
    let find = |names: &[&str]| -> String {
        let wanted = binaries.iter().filter(|(name, _)| names.contains(&name.as_str()));
        wanted.map(|(_, path)| format!(" {}", path.display())).collect()
    };
    let peers = setup::peers_folder();
    let run_all = |peers: &str, binaries: &str| {
        format!(
            "export FERRY_PEERS={peers}\nfor t in{binaries}; do \
             $t --nocapture --test-threads 2 --skip {TOO_SLOW} || bad=1; done\n"
        )
    };
    let plain = run_all("", &find(&ALONE))
        + &run_all(&peers.display().to_string(), &find(&BESIDE_PEERS))
        + "exit $bad\n";
    let systemd = run_all(&peers.display().to_string(), &find(&WITH_SYSTEMD)) + "exit $bad\n";
    let mut failed = false;
    for (systemd, script) in [(false, plain), (true, systemd)] {
        let machine = Machine::new(systemd);
        if in_machine(&machine, &script, skipped)? {
            continue;
        }
        let name = if systemd { "the machine with systemd" } else { "the virtual machine" };
        println!("\nonce more: {name}");
        unsteady.push(name.to_owned());
        failed |= !in_machine(&machine, &script, skipped)?;
    }
    skipped.sort();
    skipped.dedup();
    Ok(failed)
}

/// Passes the machine's output through, marked as its own.
fn in_machine(machine: &Machine, script: &str, skipped: &mut Vec<String>) -> Result<bool> {
    let mut running = machine.run(script, Stdio::piped)?;
    let out = running.output().context("the machine has no output")?;
    for line in BufReader::new(out).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        println!("vm: {line}");
        if let Some(at) = line.find("SKIPPED:") {
            skipped.push(format!("vm: {}", line[at + "SKIPPED:".len()..].trim()));
        }
    }
    Ok(running.wait()? == 0)
}

/// The tests' programs by name: static, since an emulated machine spends most of a short program's
/// time on relocating it, and since the guest's C library is not this machine's.
fn build() -> Result<Vec<(String, PathBuf)>> {
    let mut cargo =
        command(env!("CARGO"), ["test", "--no-run", "--quiet", "--package", "ferry-runc"]);
    cargo.arg("--message-format=json");
    let (target, flags) = build::static_target()?;
    cargo.args(["--target", &target]).env("RUSTFLAGS", flags);
    let mut found = Vec::new();
    for line in output(cargo)?.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let is_test = message["target"]["kind"][0] == "test";
        if let (true, Some(path)) = (is_test, message["executable"].as_str()) {
            let name = message["target"]["name"].as_str().unwrap_or_default().to_owned();
            found.push((name, PathBuf::from(path)));
        }
    }
    ensure!(!found.is_empty(), "cargo built no tests of ferry-runc");
    Ok(found)
}
