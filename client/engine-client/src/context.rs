//! The store of contexts: named endpoints, in the layout that other clients share.

use engine_api::Value;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Why a context can't be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// There is none of that name.
    #[error("context {name:?}: context not found: open {path}: no such file or directory")]
    NotFound {
        /// The name.
        name: String,
        /// Where it would be.
        path: String,
    },
    /// Its file is no context.
    #[error("context {name:?}: {why}")]
    Broken {
        /// The name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The store can't be written.
    #[error("context {name:?}: {source}")]
    Io {
        /// The name.
        name: String,
        /// The system's reason.
        source: std::io::Error,
    },
}

/// A named endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Context {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// The daemon's address.
    pub host: String,
    /// Whether the daemon's certificate is not checked.
    pub skip_tls_verify: bool,
}

/// The folder of contexts.
#[derive(Debug, Clone)]
pub struct ContextStore {
    folder: PathBuf,
}

impl ContextStore {
    /// The store inside a configuration folder.
    pub fn new(config: &Path) -> Self {
        Self { folder: config.join("contexts") }
    }

    fn hashed(name: &str) -> String {
        let mut hex = String::new();
        for byte in Sha256::digest(name.as_bytes()) {
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }

    /// The folder of a context's description.
    pub fn meta_folder(&self, name: &str) -> PathBuf {
        self.folder.join("meta").join(Self::hashed(name))
    }

    /// The folder of a context's keys.
    pub fn tls_folder(&self, name: &str) -> PathBuf {
        self.folder.join("tls").join(Self::hashed(name))
    }

    /// Reads a context.
    ///
    /// # Errors
    /// When there is none, or its file can't be read.
    pub fn get(&self, name: &str) -> Result<Context, ContextError> {
        let file = self.meta_folder(name).join("meta.json");
        let bytes = std::fs::read(&file).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                ContextError::NotFound { name: name.into(), path: file.display().to_string() }
            }
            _ => ContextError::Io { name: name.into(), source: e },
        })?;
        let value = engine_api::json::parse(&bytes)
            .map_err(|e| ContextError::Broken { name: name.into(), why: e.to_string() })?;
        Ok(Self::read(name, &value))
    }

    fn read(name: &str, value: &Value) -> Context {
        let docker = value.get("Endpoints").and_then(|e| e.get("docker"));
        let text = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or_default().to_owned();
        Context {
            name: match value.get("Name").and_then(Value::as_str) {
                Some(name) => name.to_owned(),
                None => name.to_owned(),
            },
            description: text(value.get("Metadata").and_then(|m| m.get("Description"))),
            host: text(docker.and_then(|d| d.get("Host"))),
            skip_tls_verify: docker
                .and_then(|d| d.get("SkipTLSVerify"))
                .and_then(Value::as_bool)
                .unwrap_or(false),
        }
    }

    /// All contexts, sorted by name.
    pub fn list(&self) -> Vec<Context> {
        let mut found: Vec<Context> = std::fs::read_dir(self.folder.join("meta"))
            .into_iter()
            .flatten()
            .filter_map(|entry| std::fs::read(entry.ok()?.path().join("meta.json")).ok())
            .filter_map(|bytes| engine_api::json::parse(&bytes).ok())
            .map(|value| Self::read("", &value))
            .filter(|context| !context.name.is_empty())
            .collect();
        found.sort_by(|a, b| a.name.cmp(&b.name));
        found
    }

    /// Keeps a context.
    ///
    /// # Errors
    /// When the store can't be written.
    pub fn put(&self, context: &Context) -> Result<(), ContextError> {
        let failed = |source| ContextError::Io { name: context.name.clone(), source };
        let folder = self.meta_folder(&context.name);
        std::fs::create_dir_all(&folder).map_err(failed)?;
        std::fs::write(folder.join("meta.json"), context.meta().to_string()).map_err(failed)
    }

    /// Forgets a context.
    ///
    /// # Errors
    /// When there is none, or the store can't be written.
    pub fn remove(&self, name: &str) -> Result<(), ContextError> {
        self.get(name)?;
        let failed = |source| ContextError::Io { name: name.into(), source };
        std::fs::remove_dir_all(self.meta_folder(name)).map_err(failed)?;
        match std::fs::remove_dir_all(self.tls_folder(name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(failed(e)),
            _ => Ok(()),
        }
    }
}

impl Context {
    /// The description as the store keeps it.
    pub fn meta(&self) -> Value {
        let text = |t: &str| Value::String(t.to_owned());
        let mut metadata = Vec::new();
        if !self.description.is_empty() {
            metadata.push(("Description".to_owned(), text(&self.description)));
        }
        let endpoint = vec![
            ("Host".to_owned(), text(&self.host)),
            ("SkipTLSVerify".to_owned(), Value::Bool(self.skip_tls_verify)),
        ];
        Value::Object(vec![
            ("Name".to_owned(), text(&self.name)),
            ("Metadata".to_owned(), Value::Object(metadata)),
            (
                "Endpoints".to_owned(),
                Value::Object(vec![("docker".to_owned(), Value::Object(endpoint))]),
            ),
        ])
    }
}

/// Lays JSON out over lines, as Go's `json.Indent` does: order, numbers and strings stay as
/// they are.
pub(crate) fn indent(json: &str, step: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let mut letters = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        for _ in 0..depth {
            out.push_str(step);
        }
    };
    while let Some(letter) = letters.next() {
        if in_string {
            out.push(letter);
            (in_string, escaped) = match (escaped, letter) {
                (true, _) => (true, false),
                (false, '\\') => (true, true),
                (false, '"') => (false, false),
                _ => (true, false),
            };
            continue;
        }
        match letter {
            ' ' | '\t' | '\r' | '\n' => {}
            '"' => {
                in_string = true;
                out.push(letter);
            }
            '{' | '[' => {
                out.push(letter);
                while letters.next_if(char::is_ascii_whitespace).is_some() {}
                let close = if letter == '{' { '}' } else { ']' };
                if letters.next_if_eq(&close).is_some() {
                    out.push(close);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(letter);
            }
            ',' => {
                out.push(letter);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            other => out.push(other),
        }
    }
    out
}

/// Lays JSON out over lines with a step of your choice.
pub fn indent_json(json: &str, step: &str) -> String {
    indent(json, step)
}
