//! The registry server: flags and configuration to library.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use registry_server::config::{self, Request, Settings};
use registry_server::control;
use registry_server::server::Server;
use registry_server::store::gc::Wish;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Threads that handle requests.
const WORKERS: usize = 2;
/// Threads for what waits for the disk.
const BLOCKING: usize = 16;
/// How long an idle one of those is kept.
const KEPT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match config::read(&args) {
        Ok(Request::Serve(settings)) => serve(*settings, args),
        Ok(Request::Collect(root, wish)) => collect(&root, &wish),
        Ok(Request::Print(text)) => {
            say(text.trim_end());
            Ok(())
        }
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("ferry-registry: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout, reason = "what was asked for goes to standard output")]
fn say(text: &str) {
    println!("{text}");
}

#[allow(clippy::print_stderr, reason = "the last word of a program that can't go on")]
fn complain(text: &str) {
    eprintln!("{text}");
}

fn log(settings: &Settings) {
    let level = if settings.debug { "debug" } else { &settings.log_level };
    let level = if level == "fatal" { "error" } else { level };
    let filter = EnvFilter::new(format!("{level},h2=info,hyper=info,rustls=info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    if settings.log_json { builder.json().init() } else { builder.init() }
}

fn serve(settings: Settings, args: Vec<String>) -> anyhow::Result<()> {
    sys::memory::limit_arenas();
    sys::memory::keep_until_trimmed();
    log(&settings);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(BLOCKING)
        .thread_keep_alive(KEPT)
        // Only what is used is memory; a TLS handshake of a debug build uses more than half of it.
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    let result = runtime.block_on(run(settings, args));
    // What still runs was given its time.
    runtime.shutdown_timeout(Duration::from_millis(100));
    result
}

async fn run(settings: Settings, args: Vec<String>) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let root = settings.root.display().to_string();
    let server = Server::start(settings).await?;
    for address in server.addresses() {
        tracing::info!(%address, root, "listening");
    }
    if let Some(address) = server.metrics_address() {
        tracing::info!(%address, "metrics");
    }
    let on_signal = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hangup.recv() => match config::reread(&args) {
                    Ok(settings) => drop(sender.send(settings).await),
                    Err(error) => tracing::error!("{error}; everything stays as it was"),
                },
            }
        }
        on_signal.cancel();
    });
    server.run(stop, receiver).await;
    Ok(())
}

fn collect(root: &std::path::Path, wish: &Wish) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(control::collect(root, wish, &mut |gone| say(gone)))?;
    let verb = if wish.dry_run { "would remove" } else { "removed" };
    say(&format!(
        "{verb} {} manifests, {} links, {} blobs ({} bytes), {} repositories",
        report.manifests, report.links, report.blobs, report.bytes, report.repositories
    ));
    Ok(())
}
