//! Commands on containers that are one request each.

use crate::error::{CliError, Result};
use crate::session::{Session, write_out};
use crate::show::list::align;
use crate::terminal::stream::Sorter;
use engine_api::{ContainerInspect, ContainerTopResponse, ContainerWaitResponse, FilesystemChange};
use engine_client::{Payload, Query};

/// The query of stop and restart.
fn stop_query(s: &Session) -> Query {
    let m = &s.matches;
    let query = Query::new().maybe("signal", m.text("signal"));
    if m.given("timeout") { query.with("t", &m.number("timeout").to_string()) } else { query }
}

async fn each_post(s: &Session, verb: &str, query: Query) -> Result<()> {
    s.each(async |name| s.post(&format!("/containers/{name}/{verb}"), &query).await).await
}

pub(super) async fn stop(s: &Session) -> Result<()> {
    each_post(s, "stop", stop_query(s)).await
}

pub(super) async fn restart(s: &Session) -> Result<()> {
    each_post(s, "restart", stop_query(s)).await
}

pub(super) async fn kill(s: &Session) -> Result<()> {
    each_post(s, "kill", Query::new().maybe("signal", s.matches.text("signal"))).await
}

pub(super) async fn pause(s: &Session) -> Result<()> {
    each_post(s, "pause", Query::new()).await
}

pub(super) async fn unpause(s: &Session) -> Result<()> {
    each_post(s, "unpause", Query::new()).await
}

pub(super) async fn remove(s: &Session) -> Result<()> {
    let m = &s.matches;
    let force = m.on("force");
    let query =
        Query::new().flag("v", m.on("volumes")).flag("link", m.on("link")).flag("force", force);
    let client = s.client().await?;
    let mut errors = Vec::new();
    let mut failed = false;
    for name in &m.args {
        let trimmed = name.trim_matches('/');
        if trimmed.is_empty() {
            return Err(CliError::new("container name cannot be empty"));
        }
        let path = format!("/containers/{trimmed}");
        match client.bytes("DELETE", &path, &query, Payload::Empty).await {
            Ok(_) => s.line(name),
            Err(error) => {
                // With --force, what does not exist is as good as removed.
                failed |= !(force && error.is_not_found());
                errors.push(error.to_string());
            }
        }
    }
    if failed {
        return Err(CliError::new(errors.join("\n")));
    }
    for error in errors {
        s.tell(&error);
    }
    Ok(())
}

pub(super) async fn rename(s: &Session) -> Result<()> {
    let (old, new) = (s.matches.arg(0).trim(), s.matches.arg(1).trim());
    if old.is_empty() || new.is_empty() {
        return Err(CliError::new("Error: Neither old nor new names may be empty"));
    }
    let query = Query::new().with("name", new);
    s.post(&format!("/containers/{old}/rename"), &query)
        .await
        .map_err(|e| CliError::new(format!("{e}\nError: failed to rename container named {old}")))
}

