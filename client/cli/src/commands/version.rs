//! `version`, and commands that concern this program itself.

use super::BUILD;
use crate::error::{CliError, Result};
use crate::session::{Session, target, write_out};
use crate::show::inspect::parse;
use engine_api::view::Fields;
use engine_api::{ApiVersion, Encoder, Nil, Shown, SystemVersion, Value, View, encode, json};
use engine_client::Query;
use std::borrow::Cow;
use std::fmt::Write as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// This program's part of `version`.
struct Client {
    context: String,
    api: String,
}

impl Client {
    fn cells(&self) -> Vec<(&'static str, &'static str, String)> {
        vec![
            ("Version", "Version", env!("CARGO_PKG_VERSION").to_owned()),
            ("APIVersion", "ApiVersion", self.api.clone()),
            ("DefaultAPIVersion", "DefaultAPIVersion", ApiVersion::MAX.to_string()),
            ("GitCommit", "GitCommit", BUILD.to_owned()),
            ("GoVersion", "GoVersion", String::new()),
            ("Os", "Os", std::env::consts::OS.to_owned()),
            ("Arch", "Arch", go_arch().to_owned()),
            ("Context", "Context", self.context.clone()),
        ]
    }
}

/// The architecture's name in Go.
fn go_arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

impl Fields for Client {
    fn type_name(&self) -> &'static str {
        "system.clientVersion"
    }
    fn field(&self, name: &str) -> Option<Shown<'_>> {
        let found = self.cells().into_iter().find(|(n, ..)| *n == name);
        found.map(|(.., text)| Shown::Text(Cow::Owned(text)))
    }
    fn fields(&self) -> Vec<(&'static str, Shown<'_>)> {
        self.cells().into_iter().map(|(n, _, t)| (n, Shown::Text(Cow::Owned(t)))).collect()
    }
    fn json(&self) -> Value {
        let cells = self.cells().into_iter().filter(|(n, ..)| *n != "GoVersion");
        Value::Object(cells.map(|(_, n, t)| (n.to_owned(), Value::String(t))).collect())
    }
}

/// Both parts.
struct Both {
    client: Client,
    server: Option<SystemVersion>,
}

impl Fields for Both {
    fn type_name(&self) -> &'static str {
        "system.versionInfo"
    }
    fn field(&self, name: &str) -> Option<Shown<'_>> {
        match name {
            "Client" => Some(Shown::Struct(&self.client)),
            "Server" => Some(match &self.server {
                Some(server) => server.view(),
                None => Shown::Nil(Nil::Pointer),
            }),
            _ => None,
        }
    }
    fn fields(&self) -> Vec<(&'static str, Shown<'_>)> {
        ["Client", "Server"].into_iter().filter_map(|n| Some((n, self.field(n)?))).collect()
    }
    fn json(&self) -> Value {
        let server = self.server.as_ref().map_or(Value::Null, |server| {
            json::parse(encode(server, ApiVersion::MAX).as_bytes()).unwrap_or(Value::Null)
        });
        Value::Object(vec![("Client".into(), self.client.json()), ("Server".into(), server)])
    }
}

impl View for Both {
    fn view(&self) -> Shown<'_> {
        Shown::Struct(self)
    }
}

pub(super) async fn version(s: &Session) -> Result<()> {
    let format = s.matches.text("format");
    let template = match format {
        "" | "json" => None,
        text => Some(parse(text)?),
    };
    let context = target(&s.globals, &s.config)?.context;
    let asked: Result<(SystemVersion, String)> = async {
        let client = s.client().await?;
        let server = client.get("/version", &Query::new()).await?;
        Ok((server, client.version().to_string()))
    }
    .await;
    let (server, api, problem) = match asked {
        Ok((server, api)) => (Some(server), api, None),
        Err(error) => (None, ApiVersion::MAX.to_string(), Some(error)),
    };
    let both = Both { client: Client { context, api }, server };
    let text = match (template, format) {
        (Some(template), _) => template.execute(&both).map_err(named)? + "\n",
        (None, "json") => {
            let mut encoder = Encoder::new(ApiVersion::MAX);
            encoder.value(&both.json());
            encoder.finish() + "\n"
        }
        _ => plain(&both),
    };
    write_out(text.as_bytes());
    problem.map_or(Ok(()), Err)
}

