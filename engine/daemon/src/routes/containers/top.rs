//! `GET /containers/{id}/top`: the host's `ps`, with the lines of this container's
//! processes.

use std::collections::HashSet;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use containerd_api::services::tasks::v1::ListPidsRequest;
use engine_api::ContainerTopResponse;
use sys::spawn::Command;

use crate::engine::{Engine, program};
use crate::http::{ApiError, Request, Response};

/// The handler.
pub(super) async fn top(engine: Arc<Engine>, request: Request) -> Result<Response, ApiError> {
    let container = super::running_for(&engine, request.name())?;
    let args = match request.query.get("ps_args") {
        "" => "-ef".to_owned(),
        text => text.to_owned(),
    };
    let pids = engine
        .client
        .tasks()
        .list_pids(ListPidsRequest { container_id: container.id.clone() })
        .await;
    let pids = pids.map_err(|e| ApiError::internal(e.message()))?.into_inner();
    let pids: HashSet<u32> = pids.processes.iter().map(|p| p.pid).collect();
    let text = tokio::task::spawn_blocking(move || ps(&args))
        .await
        .map_err(|e| ApiError::internal(e.to_string()))??;
    let reply = parse(&text, &pids)?;
    container.tell("top", &[]);
    Ok(Response::json(&reply, request.version))
}

fn ps(args: &str) -> Result<String, ApiError> {
    let failed = |e: &dyn std::fmt::Display| ApiError::internal(format!("error running ps: {e}"));
    let binary = program(Path::new("ps")).ok_or_else(|| failed(&"not found"))?;
    let (mut reader, writer) = std::io::pipe().map_err(|e| failed(&e))?;
    let command = Command::new(binary).args(args.split_whitespace()).inherit_env();
    let (mut errors, complaints) = std::io::pipe().map_err(|e| failed(&e))?;
    let command = command.fd(writer.as_fd(), 1).fd(complaints.as_fd(), 2);
    let child = command.spawn().map_err(|e| failed(&e))?;
    drop((writer, complaints));
    let mut text = String::new();
    reader.read_to_string(&mut text).map_err(|e| failed(&e))?;
    let exit = child.wait().map_err(|e| failed(&e))?;
    if exit.code() != 0 {
        let mut said = String::new();
        errors.read_to_string(&mut said).map_err(|e| failed(&e))?;
        return Err(match said.lines().next() {
            Some(line) => ApiError::internal(format!("ps: {line}")),
            None => failed(&format!("exit status {}", exit.code())),
        });
    }
    Ok(text)
}

fn parse(text: &str, pids: &HashSet<u32>) -> Result<ContainerTopResponse, ApiError> {
    let mut lines = text.lines();
    let titles: Vec<String> =
        lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let pid_at = titles.iter().position(|t| t == "PID");
    let pid_at =
        pid_at.ok_or_else(|| ApiError::internal("Couldn't find PID field in ps output"))?;
    let mut processes = Vec::new();
    for line in lines {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let ours =
            words.get(pid_at).and_then(|w| w.parse().ok()).is_some_and(|pid| pids.contains(&pid));
        if ours {
            // The last column is a command with spaces.
            let rest = words.split_off(words.len().min(titles.len() - 1)).join(" ");
            words.push(rest);
            processes.push(words);
        }
    }
    Ok(ContainerTopResponse { processes: Some(processes), titles: Some(titles) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_lines_stay_and_commands_keep_their_spaces() {
        let text = "UID PID CMD\nroot 1 init\nroot 42 sleep 10 s\n";
        let got = parse(text, &HashSet::from([42])).unwrap();
        assert_eq!(got.processes.unwrap(), [["root", "42", "sleep 10 s"]]);
        assert!(parse("COMMAND\nx\n", &HashSet::new()).is_err());
    }
}
