//! `start` and `attach`.

use super::run::{attach_query, detach_keys};
use crate::error::{CliError, Result};
use crate::session::Session;
use crate::terminal::raw;
use crate::terminal::signals::{self, Signals};
use crate::terminal::stream::{Attached, Ended};
use engine_api::{ContainerInspect, ContainerWaitResponse, decode};
use engine_client::{Client, Payload, Query, Response};

async fn inspect(s: &Session, name: &str) -> Result<ContainerInspect> {
    s.get(&format!("/containers/{name}/json"), &Query::new()).await
}

/// Asks to be told of the container's exit; the answer's head comes at once.
async fn wait_for(client: &Client, id: &str, condition: &str) -> Result<Response> {
    let query = Query::new().maybe("condition", condition);
    Ok(client.call("POST", &format!("/containers/{id}/wait"), &query, Payload::Empty).await?)
}

/// The exit code that a wait tells.
async fn exit_code(mut waiting: Response) -> Result<i64> {
    let body = waiting.body.all().await?;
    let answer: ContainerWaitResponse = decode(&body).map_err(|e| CliError::new(e.to_string()))?;
    match answer.error {
        Some(error) if !error.message.is_empty() => Err(CliError::coded(125, error.message)),
        _ => Ok(answer.status_code),
    }
}

fn ended(code: i64) -> Result<()> {
    if code == 0 { Ok(()) } else { Err(CliError::silent(code as u8)) }
}

pub(super) async fn start(s: &Session) -> Result<()> {
    let m = &s.matches;
    if m.on("attach") || m.on("interactive") {
        if m.args.len() > 1 {
            return Err(CliError::new("you cannot start and attach multiple containers at once"));
        }
        return start_attached(s).await;
    }
    let mut failed = Vec::new();
    for name in &m.args {
        match s.post(&format!("/containers/{name}/start"), &Query::new()).await {
            Ok(()) => s.line(name),
            Err(error) => {
                s.tell(&error.to_string());
                failed.push(name.clone());
            }
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    Err(CliError::new(format!("Error: failed to start containers: {}", failed.join(", "))))
}

async fn start_attached(s: &Session) -> Result<()> {
    let m = &s.matches;
    let container = inspect(s, m.arg(0)).await?;
    let id = &container.id;
    let attached = Attached {
        stdin: m.on("interactive") && container.config.open_stdin,
        stdout: true,
        stderr: true,
        tty: container.config.tty,
        keys: detach_keys(s),
    };
    let signals = (!attached.tty).then(Signals::catch);
    let client = s.client().await?;
    let condition = if container.host_config.auto_remove { "removed" } else { "next-exit" };
    let query = attach_query(&attached, false);
    let connection =
        client.hijack(&format!("/containers/{id}/attach"), &query, String::new()).await?;
    let waiting = wait_for(client, id, condition).await?;
    if let Err(error) = client.post(&format!("/containers/{id}/start"), &Query::new()).await {
        drop(connection);
        return Err(error.into());
    }
    let work = async {
        if attached.copy(connection).await? == Ended::Detached {
            return Ok(());
        }
        ended(exit_code(waiting).await?)
    };
    beside(s, work, signals, id, attached.tty).await
}

/// Does work while signals are passed on and the terminal's size is followed.
async fn beside(
    s: &Session,
    work: impl Future<Output = Result<()>>,
    signals: Option<Signals>,
    id: &str,
    tty: bool,
) -> Result<()> {
    let passing = async {
        match signals {
            Some(signals) => signals::pass_on(s, signals, id).await,
            None => std::future::pending().await,
        }
    };
    let sized = format!("/containers/{id}/resize");
    let sizing = async {
        if tty && raw::stdout_is_terminal() {
            signals::follow_size(s, &sized).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = work => result,
        () = passing => Ok(()),
        () = sizing => Ok(()),
    }
}

pub(super) async fn attach(s: &Session) -> Result<()> {
    let m = &s.matches;
    let container = inspect(s, m.arg(0)).await?;
    if !container.state.running {
        return Err(CliError::new("You cannot attach to a stopped container, start it first"));
    }
    if container.state.paused {
        return Err(CliError::new("You cannot attach to a paused container, unpause it first"));
    }
    if container.state.restarting {
        return Err(CliError::new(
            "You cannot attach to a restarting container, wait until it is running",
        ));
    }
    let tty = container.config.tty;
    let stdin = !m.on("no-stdin") && container.config.open_stdin;
    if stdin && tty && !raw::stdin_is_terminal() {
        return Err(CliError::new("the input device is not a TTY"));
    }
    let attached = Attached { stdin, stdout: true, stderr: true, tty, keys: detach_keys(s) };
    let signals = (m.on("sig-proxy") && !tty).then(Signals::catch);
    let client = s.client().await?;
    let id = &container.id;
    let waiting = wait_for(client, id, "").await?;
    let query = attach_query(&attached, false);
    let connection =
        client.hijack(&format!("/containers/{id}/attach"), &query, String::new()).await?;
    if tty && raw::stdout_is_terminal() {
        // A change of size, undone at once, makes the program draw what we have missed.
        let (height, width) = raw::size();
        let query =
            Query::new().with("h", &(height + 1).to_string()).with("w", &(width + 1).to_string());
        let _ = client.post(&format!("/containers/{id}/resize"), &query).await;
    }
    let work = async {
        if attached.copy(connection).await? == Ended::Detached {
            return Err(CliError::new("read escape sequence"));
        }
        ended(exit_code(waiting).await?)
    };
    beside(s, work, signals, id, tty).await
}