/// The error of a template, which is called `version` here.
fn named(error: crate::template::TemplateError) -> CliError {
    write_out(b"\n");
    let text = error.to_string().replacen("template: :", "template: version:", 1);
    CliError::new(text.replacen("executing \"\"", "executing \"version\"", 1))
}

fn plain(both: &Both) -> String {
    let mut out = String::from("Client: Ferry\n");
    let row = |out: &mut String, indent: &str, name: &str, text: &str| {
        let width = 19 - indent.len();
        let _ = writeln!(out, "{indent}{:<width$}{text}", format!("{name}:"));
    };
    let client = &both.client;
    row(&mut out, " ", "Version", env!("CARGO_PKG_VERSION"));
    let default = ApiVersion::MAX.to_string();
    let api = if client.api == default {
        default
    } else {
        format!("{} (downgraded from {default})", client.api)
    };
    row(&mut out, " ", "API version", &api);
    row(&mut out, " ", "Git commit", BUILD);
    row(&mut out, " ", "OS/Arch", &format!("{}/{}", std::env::consts::OS, go_arch()));
    row(&mut out, " ", "Context", &client.context);
    let Some(server) = &both.server else { return out };
    let platform = match server.platform.name.as_str() {
        "" => String::new(),
        name => format!(" {name}"),
    };
    let _ = writeln!(out, "\nServer:{platform}");
    for component in &server.components {
        let _ = writeln!(out, " {}:", component.name);
        row(&mut out, "  ", "Version", &component.version);
        let details = component.details.clone().unwrap_or_default();
        let detail = |name: &str| details.get(name).map_or("", String::as_str);
        if component.name != "Engine" {
            for (name, text) in &details {
                row(&mut out, "  ", name, text);
            }
            continue;
        }
        let api = format!("{} (minimum version {})", detail("ApiVersion"), detail("MinAPIVersion"));
        row(&mut out, "  ", "API version", &api);
        row(&mut out, "  ", "Go version", detail("GoVersion"));
        row(&mut out, "  ", "Git commit", detail("GitCommit"));
        let built = detail("BuildTime");
        let built = built
            .parse::<jiff::Timestamp>()
            .map_or_else(|_| built.to_owned(), |t| t.strftime("%a %b %e %H:%M:%S %Y").to_string());
        row(&mut out, "  ", "Built", &built);
        row(&mut out, "  ", "OS/Arch", &format!("{}/{}", detail("Os"), detail("Arch")));
        row(&mut out, "  ", "Experimental", detail("Experimental"));
    }
    out
}

pub(super) async fn completion(s: &Session) -> Result<()> {
    match crate::complete::script(s.matches.arg(0), &s.program) {
        Some(text) => {
            s.print(&text);
            Ok(())
        }
        None => Err(CliError::new(format!(
            "unknown shell: {}; known are bash, zsh and fish",
            s.matches.arg(0)
        ))),
    }
}

/// Standard input and output on one side, the daemon's socket on the other; each side's end is
/// passed on to the other.
pub(super) async fn dial_stdio(s: &Session) -> Result<()> {
    let stream = s.client().await?.dial().await?;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let to_daemon = async {
        let mut typed = crate::terminal::stream::read_stdin();
        while let Some(bytes) = typed.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                break;
            }
        }
        let _ = writer.shutdown().await;
        std::future::pending::<()>().await;
    };
    let from_daemon = async {
        let mut buffer = vec![0u8; 32 * 1024];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            write_out(&buffer[..count]);
        }
    };
    tokio::select! {
        () = to_daemon => {}
        () = from_daemon => {}
    }
    Ok(())
}
