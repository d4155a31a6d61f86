//! The text of `--help`.

use std::fmt::Write;

use crate::{Kind, Table};

impl Table {
    /// The line that says how the program is called.
    pub fn usage(&self) -> String {
        format!("Usage:  {} [OPTIONS]", self.program)
    }

    /// The whole help.
    pub fn help(&self) -> String {
        let mut text = format!("{}\n\n{}\n\nOptions:\n", self.usage(), self.about);
        for option in self.options.iter().filter(|option| !option.flag.is_empty()) {
            let short = option.short.map_or("    ".to_owned(), |short| format!("-{short}, "));
            let flag = format!("--{}{}", option.flag, value_name(option.kind));
            let _ = writeln!(text, "  {short}{flag:<38} {}", option.help);
        }
        text
    }
}

fn value_name(kind: Kind) -> String {
    match kind {
        Kind::Bool => String::new(),
        Kind::Int => " int".into(),
        Kind::Text => " string".into(),
        Kind::Size => " bytes".into(),
        Kind::List => " list".into(),
        Kind::Map | Kind::Switches => " map".into(),
        Kind::Form(form) => format!(" {}", form.flag),
    }
}
