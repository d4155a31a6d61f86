//! Raw mode of a terminal, taken back whatever happens, and its size.

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use std::io::IsTerminal;

/// A terminal in raw mode until this is dropped.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Puts the terminal on standard input into raw mode.
    pub(crate) fn stdin() -> std::io::Result<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// A terminal that does not show what is typed until this is dropped.
pub(crate) struct Quiet {
    before: Termios,
}

impl Quiet {
    /// Hides what is typed into the terminal on standard input.
    pub(crate) fn stdin() -> std::io::Result<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        termios::tcsetattr(&stdin, OptionalActions::Now, &quiet)?;
        Ok(Self { before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Height and width of the terminal on standard output; zero without one.
pub(crate) fn size() -> (u16, u16) {
    match termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) => (size.ws_row, size.ws_col),
        Err(_) => (0, 0),
    }
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    std::io::stdin().is_terminal()
}

/// Whether standard output is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    std::io::stdout().is_terminal()
}
