//! A program's options: one table, from which its flags (by pflag's rules), its JSON
//! configuration file (as dockerd reads `daemon.json`) and its help are read.
//!
//! Both sources come to plain values by key; what they mean is the program's own work, and so
//! is reading the file.

mod file;
mod flags;
mod help;

use std::collections::BTreeMap;

pub use file::go_error;
pub use flags::Given;
use serde_json::Value;

/// Values by the file's key, in the file's own form.
pub type Values = BTreeMap<&'static str, Value>;

/// A command line that cannot be understood. Texts are pflag's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// What an option's value is.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// True or false; the flag alone means true.
    Bool,
    /// A whole number.
    Int,
    /// A text.
    Text,
    /// A number of bytes, or a text with a unit.
    Size,
    /// Repeatable; values append.
    List,
    /// Repeatable `key=value`; an object of strings in the file.
    Map,
    /// Repeatable `name=true|false`; an object of truths in the file.
    Switches,
    /// A form of the program's own.
    Form(&'static Form),
}

/// A repeatable option whose values have a form that only its program knows.
#[derive(Debug)]
pub struct Form {
    /// What help calls a value of the flag.
    pub flag: &'static str,
    /// The type that errors about the file name.
    pub file: &'static str,
    /// Whether the file has an array of values; else it has an object.
    pub is_array: bool,
    /// Reads one value of the flag: its name in the object (nothing in an array) and its value.
    pub read: fn(&str) -> Result<(String, Value), String>,
}

/// One option. An empty `flag` means file only, an empty `key` flag only.
#[derive(Debug)]
pub struct Opt {
    /// The flag's name.
    pub flag: &'static str,
    /// The flag's shorthand.
    pub short: Option<char>,
    /// The key in the file.
    pub key: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// One line of help.
    pub help: &'static str,
}

/// One row of a table.
pub const fn row(
    flag: &'static str,
    short: Option<char>,
    key: &'static str,
    kind: Kind,
    help: &'static str,
) -> Opt {
    Opt { flag, short, key, kind, help }
}

/// All options of a program, or of one of its commands.
#[derive(Debug)]
pub struct Table {
    /// The program, and its command if it has some.
    pub program: &'static str,
    /// One sentence about it.
    pub about: &'static str,
    /// Its options, by flag.
    pub options: &'static [Opt],
    /// Flags of its model that it does not have yet: named in the error.
    pub not_yet: &'static [&'static str],
    /// Keys of its model's file that it does not have yet and that are no flag's.
    pub keys_not_yet: &'static [&'static str],
}

impl Table {
    fn by_flag(&self, flag: &str) -> Option<&'static Opt> {
        self.options.iter().find(|option| !flag.is_empty() && option.flag == flag)
    }

    fn by_short(&self, short: char) -> Option<&'static Opt> {
        self.options.iter().find(|option| option.short == Some(short))
    }

    fn by_key(&self, key: &str) -> Option<&'static Opt> {
        self.options.iter().find(|option| !option.key.is_empty() && option.key == key)
    }
}
