//! Ferry's own daemon, started when it is needed and nobody listens.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine_client::Client;
use sys::launch::{LaunchError, launch};

use crate::error::{CliError, Result, path_error};

/// Where the daemon that is started on demand writes.
const LOG: &str = "/run/ferry/ferryd.log";
/// How long it may take to serve.
const START: Duration = Duration::from_secs(30);

/// Starts ferry's own daemon if nobody listens at its socket and this is root.
pub(crate) async fn ensure_daemon(client: &Client) -> Result<()> {
    let Err(unreachable) = client.dial().await else { return Ok(()) };
    if !unreachable.is_unreachable() || !rustix::process::geteuid().is_root() {
        return Err(unreachable.into());
    }
    let Some(daemon) = daemon_program() else { return Err(unreachable.into()) };
    let folder = Path::new("/run/ferry");
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: io::Error| path_error("open", &path, &e)
    };
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    let lock = folder.join("start.lock");
    let waiting = lock.clone();
    // Of several at once one starts it; the others wait and find it there.
    let started = tokio::task::spawn_blocking(move || sys::lock::wait(&waiting)).await;
    let _lock = started.map_err(io::Error::other).flatten().map_err(failed(&lock))?;
    if client.dial().await.is_ok() {
        return Ok(client.ping().await.map(drop)?);
    }
    let _ = writeln!(io::stderr(), "Starting ferryd in the background (log: {LOG})");
    let launching =
        tokio::task::spawn_blocking(move || launch(daemon, &[], Path::new(LOG), START).map(drop));
    let launched = launching.await.map_err(|e| CliError::new(e.to_string()))?;
    if let Err(e) = launched {
        let text = format!("starting ferryd: {e} (log: {LOG})");
        // It may have made way for one that was started by other means.
        let ended = matches!(e, LaunchError::Ended(_));
        if !ended || client.ping().await.is_err() {
            return Err(CliError::new(text));
        }
        return Ok(());
    }
    Ok(client.ping().await.map(drop)?)
}

/// The daemon beside this program, else in PATH.
fn daemon_program() -> Option<PathBuf> {
    let beside = std::env::current_exe().ok()?.parent()?.join("ferryd");
    if beside.is_file() {
        return Some(beside);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join("ferryd"))
        .find(|file| file.is_absolute() && file.is_file())
}
