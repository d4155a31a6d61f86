//! `info`.

use super::BUILD;
use crate::error::{CliError, Result};
use crate::plugin;
use crate::session::{Session, target, write_out};
use crate::show::inspect::parse;
use crate::show::units::bytes_size;
use engine_api::view::{Fields, View};
use engine_api::{Shown, SystemInfo, Value};
use engine_client::{ClientError, Payload, Query};
use std::fmt::Write as _;

/// Whether a template needs no daemon is not guessed: it is always asked.
pub(super) async fn info(s: &Session) -> Result<()> {
    let format = s.matches.text("format");
    let asked: Result<Vec<u8>> = async {
        let client = s.client().await?;
        Ok(client.bytes("GET", "/info", &Query::new(), Payload::Empty).await?)
    }
    .await;
    let (info, raw, problem) = match asked {
        Ok(raw) => {
            let info: SystemInfo = engine_api::decode(&raw)
                .map_err(|e| CliError::from(ClientError::Decode(e.to_string())))?;
            (Some(info), raw, None)
        }
        Err(error) => (None, b"{}".to_vec(), Some(error)),
    };
    if format.is_empty() {
        let mut out = client_part(s)?;
        out.push_str("\nServer:\n");
        if let Some(info) = &info {
            server_part(&mut out, info);
        } else {
            write_out(out.as_bytes());
            let why = problem.map_or_else(String::new, |e| e.to_string());
            return Err(CliError::new(format!("{why}\nerrors pretty printing info")));
        }
        write_out(out.as_bytes());
        for warning in info.iter().flat_map(|i| i.warnings.iter().flatten()) {
            s.tell(warning);
        }
        return Ok(());
    }
    let text = if format == "json" {
        with_client(s, engine_api::json::parse(&raw).unwrap_or_default())?
    } else {
        let template = parse(format)?;
        let both = Both { info: info.unwrap_or_default(), client: client_info(s)? };
        template.execute(&both).map_err(|e| {
            write_out(b"\n");
            CliError::new(e.to_string())
        })?
    };
    write_out(format!("{text}\n").as_bytes());
    problem.map_or(Ok(()), Err)
}

/// The daemon's part and this program's, as templates see them.
struct Both {
    info: SystemInfo,
    client: Value,
}

impl View for Both {
    fn view(&self) -> Shown<'_> {
        Shown::Struct(self)
    }
}

impl Fields for Both {
    fn type_name(&self) -> &'static str {
        "system.dockerInfo"
    }
    fn field(&self, name: &str) -> Option<Shown<'_>> {
        match (name, self.info.view()) {
            ("ClientInfo", _) => Some(Shown::Json(&self.client)),
            (name, Shown::Struct(info)) => info.field(name),
            _ => None,
        }
    }
    fn fields(&self) -> Vec<(&'static str, Shown<'_>)> {
        match self.info.view() {
            Shown::Struct(info) => info.fields(),
            _ => Vec::new(),
        }
    }
    fn json(&self) -> Value {
        match self.info.view() {
            Shown::Struct(info) => info.json(),
            _ => Value::Null,
        }
    }
}

/// What this program says of itself.
fn client_info(s: &Session) -> Result<Value> {
    let text = |t: &str| Value::String(t.to_owned());
    Ok(Value::Object(vec![
        ("Debug".to_owned(), Value::Bool(s.globals.on("debug"))),
        ("Version".to_owned(), text(env!("CARGO_PKG_VERSION"))),
        ("GitCommit".to_owned(), text(BUILD)),
        ("Os".to_owned(), text(std::env::consts::OS)),
        ("Context".to_owned(), text(&target(&s.globals, &s.config)?.context)),
    ]))
}

/// The daemon's members, then what this program says of itself.
fn with_client(s: &Session, value: Value) -> Result<String> {
    let Value::Object(mut members) = value else { return Ok(value.to_string()) };
    members.push(("ClientInfo".to_owned(), client_info(s)?));
    Ok(Value::Object(members).to_string())
}

fn client_part(s: &Session) -> Result<String> {
    let mut out = String::from("Client: Ferry\n");
    let _ = writeln!(out, " Version:    {}", env!("CARGO_PKG_VERSION"));
    let _ = writeln!(out, " Context:    {}", target(&s.globals, &s.config)?.context);
    let _ = writeln!(out, " Debug Mode: {}", s.globals.on("debug"));
    let plugins = plugin::details(&s.globals);
    if !plugins.is_empty() {
        out.push_str(" Plugins:\n");
        for found in plugins {
            let _ = writeln!(out, "  {}: {} ({})", found.name, found.about, found.vendor);
            let _ = writeln!(out, "    Version:  {}", found.version);
            let _ = writeln!(out, "    Path:     {}", found.path.display());
        }
    }
    Ok(out)
}

