//! Where messages go, and in which shape: runc's two formats, on stderr or in a file.

use std::fs::OpenOptions;
use std::io::Write as _;

/// The log of this invocation.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// File; stderr when absent.
    pub(crate) path: Option<String>,
    /// JSON lines instead of text.
    pub(crate) json: bool,
}

fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._/@^+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

impl Log {
    /// Writes one message; a log that can't be written is no reason to fail.
    pub(crate) fn write(&self, level: &str, message: &str) {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        let time = runtime::format_time(time.tv_sec, 0, false);
        let text = |quoted: &str| format!("time=\"{time}\" level={level} msg={quoted}\n");
        let line = if self.json {
            let message = serde_json::Value::from(message);
            format!("{{\"level\":\"{level}\",\"msg\":{message},\"time\":\"{time}\"}}\n")
        } else {
            text(&quote(message))
        };
        let Some(path) = &self.path else {
            let _ = std::io::stderr().write_all(line.as_bytes());
            return;
        };
        let file = OpenOptions::new().append(true).create(true).open(path);
        if let Ok(mut file) = file {
            let _ = file.write_all(line.as_bytes());
        }
        // Whoever calls by hand looks at stderr, whatever the file.
        if level == "error" {
            let _ = std::io::stderr().write_all(format!("{message}\n").as_bytes());
        }
    }
}
