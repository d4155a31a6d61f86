//! The configuration: containerd's file (`version` 2 and 3) as far as it has a meaning here.
//!
//! Keys that dockerd writes are understood; one that is unknown is an error that names
//! it; one whose value asks for something that Ferry lacks is an error too.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Where things are and who may use them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Persistent folder.
    pub root: PathBuf,
    /// Folder that need not survive a reboot.
    pub state: PathBuf,
    /// Path of the gRPC socket.
    pub address: PathBuf,
    /// Owner of the socket.
    pub uid: u32,
    /// Group of the socket.
    pub gid: u32,
    /// `trace`, `debug`, `info`, `warn`, `error`; empty means info.
    pub log_level: String,
    /// Value for `/proc/self/oom_score_adj`; 0 leaves it alone.
    pub oom_score: i32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root: "/var/lib/ferry/containerd".into(),
            state: "/run/ferry/containerd".into(),
            address: "/run/ferry/containerd.sock".into(),
            uid: 0,
            gid: 0,
            log_level: String::new(),
            oom_score: 0,
        }
    }
}

/// Why a configuration is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// The file can't be read.
    #[error("reading configuration {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// Not TOML.
    #[error("configuration {path}: {source}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What and where.
        source: Box<toml::de::Error>,
    },
    /// A key that Ferry does not know.
    #[error("configuration: unknown key \"{0}\"")]
    UnknownKey(String),
    /// A value of the wrong type or out of range.
    #[error("configuration: \"{0}\" must be {1}")]
    WrongValue(String, &'static str),
    /// A value that asks for something that Ferry lacks.
    #[error("configuration: \"{key}\" = {value} is not supported: {hint}")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What to do.
        hint: &'static str,
    },
}

impl Config {
    /// Reads the file at `path` over the defaults.
    pub fn read(path: &Path) -> Result<Self, InvalidConfig> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| InvalidConfig::Read { path: path.into(), source })?;
        let table = text.parse::<Table>().map_err(|source| InvalidConfig::Syntax {
            path: path.into(),
            source: Box::new(source),
        })?;
        let mut config = Self::default();
        config.apply("", &table)?;
        Ok(config)
    }

    fn apply(&mut self, prefix: &str, table: &Table) -> Result<(), InvalidConfig> {
        table.iter().try_for_each(|(key, value)| self.set(&format!("{prefix}{key}"), value))
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<(), InvalidConfig> {
        let unset = |hint: &'static str| {
            if is_zero(value) {
                return Ok(());
            }
            Err(InvalidConfig::Unsupported { key: key.into(), value: show(value), hint })
        };
        match key {
            "version" => match value.as_integer() {
                Some(2..=3) => {}
                _ => return Err(InvalidConfig::WrongValue(key.into(), "2 or 3")),
            },
            "root" => self.root = path(key, value)?,
            "state" => self.state = path(key, value)?,
            "oom_score" => self.oom_score = number(key, value)?,
            "temp" => return unset("set TMPDIR"),
            "imports" => return unset("put everything into one file"),
            "required_plugins" => return unset("all services are always there"),
            // Whatever is disabled there, Ferry either lacks or others need.
            "disabled_plugins" => {
                value.as_array().ok_or(InvalidConfig::WrongValue(key.into(), "a list"))?;
            }
            "grpc" | "ttrpc" | "debug" | "metrics" | "cgroup" => {
                let table = value
                    .as_table()
                    .ok_or_else(|| InvalidConfig::WrongValue(key.into(), "a table"))?;
                return self.apply(&format!("{key}."), table);
            }
            "grpc.address" => self.address = path(key, value)?,
            "grpc.uid" => self.uid = number(key, value)?,
            "grpc.gid" => self.gid = number(key, value)?,
            // The limit is fixed at 16 MiB, which is what everybody sets.
            "grpc.max_recv_message_size" | "grpc.max_send_message_size" => {
                number::<u32>(key, value)?;
            }
            "grpc.tcp_address"
            | "grpc.tcp_tls_ca"
            | "grpc.tcp_tls_cert"
            | "grpc.tcp_tls_key"
            | "grpc.tcp_tls_common_name" => return unset("use the unix socket"),
            "ttrpc.address" => return unset("it is the gRPC address with .ttrpc"),
            "ttrpc.uid" | "ttrpc.gid" => return unset("it has the gRPC socket's owner"),
            "debug.level" => text(key, value)?.clone_into(&mut self.log_level),
            "debug.format" if value.as_str() == Some("text") => {}
            "debug.format" => return unset("use text"),
            // dockerd always names a debug socket; there is nothing behind it here.
            "debug.address" | "debug.uid" | "debug.gid" => {}
            "metrics.address" | "metrics.grpc_histogram" => return unset("there are no metrics"),
            "cgroup.path" => return unset("start ferry-containerd in the cgroup"),
            "plugins" | "proxy_plugins" | "stream_processors" | "timeouts" => {
                return unset("Ferry has no such plugins");
            }
            _ => return Err(InvalidConfig::UnknownKey(key.into())),
        }
        Ok(())
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(s) => s.is_empty(),
        Value::Integer(n) => *n == 0,
        Value::Float(n) => *n == 0.0,
        Value::Boolean(b) => !b,
        Value::Array(list) => list.is_empty(),
        Value::Table(table) => table.is_empty(),
        Value::Datetime(_) => false,
    }
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(truth) => truth.to_string(),
        other => format!("a {}", other.type_str()),
    }
}

