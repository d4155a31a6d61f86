//! The command line as runc's is read: Go's flag syntax (`-flag`, `--flag`, `--flag=value`,
//! `--flag value`). Which commands and flags there are is in `table`; nothing is done here.

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing, or `=true`, `=false`.
    Nothing,
    /// One value; the last one counts.
    Value,
    /// One value each time it is given.
    Many,
}

/// A flag: names (long one first), what it takes, what it does.
pub(crate) struct Flag {
    pub(crate) names: &'static [&'static str],
    pub(crate) takes: Takes,
    pub(crate) usage: &'static str,
}

/// A command.
pub(crate) struct Command {
    pub(crate) name: &'static str,
    pub(crate) usage: &'static str,
    pub(crate) arguments: &'static str,
    pub(crate) flags: &'static [Flag],
    /// Least and most arguments beside flags.
    pub(crate) arity: (usize, usize),
    /// Whether flags may follow arguments.
    pub(crate) mixed: bool,
}

use Takes::Nothing;

/// A parsed command line, of the program or of a command.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    values: Vec<(&'static str, String)>,
    /// What is no flag.
    pub(crate) rest: Vec<String>,
}

impl Parsed {
    /// The last value of a flag.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rfind(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// Every value of a flag.
    pub(crate) fn all(&self, name: &str) -> Vec<String> {
        self.values.iter().filter(|(n, _)| *n == name).map(|(_, v)| v.clone()).collect()
    }

    /// Whether a flag without value is on.
    pub(crate) fn is_on(&self, name: &str) -> bool {
        self.value(name).is_some_and(|v| v == "true")
    }
}

/// Go's spellings of a truth value.
pub(crate) fn truth(text: &str) -> Option<&'static str> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some("true"),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some("false"),
        _ => None,
    }
}

/// Reads flags; `mixed` allows them after arguments.
///
/// # Errors
/// Go's texts.
pub(crate) fn parse(flags: &[Flag], words: &[String], mixed: bool) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            parsed.rest.extend(words.cloned());
            break;
        }
        let Some(name) = word.strip_prefix('-').filter(|n| !n.is_empty()) else {
            parsed.rest.push(word.clone());
            if mixed {
                continue;
            }
            parsed.rest.extend(words.cloned());
            break;
        };
        let name = name.strip_prefix('-').unwrap_or(name);
        if name.is_empty() || name.starts_with(['-', '=']) {
            return Err(format!("bad flag syntax: {word}"));
        }
        let (name, given) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let Some(flag) = flags.iter().find(|f| f.names.contains(&name)) else {
            return Err(match name {
                "help" | "h" => "help requested".into(),
                _ => format!("flag provided but not defined: -{name}"),
            });
        };
        let value = match (flag.takes, given) {
            (Nothing, None) => "true".into(),
            (Nothing, Some(value)) => truth(&value)
                .ok_or_else(|| format!("invalid boolean value {value:?} for -{name}: parse error"))?
                .into(),
            (_, Some(value)) => value,
            (_, None) => {
                words.next().cloned().ok_or_else(|| format!("flag needs an argument: -{name}"))?
            }
        };
        parsed.values.push((flag.names[0], value));
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::COMMANDS;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn command(name: &str) -> &'static Command {
        COMMANDS.iter().find(|c| c.name == name).unwrap()
    }

    #[test]
    fn one_dash_and_two_mean_the_same() {
        for text in ["-bundle /b id", "--bundle=/b id", "-b /b id", "id --b=/b"] {
            let parsed = parse(command("create").flags, &words(text), true).unwrap();
            assert_eq!(parsed.value("bundle"), Some("/b"));
            assert_eq!(parsed.rest, ["id"]);
        }
    }

    #[test]
    fn flags_after_the_command_of_an_exec_are_its_own() {
        let parsed = parse(command("exec").flags, &words("-t id ls -l"), false).unwrap();
        assert!(parsed.is_on("tty"));
        assert_eq!(parsed.rest, ["id", "ls", "-l"]);
    }

    #[test]
    fn errors_are_worded_as_go_words_them() {
        let error = |text: &str| parse(command("create").flags, &words(text), true).unwrap_err();
        assert_eq!(error("--bogus x"), "flag provided but not defined: -bogus");
        assert_eq!(error("--bundle"), "flag needs an argument: -bundle");
    }
}
