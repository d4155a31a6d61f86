//! What CI runs. Gates first, since they are cheap; then every test, on real programs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::run::{check, command, which};
use crate::{host, setup, tidy, vm};

/// All gates and all tests; `--no-setup` leaves the machine's packages alone.
pub fn all(args: &[String]) -> Result<()> {
    if !args.iter().any(|arg| arg == "--no-setup") {
        setup::all();
    }
    let mut skipped = gates()?;
    check(cargo(["build", "--workspace", "--bins", "--quiet"]))?;
    skipped.extend(missing_parts());
    let (mut failed, more) = tests()?;
    skipped.extend(more);
    match vm::set_up() {
        Ok(()) => {
            // Those that only lacked that machine are run there.
            skipped.retain(|line| !line.contains("cargo xtask vm"));
            failed |= vm::test(&mut skipped)?;
        }
        Err(why) => skipped.push(format!("the runtime's tests in a virtual machine: {why:#}")),
    }
    if !skipped.is_empty() {
        println!("\nskipped, and why:");
        for line in &skipped {
            println!("  {line}");
        }
    }
    if failed {
        bail!("tests failed");
    }
    Ok(())
}

/// fmt, clippy, licences, structure. Returns what could not be checked.
fn gates() -> Result<Vec<String>> {
    check(cargo(["fmt", "--all", "--check"]))?;
    tidy::check()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    check(cargo(clippy))?;
    if which("cargo-deny").is_none() {
        return Ok(vec!["cargo deny: cargo-deny is not installed".to_owned()]);
    }
    // The advisory database needs the network; licences, bans and sources do not.
    check(cargo(["deny", "--offline", "check", "licenses", "bans", "sources"]))?;
    Ok(Vec::new())
}

fn missing_parts() -> Vec<String> {
    host::missing().into_iter().map(|what| format!("tests that need {what}")).collect()
}

/// Runs every test, passing output through; collects the lines that tell of a skipped one.
fn tests() -> Result<(bool, Vec<String>)> {
    // One stream, so that what a test says on either is seen.
    let mut run = command("sh", ["-c", "exec \"$@\" 2>&1", "sh", env!("CARGO")]);
    run.args(["test", "--workspace", "--no-fail-fast", "--quiet"]);
    run.args(["--", "--nocapture", "--test-threads", "2"]);
    run.env("FERRY_PEERS", setup::peers_folder()).stdout(Stdio::piped());
    let mut child = run.spawn().context("cannot start cargo test")?;
    let out = child.stdout.take().context("cargo test has no output")?;
    let mut skipped = Vec::new();
    for line in BufReader::new(out).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        if let Some(at) = line.find("SKIPPED:") {
            skipped.push(line[at + "SKIPPED:".len()..].trim().to_owned());
        }
    }
    skipped.sort();
    skipped.dedup();
    let log = std::env::temp_dir().join("ferry-skipped.txt");
    fs::write(&log, skipped.join("\n")).ok();
    Ok((!child.wait()?.success(), skipped))
}

fn cargo<const N: usize>(args: [&str; N]) -> Command {
    command(env!("CARGO"), args)
}
