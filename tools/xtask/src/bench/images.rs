//! Images through ferryd and a stock dockerd, interleaved in one run: an image of 600 MB in five
//! layers is loaded, saved by the stock client (from ferryd once more by `ferry`), pushed the first
//! time (ours as gzip and as zstd; dockerd knows gzip), pushed as it was pulled, and pulled, over
//! loopback and one registry for both: docker-registry, and in a second run ferry-registry, which
//! leaves more of the cores to the engines.
//!
//! Beside ours stands what the machine allows: the disk, the longest single layer's chain, and the
//! CPU time of all stages shared by the cores. Each round begins on an empty engine; what a round
//! deleted is ext4's to scan again, for both alike.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use lab::{Engine, Kind, Registry, RegistryKind, Scratch};

use super::engine::use_dist_programs;
use super::measure::{cpu, median, peak};

mod make;

const ROUNDS: usize = 3;

/// What is timed, in the order of a round.
const WHAT: [&str; KINDS] =
    ["load", "save", "save by ferry", "first push", "first push, zstd", "push as is", "pull"];
/// How much faster than dockerd ours is to be.
const GOALS: [f64; KINDS] = [4.0, 6.0, 6.0, 2.0, 3.0, 5.0, 4.0];
const KINDS: usize = 7;

/// No bridge and no firewall: nothing of them is measured.
const FLAGS: [&str; 2] = ["--bridge=none", "--iptables=false"];

/// One engine's values, by [`WHAT`], and the growth of its daemons' memory in MiB.
#[derive(Default)]
struct Values {
    seconds: [Vec<f64>; KINDS],
    registry: [Vec<f64>; KINDS],
    growth: Vec<f64>,
}

/// Seconds of one operation, and CPU seconds of the registry meanwhile.
#[derive(Clone, Copy)]
struct Took {
    seconds: f64,
    registry: f64,
}

impl Took {
    fn by(registry: Option<&Registry>, work: impl FnOnce() -> Result<()>) -> Result<Self> {
        let spent = || registry.map_or(Ok(0.0), |registry| cpu(registry.pid()));
        // What was written before must not be waited for within a measurement.
        lab::run("sync", [""; 0])?.success()?;
        let (before, start) = (spent()?, Instant::now());
        work()?;
        let seconds = start.elapsed().as_secs_f64();
        Ok(Self { seconds, registry: spent()? - before })
    }
}

/// Measures both in turn and prints the table.
pub fn run() -> Result<()> {
    use_dist_programs()?;
    if lab::docker_registry().is_none() || lab::peer("dockerd").is_none() {
        println!("SKIPPED: bench of images: docker-registry or dockerd is not installed");
        return Ok(());
    }
    let scratch = Scratch::new("bench")?;
    let image = make::image(scratch.path())?;
    for registry in [RegistryKind::Docker, RegistryKind::Ferry] {
        measure(registry, &image)?;
    }
    Ok(())
}

/// Measures both engines in turn with one kind of registry.
fn measure(at: RegistryKind, image: &make::Image) -> Result<()> {
    let mut values = [Values::default(), Values::default()];
    for round in 0..=ROUNDS {
        for (kind, values) in [Kind::Dockerd, Kind::Ferryd].into_iter().zip(&mut values) {
            let (took, growth) =
                one_round(kind, at, image).with_context(|| format!("round {round} of {kind:?}"))?;
            // The first fills caches.
            if round > 0 {
                for (n, took) in took.into_iter().enumerate() {
                    values.seconds[n].push(took.seconds);
                    values.registry[n].push(took.registry);
                }
                values.growth.push(growth);
            }
        }
    }
    let registry = values[1].registry.each_mut().map(|all| median(all));
    print(at, image, &mut values, &floors(image, &registry)?);
    Ok(())
}

/// What each operation took, by [`WHAT`], and growth of memory, of an engine that starts empty.
fn one_round(kind: Kind, at: RegistryKind, image: &make::Image) -> Result<([Took; KINDS], f64)> {
    // Loopback of the host: both engines reach the one registry there.
    let registry = Registry::start(at, &[])?;
    let engine = Engine::start_on_host_network(kind, &FLAGS)?;
    let program = lab::static_cli().context("the docker CLI is not installed")?;
    let docker = |words: &[&str]| engine.cli(&program, words)?.success().map(drop);
    let timed = |words: &[&str]| Took::by(Some(&registry), || docker(words));
    let pids = [vec![engine.pid()], engine.supervisor_pids()].concat();
    let before: f64 = pids.iter().map(|pid| peak(*pid)).sum();
    let [stock, own] = ["stock.tar", "own.tar"].map(|name| engine.scratch().join(name));
    let [archive, stock, own] =
        [&image.archive, &stock, &own].map(|path| path.display().to_string());
    let named = |name: &str| format!("{}/{name}:1", registry.address());
    let load = timed(&["load", "-q", "-i", &archive])?;
    let save = timed(&["save", "-o", &stock, make::NAME])?;
    fs::remove_file(&stock)?;
    let own_save = match kind {
        Kind::Dockerd => save,
        Kind::Ferryd => {
            Took::by(None, || engine.ferry(&["save", "-o", &own, make::NAME])?.success().map(drop))?
        }
    };
    docker(&["tag", make::NAME, &named("first")])?;
    let first = timed(&["push", "-q", &named("first")])?;
    docker(&["rmi", "-f", make::NAME, &named("first")])?;
    let pull = timed(&["pull", "-q", &named("first")])?;
    // An empty registry: nothing is there, and nothing can be mounted.
    let other = Registry::start(at, &[])?;
    let again = format!("{}/again:1", other.address());
    docker(&["tag", &named("first"), &again])?;
    let as_is = Took::by(Some(&other), || docker(&["push", "-q", &again]))?;
    let after: f64 = pids.iter().map(|pid| peak(*pid)).sum();
    drop(engine);
    let zstd = match kind {
        Kind::Dockerd => first,
        Kind::Ferryd => first_as_zstd(at, image)?,
    };
    Ok(([load, save, own_save, first, zstd, as_is, pull], after - before))
}

