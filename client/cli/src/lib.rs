//! The command line: table of commands, parser, help, templates, terminal.
//! Talks to daemons through `engine-client` only, and decides nothing about
//! containers.

pub mod args;
pub mod commands;
mod complete;
mod credentials;
pub mod error;
mod help;
mod manifests;
mod on_demand;
mod output_file;
mod plugin;
pub mod run;
mod session;
pub mod show;
pub mod spec;
pub mod table;
pub mod template;
mod terminal;
mod top;

pub use top::main;
