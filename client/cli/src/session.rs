//! One call of the program: what was typed, the configuration, the daemon.

use crate::args::Matches;
use crate::error::{CliError, Result};
use crate::on_demand;
use engine_api::{ApiVersion, Wire, decode};
use engine_client::{Client, ClientError, Config, ContextStore, Payload, Query, full_address};
use std::cell::OnceCell;
use std::io::Write;
use std::path::PathBuf;

/// Ferry's own socket.
pub(crate) const OWN_SOCKET: &str = "unix:///run/ferry/ferry.sock";

/// One call of the program.
pub(crate) struct Session {
    /// The program's name.
    pub(crate) program: String,
    /// The flags before the command.
    pub(crate) globals: Matches,
    /// The command with its flags and arguments.
    pub(crate) matches: Matches,
    /// The configuration file.
    pub(crate) config: Config,
    client: OnceCell<Client>,
}

/// Where the daemon is, and who said so.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The address.
    pub(crate) host: String,
    /// The name of the context in use.
    pub(crate) context: String,
    /// Whether nobody named a daemon, so that it is ferry's own.
    pub(crate) own: bool,
}

/// The folder of the configuration.
pub(crate) fn config_folder(globals: &Matches) -> PathBuf {
    if globals.given("config") {
        return PathBuf::from(globals.text("config"));
    }
    match std::env::var_os("DOCKER_CONFIG").filter(|v| !v.is_empty()) {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".docker"),
    }
}

/// Reads the configuration; a broken one only warns.
pub(crate) fn load_config(globals: &Matches) -> Config {
    let (config, problem) = Config::load(&config_folder(globals));
    if let Some(problem) = problem {
        let _ = writeln!(std::io::stderr(), "WARNING: Error loading config file: {problem}");
    }
    config
}

fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// Finds the daemon: `-H`, `--context`, DOCKER_HOST, DOCKER_CONTEXT, the configuration's
/// context, then ferry's own.
pub(crate) fn target(globals: &Matches, config: &Config) -> Result<Target> {
    let unresolved = |e: &dyn std::fmt::Display| {
        CliError::new(format!("Failed to initialize: unable to resolve docker endpoint: {e}"))
    };
    let plain = |host: &str| {
        let host = full_address(host).map_err(|e| unresolved(&e))?;
        Ok(Target { host, context: "default".into(), own: false })
    };
    if globals.given("host") {
        return plain(globals.text("host"));
    }
    let name = if globals.given("context") {
        globals.text("context").to_owned()
    } else if let Some(host) = env("DOCKER_HOST") {
        return plain(&host);
    } else {
        env("DOCKER_CONTEXT").unwrap_or_else(|| config.text("currentContext").to_owned())
    };
    if name.is_empty() || name == "default" {
        // `--context default` means what the environment says, too.
        return match env("DOCKER_HOST") {
            Some(host) => plain(&host),
            None => Ok(Target { host: OWN_SOCKET.into(), context: "default".into(), own: true }),
        };
    }
    let store = ContextStore::new(config.folder());
    let context = store.get(&name).map_err(|e| unresolved(&e))?;
    let own = context.host == OWN_SOCKET;
    Ok(Target { host: context.host, context: name, own })
}

impl Session {
    pub(crate) fn new(program: String, globals: Matches, matches: Matches, config: Config) -> Self {
        Self { program, globals, matches, config, client: OnceCell::new() }
    }

    /// The daemon's client; ferry's own daemon is started if nobody listens.
    pub(crate) async fn client(&self) -> Result<&Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let target = target(&self.globals, &self.config)?;
        let version = match env("DOCKER_API_VERSION") {
            None => None,
            Some(text) => Some(
                text.trim_start_matches('v')
                    .parse::<ApiVersion>()
                    .map_err(|e| CliError::new(e.to_string()))?,
            ),
        };
        let client = Client::new(&target.host, version)
            .map_err(|e| CliError::new(format!("Failed to initialize: {e}")))?
            .with_headers(self.config.headers());
        if target.own {
            on_demand::ensure_daemon(&client).await?;
        }
        self.check_versions(&client).await?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Asks for the version first if the command or a flag is not in every version.
    async fn check_versions(&self, client: &Client) -> Result<()> {
        let command = self.matches.command;
        let newer = |api: &str| api.parse::<ApiVersion>().ok().filter(|v| *v > ApiVersion::MIN);
        let flags: Vec<_> = self.matches.all_given().filter(|f| newer(f.api).is_some()).collect();
        if flags.is_empty() && newer(command.api).is_none() {
            return Ok(());
        }
        let daemon = client.negotiate().await?;
        let mut wrong = Vec::new();
        for flag in flags {
            if newer(flag.api).is_some_and(|v| v > daemon) {
                wrong.push(format!(
                    "\"--{}\" requires API version {}, but the Docker daemon API version is {daemon}",
                    flag.long, flag.api
                ));
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(CliError::new(wrong.join("\n"))) }
    }

    /// `GET`, decoded.
    pub(crate) async fn get<T: Wire + Default>(&self, path: &str, query: &Query) -> Result<T> {
        Ok(self.client().await?.get(path, query).await?)
    }

    /// A `POST` whose answer says nothing.
    pub(crate) async fn post(&self, path: &str, query: &Query) -> Result<()> {
        Ok(self.client().await?.post(path, query).await?)
    }

    /// A request with a body, its answer decoded.
    pub(crate) async fn send<T: Wire + Default, B: Wire>(
        &self,
        path: &str,
        query: &Query,
        body: &B,
    ) -> Result<T> {
        let client = self.client().await?;
        let bytes = client.bytes("POST", path, query, Payload::of(body)).await?;
        if bytes.is_empty() {
            return Ok(T::default());
        }
        decode(&bytes).map_err(|e| ClientError::Decode(e.to_string()).into())
    }

    /// Does something to each argument: prints the name of each that succeeded, collects the
    /// errors of the others.
    pub(crate) async fn each<F: AsyncFn(&str) -> Result<()>>(&self, act: F) -> Result<()> {
        let mut errors = Vec::new();
        for name in &self.matches.args {
            match act(name).await {
                Ok(()) => self.line(name),
                Err(error) => errors.push(error.to_string()),
            }
        }
        if errors.is_empty() { Ok(()) } else { Err(CliError::new(errors.join("\n"))) }
    }

    /// Prints a line.
    pub(crate) fn line(&self, text: &str) {
        self.print(&format!("{text}\n"));
    }

    /// Prints a text.
    #[allow(clippy::unused_self)] // The session is what prints, whatever it prints to.
    pub(crate) fn print(&self, text: &str) {
        write_out(text.as_bytes());
    }

    /// Tells something on standard error.
    #[allow(clippy::unused_self)] // As above.
    pub(crate) fn tell(&self, text: &str) {
        let _ = writeln!(std::io::stderr(), "{text}");
    }
}

/// Writes to standard output; ends the program when nobody reads any more.
pub(crate) fn write_out(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}
