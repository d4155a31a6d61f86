//! Progress that a daemon tells as JSON messages: bars on a terminal, plain lines
//! elsewhere.

use super::raw;
use crate::error::{CliError, Result};
use crate::show::units::human_size;
use engine_api::{JsonMessage, ProgressDetail, decode_at, json};
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

    fn show(&mut self, message: &JsonMessage) {
        if !message.stream.is_empty() {
            self.write(&message.stream);
            return;
        }
        let detail = message.progress_detail.as_ref().filter(|p| p.total > 0 || p.current > 0);
        if !self.terminal {
            if detail.is_none() {
                let id = match message.id.as_str() {
                    "" => String::new(),
                    id => format!("{id}: "),
                };
                self.write(&format!("{id}{}\n", message.status));
            }
            return;
        }
        let bar =
            detail.map(|p| format!(" {}", bar(p, raw::size().1 as usize))).unwrap_or_default();
        if message.id.is_empty() {
            self.write(&format!("{}{bar}\n", message.status));
            self.lines.clear();
            return;
        }
        // Each id has a line of its own, counted up from the last.
        let text = format!("\x1b[2K\r{}: {}{bar}", message.id, message.status);
        if let Some(at) = self.lines.iter().position(|id| *id == message.id) {
            let up = self.lines.len() - at;
            self.write(&format!("\x1b[{up}A{text}\r\x1b[{up}B"));
        } else {
            self.lines.push(message.id.clone());
            self.write(&format!("{text}\n"));
        }
    }
}

/// `[===>   ]  1.2MB/3.4MB`
fn bar(progress: &ProgressDetail, columns: usize) -> String {
    let current = human_size(progress.current as f64);
    if progress.total <= 0 {
        return if progress.units.is_empty() {
            format!("{current:>8}")
        } else {
            format!("{} {}", progress.current, progress.units)
        };
    }
    let total = human_size(progress.total as f64);
    let numbers = if progress.hidecounts { String::new() } else { format!("{current:>8}/{total}") };
    if columns <= 110 && columns != 0 && columns < 80 {
        return numbers;
    }
    let half = ((progress.current as f64 / progress.total as f64) * 50.0).min(50.0) as usize;
    let arrow = if half < 50 { ">" } else { "" };
    let blank = " ".repeat(50usize.saturating_sub(half + 1));
    format!("[{}{arrow}{blank}] {numbers}", "=".repeat(half))
}
