//! containerd: the one that was named, or our own, started when it does not run. Ours is a process
//! of its own session: it outlives a ferryd that is killed, is found again by the next one, and
//! ends with a ferryd that ends in order.

use std::ffi::OsStr;
use std::fmt::Display;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use containerd_rpc::{Client, RpcError, until};
use sys::launch::{LaunchError, launch};
use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::StartupError;
use crate::config::Settings;
use crate::engine::program;
use crate::signals::{SIGKILL, SIGTERM};

/// How long containerd may take to answer at first.
const FIRST_ANSWER: Duration = Duration::from_secs(20);
/// How long one that somebody else starts at the same time may take.
const RIVAL: Duration = Duration::from_secs(3);
/// The pause before a lost connection is looked into.
const PAUSE: Duration = Duration::from_millis(20);
/// How long our own may take to end.
const END: Duration = Duration::from_secs(15);

/// A containerd that answers.
pub(super) struct Containerd {
    /// The way to it.
    pub(super) client: Client,
    own: Option<Own>,
}

/// What our own was started with.
#[derive(Clone)]
struct Own {
    settings: Settings,
    socket: PathBuf,
    /// Nobody starts it again from here on.
    ending: CancellationToken,
}

/// Finds it, or starts our own, and waits for its first answer.
pub(super) async fn connect(settings: &Settings) -> Result<Containerd, StartupError> {
    let named = settings.containerd.clone();
    let socket = named.clone().unwrap_or_else(|| settings.exec_root.join("containerd.sock"));
    let client = Client::new(&socket, &settings.containerd_namespace)
        .map_err(|source| silent(&socket, source))?;
    let own = named.is_none().then(|| Own {
        settings: settings.clone(),
        socket: socket.clone(),
        ending: CancellationToken::new(),
    });
    // Ends what was started here when the start-up fails or is given up before it answers.
    let containerd = Containerd { client: client.clone(), own };
    if let Some(own) = &containerd.own
        && peer(&own.socket).is_none()
    {
        own.start(&client).await?;
    }
    let version = until(&client, FIRST_ANSWER).await.map_err(|source| silent(&socket, source))?;
    info!("containerd {version} at {}", socket.display());
    if let Some(own) = &containerd.own {
        tokio::spawn(own.clone().keep(client));
    }
    Ok(containerd)
}

fn silent(socket: &Path, source: RpcError) -> StartupError {
    StartupError::Containerd { socket: socket.display().to_string(), source }
}

/// The process that listens at our own socket.
fn peer(socket: &Path) -> Option<i32> {
    let connection = sys::unix::connect(socket, false).ok()?;
    sys::unix::peer(connection.as_fd()).ok().map(|peer| peer.pid)
}

impl Containerd {
    /// Ends our own; one that was named stays.
    pub(super) async fn end(self) {
        if let Some(own) = &self.own {
            own.end().await;
        }
    }
}

impl Own {
    /// Starts it and waits until it serves.
    async fn start(&self, client: &Client) -> Result<(), StartupError> {
        let binary = program(Path::new("ferry-containerd")).ok_or_else(|| {
            StartupError::Machine("ferry-containerd is not installed beside ferryd".into())
        })?;
        let (own, log) = (self.clone(), self.settings.exec_root.join("ferry-containerd.log"));
        let file = log.clone();
        let starting = tokio::task::spawn_blocking(move || {
            let root = own.settings.data_root.join("containerd");
            let state = own.settings.exec_root.join("containerd");
            let args: [&OsStr; 6] = [
                "--address".as_ref(),
                own.socket.as_ref(),
                "--root".as_ref(),
                root.as_ref(),
                "--state".as_ref(),
                state.as_ref(),
            ];
            launch(binary, &args, &file, FIRST_ANSWER)
        });
        let failed = |e: &dyn Display| {
            let log = log.display();
            StartupError::Machine(format!("starting ferry-containerd: {e} (log: {log})"))
        };
        match starting.await.map_err(|e| failed(&e))? {
            Ok(child) => {
                info!("started ferry-containerd, pid {}", child.pid());
                // Waited for when it ends, so that it leaves no zombie.
                tokio::spawn(async move {
                    let pid = child.pid();
                    ended(child.into_pidfd()).await;
                    let _ = sys::process::reap(pid);
                });
                Ok(())
            }
            // It makes way for one that is about to serve the same folders.
            Err(LaunchError::Ended(_)) if until(client, RIVAL).await.is_ok() => Ok(()),
            Err(e) => Err(failed(&e)),
        }
    }

    /// Starts it again whenever it is gone.
    async fn keep(self, client: Client) {
        let ending = self.ending.clone();
        let keeping = async {
            loop {
                // A call that lasts as long as the peer: its end is the news.
                let request = containerd_api::services::events::v1::SubscribeRequest {
                    filters: vec!["topic==/ferry/none".into()],
                };
                if let Ok(answer) = client.events().subscribe(request).await {
                    let mut stream = answer.into_inner();
                    while let Ok(Some(_)) = stream.message().await {}
                }
                tokio::time::sleep(PAUSE).await;
                if peer(&self.socket).is_none() {
                    warn!("ferry-containerd is gone");
                    if let Err(e) = self.start(&client).await {
                        error!("{e}");
                    }
                }
            }
        };
        ending.run_until_cancelled(keeping).await;
    }

    /// Asks it to end, and kills it when it takes too long.
    async fn end(&self) {
        self.ending.cancel();
        let Some(pid) = peer(&self.socket) else { return };
        let Ok(pidfd) = sys::process::pidfd(pid) else { return };
        // The number is its own only if it still answers, now that the descriptor is open.
        if peer(&self.socket) != Some(pid) {
            return;
        }
        let told = sys::process::signal_pidfd(pidfd.as_fd(), SIGTERM as i32);
        let Ok(copy) = pidfd.try_clone() else { return };
        if told.is_ok() && tokio::time::timeout(END, ended(copy)).await.is_err() {
            warn!("ferry-containerd, pid {pid}, does not end; killing it");
            let _ = sys::process::signal_pidfd(pidfd.as_fd(), SIGKILL as i32);
        }
    }
}

/// Until the process has ended.
async fn ended(pidfd: OwnedFd) {
    // A pidfd is no pipe, but polled like one: readable means ended.
    if let Ok(fd) = Receiver::from_owned_fd_unchecked(pidfd) {
        let _ = fd.readable().await;
    }
}
