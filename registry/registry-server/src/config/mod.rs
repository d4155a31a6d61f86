//! How the server is configured: flags, and a file with the same names as keys.

mod duration;
mod settings;
mod table;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use options::{Given, Values, go_error};
pub use settings::{Settings, Tls, Upstream};
use table::{GC, SERVE};

use crate::store::gc::{MIN_AGE, Wish};

const DEFAULT_FILE: &str = "/etc/ferry/registry.json";
const DEFAULT_ROOT: &str = "/var/lib/ferry/registry";

const HELP: &str = "\
Usage:  ferry-registry COMMAND

A registry server for the OCI distribution protocol.

Commands:
  serve       Serve the repositories below a folder
  gc          Remove what no repository needs

Run 'ferry-registry COMMAND --help' for more about a command.
";

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Serve with these settings; the arguments are for reading them again.
    Serve(Box<Settings>),
    /// Collect below this root.
    Collect(PathBuf, Wish),
    /// Print this.
    Print(String),
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// A command or flag that nobody knows.
    #[error("{0}")]
    Usage(String),
    /// The configuration file cannot be used.
    #[error("unable to configure the registry with file {}: {why}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A value that is out of range or contradicts another.
    #[error("unable to configure the registry: {0}")]
    Value(String),
}

/// Reads the arguments after the program's name, and the file that they name.
///
/// # Errors
/// A [`ConfigError`] that names the command, flag, key or file.
pub fn read(args: &[String]) -> Result<Request, ConfigError> {
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("--help", [].as_slice()),
    };
    match command {
        "serve" => serve(rest),
        "gc" => collect(rest),
        "-h" | "--help" | "help" => Ok(Request::Print(HELP.into())),
        "-v" | "--version" | "version" => Ok(Request::Print(version())),
        other => Err(ConfigError::Usage(format!(
            "ferry-registry: unknown command: {other}\nSee 'ferry-registry --help'."
        ))),
    }
}

/// Reads the settings once more, for what can change while the server runs.
///
/// # Errors
/// As [`read`].
pub fn reread(args: &[String]) -> Result<Settings, ConfigError> {
    match read(args)? {
        Request::Serve(settings) => Ok(*settings),
        _ => Err(ConfigError::Usage("not a command line that serves".into())),
    }
}

fn serve(args: &[String]) -> Result<Request, ConfigError> {
    let given = parse(&SERVE, args)?;
    if given.is_set("help") {
        return Ok(Request::Print(SERVE.help()));
    }
    if given.is_set("version") {
        return Ok(Request::Print(version()));
    }
    let mut values = read_file(given.text("config-file"), &given.values)?;
    let is_check = given.is_set("validate");
    values.extend(given.values);
    let settings = Settings::from_values(&values).map_err(ConfigError::Value)?;
    if is_check {
        return Ok(Request::Print("configuration OK\n".into()));
    }
    Ok(Request::Serve(Box::new(settings)))
}

fn collect(args: &[String]) -> Result<Request, ConfigError> {
    let given = parse(&GC, args)?;
    if given.is_set("help") {
        return Ok(Request::Print(GC.help()));
    }
    let min_age = match given.text("min-age") {
        None => MIN_AGE,
        Some(text) => duration::parse(text).ok_or_else(|| {
            ConfigError::Value(format!("min-age: time: invalid duration \"{text}\""))
        })?,
    };
    let wish = Wish {
        dry_run: given.is_set("dry-run"),
        delete_untagged: given.is_set("delete-untagged"),
        min_age,
        is_cache: false,
    };
    let root = given.text("root").unwrap_or(DEFAULT_ROOT);
    Ok(Request::Collect(root.into(), wish))
}

fn parse(table: &options::Table, args: &[String]) -> Result<Given, ConfigError> {
    table.parse(args).map_err(|error| {
        let (program, usage) = (table.program, table.usage());
        ConfigError::Usage(format!("{error}\nSee '{program} --help'.\n\n{usage}"))
    })
}

fn read_file(named: Option<&str>, from_flags: &Values) -> Result<Values, ConfigError> {
    let path = Path::new(named.unwrap_or(DEFAULT_FILE));
    let failed = |why| ConfigError::File { path: path.to_owned(), why };
    match std::fs::read_to_string(path) {
        Ok(text) => SERVE.read_file(&text, from_flags).map_err(failed),
        Err(error) if error.kind() == ErrorKind::NotFound && named.is_none() => Ok(Values::new()),
        Err(error) => Err(failed(format!("open {}: {}", path.display(), go_error(&error)))),
    }
}

fn version() -> String {
    format!("ferry-registry version {}\n", env!("CARGO_PKG_VERSION"))
}
