//! Finding containerd: the one that was named, or our own, started when it does not
//! run. It is a process of its own session that outlives this one.

use std::path::Path;
use std::time::Duration;

use containerd_rpc::{Client, until};
use sys::spawn::Command;
use tokio::net::unix::pipe::Receiver;
use tracing::info;

use super::{StartupError, machine};
use crate::config::Settings;
use crate::engine::program;

/// How long containerd may take to answer at first.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// How long a running one may take.
const QUICK: Duration = Duration::from_millis(200);

/// The client, once containerd answers.
pub(super) async fn connect(settings: &Settings) -> Result<Client, StartupError> {
    let own = settings.exec_root.join("containerd.sock");
    let socket = settings.containerd.clone().unwrap_or_else(|| own.clone());
    let failed = |source| StartupError::Containerd { socket: socket.display().to_string(), source };
    let client = Client::new(&socket, &settings.containerd_namespace).map_err(failed)?;
    if settings.containerd.is_none() {
        ensure_own(settings, &client, &own).await?;
        watch_own(settings, &client, &own);
    }
    let version = until(&client, FIRST_ANSWER).await.map_err(failed)?;
    info!("containerd {version} at {}", socket.display());
    Ok(client)
}

async fn ensure_own(
    settings: &Settings,
    client: &Client,
    socket: &Path,
) -> Result<(), StartupError> {
    if socket.exists() && until(client, QUICK).await.is_ok() {
        return Ok(());
    }
    start(settings, socket)
}

fn start(settings: &Settings, socket: &Path) -> Result<(), StartupError> {
    let binary = program(Path::new("ferry-containerd")).ok_or_else(|| {
        StartupError::Machine("ferry-containerd is not installed beside ferryd".into())
    })?;
    let log = settings.exec_root.join("ferry-containerd.log");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log)
        .map_err(machine(&format!("opening {}", log.display())))?;
    let fd = std::os::fd::AsFd::as_fd(&file);
    let child = Command::new(binary)
        .arg("--address")
        .arg(socket)
        .arg("--root")
        .arg(settings.data_root.join("containerd"))
        .arg("--state")
        .arg(settings.exec_root.join("containerd"))
        .inherit_env()
        .new_session()
        .fd(fd, 1)
        .fd(fd, 2)
        .spawn()
        .map_err(|e| StartupError::Machine(format!("starting ferry-containerd: {e}")))?;
    info!("started ferry-containerd, pid {}", child.pid());
    reap(child);
    Ok(())
}

/// Waits for the child when it ends, so that it leaves no zombie.
fn reap(child: sys::spawn::Child) {
    tokio::spawn(async move {
        let pid = child.pid();
        // A pidfd is no pipe, but polled like one: readable means ended.
        if let Ok(fd) = Receiver::from_owned_fd_unchecked(child.into_pidfd()) {
            let _ = fd.readable().await;
            let _ = sys::process::reap(pid);
        }
    });
}

/// Starts our own containerd again whenever it is gone.
fn watch_own(settings: &Settings, client: &Client, socket: &Path) {
    let (settings, client, socket) = (settings.clone(), client.clone(), socket.to_owned());
    tokio::spawn(async move {
        loop {
            // A call that lasts as long as the peer: its end is the news.
            let request = containerd_api::services::events::v1::SubscribeRequest {
                filters: vec!["topic==/ferry/none".into()],
            };
            if let Ok(answer) = client.events().subscribe(request).await {
                let mut stream = answer.into_inner();
                while let Ok(Some(_)) = stream.message().await {}
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            if until(&client, QUICK).await.is_err() {
                if let Err(e) = start(&settings, &socket) {
                    tracing::error!("{e}");
                }
                let _ = until(&client, FIRST_ANSWER).await;
            }
        }
    });
}