fn server_part(out: &mut String, info: &SystemInfo) {
    let mut row = |name: &str, text: &str| {
        let _ = writeln!(out, " {name}: {text}");
    };
    row("Containers", &info.containers.to_string());
    row(" Running", &info.containers_running.to_string());
    row(" Paused", &info.containers_paused.to_string());
    row(" Stopped", &info.containers_stopped.to_string());
    row("Images", &info.images.to_string());
    row("Server Version", &info.server_version);
    row("Storage Driver", &info.driver);
    for pair in &info.driver_status {
        if let [name, text] = pair.as_slice() {
            row(&format!(" {name}"), text);
        }
    }
    row("Logging Driver", &info.logging_driver);
    row("Cgroup Driver", &info.cgroup_driver);
    row("Cgroup Version", &info.cgroup_version);
    let _ = writeln!(out, " Plugins:");
    let list = |names: &Option<Vec<String>>| names.clone().unwrap_or_default().join(" ");
    let mut row = |name: &str, text: &str| {
        let _ = writeln!(out, " {name}: {text}");
    };
    row(" Volume", &list(&info.plugins.volume));
    row(" Network", &list(&info.plugins.network));
    if info.plugins.authorization.as_ref().is_some_and(|a| !a.is_empty()) {
        row(" Authorization", &list(&info.plugins.authorization));
    }
    row(" Log", &list(&info.plugins.log));
    if !info.cdi_spec_dirs.is_empty() {
        let _ = writeln!(out, " CDI spec directories:");
        for folder in &info.cdi_spec_dirs {
            let _ = writeln!(out, "  {folder}");
        }
    }
    let mut row = |name: &str, text: &str| {
        let _ = writeln!(out, " {name}: {text}");
    };
    row("Swarm", &info.swarm.local_node_state);
    let mut runtimes: Vec<&str> = info.runtimes.keys().map(String::as_str).collect();
    runtimes.sort_unstable();
    row("Runtimes", &runtimes.join(" "));
    row("Default Runtime", &info.default_runtime);
    row("Init Binary", &info.init_binary);
    row("containerd version", &info.containerd_commit.id);
    row("runc version", &info.runc_commit.id);
    row("init version", &info.init_commit.id);
    if !info.security_options.is_empty() {
        let _ = writeln!(out, " Security Options:");
        for option in &info.security_options {
            security(out, option);
        }
    }
    host_part(out, info);
}

/// `name=seccomp,profile=builtin` over two lines.
fn security(out: &mut String, option: &str) {
    let mut parts = option.split(',').map(|p| p.split_once('=').unwrap_or(("name", p)));
    if let Some((_, name)) = parts.next() {
        let _ = writeln!(out, "  {name}");
    }
    for (key, value) in parts {
        let mut letters = key.chars();
        let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
        let _ = writeln!(out, "   {first}{}: {value}", letters.as_str());
    }
}

fn host_part(out: &mut String, info: &SystemInfo) {
    let mut row = |name: &str, text: &str| {
        let _ = writeln!(out, " {name}: {text}");
    };
    row("Kernel Version", &info.kernel_version);
    row("Operating System", &info.operating_system);
    row("OSType", &info.os_type);
    row("Architecture", &info.architecture);
    row("CPUs", &info.ncpu.to_string());
    row("Total Memory", &bytes_size(info.mem_total as f64));
    row("Name", &info.name);
    row("ID", &info.id);
    row("Docker Root Dir", &info.docker_root_dir);
    row("Debug Mode", &info.debug.to_string());
    for (name, text) in [
        ("HTTP Proxy", &info.http_proxy),
        ("HTTPS Proxy", &info.https_proxy),
        ("No Proxy", &info.no_proxy),
    ] {
        if !text.is_empty() {
            row(name, text);
        }
    }
    if !info.labels.is_empty() {
        let _ = writeln!(out, " Labels:");
        for label in &info.labels {
            let _ = writeln!(out, "  {label}");
        }
    }
    let _ = writeln!(out, " Experimental: {}", info.experimental_build);
    let _ = writeln!(out, " Insecure Registries:");
    for (name, index) in info.registry_config.index_configs.iter().filter(|(_, i)| !i.secure) {
        let _ = (index, writeln!(out, "  {name}"));
    }
    for cidr in &info.registry_config.insecure_registry_cidrs {
        let _ = writeln!(out, "  {cidr}");
    }
    let _ = writeln!(out, " Live Restore Enabled: {}", info.live_restore_enabled);
    if let Some(firewall) = info.firewall_backend.as_ref().filter(|f| f.driver != "iptables") {
        let _ = writeln!(out, " Firewall Backend: {}", firewall.driver);
    }
    out.push('\n');
}
