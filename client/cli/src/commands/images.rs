//! Commands on images and on archives of them.

use crate::credentials;
use crate::error::{CliError, Result, path_error};
use crate::output_file::OutputFile;
use crate::run::config::content_trust;
use crate::session::Session;
use crate::terminal::progress::Progress;
use crate::terminal::raw;
use engine_api::{IdResponse, ImageDeleteItem, OciPlatform};
use engine_client::{Body, Payload, Query};
use oci::Platform;
use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, ReadBuf};

/// A platform as newer daemons take it: `{"os":…,"architecture":…}`.
pub(super) fn platform_json(text: &str) -> std::result::Result<String, String> {
    let platform: Platform =
        text.parse().map_err(|e: oci::platform::InvalidPlatform| e.to_string())?;
    let shown = OciPlatform::from(&platform.normalized());
    Ok(engine_api::encode(&shown, engine_api::ApiVersion::MAX).trim_end().to_owned())
}

/// A query for the platform that the flag names, if it does.
pub(super) fn for_platform(s: &Session, query: Query) -> Result<Query> {
    match s.matches.text("platform") {
        "" => Ok(query),
        text => {
            let json = platform_json(text);
            let json = json.map_err(|e| CliError::new(format!("invalid platform: {e}")))?;
            Ok(query.with("platform", &json))
        }
    }
}

/// Checks that this can be the name of an image.
pub(super) fn check_name(name: &str) -> std::result::Result<(), String> {
    let wrong = || "invalid reference format".to_owned();
    if name.is_empty() {
        return Err(wrong());
    }
    let bare = name.split('@').next().unwrap_or(name);
    let (path, tag) = match bare.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (bare, None),
    };
    let tag_letter = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if tag.is_some_and(|t| t.is_empty() || t.len() > 128 || !t.bytes().all(tag_letter)) {
        return Err(wrong());
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    let has_domain = parts.len() > 1
        && (parts[0].contains(['.', ':'])
            || parts[0] == "localhost"
            || parts[0].to_lowercase() != parts[0]);
    if has_domain {
        parts.remove(0);
    }
    let path = parts.join("/");
    if path.to_lowercase() != path {
        let full = if has_domain || parts.len() > 1 { path } else { format!("library/{path}") };
        return Err(format!(
            "invalid reference format: repository name ({full}) must be lowercase"
        ));
    }
    if path.contains(':') {
        return Err(wrong());
    }
    let letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
    let good = |part: &&str| {
        let edge = |c: Option<&u8>| c.is_some_and(u8::is_ascii_alphanumeric);
        part.bytes().all(letter) && edge(part.as_bytes().first()) && edge(part.as_bytes().last())
    };
    if parts.iter().all(good) { Ok(()) } else { Err(wrong()) }
}

/// The registry that an image's name begins with, else Docker's own.
pub(super) fn domain(name: &str) -> &str {
    match name.split_once('/') {
        Some((domain, _))
            if domain.contains(['.', ':'])
                || domain == "localhost"
                || domain.to_lowercase() != domain =>
        {
            domain
        }
        _ => "docker.io",
    }
}