fn text<'a>(key: &str, value: &'a Value) -> Result<&'a str, InvalidConfig> {
    value.as_str().ok_or_else(|| InvalidConfig::WrongValue(key.into(), "a text"))
}

fn path(key: &str, value: &Value) -> Result<PathBuf, InvalidConfig> {
    let path = PathBuf::from(text(key, value)?);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(InvalidConfig::WrongValue(key.into(), "an absolute path"))
}

fn number<T: TryFrom<i64>>(key: &str, value: &Value) -> Result<T, InvalidConfig> {
    let number = value.as_integer().and_then(|n| T::try_from(n).ok());
    number.ok_or_else(|| InvalidConfig::WrongValue(key.into(), "a number in range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, InvalidConfig> {
        let mut config = Config::default();
        config.apply("", &text.parse::<Table>().unwrap())?;
        Ok(config)
    }

    #[test]
    fn what_dockerd_writes_is_understood() {
        let config = read(
            r#"disabled_plugins = ["io.containerd.grpc.v1.cri"]
            imports = []
            oom_score = 0
            required_plugins = []
            root = "/data/containerd/daemon"
            state = "/exec/containerd/daemon"
            temp = ""
            version = 2
            [cgroup]
              path = ""
            [debug]
              address = "/exec/containerd-debug.sock"
              format = "text"
              gid = 0
              level = "debug"
              uid = 0
            [grpc]
              address = "/exec/containerd.sock"
              gid = 7
              max_recv_message_size = 16777216
              max_send_message_size = 16777216
              tcp_address = ""
              tcp_tls_ca = ""
              uid = 0
            [metrics]
              address = ""
              grpc_histogram = false
            [plugins]
            [proxy_plugins]
            [stream_processors]
            [timeouts]
            [ttrpc]
              address = ""
              gid = 0
              uid = 0"#,
        )
        .unwrap();
        assert_eq!(config.root, Path::new("/data/containerd/daemon"));
        assert_eq!(config.address, Path::new("/exec/containerd.sock"));
        assert_eq!((config.gid, config.log_level.as_str()), (7, "debug"));
    }

    #[test]
    fn what_is_unknown_wrong_or_missing_is_named() {
        let error = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(error("nope = 1"), "configuration: unknown key \"nope\"");
        assert_eq!(error("[grpc]\nnope = 1"), "configuration: unknown key \"grpc.nope\"");
        assert_eq!(error("version = 1"), "configuration: \"version\" must be 2 or 3");
        assert_eq!(error("root = 'x'"), "configuration: \"root\" must be an absolute path");
        assert!(error("[grpc]\ntcp_address = ':1'").contains("use the unix socket"));
    }
}
