//! The engine daemon: flags and configuration to library.

use std::process::ExitCode;
use std::time::Duration;

use daemon::config::{self, Request, Settings};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Threads that handle requests.
const WORKERS: usize = 2;
/// Threads for what waits for the disk.
const BLOCKING: usize = 8;
/// So many requests to end make an end without order.
const IMPATIENT: u32 = 3;
/// How long an idle one of those is kept.
const KEPT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let settings = match config::read(&args) {
        Ok(Request::Serve(settings)) => *settings,
        Ok(Request::Valid) => return say("configuration OK"),
        Ok(Request::Help(text)) => return say(&text),
        Ok(Request::Version) => {
            return say(&format!("Ferry daemon version {}", env!("CARGO_PKG_VERSION")));
        }
        Err(e) => return fail(&e.to_string()),
    };
    sys::memory::limit_arenas();
    let levels = log(&settings);
    match serve(&args, settings, levels) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(&format!("failed to start daemon: {e:#}")),
    }
}

#[allow(clippy::print_stdout, reason = "what was asked for goes to standard output")]
fn say(text: &str) -> ExitCode {
    println!("{}", text.trim_end());
    ExitCode::SUCCESS
}

#[allow(clippy::print_stderr, reason = "the last word of a daemon that can't run")]
fn fail(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}

/// Changes how much is logged.
type Levels = Box<dyn Fn(&Settings) + Send>;

fn filter(settings: &Settings) -> EnvFilter {
    let level = if settings.debug { "debug" } else { &settings.log_level };
    let level = if level == "fatal" { "error" } else { level };
    EnvFilter::new(format!("{level},h2=info,hyper=info,tower=info,tonic=info"))
}

fn log(settings: &Settings) -> Levels {
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter(settings))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_filter_reloading();
    let handle = log.reload_handle();
    log.init();
    Box::new(move |settings| {
        if let Err(e) = handle.reload(filter(settings)) {
            tracing::warn!("changing the level of the log: {e}");
        }
    })
}

fn serve(args: &[String], settings: Settings, levels: Levels) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(KEPT)
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let (sender, reloads) = watch::channel(settings);
        let reload = Reload { args: args.to_owned(), settings: sender, levels };
        tokio::spawn(obey(Signals::catch()?, reload, stop.clone()));
        daemon::startup::run(reloads, stop).await.map_err(anyhow::Error::from)
    });
    // What still runs are streams to clients and clean-ups that the next start goes on with.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

/// The signals that mean something to the daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn catch() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }
}

/// What SIGHUP does: the configuration is read again. One that can't be used changes nothing.
struct Reload {
    args: Vec<String>,
    settings: watch::Sender<Settings>,
    levels: Levels,
}

impl Reload {
    fn run(&self) {
        tracing::info!("SIGHUP: reading the configuration again");
        let before = self.settings.borrow().clone();
        match config::reread(&self.args, &before) {
            Ok(settings) => {
                (self.levels)(&settings);
                self.settings.send_replace(settings);
            }
            Err(e) => tracing::error!("reloading the configuration: {e}"),
        }
    }
}

/// The first request to end begins an orderly end, the third ends at once.
async fn obey(mut signals: Signals, reload: Reload, stop: CancellationToken) {
    let mut asked = 0;
    loop {
        let number = tokio::select! {
            _ = signals.terminate.recv() => 15,
            _ = signals.interrupt.recv() => 2,
            _ = signals.hang_up.recv() => {
                reload.run();
                continue;
            }
        };
        asked += 1;
        stop.cancel();
        if asked >= IMPATIENT {
            tracing::warn!("ending at once: asked {asked} times");
            std::process::exit(128 + number);
        }
        tracing::info!("ending in order, on signal {number}");
    }
}
