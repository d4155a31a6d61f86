//! The command line: table of commands, parser, help, templates, terminal.

pub mod template;
