//! Commands on contexts. None of them asks a daemon.

use crate::error::{CliError, Result};
use crate::session::{OWN_SOCKET, Session, target, write_out};
use crate::show::inspect::{Found, print};
use crate::show::list::{Cell, List, Row};
use engine_api::Value;
use engine_client::{Context, ContextStore};

fn store(s: &Session) -> ContextStore {
    ContextStore::new(s.config.folder())
}

/// The name of the context in use.
fn current(s: &Session) -> String {
    if s.globals.given("context") {
        return s.globals.text("context").to_owned();
    }
    let env = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
    if env("DOCKER_HOST").is_some() || s.globals.given("host") {
        return "default".into();
    }
    let name = env("DOCKER_CONTEXT").unwrap_or_else(|| s.config.text("currentContext").to_owned());
    if name.is_empty() { "default".into() } else { name }
}

/// The context that follows the environment.
fn default_context(s: &Session) -> Context {
    let host = match target(&s.globals, &s.config) {
        Ok(target) if target.context == "default" => target.host,
        _ => std::env::var("DOCKER_HOST").unwrap_or_else(|_| OWN_SOCKET.to_owned()),
    };
    Context {
        name: "default".into(),
        description: "Current DOCKER_HOST based configuration".into(),
        host,
        skip_tls_verify: false,
    }
}

pub(super) async fn show(s: &Session) -> Result<()> {
    s.line(&current(s));
    Ok(())
}

pub(super) async fn list(s: &Session) -> Result<()> {
    let m = &s.matches;
    let mut all = store(s).list();
    all.push(default_context(s));
    all.sort_by(|a, b| a.name.cmp(&b.name));
    let now = current(s);
    let text = |t: &str| Cell::Text(t.to_owned());
    let mut rows: Vec<Row> = Vec::new();
    if !all.iter().any(|c| c.name == now) {
        all.push(Context {
            name: now.clone(),
            description: String::new(),
            host: String::new(),
            skip_tls_verify: false,
        });
    }
    for context in &all {
        let error = match store(s).get(&context.name) {
            Err(error) if context.host.is_empty() => error.to_string(),
            _ => String::new(),
        };
        rows.push(Row {
            kind: "*formatter.clientContextContext",
            cells: vec![
                ("Current", Cell::Bool(context.name == now)),
                ("Description", text(&context.description)),
                ("DockerEndpoint", text(&context.host)),
                ("Error", Cell::Text(error)),
                ("Name", text(&context.name)),
            ],
            labels: std::collections::BTreeMap::new(),
        });
    }
    let format = match (m.text("format"), m.on("quiet")) {
        ("" | "table", true) => "{{.Name}}",
        ("" | "table", false) => {
            "table {{.Name}}{{if .Current}} *{{end}}\t{{.Description}}\t{{.DockerEndpoint}}\t{{.Error}}"
        }
        (text, _) => text,
    };
    let headings = &[
        ("Name", "NAME"),
        ("Description", "DESCRIPTION"),
        ("DockerEndpoint", "DOCKER ENDPOINT"),
        ("Error", "ERROR"),
        ("Current", ""),
    ];
    let list = List { format: format.to_owned(), headings };
    write_out(list.render(&rows)?.as_bytes());
    if std::env::var("DOCKER_HOST").is_ok_and(|h| !h.is_empty()) && !m.on("quiet") {
        s.tell("Warning: DOCKER_HOST environment variable overrides the active context. To use a context, either set the global --context flag, or unset DOCKER_HOST environment variable.");
    }
    Ok(())
}

pub(super) async fn choose(s: &Session) -> Result<()> {
    let name = s.matches.arg(0);
    if name != "default" {
        store(s).get(name).map_err(|e| CliError::new(e.to_string()))?;
    }
    let mut config = s.config.clone();
    let kept = if name == "default" { "" } else { name };
    if config.text("currentContext") != kept {
        config.set_text("currentContext", kept)?;
    }
    s.line(name);
    s.tell(&format!("Current context is now \"{name}\""));
    if std::env::var("DOCKER_HOST").is_ok_and(|h| !h.is_empty()) && name != "default" {
        s.tell(&format!("Warning: DOCKER_HOST environment variable overrides the active context. To use \"{name}\", either set the global --context flag, or unset DOCKER_HOST environment variable."));
    }
    Ok(())
}

