//! The runtime alone: `run /bin/true` with the spec that a docker daemon writes, started
//! directly, beside the kernel's own price of the same container; and `exec` into one that runs.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lab::{Engine, Kind, Scratch, busybox_rootfs, ours, peer};
use serde_json::Value;

use super::engine::use_dist_programs;
use super::floor;
use super::measure::{Case, compare_both, quietly};

const RUNS: usize = 30;

/// ferry-runc, a static crun, runc and the floor; on hybrid cgroups crun needs a mount
/// namespace in which the v2 mount is hidden, so all run in one.
pub fn run() -> Result<()> {
    use_dist_programs()?;
    hide_unified_cgroups()?;
    let scratch = Scratch::new("bench")?;
    let bundle = scratch.join("bundle");
    busybox_rootfs(&bundle.join("rootfs"))?;
    let mut spec = spec_of_a_docker_container()?;
    fs::write(bundle.join("config.json"), serde_json::to_vec(&spec)?)?;
    let floor = floor::build(scratch.path())?;
    let states = states_on_tmpfs(&scratch)?;
    let rootfs = bundle.join("rootfs");
    let mut cases = vec![Case::new(
        "kernel floor",
        &format!("{} {} /bin/true", floor.display(), rootfs.display()),
    )];
    let sealed = sealed(&scratch)?;
    let runtimes = [
        ("ferry-runc", ours("ferry-runc")),
        ("ferry-runc, read-only", sealed.clone()),
        ("static crun", peer("crun-static")),
        ("crun", peer("crun")),
        ("runc", peer("runc")),
    ];
    for (name, program) in runtimes {
        match program {
            Some(program) => cases.push(case(name, &program, &states, &bundle)),
            None => println!("SKIPPED: bench of {name}: not installed"),
        }
    }
    cases.push(Case::new("the program alone", &rootfs.join("bin/true").display().to_string()));
    compare_both("runtime: run /bin/true, docker's full default spec", RUNS, &cases)?;
    exec(&scratch, &states, &mut spec, sealed)
}

/// Our runtime on a read-only file system, where ferry-containerd puts it once per boot: there it
/// need not protect its own file from containers.
fn sealed(scratch: &Scratch) -> Result<Option<PathBuf>> {
    let Some(program) = ours("ferry-runc") else { return Ok(None) };
    let folder = program.parent().context("the runtime's folder")?;
    let (sealed, empty) = (scratch.join("sealed"), scratch.join("empty"));
    fs::create_dir(&sealed)?;
    fs::create_dir(&empty)?;
    let lower = format!("lowerdir={}:{}", folder.display(), empty.display());
    let words = ["-t", "overlay", "overlay", "-o", &lower];
    let words = words.iter().map(std::ffi::OsStr::new).chain([sealed.as_os_str()]);
    lab::run("mount", words)?.success()?;
    Ok(Some(sealed.join("ferry-runc")))
}

/// `exec /bin/true` into a container that runs, of each runtime's own.
fn exec(scratch: &Scratch, states: &Path, spec: &mut Value, sealed: Option<PathBuf>) -> Result<()> {
    spec["process"]["args"] = serde_json::json!(["/bin/sleep", "100000"]);
    spec["root"]["path"] = scratch.join("bundle/rootfs").display().to_string().into();
    let runtimes = [
        ("static crun", peer("crun-static")),
        ("ferry-runc", ours("ferry-runc")),
        ("ferry-runc, read-only", sealed),
        ("runc", peer("runc")),
    ];
    let (mut cases, mut running) = (Vec::new(), Vec::new());
    for (name, program) in runtimes {
        let Some(program) = program else {
            println!("SKIPPED: bench of exec by {name}: not installed");
            continue;
        };
        let id = format!("exec-{}", file_name(name));
        let bundle = scratch.join(&id);
        fs::create_dir(&bundle)?;
        spec["linux"]["cgroupsPath"] = format!("/ferry-bench/{id}").into();
        fs::write(bundle.join("config.json"), serde_json::to_vec(spec)?)?;
        let words = format!("{} --root {}", program.display(), states.join(&id).display());
        let start = format!("{words} run --detach --bundle {} {id}", bundle.display());
        // It is ended however the bench ends.
        running.push(Running(format!("{words} delete --force {id}")));
        quietly(&Case::new("start", &start).argv)?;
        cases.push(Case::new(name, &format!("{words} exec {id} /bin/true")));
    }
    compare_both("runtime: exec /bin/true into a running container", RUNS, &cases)
}

