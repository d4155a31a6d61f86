//! A real terminal, driven as a person would: tmux runs a program, keys go in, the screen
//! is read.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{run, wait_until};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A tmux server of its own with one window of 100 × 30; ended on drop.
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Opens a terminal with a plain shell in it.
    pub fn open() -> Result<Terminal> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("/tmp/ferry-tmux-{}-{number}", std::process::id());
        let terminal = Terminal { socket: name.into() };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "100", "-y", "30", "sh"])?;
        Ok(terminal)
    }

    /// Types a line and Enter.
    pub fn line(&self, text: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", text])?;
        self.keys(&["Enter"])
    }

    /// Sends keys by tmux's names, such as `C-p`.
    pub fn keys(&self, names: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys"], names].concat()).map(drop)
    }

    /// What the screen and its history show.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-2000"])
    }

    /// Changes the size of the window.
    pub fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &rows]).map(drop)
    }

    /// Waits until a whole line of the screen equals `text`; the screen then.
    pub fn wait_line(&self, text: &str, limit: Duration) -> Result<String> {
        let shows = || self.screen().is_ok_and(|s| s.lines().any(|line| line.trim_end() == text));
        wait_until(text, limit, shows).with_context(|| self.screen().unwrap_or_default())?;
        self.screen()
    }

    fn tmux(&self, words: &[&str]) -> Result<String> {
        let socket = self.socket.display().to_string();
        run("tmux", ["-S", &socket].into_iter().chain(words.iter().copied()))?.success()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]).ok();
        std::fs::remove_file(&self.socket).ok();
    }
}
