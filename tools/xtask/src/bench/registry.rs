//! ferry-registry beside docker-registry on loopback: an image of 600 MB in five layers pushed
//! and pulled, small requests, CPU time of the servers, memory.
//!
//! Ours has each blob on the disk when it says so; docker-registry leaves that to the kernel.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use lab::{Registry, RegistryKind, Scratch};

use super::engine::use_dist_programs;
use super::measure::{cpu, median, peak, pss};

const ROUNDS: usize = 7;
const LAYERS: usize = 5;
const LAYER_BYTES: u64 = 120_000_000;
const SMALL_REQUESTS: usize = 2000;

/// A layer to push.
struct Layer {
    path: PathBuf,
    digest: String,
}

/// Values of one registry, one for each round.
#[derive(Default)]
struct Values {
    push: Vec<f64>,
    pull: Vec<f64>,
    pull_one: Vec<f64>,
    small: Vec<f64>,
    push_cpu: Vec<f64>,
    pull_cpu: Vec<f64>,
}

/// Measures both in turn and prints the table with ratios.
pub fn run() -> Result<()> {
    use_dist_programs()?;
    if lab::docker_registry().is_none() {
        println!("SKIPPED: bench of registries: docker-registry is not installed");
        return Ok(());
    }
    let scratch = Scratch::new("bench")?;
    let layers: Vec<Layer> = (0..LAYERS).map(|n| layer(&scratch, n)).collect::<Result<_>>()?;
    let registries =
        [Registry::start(RegistryKind::Docker, &[])?, Registry::start(RegistryKind::Ferry, &[])?];
    std::thread::sleep(std::time::Duration::from_secs(3));
    let idle = registries.each_ref().map(|r| pss(&[r.pid()]) as f64 / 1024.0);
    let mut values = [Values::default(), Values::default()];
    for round in 0..=ROUNDS {
        for (registry, values) in registries.iter().zip(&mut values) {
            let fresh = one_round(registry, &layers)?;
            // The first fills caches.
            if round > 0 {
                values.add(&fresh);
            }
        }
    }
    let peak = registries.each_ref().map(|r| peak(r.pid()));
    print(&mut values, idle, peak);
    Ok(())
}

/// One value of each kind.
struct Round {
    push: f64,
    pull: f64,
    pull_one: f64,
    small: f64,
    push_cpu: f64,
    pull_cpu: f64,
}

impl Values {
    fn add(&mut self, round: &Round) {
        self.push.push(round.push);
        self.pull.push(round.pull);
        self.pull_one.push(round.pull_one);
        self.small.push(round.small);
        self.push_cpu.push(round.push_cpu);
        self.pull_cpu.push(round.pull_cpu);
    }
}

fn layer(scratch: &Scratch, n: usize) -> Result<Layer> {
    let path = scratch.join(&format!("layer{n}"));
    let mut random = File::open("/dev/urandom")?.take(LAYER_BYTES);
    std::io::copy(&mut random, &mut File::create(&path)?)?;
    let sum = lab::run("sha256sum", [&path])?.success()?;
    let digest = sum.split(' ').next().context("sha256sum")?;
    Ok(Layer { path, digest: format!("sha256:{digest}") })
}

fn one_round(registry: &Registry, layers: &[Layer]) -> Result<Round> {
    let megabytes = (LAYER_BYTES * LAYERS as u64) as f64 / 1e6;
    fs::remove_dir_all(registry.root().join("docker/registry/v2/blobs")).ok();
    fs::remove_dir_all(registry.root().join("docker/registry/v2/repositories")).ok();
    lab::run("sync", [""; 0])?;
    let (push, push_cpu) = timed(registry, || at_once(layers, &|layer| push(registry, layer)))?;
    let (pull_all, pull_cpu) = timed(registry, || at_once(layers, &|layer| pull(registry, layer)))?;
    let (one, _) = timed(registry, || pull(registry, &layers[0]))?;
    let (small, _) = timed(registry, || ask_often(registry, &layers[0]))?;
    Ok(Round {
        push: megabytes / push,
        pull: megabytes / pull_all,
        pull_one: LAYER_BYTES as f64 / 1e6 / one,
        small: SMALL_REQUESTS as f64 / small,
        push_cpu: push_cpu / megabytes * 1e3,
        pull_cpu: pull_cpu / megabytes * 1e3,
    })
}

