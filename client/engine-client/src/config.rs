//! The configuration file, `config.json`: read leniently, unknown keys kept,
//! written with tabs as other clients write it.

use engine_api::Value;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
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
        self.save()
    }

    /// Sets a member where it stands, else at the end, without writing the file.
    pub fn set(&mut self, key: &str, value: Value) {
        match self.members.iter_mut().find(|(k, _)| k == key) {
            Some((_, old)) => *old = value,
            None => self.members.push((key.to_owned(), value)),
        }
    }

    /// Where the file is.
    pub fn file(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    /// Writes the file, all at once. A new one is for its owner only; one that was there keeps its
    /// mode, and a link to it stays.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn save(&self) -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let file = self.file();
        let file = match std::fs::read_link(&file) {
            Ok(target) => self.folder.join(target),
            Err(_) => file,
        };
        let mut name = file.clone().into_os_string();
        name.push(format!(".{}", std::process::id()));
        let fresh = PathBuf::from(name);
        let text = crate::context::indent(&Value::Object(self.members.clone()).to_string(), "\t");
        let _ = std::fs::remove_file(&fresh);
        let written = (|| {
            let mut options = std::fs::OpenOptions::new();
            let mut out = options.write(true).create_new(true).mode(0o600).open(&fresh)?;
            out.write_all(text.as_bytes())?;
            if let Ok(before) = std::fs::metadata(&file) {
                out.set_permissions(before.permissions())?;
                let _ = std::os::unix::fs::chown(&fresh, Some(before.uid()), Some(before.gid()));
            }
            std::fs::rename(&fresh, &file)
        })();
        if written.is_err() {
            let _ = std::fs::remove_file(&fresh);
        }
        written
    }
}
