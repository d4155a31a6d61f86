//! The configuration file, `config.json`: read leniently, unknown keys kept,
//! written with tabs as other clients write it.

use engine_api::Value;
use std::path::{Path, PathBuf};

/// The client's configuration.
#[derive(Debug, Clone, Default)]
pub struct Config {
    folder: PathBuf,
    members: Vec<(String, Value)>,
}

impl Config {
    /// Reads the file in `folder`. A missing file is an empty configuration; of one that can't
    /// be read, the second value tells why.
    pub fn load(folder: &Path) -> (Self, Option<String>) {
        let file = folder.join("config.json");
        let mut config = Self { folder: folder.to_owned(), members: Vec::new() };
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return (config, None),
            Err(e) => return (config, Some(format!("open {}: {e}", file.display()))),
        };
        if text.iter().all(u8::is_ascii_whitespace) {
            return (config, None);
        }
        match engine_api::json::parse(&text) {
            Ok(Value::Object(members)) => {
                config.members = members;
                (config, None)
            }
            Ok(_) => (config, Some(format!("{}: not a JSON object", file.display()))),
            Err(e) => (config, Some(format!("{}: {e}", file.display()))),
        }
    }

    /// The folder the file is in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A member.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.members.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v)
    }

    /// A text; empty when it is absent.
    pub fn text(&self, key: &str) -> &str {
        self.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// Headers that every request carries.
    pub fn headers(&self) -> Vec<(String, String)> {
        let members = self.get("HttpHeaders").and_then(Value::as_object).unwrap_or_default();
        let text = |v: &Value| v.as_str().map(ToOwned::to_owned);
        members.iter().filter_map(|(k, v)| Some((k.clone(), text(v)?))).collect()
    }

    /// Sets a text, or removes it when it is empty, and writes the file.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn set_text(&mut self, key: &str, value: &str) -> std::io::Result<()> {
        self.members.retain(|(k, _)| k != key);
        if !value.is_empty() {
            self.members.push((key.to_owned(), Value::String(value.to_owned())));
        }
        std::fs::create_dir_all(&self.folder)?;
        let text = Value::Object(self.members.clone()).to_string();
        let file = self.folder.join("config.json");
        let fresh = self.folder.join("config.json.new");
        std::fs::write(&fresh, crate::context::indent(&text, "\t") + "\n")?;
        std::fs::rename(fresh, file)
    }
}