/// Seconds of a first push by a ferryd that is told to compress with zstd.
fn first_as_zstd(at: RegistryKind, image: &make::Image) -> Result<Took> {
    let registry = Registry::start(at, &[])?;
    let flags = [&FLAGS[..], &["--push-compression=zstd"]].concat();
    let engine = Engine::start_on_host_network(Kind::Ferryd, &flags)?;
    let program = lab::static_cli().context("the docker CLI is not installed")?;
    let docker = |words: &[&str]| engine.cli(&program, words)?.success().map(drop);
    docker(&["load", "-q", "-i", &image.archive.display().to_string()])?;
    let name = format!("{}/first:1", registry.address());
    docker(&["tag", make::NAME, &name])?;
    Took::by(Some(&registry), || docker(&["push", "-q", &name]))
}

/// Seconds below which this machine can't be, by [`WHAT`]. `registry` is what the registry's own
/// stages took of the cores.
fn floors(image: &make::Image, registry: &[f64; KINDS]) -> Result<[f64; KINDS]> {
    let cores = std::thread::available_parallelism().map_or(2, usize::from) as f64;
    let command = |words: &[&str], path: &Path| -> Result<f64> {
        let start = Instant::now();
        let input = File::open(path)?;
        let mut command = std::process::Command::new(words[0]);
        command.args(&words[1..]).stdin(input).stdout(std::process::Stdio::null());
        anyhow::ensure!(command.status()?.success(), "{words:?}");
        Ok(start.elapsed().as_secs_f64())
    };
    let (mut hash, mut inflate, mut chain) = (0.0, 0.0, 0.0_f64);
    for layer in &image.layers {
        let packed = layer.path.with_extension("gz");
        let (of_tar, of_blob) =
            (command(&["sha256sum"], &layer.path)?, command(&["sha256sum"], &packed)?);
        let unpacked = command(&["gzip", "-dc"], &packed)?;
        hash += of_tar + of_blob;
        inflate += unpacked;
        chain = chain.max(unpacked.max(of_tar) + of_blob.min(unpacked));
    }
    let written = write_speed(image.archive.parent().context("a folder")?, image.size)?;
    let packed: u64 = image.layers.iter().map(|l| l.packed).sum();
    let part = packed as f64 / image.size as f64;
    let compress = |words: &[&str]| -> Result<f64> {
        image.layers.iter().map(|layer| command(words, &layer.path)).sum()
    };
    let (deflate, zstd) = (compress(&["gzip", "-1c"])?, compress(&["zstd", "-1", "-T1", "-qc"])?);
    Ok([
        // The blobs and the layers' files are written.
        (2.0 * written).max(hash / cores),
        written,
        written,
        (part * written).max((deflate + registry[3]) / cores),
        (part * written).max((zstd + registry[4]) / cores),
        (part * written).max(registry[5] / cores),
        ((1.0 + part) * written).max(chain).max((hash + inflate + registry[6]) / cores),
    ])
}

/// Seconds that the disk takes for `size` bytes.
fn write_speed(folder: &Path, size: u64) -> Result<f64> {
    let path = folder.join("disk");
    let mut file = File::create(&path)?;
    let chunk = vec![7; 1 << 20];
    let start = Instant::now();
    for _ in 0..size >> 20 {
        file.write_all(&chunk)?;
    }
    file.sync_all()?;
    let took = start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(took)
}

fn print(at: RegistryKind, image: &make::Image, values: &mut [Values; 2], floors: &[f64; KINDS]) {
    let megabytes = image.size as f64 / 1e6;
    let count = image.layers.len();
    println!(
        "\n### images: {megabytes:.0} MB in {count} layers over loopback ({}), medians of {ROUNDS}, \
         MB/s of uncompressed image",
        match at {
            RegistryKind::Docker => "docker-registry",
            RegistryKind::Ferry => "ferry-registry",
        }
    );
    println!("| what | dockerd | ferryd | ratio | goal | the machine's bound | of it |");
    println!("|---|---|---|---|---|---|---|");
    let [theirs, ours] = values;
    for n in 0..WHAT.len() {
        let [t, o] = [&mut theirs.seconds[n], &mut ours.seconds[n]].map(|all| median(all));
        println!(
            "| {} | {:.0} | {:.0} | {:.1} | {} | {:.0} | {:.1} |",
            WHAT[n],
            megabytes / t,
            megabytes / o,
            t / o,
            GOALS[n],
            megabytes / floors[n],
            o / floors[n],
        );
    }
    let [t, o] = [&mut theirs.growth, &mut ours.growth].map(|all| median(all));
    println!("| growth of the daemons' peak, MiB | {t:.0} | {o:.0} | | ≤ 64 | | |");
}
