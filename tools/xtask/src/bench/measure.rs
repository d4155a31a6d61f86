//! Timing commands against each other: interleaved rounds, wall time from spawn to reap.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// One thing to time: a name and a command line, started directly, without a shell.
pub struct Case {
    /// What the table calls it.
    pub name: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Run untimed before each timed run.
    pub before: Option<Vec<String>>,
    /// Run untimed after each timed run.
    pub after: Option<Vec<String>>,
}

impl Case {
    /// A case from a command line split at spaces.
    pub fn new(name: &str, line: &str) -> Case {
        Case { name: name.to_owned(), argv: words(line), before: None, after: None }
    }

    /// Adds a command that runs untimed before each run.
    pub fn before(mut self, line: &str) -> Case {
        self.before = Some(words(line));
        self
    }

    /// Adds a command that runs untimed after each run.
    pub fn after(mut self, line: &str) -> Case {
        self.after = Some(words(line));
        self
    }
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// Times every case `runs` times in turn, each after `quiet` of silence, and prints the
/// table; ratios are to the first case. Two rounds before are not counted.
pub fn compare(title: &str, runs: usize, quiet: Duration, cases: &[Case]) -> Result<Vec<f64>> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); cases.len()];
    for round in 0..runs + 2 {
        for (case, times) in cases.iter().zip(&mut times) {
            case.before.as_deref().map(quietly).transpose()?;
            std::thread::sleep(quiet);
            let took = timed(&case.argv).with_context(|| case.name.clone())?;
            case.after.as_deref().map(quietly).transpose()?;
            if round >= 2 {
                times.push(took);
            }
        }
    }
    println!("\n### {title}, {} ms of quiet before each, n={runs}", quiet.as_millis());
    println!("| case | min ms | median ms | max ms | ratio |\n|---|---|---|---|---|");
    let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
    for ((case, times), middle) in cases.iter().zip(&times).zip(&medians) {
        let (min, max) = (times[0], times[times.len() - 1]);
        let ratio = middle / medians[0];
        println!("| {} | {min:.1} | {middle:.1} | {max:.1} | {ratio:.2} |", case.name);
    }
    Ok(medians)
}

/// Back to back, then after 300 ms of quiet: the two differ by far on idle machines.
pub fn compare_both(title: &str, runs: usize, cases: &[Case]) -> Result<()> {
    compare(title, runs, Duration::ZERO, cases)?;
    compare(title, runs, Duration::from_millis(300), cases)?;
    Ok(())
}

/// Sorts and returns the middle.
pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn timed(argv: &[String]) -> Result<f64> {
    let mut command = quiet_command(argv);
    let start = Instant::now();
    let status = command.status().with_context(|| argv.join(" "))?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    if !status.success() {
        bail!("{}: {status}", argv.join(" "));
    }
    Ok(took)
}

/// Runs a command, whatever it says.
pub fn quietly(argv: &[String]) -> Result<()> {
    quiet_command(argv).status().with_context(|| argv.join(" ")).map(drop)
}

fn quiet_command(argv: &[String]) -> Command {
    let mut command = Command::new(&argv[0]);
    command.args(&argv[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Proportional set size of processes, in KiB (kernel: Documentation/filesystems/proc).
pub fn pss(pids: &[u32]) -> u64 {
    pids.iter().map(|pid| pss_of(*pid).unwrap_or(0)).sum()
}

fn pss_of(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The most memory that a process ever had, in MiB.
pub fn peak(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    let kib: f64 = line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default();
    kib / 1024.0
}

/// CPU seconds that a process took so far.
pub fn cpu(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}
