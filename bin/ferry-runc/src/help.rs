//! Help texts, made from the table of commands.

use crate::args::{Command, Flag, Takes};
use crate::table::{COMMANDS, GLOBAL};
use std::fmt::Write as _;

/// This program's version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

fn flags(text: &mut String, all: &[Flag]) {
    let left = |flag: &Flag| {
        let value = if flag.takes == Takes::Nothing { "" } else { " value" };
        let dashes =
            |name: &&str| format!("{}{name}{value}", if name.len() == 1 { "-" } else { "--" });
        flag.names.iter().map(dashes).collect::<Vec<_>>().join(", ")
    };
    let width = all.iter().map(|f| left(f).len()).max().unwrap_or(0);
    for flag in all {
        let _ = writeln!(text, "   {:width$}  {}", left(flag), flag.usage);
    }
}

/// Help of the program.
pub(crate) fn program() -> String {
    let mut text = format!(
        "NAME:\n   ferry-runc - Open Container Initiative runtime\n\nUSAGE:\n   ferry-runc [global options] command [command options] [arguments...]\n\nVERSION:\n   {VERSION}\n\nCOMMANDS:\n"
    );
    for command in COMMANDS {
        let _ = writeln!(text, "   {:9} {}", command.name, command.usage);
    }
    text.push_str(
        "   help, h   Shows a list of commands or help for one command\n\nGLOBAL OPTIONS:\n",
    );
    flags(&mut text, GLOBAL);
    text
}

/// Help of a command.
pub(crate) fn command(command: &Command) -> String {
    let Command { name, usage, arguments, .. } = command;
    let mut text = format!(
        "NAME:\n   ferry-runc {name} - {usage}\n\nUSAGE:\n   ferry-runc {name} {arguments}\n"
    );
    if !command.flags.is_empty() {
        text.push_str("\nOPTIONS:\n");
        flags(&mut text, command.flags);
    }
    text
}

/// What `--version` prints.
pub(crate) fn version() -> String {
    format!("ferry-runc version {VERSION}\nspec: {}\n", oci::runtime::SPEC_VERSION)
}
