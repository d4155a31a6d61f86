//! Measures what an endpoint costs, in a network namespace of its own: `cargo run --release
//! --example endpoints [COUNT]`. Prints medians in milliseconds. Needs root.
#![allow(clippy::print_stdout, clippy::unwrap_used, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::time::{Duration, Instant};

use common::World;
use network::{EndpointSpec, SandboxKind};

fn main() {
    let count: usize = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(100);
    let mut world = World::bare("bench");
    let mut config = world.config();
    config.ready = 8;
    world.open_with(config, &|_| false);
    let spec = EndpointSpec { container_name: "bench".into(), ..EndpointSpec::default() };
    for (name, pooled) in [("pool", true), ("no pool", false)] {
        let (mut sandbox, mut connect, mut release) = (Vec::new(), Vec::new(), Vec::new());
        for n in 0..count {
            if pooled {
                while world.net().maintain().unwrap() == Some(Duration::from_millis(1)) {}
            }
            let id = format!("{n:064x}");
            sandbox.push(timed(|| drop(world.net().sandbox(&id, SandboxKind::Own).unwrap())));
            connect.push(timed(|| drop(world.net().connect(&id, "bridge", &spec).unwrap())));
        }
        let size = count;
        for n in 0..count {
            let id = format!("{n:064x}");
            release.push(timed(|| world.net().release(&id).unwrap()));
        }
        let gone = timed(|| assert!(world.net().wait_settled(Duration::from_secs(120)).unwrap()));
        println!(
            "{name}, up to {size} on the bridge: sandbox {:.3}, endpoint {:.3} (last {:.3}), release {:.4}; all gone after {gone:.0}",
            median(&mut sandbox),
            median(&mut connect),
            connect.last().copied().unwrap_or_default(),
            median(&mut release),
        );
    }
    let began = Instant::now();
    world.kill();
    world.open(&|_| false);
    println!("kill and restore: {:.1}", began.elapsed().as_secs_f64() * 1e3);
}

fn timed(f: impl FnOnce()) -> f64 {
    let began = Instant::now();
    f();
    began.elapsed().as_secs_f64() * 1e3
}

fn median(all: &mut [f64]) -> f64 {
    let mut sorted = all.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
