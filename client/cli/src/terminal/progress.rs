//! Progress that a daemon tells as JSON messages: bars on a terminal, plain lines
//! elsewhere.

use super::raw;
use crate::error::{CliError, Result};
use engine_api::units::progress_bar;
use engine_api::{JsonMessage, decode_at, json};
use engine_client::Body;
use std::io::{IsTerminal, Write};

/// Prints messages as they come.
pub(crate) struct Progress {
    quiet: bool,
    to_stderr: bool,
    terminal: bool,
    lines: Vec<String>,
}

impl Progress {
    /// Prints to standard output, or to standard error; nothing but errors when quiet.
    pub(crate) fn new(quiet: bool, to_stderr: bool) -> Self {
        let terminal =
            if to_stderr { std::io::stderr().is_terminal() } else { raw::stdout_is_terminal() };
        Self { quiet, to_stderr, terminal, lines: Vec::new() }
    }

    /// Reads all messages of a body.
    pub(crate) async fn follow(mut self, body: &mut Body) -> Result<()> {
        let mut buffer: Vec<u8> = Vec::new();
        while let Some(bytes) = body.chunk().await? {
            buffer.extend_from_slice(&bytes);
            while let Some(end) = buffer.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = buffer.drain(..=end).collect();
                self.one(&line)?;
            }
        }
        self.one(&buffer)
    }

    fn one(&mut self, line: &[u8]) -> Result<()> {
        if line.iter().all(u8::is_ascii_whitespace) {
            return Ok(());
        }
        let value = json::parse(line).map_err(|e| CliError::new(e.to_string()))?;
        let message: JsonMessage = decode_at(&value).map_err(|e| CliError::new(e.to_string()))?;
        if let Some(error) = message.error_detail {
            return Err(match error.code {
                code @ 1..=255 => CliError::coded(code as u8, error.message),
                _ => CliError::new(error.message),
            });
        }
        if !message.error.is_empty() {
            return Err(CliError::new(message.error));
        }
        if message.aux.is_some() || self.quiet {
            return Ok(());
        }
        self.show(&message);
        Ok(())
    }

    fn write(&self, text: &str) {
        if self.to_stderr {
            let _ = std::io::stderr().write_all(text.as_bytes());
        } else {
            crate::session::write_out(text.as_bytes());
        }
    }

    /// Draws as the stock client does: each id has a line of its own, counted up from the last,
    /// until something without progress is told.
    fn show(&mut self, message: &JsonMessage) {
        let detail = message.progress_detail.as_ref();
        let bar = detail.map(|detail| progress_bar(detail, raw::size().1.into()));
        let bar = bar.unwrap_or_default();
        let mut text = String::new();
        let mut up = 0;
        if !message.id.is_empty() && (detail.is_some() || !message.progress.is_empty()) {
            let at = self.lines.iter().position(|id| *id == message.id).unwrap_or_else(|| {
                self.lines.push(message.id.clone());
                if self.terminal {
                    text.push('\n');
                }
                self.lines.len() - 1
            });
            up = self.lines.len() - at;
        } else {
            self.lines.clear();
        }
        let moves = self.terminal && up > 0;
        if moves {
            text.push_str(&format!("\x1b[{up}A"));
        }
        let mut end = "";
        if self.terminal && message.stream.is_empty() && detail.is_some() {
            text.push_str("\x1b[2K\r");
            end = "\r";
        } else if !bar.is_empty() {
            return;
        }
        if !message.id.is_empty() {
            text.push_str(&format!("{}: ", message.id));
        }
        if self.terminal && detail.is_some() {
            text.push_str(&format!("{} {bar}{end}", message.status));
        } else if !message.progress.is_empty() {
            text.push_str(&format!("{} {}{end}", message.status, message.progress));
        } else if !message.stream.is_empty() {
            text.push_str(&format!("{}{end}", message.stream));
        } else {
            text.push_str(&format!("{}{end}\n", message.status));
        }
        if moves {
            text.push_str(&format!("\x1b[{up}B"));
        }
        self.write(&text);
    }
}
