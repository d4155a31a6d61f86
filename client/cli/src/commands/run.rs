//! `run` and `create`: the container is made, attached to, awaited and started, in
//! the order in which no byte and no exit code can be missed.

use super::images;
use crate::error::{CliError, Result};
use crate::run::config;
use crate::session::Session;
use crate::terminal::raw;
use crate::terminal::signals::{self, Signals};
use crate::terminal::stream::{Attached, Ended};
use engine_api::{ContainerCreateRequest, ContainerCreateResponse, ContainerWaitResponse, decode};
use engine_client::{ClientError, Payload, Query};

/// A failure of `run` or `create` itself, with where to read more.
fn failed(s: &Session, code: u8, error: impl std::fmt::Display) -> CliError {
    let path = s.matches.path.join(" ");
    let program = &s.program;
    CliError::coded(
        code,
        format!("{program}: {error}\n\nRun '{program} {path} --help' for more information"),
    )
}

/// The exit code of a container that did not start: 127 without the program, 126 if it can't
/// be executed, else 125.
pub(super) fn start_code(message: &str) -> u8 {
    let any = |texts: &[&str]| texts.iter().any(|t| message.contains(t));
    if any(&[
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        127
    } else if any(&["permission denied", "is a directory"]) {
        126
    } else {
        125
    }
}

/// Checks when an image is to be pulled.
fn check_pull(s: &Session) -> Result<()> {
    let pull = s.matches.text("pull");
    if matches!(pull, "always" | "missing" | "never" | "") {
        return Ok(());
    }
    let text = format!(
        "invalid pull option: '{pull}': must be one of \"always\", \"missing\" or \"never\""
    );
    Err(failed(s, 125, text))
}

/// Makes the container; answers its id.
async fn make(s: &Session, mut request: ContainerCreateRequest) -> Result<String> {
    let m = &s.matches;
    let cidfile = m.text("cidfile");
    if !cidfile.is_empty() && std::fs::symlink_metadata(cidfile).is_ok() {
        return Err(CliError::new(format!(
            "container ID file found, make sure the other container isn't running or delete {cidfile}"
        )));
    }
    let pull = m.text("pull");
    let image = normalized(m.arg(0))?;
    if let Some(config) = &mut request.config
        && m.arg(0).contains('@')
    {
        m.arg(0).clone_into(&mut config.image);
    }
    if let Some(host) = &mut request.host_config
        && m.on("tty")
    {
        let (height, width) = raw::size();
        host.console_size = [u64::from(height), u64::from(width)];
    }
    let platform = match m.text("platform") {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        text => text.to_owned(),
    };
    if !platform.is_empty()
        && let Err(e) = platform.parse::<oci::Platform>()
    {
        return Err(CliError::new(format!("error parsing specified platform: {e}")));
    }
    let query = Query::new().maybe("name", m.text("name")).maybe("platform", &platform);
    let quiet = m.on("quiet");
    if pull == "always" {
        images::fetch(s, &image, &platform, quiet, true).await?;
    }
    let client = s.client().await?;
    let create = async || -> std::result::Result<Vec<u8>, ClientError> {
        client.bytes("POST", "/containers/create", &query, Payload::of(&request)).await
    };
    let body = match create().await {
        Err(error) if error.is_not_found() && pull == "missing" && lacks_image(&error) => {
            if !quiet {
                s.tell(&format!("Unable to find image '{image}' locally"));
            }
            images::fetch(s, &image, &platform, quiet, true).await?;
            create().await?
        }
        other => other?,
    };
    let made: ContainerCreateResponse = decode(&body).map_err(|e| CliError::new(e.to_string()))?;
    for warning in &made.warnings {
        s.tell(&format!("WARNING: {warning}"));
    }
    if !cidfile.is_empty() {
        std::fs::write(cidfile, &made.id).map_err(|e| {
            let why = crate::error::go_io_error(&e);
            CliError::new(format!(
                "failed to write the container ID to the file: open {cidfile}: {why}"
            ))
        })?;
    }
    Ok(made.id)
}

/// Whether the daemon lacks the image, or has it for other platforms only.
fn lacks_image(error: &ClientError) -> bool {
    let text = error.to_string();
    text.contains("No such image") || text.contains("was found but its platform")
}

/// The image's name as users see it, with its tag.
pub(super) fn normalized(name: &str) -> Result<String> {
    images::check_name(name).map_err(CliError::new)?;
    let last = name.rsplit('/').next().unwrap_or(name);
    if name.contains('@') || last.contains(':') || is_id(name) {
        return Ok(name.to_owned());
    }
    Ok(format!("{name}:latest"))
}

/// Whether this is a whole image id.
fn is_id(name: &str) -> bool {
    let bare = name.strip_prefix("sha256:").unwrap_or(name);
    bare.len() == 64 && bare.bytes().all(|b| b.is_ascii_hexdigit())
}

pub(super) async fn create(s: &Session) -> Result<()> {
    check_pull(s)?;
    let request = config::request(&s.matches).map_err(|e| failed(s, 125, e))?;
    match make(s, request).await {
        Ok(id) => {
            s.line(&id);
            Ok(())
        }
        Err(error) => Err(CliError::coded(1, error.to_string())),
    }
}

pub(super) async fn run(s: &Session) -> Result<()> {
    let m = &s.matches;
    check_pull(s)?;
    let mut request = config::request(m).map_err(|e| failed(s, 125, e))?;
    let detached = m.on("detach");
    if detached && !m.texts("attach").is_empty() {
        return Err(CliError::new(
            "conflicting options: cannot specify both --attach and --detach",
        ));
    }
    let Some(config) = request.config.as_mut() else { return Ok(()) };
    let attached = Attached {
        stdin: config.attach_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        tty: config.tty,
        keys: detach_keys(s),
    };
    if attached.stdin && attached.tty && !raw::stdin_is_terminal() {
        return Err(CliError::new("the input device is not a TTY"));
    }
    let signals = (!detached && m.on("sig-proxy")).then(Signals::catch);
    let id = make(s, request).await.map_err(|e| failed(s, 125, e))?;
    if detached {
        s.post(&format!("/containers/{id}/start"), &Query::new())
            .await
            .map_err(|e| failed(s, start_code(&e.to_string()), e))?;
        s.line(&id);
        return Ok(());
    }
    let passing = async {
        match signals {
            Some(signals) => signals::pass_on(s, signals, &id).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = foreground(s, &id, &attached) => result,
        () = passing => Ok(()),
    }
}

/// The keys that detach: the flag's, else the configuration's.
pub(super) fn detach_keys(s: &Session) -> String {
    match s.matches.text("detach-keys") {
        "" => s.config.text("detachKeys").to_owned(),
        keys => keys.to_owned(),
    }
}

/// The query of an attach.
pub(super) fn attach_query(attached: &Attached, logs: bool) -> Query {
    Query::new()
        .maybe("detachKeys", &attached.keys)
        .flag("logs", logs)
        .flag("stderr", attached.stderr)
        .flag("stdin", attached.stdin)
        .flag("stdout", attached.stdout)
        .with("stream", "1")
}

async fn foreground(s: &Session, id: &str, attached: &Attached) -> Result<()> {
    let client = s.client().await?;
    let removes = s.matches.on("rm");
    let any = attached.stdin || attached.stdout || attached.stderr;
    let query = attach_query(attached, false);
    let attach = async {
        if any {
            client
                .hijack(&format!("/containers/{id}/attach"), &query, String::new())
                .await
                .map(Some)
        } else {
            Ok(None)
        }
    };
    let condition = if removes { "removed" } else { "next-exit" };
    let wait_query = Query::new().with("condition", condition);
    let wait_path = format!("/containers/{id}/wait");
    let waiting = client.call("POST", &wait_path, &wait_query, Payload::Empty);
    let (connection, waiting) = tokio::join!(attach, waiting);
    let (connection, mut waiting) = (connection?, waiting?);
    if let Err(error) = client.post(&format!("/containers/{id}/start"), &Query::new()).await {
        drop(connection);
        if removes {
            // The daemon removes what failed to start; that is awaited, not read.
            let _ = waiting.body.all().await;
        }
        let message = error.to_string();
        return Err(failed(s, start_code(&message), message));
    }
    let exited = async {
        let body = waiting.body.all().await?;
        let answer: ContainerWaitResponse =
            decode(&body).map_err(|e| CliError::new(e.to_string()))?;
        match answer.error {
            Some(error) if !error.message.is_empty() => Err(CliError::coded(125, error.message)),
            _ => Ok(answer.status_code),
        }
    };
    let sized = format!("/containers/{id}/resize");
    let sizing = async {
        if attached.tty && raw::stdout_is_terminal() {
            signals::follow_size(s, &sized).await;
        }
        std::future::pending::<()>().await;
    };
    let work = async {
        if let Some(connection) = connection
            && attached.copy(connection).await? == Ended::Detached
        {
            return Ok(0);
        }
        exited.await
    };
    let code = tokio::select! {
        code = work => code?,
        () = sizing => 0,
    };
    match code {
        0 => Ok(()),
        code => Err(CliError::silent(code as u8)),
    }
}