pub(super) async fn wait(s: &Session) -> Result<()> {
    let client = s.client().await?;
    let mut errors = Vec::new();
    for name in &s.matches.args {
        let path = format!("/containers/{name}/wait");
        let answer: std::result::Result<ContainerWaitResponse, _> =
            client.json("POST", &path, &Query::new(), Payload::Empty).await;
        match answer {
            Ok(answer) => match answer.error {
                Some(error) => errors.push(error.message),
                None => s.line(&answer.status_code.to_string()),
            },
            Err(error) => errors.push(error.to_string()),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(CliError::new(errors.join("\n"))) }
}

pub(super) async fn logs(s: &Session) -> Result<()> {
    let m = &s.matches;
    let container: ContainerInspect =
        s.get(&format!("/containers/{}/json", m.arg(0)), &Query::new()).await?;
    let mut query = Query::new()
        .flag("details", m.on("details"))
        .flag("follow", m.on("follow"))
        .with("stderr", "1")
        .with("stdout", "1")
        .with("tail", m.text("tail"))
        .flag("timestamps", m.on("timestamps"));
    for side in ["since", "until"] {
        if m.given(side) {
            query = query.with(
                side,
                &super::events::timestamp(m.text(side))
                    .map_err(|e| CliError::new(format!("invalid value for \"{side}\": {e}")))?,
            );
        }
    }
    let path = format!("/containers/{}/logs", container.id);
    let client = s.client().await?;
    let mut answer = client.call("GET", &path, &query, Payload::Empty).await?;
    let mut sorter = Sorter::new(!container.config.tty, true, true);
    while let Some(bytes) = answer.body.chunk().await? {
        sorter.feed(&bytes)?;
    }
    Ok(())
}

pub(super) async fn top(s: &Session) -> Result<()> {
    let m = &s.matches;
    let query = Query::new().maybe("ps_args", &m.args[1..].join(" "));
    let answer: ContainerTopResponse =
        s.get(&format!("/containers/{}/top", m.arg(0)), &query).await?;
    let mut lines = vec![answer.titles.unwrap_or_default().join("\t")];
    lines.extend(answer.processes.unwrap_or_default().iter().map(|p| p.join("\t")));
    // Columns of `top` are 20 wide at least.
    write_out(wide(&lines).as_bytes());
    Ok(())
}

/// Columns at least 20 wide, 3 apart.
fn wide(lines: &[String]) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|l| l.split('\t').collect()).collect();
    let mut out = String::new();
    for row in &rows {
        for (index, cell) in row.iter().enumerate() {
            if index + 1 == row.len() {
                out.push_str(cell);
                continue;
            }
            let widest = rows.iter().filter_map(|r| r.get(index)).map(|c| c.len()).max();
            let width = (widest.unwrap_or(0) + 3).max(20);
            out.push_str(&format!("{cell:<width$}"));
        }
        out.push('\n');
    }
    out
}

pub(super) async fn port(s: &Session) -> Result<()> {
    let m = &s.matches;
    let container: ContainerInspect =
        s.get(&format!("/containers/{}/json", m.arg(0)), &Query::new()).await?;
    let ports = container.network_settings.ports.unwrap_or_default();
    let address = |ip: &str, port: &str| {
        if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
    };
    let wanted = m.arg(1);
    if wanted.is_empty() {
        let mut lines = Vec::new();
        for (key, bindings) in &ports {
            for b in bindings.iter().flatten() {
                let number: u32 = key.split('/').next().and_then(|n| n.parse().ok()).unwrap_or(0);
                lines.push((number, format!("{key} -> {}", address(&b.host_ip, &b.host_port))));
            }
        }
        lines.sort_by_key(|(number, _)| *number);
        for (_, line) in &lines {
            s.line(line);
        }
        return Ok(());
    }
    let number = wanted.split('/').next().unwrap_or_default();
    if let Err(why) = crate::args::golang::parse_uint(number, 10, u64::from(u16::MAX)) {
        return Err(CliError::new(format!("Error: invalid port ({number}): {why}")));
    }
    let key = if wanted.contains('/') { wanted.to_owned() } else { format!("{wanted}/tcp") };
    match ports.get(&key).and_then(Option::as_ref).filter(|b| !b.is_empty()) {
        Some(bindings) => {
            for b in bindings {
                s.line(&address(&b.host_ip, &b.host_port));
            }
            Ok(())
        }
        None => Err(CliError::new(format!(
            "Error: No public port '{wanted}' published for {}",
            m.arg(0)
        ))),
    }
}

pub(super) async fn diff(s: &Session) -> Result<()> {
    let path = format!("/containers/{}/changes", s.matches.arg(0));
    let changes: Option<Vec<FilesystemChange>> = s.get(&path, &Query::new()).await?;
    let lines: Vec<String> = changes
        .unwrap_or_default()
        .iter()
        .map(|c| format!("{} {}\n", ["C", "A", "D"].get(c.kind as usize).unwrap_or(&"C"), c.path))
        .collect();
    s.print(&align(&lines.concat()));
    Ok(())
}
