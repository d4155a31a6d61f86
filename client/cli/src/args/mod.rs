//! From argv to a command and its checked values, by pflag's rules. Knows the
//! table of commands, but neither the daemon nor the terminal.

pub mod csv;
pub mod golang;
pub mod values;

use crate::spec::{Action, Arity, Command, Flag, Kind};
use values::Value;

/// What was typed: a command, its flags' values, its arguments.
#[derive(Debug, Clone)]
pub struct Matches {
    /// The path of names from the root to the command, without the program.
    pub path: Vec<&'static str>,
    /// The command's row.
    pub command: &'static Command,
    values: Vec<(usize, Value)>,
    /// What is no flag.
    pub args: Vec<String>,
    /// What is to be told about flags that were used.
    pub notes: Vec<String>,
}

/// Why a command line is not understood, or what else it asks for.
#[derive(Debug)]
pub enum Refusal {
    /// A flag or its value is wrong.
    Flag {
        /// What is wrong.
        message: String,
        /// The command it was given to.
        path: Vec<&'static str>,
        /// The command's row.
        command: &'static Command,
    },
    /// No command of that name.
    Unknown {
        /// The word.
        word: String,
        /// The group in which it was looked for.
        path: Vec<&'static str>,
        /// All words from there on, for plugins.
        rest: Vec<String>,
    },
    /// The number of arguments is wrong.
    Arity(Matches),
    /// Help is asked for.
    Help {
        /// The command to tell about.
        path: Vec<&'static str>,
        /// Its row.
        command: &'static Command,
        /// Asked with the deprecated `-h`.
        short: bool,
    },
}

/// The flags before the command and everything after them.
#[derive(Debug)]
pub struct Globals {
    /// Values of the global flags.
    pub matches: Matches,
    /// The command's word and what follows it.
    pub rest: Vec<String>,
}

/// Reads the flags before the command.
pub fn globals(root: &'static Command, argv: &[String]) -> Result<Globals, Refusal> {
    let mut matches = Matches::new(vec![], root);
    let rest = read_flags(&mut matches, argv, false)?;
    Ok(Globals { matches, rest })
}

/// Finds the command that the words name and reads its flags and arguments.
pub fn command(root: &'static Command, words: &[String]) -> Result<Matches, Refusal> {
    let mut path = Vec::new();
    let mut command = root;
    let mut at = 0;
    while let Action::Group(_) = command.action {
        let Some(word) = words.get(at) else { break };
        if word.starts_with('-') && word != "-" {
            // Groups have no flags but help.
            let mut none = Matches::new(path.clone(), command);
            read_flags(&mut none, std::slice::from_ref(word), false)?;
            at += 1;
            continue;
        }
        let Some(found) = command.child(word) else {
            let rest = words[at..].to_vec();
            if rest.iter().take_while(|w| *w != "--").any(|w| w == "--help") && path.is_empty() {
                // A plugin may have it; the caller looks before it tells about the root.
            }
            return Err(Refusal::Unknown { word: word.clone(), path, rest });
        };
        path.push(found.name);
        command = found;
        at += 1;
    }
    let mut matches = Matches::new(path, command);
    if let Action::Group(_) = command.action {
        return Ok(matches);
    }
    matches.args = read_flags(&mut matches, &words[at.min(words.len())..], command.interspersed)?;
    if !command.arity.allows(matches.args.len()) {
        return Err(Refusal::Arity(matches));
    }
    Ok(matches)
}

/// Reads flags into `matches` and returns what is none.
fn read_flags(
    matches: &mut Matches,
    words: &[String],
    interspersed: bool,
) -> Result<Vec<String>, Refusal> {
    let mut rest = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        if word == "--" {
            rest.extend_from_slice(&words[at..]);
            break;
        } else if let Some(long) = word.strip_prefix("--") {
            at += matches.long(word, long, words.get(at))?;
        } else if word.len() > 1 && word.starts_with('-') {
            at += matches.shorts(word, words.get(at))?;
        } else if interspersed {
            rest.push(word.clone());
        } else {
            rest.extend_from_slice(&words[at - 1..]);
            break;
        }
    }
    Ok(rest)
}

impl Matches {
    fn new(path: Vec<&'static str>, command: &'static Command) -> Self {
        Self { path, command, values: Vec::new(), args: Vec::new(), notes: Vec::new() }
    }

    fn wrong(&self, message: String) -> Refusal {
        Refusal::Flag { message, path: self.path.clone(), command: self.command }
    }

    fn help(&self, short: bool) -> Refusal {
        Refusal::Help { path: self.path.clone(), command: self.command, short }
    }

    /// `--name`, `--name=value`, `--name value`; returns how many further words it took.
    fn long(&mut self, word: &str, long: &str, next: Option<&String>) -> Result<usize, Refusal> {
        if long.starts_with('-') || long.starts_with('=') {
            return Err(self.wrong(format!("bad flag syntax: {word}")));
        }
        let (name, value) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        let Some((index, flag)) = self.command.flag(name) else {
            if name == "help" {
                return Err(self.help(false));
            }
            return Err(self.wrong(format!("unknown flag: --{name}")));
        };
        match (value, flag.kind, next) {
            (Some(value), ..) => self.set(index, flag, value).map(|()| 0),
            (None, Kind::Bool, _) => self.set(index, flag, "true").map(|()| 0),
            (None, _, Some(value)) => self.set(index, flag, value).map(|()| 1),
            (None, _, None) => Err(self.wrong(format!("flag needs an argument: --{name}"))),
        }
    }