/// Fetches an image; progress goes to standard error when it is for a run.
pub(super) async fn fetch(
    s: &Session,
    name: &str,
    platform: &str,
    quiet: bool,
    to_stderr: bool,
) -> Result<()> {
    let (image, tag) = match name
        .rsplit_once('@')
        .or_else(|| name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')))
    {
        Some(pair) => pair,
        None => (name, ""),
    };
    let query = Query::new().with("fromImage", image).maybe("tag", tag).maybe("platform", platform);
    let client = s.client().await?;
    let auth = [credentials::header(&s.config, domain(name))];
    let path = "/images/create";
    let mut answer = client.call_with("POST", path, &query, Payload::Empty, &auth).await?;
    Progress::new(quiet, to_stderr).follow(&mut answer.body).await
}

pub(super) async fn pull(s: &Session) -> Result<()> {
    let m = &s.matches;
    let typed = m.arg(0);
    check_name(typed).map_err(CliError::new)?;
    content_trust(m).map_err(CliError::new)?;
    let all = m.on("all-tags");
    let has_tag = typed.contains('@') || typed.rsplit('/').next().is_some_and(|l| l.contains(':'));
    if all && has_tag {
        return Err(CliError::new("tag can't be used with --all-tags/-a"));
    }
    let quiet = m.on("quiet");
    let name = if all || has_tag { typed.to_owned() } else { format!("{typed}:latest") };
    if !all && !has_tag && !quiet {
        s.line("Using default tag: latest");
    }
    let platform = match m.text("platform") {
        "" => std::env::var("DOCKER_DEFAULT_PLATFORM").unwrap_or_default(),
        text => text.to_owned(),
    };
    fetch(s, &name, &platform, quiet, false).await?;
    s.line(&full_name(&name));
    Ok(())
}

/// An image's name with its registry and repository in full.
fn full_name(name: &str) -> String {
    match name.split_once('/') {
        _ if domain(name) != "docker.io" || name.starts_with("docker.io/") => name.to_owned(),
        Some(_) => format!("docker.io/{name}"),
        None => format!("docker.io/library/{name}"),
    }
}

pub(super) async fn push(s: &Session) -> Result<()> {
    let m = &s.matches;
    let typed = m.arg(0);
    check_name(typed).map_err(CliError::new)?;
    content_trust(m).map_err(CliError::new)?;
    let platform = match m.text("platform") {
        "" => String::new(),
        text => {
            platform_json(text).map_err(|e| CliError::new(format!("Invalid platform {text}{e}")))?
        }
    };
    let all = m.on("all-tags");
    let (bare, digest) = match typed.split_once('@') {
        Some((bare, _)) => (bare, true),
        None => (typed, false),
    };
    let (repository, tag) = match bare.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (bare, ""),
    };
    if all && (digest || !tag.is_empty()) {
        return Err(CliError::new("tag can't be used with --all-tags/-a"));
    }
    let quiet = m.on("quiet");
    let tag = if !all && tag.is_empty() { "latest" } else { tag };
    if !all && bare == repository && !quiet {
        s.line("Using default tag: latest");
    }
    let query = Query::new().maybe("tag", tag).maybe("platform", &platform);
    let client = s.client().await?;
    let auth = [credentials::header(&s.config, domain(typed))];
    let path = format!("/images/{repository}/push");
    let mut answer = client.call_with("POST", &path, &query, Payload::Empty, &auth).await?;
    Progress::new(quiet, false).follow(&mut answer.body).await?;
    if quiet {
        let tag = if tag.is_empty() { String::new() } else { format!(":{tag}") };
        s.line(&full_name(&format!("{repository}{tag}")));
    }
    Ok(())
}

pub(super) async fn tag(s: &Session) -> Result<()> {
    let (source, target) = (s.matches.arg(0), s.matches.arg(1));
    let quoted = crate::args::golang::quote(target);
    check_name(target).map_err(|e| {
        CliError::new(format!(
            "Error parsing reference: {quoted} is not a valid repository/tag: {e}"
        ))
    })?;
    let (repository, tag) = match target.rsplit_once(':') {
        Some((r, t)) if !t.contains('/') => (r, t),
        _ => (target, "latest"),
    };
    let query = Query::new().with("repo", repository).with("tag", tag);
    s.post(&format!("/images/{source}/tag"), &query).await
}