/// A container that is deleted when it goes.
struct Running(String);

impl Drop for Running {
    fn drop(&mut self) {
        quietly(&Case::new("end", &self.0).argv).ok();
    }
}

/// A case's name as part of ids and paths.
fn file_name(case: &str) -> String {
    case.replace(", ", "-").replace(' ', "-")
}

/// A folder for the runtimes' state in memory, as `/run` is where containers really run;
/// it goes with the scratch folder.
fn states_on_tmpfs(scratch: &Scratch) -> Result<PathBuf> {
    let states = scratch.join("states");
    fs::create_dir(&states)?;
    lab::run("mount", ["-t".as_ref(), "tmpfs".as_ref(), "states".as_ref(), states.as_os_str()])?
        .success()?;
    Ok(states)
}

fn case(name: &str, program: &Path, states: &Path, bundle: &Path) -> Case {
    let state = states.join(file_name(name));
    let id = format!("bench-{}", file_name(name));
    Case::new(
        name,
        &format!(
            "{} --root {} run --bundle {} {id}",
            program.display(),
            state.display(),
            bundle.display()
        ),
    )
}

/// Takes the spec that the real dockerd wrote and frees it from that daemon: a fresh
/// network namespace, no hooks, no files of the daemon's, a cgroup of our own.
fn spec_of_a_docker_container() -> Result<Value> {
    let engine = Engine::start(Kind::Dockerd, &[])?;
    let id = engine.stock_cli(&["run", "-d", "busybox", "sleep", "1000"])?.success()?;
    let found = find(&engine.scratch().join("exec"), id.trim()).context("dockerd wrote no spec")?;
    let mut spec: Value = serde_json::from_slice(&fs::read(found)?)?;
    spec["process"]["args"] = serde_json::json!(["/bin/true"]);
    spec["root"]["path"] = "rootfs".into();
    spec["linux"]["cgroupsPath"] = "/ferry-bench/full".into();
    spec.as_object_mut().context("spec")?.remove("hooks");
    spec["process"].as_object_mut().context("process")?.remove("oomScoreAdj");
    for namespace in spec["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
        namespace.as_object_mut().context("namespace")?.remove("path");
    }
    spec["mounts"].as_array_mut().context("mounts")?.retain(|mount| mount["type"] != "bind");
    Ok(spec)
}

fn find(folder: &Path, id: &str) -> Option<std::path::PathBuf> {
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name == id) && path.join("config.json").is_file()
            {
                return Some(path.join("config.json"));
            }
            if let Some(found) = find(&path, id) {
                return Some(found);
            }
        }
    }
    None
}

/// Restarts this bench in a mount namespace without the hybrid hierarchy's v2 mount, once.
fn hide_unified_cgroups() -> Result<()> {
    use std::os::unix::process::CommandExt;
    if !Path::new("/sys/fs/cgroup/unified").is_dir() || std::env::var_os("FERRY_BENCH_V1").is_some()
    {
        return Ok(());
    }
    let this = std::env::current_exe()?;
    let script = "umount /sys/fs/cgroup/unified; exec \"$@\"";
    let mut again = std::process::Command::new("unshare");
    again.args(["-m", "--propagation", "slave", "sh", "-c", script, "sh"]).arg(this);
    again.args(["bench", "runtime"]).env("FERRY_BENCH_V1", "1");
    again.env("FERRY_BIN", lab::ours_folder());
    Err(again.exec()).context("unshare")
}
