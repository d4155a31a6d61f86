//! `exec`.

use super::run::detach_keys;
use crate::error::{CliError, Result};
use crate::run::files;
use crate::session::Session;
use crate::terminal::raw;
use crate::terminal::signals;
use crate::terminal::stream::{Attached, Ended};
use engine_api::{
    ApiVersion, ExecCreateRequest, ExecInspect, ExecStartRequest, IdResponse, encode,
};
use engine_client::{Payload, Query};

pub(super) async fn exec(s: &Session) -> Result<()> {
    let m = &s.matches;
    let container = m.arg(0);
    let (detached, tty) = (m.on("detach"), m.on("tty"));
    let env = files::environment(&m.texts("env-file"), &m.texts("env")).map_err(CliError::new)?;
    let (height, width) = raw::size();
    let console_size = (tty && height > 0).then_some([u64::from(height), u64::from(width)]);
    let attached = Attached {
        stdin: !detached && m.on("interactive"),
        stdout: !detached,
        stderr: !detached,
        tty,
        keys: detach_keys(s),
    };
    let request = ExecCreateRequest {
        user: m.text("user").to_owned(),
        privileged: m.on("privileged"),
        tty,
        console_size,
        attach_stdin: attached.stdin,
        attach_stdout: attached.stdout,
        attach_stderr: attached.stderr,
        detach: detached,
        detach_keys: attached.keys.clone(),
        env: Some(env).filter(|e| !e.is_empty()),
        working_dir: m.text("workdir").to_owned(),
        cmd: Some(m.args[1..].to_vec()),
    };
    let client = s.client().await?;
    let no_terminal = attached.stdin && tty && !raw::stdin_is_terminal();
    if no_terminal {
        // A missing container is the mistake that is told first.
        let path = format!("/containers/{container}/json");
        client.bytes("GET", &path, &Query::new(), Payload::Empty).await?;
        return Err(CliError::new("the input device is not a TTY"));
    }
    let path = format!("/containers/{container}/exec");
    let made: IdResponse = s.send(&path, &Query::new(), &request).await?;
    let start = ExecStartRequest { detach: detached, tty, console_size };
    let path = format!("/exec/{}/start", made.id);
    if detached {
        client.bytes("POST", &path, &Query::new(), Payload::of(&start)).await?;
        return Ok(());
    }
    let body = encode(&start, ApiVersion::MAX);
    let connection = client.hijack(&path, &Query::new(), body).await?;
    let sized = format!("/exec/{}/resize", made.id);
    let sizing = async {
        if tty && raw::stdin_is_terminal() {
            signals::follow_size(s, &sized).await;
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = attached.copy(connection) => ended?,
        () = sizing => Ended::Output,
    };
    if ended == Ended::Detached {
        return Err(CliError::new("read escape sequence"));
    }
    let done: ExecInspect = s.get(&format!("/exec/{}/json", made.id), &Query::new()).await?;
    match done.exit_code.unwrap_or(0) {
        0 => Ok(()),
        code => Err(CliError::silent(code as u8)),
    }
}