pub(super) async fn remove(s: &Session) -> Result<()> {
    let m = &s.matches;
    let force = m.on("force");
    let mut query = Query::new().flag("force", force).flag("noprune", m.on("no-prune"));
    for platform in m.texts("platform") {
        query = query.with("platforms", &platform_json(platform).map_err(CliError::new)?);
    }
    let client = s.client().await?;
    let (mut errors, mut fatal) = (Vec::new(), false);
    for name in &m.args {
        let path = format!("/images/{name}");
        match client.json::<Vec<ImageDeleteItem>>("DELETE", &path, &query, Payload::Empty).await {
            Ok(items) => items.iter().for_each(|item| s.line(&deleted(item))),
            Err(error) => {
                fatal |= !error.is_not_found();
                errors.push(error.to_string());
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    if force && !fatal {
        for error in errors {
            s.tell(&error);
        }
        return Ok(());
    }
    Err(CliError::new(errors.join("\n")))
}

/// What happened to an image's name or layer.
pub(super) fn deleted(item: &ImageDeleteItem) -> String {
    match item.deleted.as_str() {
        "" => format!("Untagged: {}", item.untagged),
        id => format!("Deleted: {id}"),
    }
}

pub(super) async fn load(s: &Session) -> Result<()> {
    let m = &s.matches;
    let input = m.text("input");
    if input.is_empty() && raw::stdin_is_terminal() {
        return Err(CliError::new("requested load from stdin, but stdin is empty"));
    }
    let mut source = open(input).await?;
    let quiet = m.on("quiet") || !raw::stdout_is_terminal();
    let query = for_platform(s, Query::new().with("quiet", if quiet { "1" } else { "0" }))?;
    let payload = Payload::Stream("application/x-tar", &mut *source);
    let client = s.client().await?;
    let mut answer = client.call("POST", "/images/load", &query, payload).await?;
    if answer.header("content-type").is_some_and(|t| t.contains("json")) {
        return Progress::new(false, false).follow(&mut answer.body).await;
    }
    copy_out(&mut answer.body, &mut std::io::stdout()).await
}

/// A file whose errors name it.
struct Named {
    file: tokio::fs::File,
    path: String,
}

impl AsyncRead for Named {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.file).poll_read(context, buffer);
        read.map_err(|e| std::io::Error::other(path_error("read", &self.path, &e).to_string()))
    }
}

/// A file, or standard input when the name is empty.
async fn open(path: &str) -> Result<Box<dyn AsyncRead + Unpin>> {
    if path.is_empty() || path == "-" {
        return Ok(Box::new(tokio::io::stdin()));
    }
    match tokio::fs::File::open(path).await {
        Ok(file) => Ok(Box::new(Named { file, path: path.to_owned() })),
        Err(error) => Err(path_error("open", path, &error)),
    }
}

async fn copy_out(body: &mut Body, to: &mut impl Write) -> Result<()> {
    while let Some(bytes) = body.chunk().await? {
        to.write_all(&bytes)?;
    }
    to.flush()?;
    Ok(())
}

/// Writes an archive to the file that `--output` names, or to standard output if that is no
/// terminal. A file is put in place when it is whole.
async fn write_archive(s: &Session, path: &str, query: &Query, what: &str) -> Result<()> {
    let output = s.matches.text("output");
    if output.is_empty() && raw::stdout_is_terminal() {
        return Err(CliError::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    if !output.is_empty() {
        OutputFile::check(output, what)?;
    }
    let client = s.client().await?;
    let mut answer = client.call("GET", path, query, Payload::Empty).await?;
    if output.is_empty() {
        return copy_out(&mut answer.body, &mut std::io::stdout()).await;
    }
    let mut file = OutputFile::create(output)?;
    file.write_body(&mut answer.body).await?;
    file.finish()
}

pub(super) async fn save(s: &Session) -> Result<()> {
    let m = &s.matches;
    let query = for_platform(s, m.args.iter().fold(Query::new(), |q, name| q.with("names", name)))?;
    write_archive(s, "/images/get", &query, "save image").await
}

pub(super) async fn export(s: &Session) -> Result<()> {
    let path = format!("/containers/{}/export", s.matches.arg(0));
    write_archive(s, &path, &Query::new(), "export container").await
}

pub(super) async fn import(s: &Session) -> Result<()> {
    let m = &s.matches;
    let source = m.arg(0);
    if !m.arg(1).is_empty() {
        check_name(m.arg(1)).map_err(CliError::new)?;
    }
    let is_url = source.starts_with("http://") || source.starts_with("https://");
    let (repository, tag) = match m.arg(1).rsplit_once(':') {
        Some((r, t)) if !t.contains('/') => (r, t),
        _ => (m.arg(1), ""),
    };
    let mut query = Query::new()
        .with("fromSrc", if is_url { source } else { "-" })
        .maybe("message", m.text("message"))
        .maybe("platform", m.text("platform"))
        .maybe("repo", repository)
        .maybe("tag", tag);
    for change in m.texts("change") {
        query = query.with("changes", change);
    }
    let client = s.client().await?;
    let mut answer = if is_url {
        client.call("POST", "/images/create", &query, Payload::Empty).await?
    } else {
        let mut file = open(source).await?;
        let payload = Payload::Stream("application/x-tar", &mut *file);
        client.call("POST", "/images/create", &query, payload).await?
    };
    Progress::new(false, false).follow(&mut answer.body).await
}

pub(super) async fn commit(s: &Session) -> Result<()> {
    let m = &s.matches;
    let name = m.arg(1);
    if !name.is_empty() {
        check_name(name).map_err(CliError::new)?;
    }
    let (repository, tag) = match name.rsplit_once(':') {
        Some((r, t)) if !t.contains('/') => (r, t),
        _ => (name, ""),
    };
    let mut query = Query::new()
        .with("container", m.arg(0))
        .maybe("repo", repository)
        .maybe("tag", tag)
        .maybe("comment", m.text("message"))
        .maybe("author", m.text("author"))
        .with("pause", if m.on("pause") { "1" } else { "0" });
    for change in m.texts("change") {
        query = query.with("changes", change);
    }
    let client = s.client().await?;
    let made: IdResponse = client.json("POST", "/commit", &query, Payload::Empty).await?;
    s.line(&made.id);
    Ok(())
}
