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
    let mut ran = tests(&[])?;
    skipped.append(&mut ran.skipped);
    let mut unsteady = ran.failed_targets.clone();
    if ran.failed && !unsteady.is_empty() {
        // Real programs on a busy machine: what fails twice is broken, what fails once is told.
        println!("\nonce more: {}", unsteady.join(", "));
        ran = tests(&once_more(&unsteady))?;
    }
    let failed = ran.failed | in_machine(&mut skipped, &mut unsteady)?;
    print_list("skipped, and why", &skipped);
    if failed {
        bail!("tests failed");
    }
    print_list("failed at first and passed when run once more", &unsteady);
    Ok(())
}

/// Cargo's words for targets that are run again. Suites are asked for by their own names: a package's
/// name would have cargo choose features for it alone, and build everything anew.
fn once_more(targets: &[String]) -> Vec<&str> {
    let suites = targets.iter().map(|target| target.split_once(" --test ").map(|(_, name)| name));
    match suites.collect::<Option<Vec<&str>>>() {
        Some(names) => {
            let words = names.into_iter().flat_map(|name| ["--test", name]);
            std::iter::once("--workspace").chain(words).collect()
        }
        None => targets.iter().flat_map(|target| target.split(' ')).collect(),
    }
}

/// What this machine lacks, a virtual one has, where that can be had; true when a test failed.
fn in_machine(skipped: &mut Vec<String>, unsteady: &mut Vec<String>) -> Result<bool> {
    if let Err(why) = vm::set_up() {
        skipped.push(format!("the runtime's tests in a virtual machine: {why:#}"));
        return Ok(false);
    }
    // Those that only lacked that machine are run there.
    skipped.retain(|line| !line.contains("cargo xtask vm"));
    vm::test(skipped, unsteady)
}

fn print_list(title: &str, lines: &[String]) {
    if !lines.is_empty() {
        println!("\n{title}:");
        for line in lines {
            println!("  {line}");
        }
    }
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

/// What a run of tests told.
struct Ran {
    failed: bool,
    /// Cargo's words for the targets that failed: `-p supervisor --test tasks`.
    failed_targets: Vec<String>,
    skipped: Vec<String>,
}

/// Runs every test, or those of `targets`, passing output through; collects the lines that tell
/// of a skipped test and of a failed target.
fn tests(targets: &[&str]) -> Result<Ran> {
    // One stream, so that what a test says on either is seen.
    let mut run = command("sh", ["-c", "exec \"$@\" 2>&1", "sh", env!("CARGO"), "test"]);
    run.args(if targets.is_empty() { &["--workspace"] } else { targets });
    run.args(["--no-fail-fast", "--quiet", "--", "--nocapture", "--test-threads", "2"]);
    run.env("FERRY_PEERS", setup::peers_folder()).stdout(Stdio::piped());
    let mut child = run.spawn().context("cannot start cargo test")?;
    let out = child.stdout.take().context("cargo test has no output")?;
    let mut skipped = Vec::new();
    let mut failed_targets = Vec::new();
    for line in BufReader::new(out).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        if let Some(at) = line.find("SKIPPED:") {
            skipped.push(line[at + "SKIPPED:".len()..].trim().to_owned());
        }
        let target = line.trim().strip_prefix("`-p ").and_then(|rest| rest.strip_suffix('`'));
        failed_targets.extend(target.map(|target| format!("-p {target}")));
    }
    skipped.sort();
    skipped.dedup();
    let log = std::env::temp_dir().join("ferry-skipped.txt");
    fs::write(&log, skipped.join("\n")).ok();
    Ok(Ran { failed: !child.wait()?.success(), failed_targets, skipped })
}

fn cargo<const N: usize>(args: [&str; N]) -> Command {
    command(env!("CARGO"), args)
}