pub(super) async fn create(s: &Session) -> Result<()> {
    let m = &s.matches;
    let name = m.arg(0);
    let good = |c: char| c.is_ascii_alphanumeric() || "_.+-".contains(c);
    if name == "default" {
        return Err(CliError::new("\"default\" is a reserved context name"));
    }
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || !name.chars().all(good) {
        return Err(CliError::new(format!(
            "context name \"{name}\" is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
        )));
    }
    if store(s).get(name).is_ok() {
        return Err(CliError::new(format!("context \"{name}\" already exists")));
    }
    let from = |name: &str| match name {
        "default" => Ok(default_context(s)),
        name => store(s).get(name).map_err(|e| CliError::new(e.to_string())),
    };
    let mut made = match (m.text("from"), m.given("docker")) {
        ("", true) => Context { host: String::new(), ..default_context(s) },
        ("", false) => from(&current(s))?,
        (name, _) => from(name)?,
    };
    for pair in m.texts("docker") {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match key {
            "host" => value.clone_into(&mut made.host),
            "skip-tls-verify" => {
                made.skip_tls_verify = matches!(value, "1" | "t" | "true" | "TRUE");
            }
            "from" => {
                let other = from(value)?;
                made.host = other.host;
                made.skip_tls_verify = other.skip_tls_verify;
            }
            "ca" | "cert" | "key" => {
                return Err(CliError::new(format!(
                    "\"{key}\": TLS endpoints are not supported by this version of ferry"
                )));
            }
            _ => {
                return Err(CliError::new(format!(
                    "unable to create docker endpoint config: unrecognized config key: {key}"
                )));
            }
        }
    }
    if made.host.is_empty() {
        made.host = default_context(s).host;
    }
    name.clone_into(&mut made.name);
    m.text("description").clone_into(&mut made.description);
    store(s).put(&made).map_err(|e| CliError::new(e.to_string()))?;
    s.line(name);
    s.tell(&format!("Successfully created context \"{name}\""));
    Ok(())
}

pub(super) async fn remove(s: &Session) -> Result<()> {
    let mut errors = Vec::new();
    let now = current(s);
    for name in &s.matches.args {
        let result = if name == "default" {
            Err("context \"default\" cannot be removed".to_owned())
        } else if *name == now && !s.matches.on("force") {
            Err(format!("context \"{name}\" is in use, set -f flag to force remove"))
        } else {
            store(s).remove(name).map_err(|e| e.to_string())
        };
        match result {
            Ok(()) => {
                s.line(name);
                if s.config.text("currentContext") == name {
                    s.config.clone().set_text("currentContext", "")?;
                }
            }
            Err(why) if s.matches.on("force") && why.contains("not found") => {}
            Err(why) => errors.push(why),
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(CliError::new(errors.join("\n"))) }
}

pub(super) async fn inspect(s: &Session) -> Result<()> {
    let now = [current(s)];
    let names: &[String] = if s.matches.args.is_empty() { &now } else { &s.matches.args };
    let text = |t: &str| Value::String(t.to_owned());
    let mut results = Vec::new();
    for name in names {
        let (context, meta, tls) = if name == "default" {
            let memory = "\u{3c}IN MEMORY\u{3e}".to_owned();
            let context = Context { description: String::new(), ..default_context(s) };
            (context, memory.clone(), memory)
        } else {
            match store(s).get(name) {
                Ok(context) => (
                    context,
                    store(s).meta_folder(name).display().to_string(),
                    store(s).tls_folder(name).display().to_string(),
                ),
                Err(error) => {
                    results.push(Err(CliError::new(error.to_string())));
                    continue;
                }
            }
        };
        let mut members = match context.meta() {
            Value::Object(members) => members,
            _ => Vec::new(),
        };
        members.push(("TLSMaterial".into(), Value::Object(Vec::new())));
        let storage =
            vec![("MetadataPath".to_owned(), text(&meta)), ("TLSPath".to_owned(), text(&tls))];
        members.push(("Storage".into(), Value::Object(storage)));
        let mut encoder = engine_api::Encoder::html(engine_api::ApiVersion::MAX);
        encoder.value(&Value::Object(members));
        results.push(Ok(Found::of::<Value>(encoder.finish().into_bytes())));
    }
    print(s.matches.text("format"), results)
}
