//! Plugins: programs called `docker-NAME` beside the configuration or in the
//! system's folders, which bring commands of their own.

use crate::args::Matches;
use crate::error::{CliError, Result};
use crate::session::{config_folder, load_config, target};
use engine_api::Value;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use sys::process::Exit;

/// Asks a process to end.
const SIGTERM: i32 = 15;

/// A plugin and what it says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Plugin {
    /// Its command.
    pub(crate) name: String,
    /// The program.
    pub(crate) path: PathBuf,
    /// What it is for.
    pub(crate) about: String,
    /// Who made it.
    pub(crate) vendor: String,
    /// Its version.
    pub(crate) version: String,
}

/// The folders that are searched, the first that has a plugin wins.
fn folders(flags: &Matches) -> Vec<PathBuf> {
    let config = load_config(flags);
    let extra = config.get("cliPluginsExtraDirs").and_then(Value::as_array).unwrap_or_default();
    let mut found: Vec<PathBuf> =
        extra.iter().filter_map(Value::as_str).map(PathBuf::from).collect();
    found.insert(0, config_folder(flags).join("cli-plugins"));
    let system = [
        "/usr/local/lib/docker/cli-plugins",
        "/usr/local/libexec/docker/cli-plugins",
        "/usr/lib/docker/cli-plugins",
        "/usr/libexec/docker/cli-plugins",
    ];
    found.extend(system.iter().map(PathBuf::from));
    found
}

/// A plugin by its command, if it answers for itself.
pub(crate) fn find(flags: &Matches, name: &str) -> Option<Plugin> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty() || !name.chars().all(good) {
        return None;
    }
    let file = format!("docker-{name}");
    let path = folders(flags).into_iter().map(|f| f.join(&file)).find(|p| p.is_file())?;
    metadata(name, path)
}

/// All plugins that answer for themselves.
pub(crate) fn details(flags: &Matches) -> Vec<Plugin> {
    let mut found: Vec<Plugin> = Vec::new();
    for folder in folders(flags) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some(name) = file.strip_prefix("docker-") else { continue };
            if found.iter().any(|p| p.name == name) {
                continue;
            }
            found.extend(metadata(name, entry.path()));
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// Names and descriptions, for help.
pub(crate) fn list(flags: &Matches) -> Vec<(String, String)> {
    details(flags).into_iter().map(|p| (p.name, p.about)).collect()
}

/// Asks a plugin about itself.
fn metadata(name: &str, path: PathBuf) -> Option<Plugin> {
    let (mut reader, writer) = std::io::pipe().ok()?;
    let child = sys::spawn::Command::new(&path)
        .arg("docker-cli-plugin-metadata")
        .inherit_env()
        .fd(writer.as_fd(), 1)
        .spawn()
        .ok()?;
    drop(writer);
    let mut text = Vec::new();
    let _ = reader.by_ref().take(1 << 20).read_to_end(&mut text);
    let _ = child.wait();
    let value = engine_api::json::parse(&text).ok()?;
    let member = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    if member("SchemaVersion") != "0.1.0" || member("Vendor").is_empty() {
        return None;
    }
    Some(Plugin {
        name: name.to_owned(),
        path,
        about: member("ShortDescription"),
        vendor: member("Vendor"),
        version: member("Version"),
    })
}

impl Plugin {
    /// Runs it in place of this program, with its words, and ends as it ends.
    pub(crate) fn run(&self, flags: &Matches, argv: &[String]) -> Result<()> {
        run(&self.path, flags, argv)
    }
}

fn run(path: &std::path::Path, flags: &Matches, argv: &[String]) -> Result<()> {
    let config = load_config(flags);
    let target = target(flags, &config)?;
    // As it was called: it may be a link of another name.
    let program = std::env::args_os().next().unwrap_or_default();
    let streams = (std::io::stdin(), std::io::stdout(), std::io::stderr());
    let mut command = sys::spawn::Command::new(path).args(argv).inherit_env();
    command = command.env("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", &program);
    if target.own {
        command = command.env("DOCKER_HOST", &target.host);
    }
    let fds: [(BorrowedFd<'_>, i32); 3] =
        [(streams.0.as_fd(), 0), (streams.1.as_fd(), 1), (streams.2.as_fd(), 2)];
    for (fd, number) in fds {
        command = command.fd(fd, number);
    }
    // It shares the terminal, whose signals reach it by themselves; with the others, which end
    // this program, it ends too.
    let child = command.death_signal(SIGTERM).spawn().map_err(|e| CliError::new(e.to_string()))?;
    match child.wait()? {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(CliError::silent(code as u8)),
        Exit::Signal(signal) => Err(CliError::silent(128 + signal as u8)),
    }
}