    /// `-abc`, `-n5`, `-n=5`, `-n 5`; returns how many further words it took.
    fn shorts(&mut self, word: &str, next: Option<&String>) -> Result<usize, Refusal> {
        let mut letters = &word[1..];
        while let Some(letter) = letters.chars().next() {
            let after = &letters[letter.len_utf8()..];
            let found = self.command.flags.iter().enumerate().find(|(_, f)| f.short == letter);
            let Some((index, flag)) = found else {
                if letter == 'h' {
                    return Err(self.help(true));
                }
                return Err(
                    self.wrong(format!("unknown shorthand flag: {} in -{letters}", quoted(letter)))
                );
            };
            if let Some(value) = after.strip_prefix('=').filter(|v| !v.is_empty()) {
                return self.set(index, flag, value).map(|()| 0);
            }
            if flag.kind == Kind::Bool {
                self.set(index, flag, "true")?;
                letters = after;
                continue;
            }
            return match (after, next) {
                ("", Some(value)) => self.set(index, flag, value).map(|()| 1),
                ("", None) => {
                    Err(self
                        .wrong(format!("flag needs an argument: {} in -{letters}", quoted(letter))))
                }
                (value, _) => self.set(index, flag, value).map(|()| 0),
            };
        }
        Ok(0)
    }

    fn set(&mut self, index: usize, flag: &'static Flag, text: &str) -> Result<(), Refusal> {
        if flag.long == "help" && flag.kind == Kind::Bool && text == "true" {
            return Err(self.help(false));
        }
        let before = self.values.iter().filter(|(i, _)| *i == index).count();
        match values::check(flag.kind, text, before) {
            Ok(found) => {
                if !flag.deprecated.is_empty() {
                    let text =
                        format!("Flag --{} has been deprecated, {}", flag.long, flag.deprecated);
                    self.notes.push(text);
                }
                let index = match flag.alias_of {
                    "" => index,
                    of => self.command.flag(of).map_or(index, |(i, _)| i),
                };
                self.values.extend(found.into_iter().map(|v| (index, v)));
                Ok(())
            }
            Err(why) => {
                let name = match flag.short {
                    '\0' => format!("--{}", flag.long),
                    short => format!("-{short}, --{}", flag.long),
                };
                let text = golang::quote(text);
                Err(self.wrong(format!("invalid argument {text} for \"{name}\" flag: {why}")))
            }
        }
    }

    fn of(&self, name: &str) -> impl DoubleEndedIterator<Item = &Value> {
        let index = self.command.flag(name).map(|(i, _)| i);
        self.values.iter().filter(move |(i, _)| Some(*i) == index).map(|(_, v)| v)
    }

    /// Whether a flag was given.
    pub fn given(&self, name: &str) -> bool {
        self.of(name).next().is_some()
    }

    /// The names of all flags that were given.
    pub fn all_given(&self) -> impl Iterator<Item = &'static Flag> + use<> {
        let flags = self.command.flags;
        let mut seen: Vec<usize> = self.values.iter().map(|(i, _)| *i).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.into_iter().map(move |i| &flags[i])
    }

    /// A switch: as given last, else its default.
    pub fn on(&self, name: &str) -> bool {
        match self.of(name).next_back() {
            Some(Value::Bool(on)) => *on,
            _ => self.command.flag(name).is_some_and(|(_, f)| f.shown == "true"),
        }
    }

    /// A text: as given last, else its default.
    pub fn text(&self, name: &str) -> &str {
        match self.of(name).next_back() {
            Some(Value::Text(text)) => text,
            _ => self.command.flag(name).map_or("", |(_, f)| f.default_text()),
        }
    }

    /// A number (also of bytes, nanoseconds, billionths of a processor): as given last, else its
    /// default, else 0.
    pub fn number(&self, name: &str) -> i64 {
        match self.of(name).next_back() {
            Some(Value::Number(number)) => *number,
            _ => self
                .command
                .flag(name)
                .and_then(|(_, f)| f.default_text().parse().ok())
                .unwrap_or(0),
        }
    }

    /// All texts of a flag, in order.
    pub fn texts(&self, name: &str) -> Vec<&str> {
        self.of(name)
            .filter_map(|v| match v {
                Value::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// An argument; empty when there are fewer.
    pub fn arg(&self, index: usize) -> &str {
        self.args.get(index).map_or("", String::as_str)
    }
}

/// A letter in single quotes, as Go's `%q` has it.
fn quoted(letter: char) -> String {
    format!("'{letter}'")
}

impl Arity {
    /// Whether so many arguments are right.
    pub fn allows(self, count: usize) -> bool {
        match self {
            Self::None => count == 0,
            Self::Exactly(n) => count == n,
            Self::AtLeast(n) => count >= n,
            Self::AtMost(n) => count <= n,
            Self::Between(low, high) => (low..=high).contains(&count),
            Self::Any => true,
        }
    }

    /// What is required, in the words of an error.
    pub fn wants(self) -> String {
        let some = |n: usize| format!("{n} argument{}", if n == 1 { "" } else { "s" });
        match self {
            Self::None | Self::Any => "accepts no arguments".into(),
            Self::Exactly(n) => format!("requires {}", some(n)),
            Self::AtLeast(n) => format!("requires at least {}", some(n)),
            Self::AtMost(n) => format!("requires at most {}", some(n)),
            Self::Between(low, high) => {
                format!("requires at least {low} and at most {}", some(high))
            }
        }
    }
}