/// Seconds that the work took, and CPU seconds of the server.
fn timed(registry: &Registry, work: impl FnOnce() -> Result<()>) -> Result<(f64, f64)> {
    let before = cpu(registry.pid())?;
    let start = Instant::now();
    work()?;
    Ok((start.elapsed().as_secs_f64(), cpu(registry.pid())? - before))
}

fn at_once(layers: &[Layer], work: &(dyn Fn(&Layer) -> Result<()> + Sync)) -> Result<()> {
    std::thread::scope(|scope| {
        let all: Vec<_> = layers.iter().map(|layer| scope.spawn(move || work(layer))).collect();
        all.into_iter().try_for_each(|one| match one.join() {
            Ok(done) => done,
            Err(_) => bail!("a client panicked"),
        })
    })
}

fn push(registry: &Registry, layer: &Layer) -> Result<()> {
    let begun = registry.send("POST", "/v2/bench/blobs/uploads/", &[], b"")?;
    let at = begun.header("Location").context("Location")?;
    let sign = if at.contains('?') { '&' } else { '?' };
    let target = format!("{at}{sign}digest={}", layer.digest);
    let kind = [("Content-Type", "application/octet-stream")];
    let length = Some(LAYER_BYTES);
    let mut put = lab::Request::begin(registry.address(), "PUT", &target, &kind, length)?;
    std::io::copy(&mut File::open(&layer.path)?, &mut put.stream)?;
    let reply = put.reply()?;
    ensure!(reply.status == 201, "push: {} {}", reply.status, reply.text());
    Ok(())
}

/// Reads a blob and looks at nothing but its length.
fn pull(registry: &Registry, layer: &Layer) -> Result<()> {
    let mut stream = TcpStream::connect(registry.address())?;
    let head = format!("GET /v2/bench/blobs/{} HTTP/1.1\r\nHost: x\r\n", layer.digest);
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    let (mut buffer, mut count) = (vec![0; 1 << 20], 0);
    loop {
        match stream.read(&mut buffer)? {
            0 => break,
            more => count += more as u64,
        }
    }
    ensure!(count > LAYER_BYTES, "pull: {count} bytes");
    Ok(())
}

/// Asks for the same small thing again and again on one connection.
fn ask_often(registry: &Registry, layer: &Layer) -> Result<()> {
    let mut stream = TcpStream::connect(registry.address())?;
    stream.set_nodelay(true)?;
    let mut from = BufReader::new(stream.try_clone()?);
    let head = format!("HEAD /v2/bench/blobs/{} HTTP/1.1\r\nHost: x\r\n\r\n", layer.digest);
    for _ in 0..SMALL_REQUESTS {
        stream.write_all(head.as_bytes())?;
        let mut line = String::new();
        from.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "HEAD: {line}");
        while line != "\r\n" {
            line.clear();
            ensure!(from.read_line(&mut line)? > 0, "HEAD: the connection ended");
        }
    }
    Ok(())
}

fn print(values: &mut [Values; 2], idle: [f64; 2], peak: [f64; 2]) {
    println!("\n### registries: 600 MB in {LAYERS} layers over loopback, medians of {ROUNDS}");
    println!("| what | docker-registry | ferry-registry | ratio |\n|---|---|---|---|");
    let [theirs, ours] = values;
    let row = |what: &str, theirs: f64, ours: f64, more_is_better: bool| {
        let ratio = if more_is_better { ours / theirs } else { theirs / ours };
        println!("| {what} | {theirs:.2} | {ours:.2} | {ratio:.1} |");
    };
    row("push, MB/s", median(&mut theirs.push), median(&mut ours.push), true);
    row("pull, MB/s", median(&mut theirs.pull), median(&mut ours.pull), true);
    let one = [&mut theirs.pull_one, &mut ours.pull_one].map(|all| median(all));
    row("pull of one layer, MB/s", one[0], one[1], true);
    row("HEAD of a blob, requests/s", median(&mut theirs.small), median(&mut ours.small), true);
    let cpu = [&mut theirs.push_cpu, &mut ours.push_cpu].map(|all| median(all));
    row("CPU s of the server per GB pushed", cpu[0], cpu[1], false);
    let cpu = [&mut theirs.pull_cpu, &mut ours.pull_cpu].map(|all| median(all));
    row("CPU s of the server per GB pulled", cpu[0], cpu[1], false);
    row("idle, MiB PSS", idle[0], idle[1], false);
    row("peak, MiB", peak[0], peak[1], false);
}
