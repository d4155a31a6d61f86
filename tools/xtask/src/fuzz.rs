//! `cargo xtask fuzz`: builds the fuzz targets of `tools/fuzz` with a nightly compiler, and runs each
//! for a while. What they find interesting stays in `target/fuzz/corpus`, what breaks them in
//! `target/fuzz/artifacts`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::build;
use crate::run::{check, command, workspace_root};

/// Coverage that libFuzzer reads, and what cargo-fuzz sets beside it.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
    --cfg fuzzing -Zsanitizer=address -Cdebug-assertions -Ccodegen-units=1";
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Seconds for each target, when none are given.
const SECONDS: u32 = 60;

/// `cargo xtask fuzz [SECONDS] [TARGET...]`.
pub fn main(args: &[String]) -> Result<()> {
    let (seconds, wanted) = match args.split_first() {
        Some((first, rest)) => {
            first.parse().map_or((SECONDS, args), |seconds: u32| (seconds, rest))
        }
        None => (SECONDS, args),
    };
    let folder = workspace_root().join("tools/fuzz");
    let all = targets(&folder)?;
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("no fuzz target `{unknown}`: {}", all.join(", "));
    }
    let chosen = if wanted.is_empty() { &all[..] } else { wanted };
    let programs = build(&folder, chosen)?;
    if seconds == 0 {
        println!("{}", programs.display());
        return Ok(());
    }
    let mut broken = Vec::new();
    for name in chosen {
        if run(&folder, &programs, name, seconds).is_err() {
            broken.push(name.as_str());
        }
    }
    ensure!(broken.is_empty(), "broken: {} (target/fuzz/artifacts)", broken.join(", "));
    Ok(())
}

fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder.join("fuzz_targets"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        found.extend(name.strip_suffix(".rs").map(ToOwned::to_owned));
    }
    found.sort();
    Ok(found)
}

/// Builds with the versions that the workspace is built with; the folder of the programs.
fn build(folder: &Path, chosen: &[String]) -> Result<PathBuf> {
    fs::copy(workspace_root().join("Cargo.lock"), folder.join("Cargo.lock"))?;
    let into = build::target_folder().join("fuzz");
    let mut cargo = command("rustup", ["run", "nightly", "cargo", "build", "--release", "--quiet"]);
    cargo.args(["--target", TARGET]).arg("--target-dir").arg(&into);
    cargo.arg("--manifest-path").arg(folder.join("Cargo.toml"));
    for name in chosen {
        cargo.args(["--bin", name]);
    }
    cargo.env("RUSTFLAGS", FLAGS);
    check(cargo).context("the targets want a nightly compiler (rustup toolchain add nightly)")?;
    Ok(into.join(TARGET).join("release"))
}

fn run(folder: &Path, programs: &Path, name: &str, seconds: u32) -> Result<()> {
    let kept = build::target_folder().join("fuzz");
    let (corpus, artifacts) = (kept.join("corpus").join(name), kept.join("artifacts").join(name));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&artifacts)?;
    let mut fuzz = command(&programs.join(name).to_string_lossy(), [corpus]);
    fuzz.arg(folder.join("seeds").join(name));
    fuzz.arg(format!("-max_total_time={seconds}")).arg("-rss_limit_mb=1024");
    fuzz.arg(format!("-artifact_prefix={}/", artifacts.display())).arg("-print_final_stats=1");
    // libdeflate compiles some of its tables once for each kind of processor.
    fuzz.env("ASAN_OPTIONS", "detect_odr_violation=0");
    check(fuzz)
}
