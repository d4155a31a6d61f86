//! The supervisor daemon: flags and configuration to library.

mod flags;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use flags::{Action, Flags};
use supervisor::{Config, State, publish, server, version};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    let name = "ferry-containerd";
    let done = match flags::parse(std::env::args().skip(1)) {
        Ok(Action::Serve(flags)) => run(&flags),
        Ok(Action::Publish(wish)) => {
            let address = wish.address.unwrap_or_else(|| Config::default().address);
            publish::publish(&address, &wish.namespace, &wish.topic, std::io::stdin())
                .map_err(anyhow::Error::from)
        }
        Ok(Action::Print(text)) => {
            use std::io::Write as _;
            let _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("{name}: {error}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(flags: &Flags) -> anyhow::Result<()> {
    let config = configure(flags)?;
    log_to_stderr(&config)?;
    sys::memory::limit_arenas();
    if config.oom_score != 0 {
        // Lowering it needs a capability; without it the daemon runs on, as containerd does.
        if let Err(error) = std::fs::write("/proc/self/oom_score_adj", config.oom_score.to_string())
        {
            tracing::warn!(%error, score = config.oom_score, "setting the OOM score failed");
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(8)
        .thread_keep_alive(Duration::from_secs(2))
        .thread_name("worker")
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()
        .context("starting the runtime")?;
    tracing::info!(version = version::VERSION, root = %config.root.display(), "starting ferry-containerd");
    let result = runtime.block_on(async {
        let state = Arc::new(State::open(&config).context("opening the store")?);
        let stop = shutdown()?;
        server::serve(&config, state, stop).await.map_err(anyhow::Error::from)
    });
    // Requests in flight wrote their records or will be undone at the next start.
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

fn shutdown() -> anyhow::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate()).context("catching SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("catching SIGINT")?;
    Ok(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
    })
}

fn configure(flags: &Flags) -> anyhow::Result<Config> {
    let mut config = match &flags.config {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if let Some(address) = &flags.address {
        config.address.clone_from(address);
    }
    if let Some(root) = &flags.root {
        config.root.clone_from(root);
    }
    if let Some(state) = &flags.state {
        config.state.clone_from(state);
    }
    if let Some(level) = &flags.log_level {
        config.log_level.clone_from(level);
    }
    Ok(config)
}

fn log_to_stderr(config: &Config) -> anyhow::Result<()> {
    let level = match config.log_level.as_str() {
        "" | "info" => "info",
        "panic" | "fatal" | "error" => "error",
        "warn" | "warning" => "warn",
        // The libraries' own debug lines drown ours.
        "debug" => "info,supervisor=debug,metastore=debug,ferry_containerd=debug",
        "trace" => "trace",
        other => anyhow::bail!("log level {other:?}: use trace, debug, info, warn or error"),
    };
    let filter = tracing_subscriber::EnvFilter::new(level);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    Ok(())
}
