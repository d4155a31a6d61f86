//! Help pages: the rows of the table laid out as cobra and pflag lay theirs out.

use crate::spec::{Action, Command, Flag, Section};
use std::fmt::Write as _;

/// What help needs to know of its surroundings.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    /// The program's name.
    pub(crate) program: String,
    /// Columns of the terminal.
    pub(crate) width: usize,
    /// Further commands of the root: name and description.
    pub(crate) plugins: Vec<(String, String)>,
}

impl Page {
    /// A page as wide as the terminal on standard input, less one column.
    pub(crate) fn new(program: &str) -> Self {
        let width = match rustix::termios::tcgetwinsize(std::io::stdin()) {
            Ok(size) if size.ws_col > 0 => size.ws_col as usize,
            _ => 80,
        };
        Self { program: program.to_owned(), width: width - 1, plugins: Vec::new() }
    }

    /// A command's path as users type it.
    pub(crate) fn full(&self, path: &[&str]) -> String {
        let mut words = vec![self.program.as_str()];
        words.extend_from_slice(path);
        words.join(" ")
    }

    /// The usage line of errors, and where to read more.
    pub(crate) fn usage_hint(&self, path: &[&str], command: &Command) -> String {
        let full = self.full(path);
        let usage = match command.action {
            Action::Group(_) if path.is_empty() => format!("{full} [OPTIONS] COMMAND [ARG...]"),
            Action::Group(_) => full.clone(),
            Action::Run(_) => format!("{full} {}", self.own(command.usage)),
        };
        format!("Usage:  {}\n\nRun '{full} --help' for more information", usage.trim_end())
    }

    /// A text of the table with this program's name.
    fn own(&self, text: &str) -> String {
        text.replace("docker", &self.program)
    }

    /// The whole page of a command.
    pub(crate) fn render(&self, path: &[&str], command: &Command) -> String {
        let mut out = String::new();
        let full = self.full(path);
        let usage = self.own(command.usage);
        let _ = writeln!(out, "Usage:  {}", format!("{full} {usage}").trim_end());
        let about = if command.long.is_empty() { command.short } else { command.long };
        let _ = writeln!(out, "\n{}", self.own(about));
        if command.paths.len() > 1 {
            let paths: Vec<String> =
                command.paths.iter().map(|p| format!("{} {p}", self.program)).collect();
            let _ = writeln!(out, "\nAliases:\n  {}", paths.join(", "));
        }
        if let Action::Group(commands) = command.action {
            self.commands(&mut out, commands, path.is_empty());
        }
        if command.flags.iter().any(|f| !f.hidden) {
            let title = if path.is_empty() { "Global Options" } else { "Options" };
            let _ = write!(out, "\n{title}:\n{}", self.flags(command.flags));
        }
        if let Action::Group(_) = command.action {
            let name = format!("{full} COMMAND");
            let _ = writeln!(out, "\nRun '{name} --help' for more information on a command.");
        }
        out
    }

    fn commands(&self, out: &mut String, commands: &[Command], root: bool) {
        let mut section = |title: &str, rows: &mut dyn Iterator<Item = (String, String)>| {
            let rows: Vec<_> = rows.collect();
            if rows.is_empty() {
                return;
            }
            let _ = writeln!(out, "\n{title}:");
            for (name, about) in rows {
                let _ = writeln!(out, "  {name:<11} {about}");
            }
        };
        let row = |c: &Command| (c.name.to_owned(), c.short.to_owned());
        let shown = || commands.iter().filter(|c| !c.hidden);
        if !root {
            section("Commands", &mut shown().map(row));
            return;
        }
        let mut common: Vec<_> = shown()
            .filter_map(|c| match c.section {
                Section::Common(place) => Some((place, row(c))),
                _ => None,
            })
            .collect();
        common.sort();
        section("Common Commands", &mut common.into_iter().map(|(_, r)| r));
        let mut managing: Vec<_> =
            shown().filter(|c| c.section == Section::Management).map(row).collect();
        managing.extend(self.plugins.iter().map(|(n, d)| (format!("{n}*"), d.clone())));
        managing.sort();
        section("Management Commands", &mut managing.into_iter());
        section("Commands", &mut shown().filter(|c| c.section == Section::Plain).map(row));
    }

    /// The flags, wrapped to the width.
    fn flags(&self, flags: &[Flag]) -> String {
        let left = |f: &Flag| {
            let short = match f.short {
                '\0' => "      ".to_owned(),
                short => format!("  -{short}, "),
            };
            format!("{short}--{} {}", f.long, f.type_name()).trim_end().to_owned()
        };
        let shown: Vec<&Flag> = flags.iter().filter(|f| !f.hidden).collect();
        let widest = shown.iter().map(|f| left(f).len()).max().unwrap_or(0);
        let indent = widest + 3;
        let mut out = String::new();
        for flag in shown {
            let mut about = flag.help.to_owned();
            let zero = matches!(flag.shown, "" | "false");
            if !zero {
                let _ = write!(about, " (default {})", flag.shown);
            }
            let _ = writeln!(out, "{:<widest$}   {}", left(flag), wrap(indent, self.width, &about));
        }
        out
    }
}

/// Wraps a text that starts at a column; lines of its own are kept and short last words are
/// not left alone.
fn wrap(column: usize, width: usize, text: &str) -> String {
    const SLOP: usize = 5;
    let indented =
        |text: &str, column: usize| text.replace('\n', &format!("\n{}", " ".repeat(column)));
    let (mut column, mut out) = (column, String::new());
    if width < column + 24 {
        column = 16;
        if width < column + 24 {
            return indented(text, column);
        }
        let _ = write!(out, "\n{}", " ".repeat(column));
    }
    let room = width - column - SLOP;
    let mut rest = text;
    let mut first = true;
    while !rest.is_empty() || first {
        let (line, after) = cut(room, SLOP, rest);
        if !first {
            let _ = write!(out, "\n{}", " ".repeat(column));
        }
        out.push_str(&indented(line, column));
        rest = after;
        first = false;
    }
    out
}

/// The first line of a text and the rest.
fn cut(room: usize, slop: usize, text: &str) -> (&str, &str) {
    if room + slop > text.len() {
        return (text, "");
    }
    let mut end = room;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let head = &text[..end];
    let Some(at) = head.rfind([' ', '\t', '\n']).filter(|at| *at > 0) else { return (text, "") };
    match head.find('\n').filter(|_| head.rfind('\n').is_some_and(|n| n > 0 && n < at)) {
        Some(_) => {
            let line = head.rfind('\n').unwrap_or(at);
            (&text[..line], &text[line + 1..])
        }
        None => (&text[..at], &text[at + 1..]),
    }
}
