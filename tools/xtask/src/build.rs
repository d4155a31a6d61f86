//! Building the programs: where each comes from, for which target, in which profile.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{check, command, output, which, workspace_root};

/// The programs that want to be small and start fast: linked statically.
const STATIC: [&str; 3] = ["ferry", "containerd-shim-ferry-v2", "ferry-runc"];
/// The two daemons, linked as the host links.
const DAEMONS: [&str; 2] = ["ferryd", "ferry-containerd"];
/// What no engine needs.
const REGISTRY: &str = "ferry-registry";

/// Builds everything with release settings and replaces this process by `ferry ARGS`.
pub fn run_ferry(args: &[String]) -> Result<()> {
    let folder = release()?;
    let error = Command::new(folder.join("ferry")).args(args).exec();
    Err(error).context("cannot start the ferry that was just built")
}

/// The five programs of an engine with release settings, side by side in `target/ferry/`.
pub fn release() -> Result<PathBuf> {
    let folder = target_folder().join("ferry");
    build_static(&STATIC, "release", &folder)?;
    build_native(&DAEMONS, "release", &folder)?;
    Ok(folder)
}

/// All programs as users get them, in `target/dist/`.
pub fn dist() -> Result<PathBuf> {
    let folder = target_folder().join("dist");
    build_static(&["ferry"], "dist", &folder)?;
    build_static(&["containerd-shim-ferry-v2", "ferry-runc"], "dist-small", &folder)?;
    build_native(&[&DAEMONS[..], &[REGISTRY]].concat(), "dist", &folder)?;
    Ok(folder)
}

/// Cargo's target folder, `CARGO_TARGET_DIR` respected.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace_root().join("target"), PathBuf::from)
}

/// The target triple for static programs: musl when it is installed, else the host's
/// with a static C library (HOTPATH: three times the memory and the start time); and the
/// flags that make them so.
pub fn static_target() -> Result<(String, &'static str)> {
    let arch = std::env::consts::ARCH;
    let musl = format!("{arch}-unknown-linux-musl");
    let sysroot = output(command("rustc", ["--print", "sysroot"]))?;
    let has_musl = Path::new(sysroot.trim()).join("lib/rustlib").join(&musl).join("lib").is_dir();
    // One shim a container: without relocations its pages stay shared (docs/decisions).
    Ok(if has_musl {
        (musl, "-C relocation-model=static")
    } else {
        (format!("{arch}-unknown-linux-gnu"), "-C target-feature=+crt-static")
    })
}

fn build_static(programs: &[&str], profile: &str, into: &Path) -> Result<()> {
    let (target, flags) = static_target()?;
    let mut cargo = cargo_build(programs, profile);
    cargo.args(["--target", &target]).env("RUSTFLAGS", flags);
    if target.ends_with("musl") && which("musl-gcc").is_none() {
        // The only C code below the CLI, ring's, calls no C library: any compiler does.
        cargo.env(format!("CC_{}", target.replace('-', "_")), "cc");
    }
    check(cargo)?;
    collect(programs, &target_folder().join(&target).join(profile), into)
}

fn build_native(programs: &[&str], profile: &str, into: &Path) -> Result<()> {
    check(cargo_build(programs, profile))?;
    collect(programs, &target_folder().join(profile), into)
}

fn cargo_build(programs: &[&str], profile: &str) -> Command {
    let mut cargo = command(env!("CARGO"), ["build", "--profile", profile, "--quiet"]);
    for program in programs {
        cargo.args(["--package", program]);
    }
    cargo
}

/// Copies by rename, so that a program that is running keeps its file.
fn collect(programs: &[&str], from: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into).with_context(|| format!("cannot make {}", into.display()))?;
    for program in programs {
        let fresh = into.join(format!(".{program}.new"));
        let built = from.join(program);
        fs::copy(&built, &fresh).with_context(|| format!("cannot copy {}", built.display()))?;
        fs::rename(&fresh, into.join(program))?;
    }
    Ok(())
}
