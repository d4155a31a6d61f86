//! The everyday commands through the whole stack: ferry on ferryd beside the stock CLI on
//! the stock dockerd, each in a network namespace of its own.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::{Engine, Kind, ours, peer};

use super::measure::{Case, compare_both, pss};
use crate::build;

const RUNS: usize = 20;

/// `run --rm` on each network, `exec`, `create`, `ps`, `start`, `stop`, `rm`; idle memory.
pub fn run() -> Result<()> {
    let pair = Pair::start()?;
    pair.idle_memory();
    for network in ["bridge", "none", "host"] {
        let line = format!("run --rm --network {network} busybox true");
        pair.compare(&format!("run --rm, {network}"), &line, None, None)?;
    }
    pair.both("run -d --name busy busybox sleep 100000")?;
    pair.compare("exec true", "exec busy true", None, None)?;
    pair.compare("ps, one running", "ps", None, None)?;
    pair.compare("create", "create --name fresh busybox true", None, Some("rm fresh"))?;
    pair.compare("run -d", "run -d --name fresh busybox sleep 1000", None, Some("rm -f fresh"))?;
    pair.both("create --name again busybox sleep 1000")?;
    pair.compare("start", "start again", Some("stop -t0 again"), None)?;
    pair.compare("stop -t0", "stop -t0 again", Some("start again"), None)?;
    pair.compare("rm -f", "rm -f fresh", Some("run -d --name fresh busybox sleep 1000"), None)?;
    pair.both("rm -f busy again")
}

/// The same engine pair for every bench of whole engines.
pub struct Pair {
    /// The stock dockerd, driven by the stock CLI.
    pub stock: Engine,
    /// Our ferryd, driven by ferry.
    pub ours: Engine,
}

impl Pair {
    /// Builds our programs as they are released and starts both engines.
    pub fn start() -> Result<Pair> {
        use_dist_programs()?;
        peer("dockerd").context("no dockerd among the peers: cargo xtask setup")?;
        Ok(Pair {
            stock: Engine::start(Kind::Dockerd, &[])?,
            ours: Engine::start(Kind::Ferryd, &[])?,
        })
    }

    /// Command lines of (stock, ours) for the same words.
    pub fn lines(&self, words: &str) -> Result<[String; 2]> {
        let stock = lab::static_cli().context("no docker CLI")?;
        let ours = ours("ferry").context("ferry is not built")?;
        Ok([
            format!("{} -H {} {words}", stock.display(), self.stock.host()),
            format!("{} -H {} {words}", ours.display(), self.ours.host()),
        ])
    }

    /// Runs the same words on both, untimed.
    pub fn both(&self, words: &str) -> Result<()> {
        let words: Vec<&str> = words.split_whitespace().collect();
        self.stock.stock_cli(&words)?.success()?;
        self.ours.ferry(&words)?.success()?;
        Ok(())
    }

    fn compare(
        &self,
        title: &str,
        words: &str,
        before: Option<&str>,
        after: Option<&str>,
    ) -> Result<()> {
        let lines = self.lines(words)?;
        let mut cases = Vec::new();
        for (index, (name, line)) in ["docker", "ferry"].iter().zip(&lines).enumerate() {
            let mut case = Case::new(name, line);
            if let Some(words) = before {
                case = case.before(&self.lines(words)?[index]);
            }
            if let Some(words) = after {
                case = case.after(&self.lines(words)?[index]);
            }
            cases.push(case);
        }
        compare_both(title, RUNS, &cases)
    }

    fn idle_memory(&self) {
        std::thread::sleep(Duration::from_secs(3));
        println!("\n### idle daemons, PSS\n| engine | KiB |\n|---|---|");
        println!("| docker | {} |", daemons(&self.stock));
        println!("| ferry | {} |", daemons(&self.ours));
    }
}

/// PSS of an engine's two daemons, in KiB.
pub fn daemons(engine: &Engine) -> u64 {
    let mut pids = engine.supervisor_pids();
    pids.push(engine.pid());
    pss(&pids)
}

/// Builds the release programs and makes the lab use them.
pub fn use_dist_programs() -> Result<()> {
    let folder = match std::env::var_os("FERRY_BIN") {
        Some(folder) => folder.into(),
        None => build::dist()?,
    };
    lab::use_programs(&folder);
    Ok(())
}
