//! What many containers cost an engine: 100 starts by 8 clients, memory of each, listing,
//! removal, and a thousand stopped ones.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lab::Engine;

use super::engine::{Pair, daemons};
use super::measure::pss;

const CONTAINERS: usize = 100;
const CLIENTS: usize = 8;
const STOPPED: usize = 1000;

/// One row of the table: what was measured, in which unit, by engine.
struct Row(&'static str, f64);

/// Measures both engines and prints the table with ratios.
pub fn run() -> Result<()> {
    let pair = Pair::start()?;
    let [stock_line, ours_line] = pair.lines("")?;
    let stock = measure(&pair.stock, &stock_line)?;
    let ours = measure(&pair.ours, &ours_line)?;
    println!("\n### {CONTAINERS} containers by {CLIENTS} clients, {STOPPED} stopped ones");
    println!("| what | docker | ferry | docker ÷ ferry |\n|---|---|---|---|");
    for (Row(what, stock), Row(_, ours)) in stock.iter().zip(&ours) {
        println!("| {what} | {stock:.2} | {ours:.2} | {:.1} |", stock / ours);
    }
    Ok(())
}

fn measure(engine: &Engine, line: &str) -> Result<Vec<Row>> {
    let cli: Vec<&str> = line.split_whitespace().collect();
    std::thread::sleep(Duration::from_secs(3));
    let idle = daemons(engine);
    let start =
        many(&cli, CONTAINERS, &|n| format!("run -d --name scale{n} busybox sleep 100000"))?;
    std::thread::sleep(Duration::from_secs(5));
    let busy = daemons(engine);
    let shims = pss(&engine.shim_pids());
    let ps = ten_times(&cli, &["ps"])?;
    let remove = seconds(&cli, &with_ids(&cli, &["rm", "-f"])?)?;
    let create = many(&cli, STOPPED, &|n| format!("create --name idle{n} busybox true"))?;
    let ps_all = ten_times(&cli, &["ps", "-a"])?;
    let inspect = seconds(&cli, &with_ids(&cli, &["inspect"])?)?;
    let prune = seconds(&cli, &["container".into(), "prune".into(), "-f".into()])?;
    let each = |kib: u64| kib as f64 / CONTAINERS as f64;
    Ok(vec![
        Row("idle daemons, MiB", idle as f64 / 1024.0),
        Row("start 100, s", start),
        Row("shim each, KiB", each(shims)),
        Row("growth of daemons each, KiB", each(busy.saturating_sub(idle))),
        Row("ps with 100 running, ms", ps),
        Row("rm -f of 100, s", remove),
        Row("create 1,000, s", create),
        Row("ps -a with 1,000 stopped, ms", ps_all),
        Row("inspect of 1,000, s", inspect),
        Row("container prune, s", prune),
    ])
}

/// `count` commands by [`CLIENTS`] clients at once; seconds in all.
fn many(cli: &[&str], count: usize, words: &(dyn Fn(usize) -> String + Sync)) -> Result<f64> {
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        break;
                    }
                    let words = words(n);
                    let ok = silent(cli, words.split(' ')).status().is_ok_and(|s| s.success());
                    failed.fetch_add(usize::from(!ok), Ordering::Relaxed);
                }
            });
        }
    });
    let failed = failed.into_inner();
    ensure!(failed == 0, "{failed} of {count} failed: {}", words(0));
    Ok(start.elapsed().as_secs_f64())
}

fn ten_times(cli: &[&str], words: &[&str]) -> Result<f64> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    let mut times = (0..10).map(|_| seconds(cli, &words)).collect::<Result<Vec<_>>>()?;
    Ok(super::measure::median(&mut times) * 1e3)
}

fn seconds(cli: &[&str], words: &[String]) -> Result<f64> {
    let start = Instant::now();
    let status = silent(cli, words.iter().map(String::as_str)).status()?;
    ensure!(status.success(), "{}: {status}", words[0]);
    Ok(start.elapsed().as_secs_f64())
}

fn with_ids(cli: &[&str], words: &[&str]) -> Result<Vec<String>> {
    let out =
        Command::new(cli[0]).args(&cli[1..]).args(["ps", "-aq"]).output().context("ps -aq")?;
    let ids = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(words.iter().copied().chain(ids.split_whitespace()).map(str::to_owned).collect())
}

fn silent<'a>(cli: &[&str], words: impl Iterator<Item = &'a str>) -> Command {
    let mut command = Command::new(cli[0]);
    command.args(&cli[1..]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}
