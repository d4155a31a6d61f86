//! The command line, by pflag's rules: `--flag value`, `--flag=value`, `-Hvalue`, joined
//! shorthands, `--` ends flags. Scalars: the last one wins; lists append.

use serde_json::{Map, Value};

use crate::{Kind, Opt, Table, UsageError, Values};

/// What the command line said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// Values by the file's key, in the file's own form.
    pub values: Values,
    /// Values of options that the file does not have, by flag.
    pub flags: Values,
}

impl Given {
    /// Whether a flag that the file does not have is set.
    pub fn is_set(&self, flag: &str) -> bool {
        self.flags.get(flag).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The text of a flag that the file does not have.
    pub fn text(&self, flag: &str) -> Option<&str> {
        self.flags.get(flag).and_then(Value::as_str)
    }
}

impl Table {
    /// Reads the arguments after the program's (and the command's) name.
    ///
    /// # Errors
    /// pflag's text, which names the flag.
    pub fn parse(&self, args: &[String]) -> Result<Given, UsageError> {
        let mut given = Given::default();
        let mut rest = args.iter();
        while let Some(arg) = rest.next() {
            if arg == "--" {
                if let Some(word) = rest.next() {
                    return Err(self.stray(word));
                }
            } else if let Some(long) = arg.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let option = self.by_flag(name).ok_or_else(|| self.unknown(name))?;
                let value = match (value, option.kind) {
                    (Some(value), _) => value,
                    (None, Kind::Bool) => "true".to_owned(),
                    (None, _) => rest
                        .next()
                        .ok_or_else(|| UsageError(format!("flag needs an argument: --{name}")))?
                        .clone(),
                };
                given.take(option, &value)?;
            } else if let Some(shorts) = arg.strip_prefix('-').filter(|shorts| !shorts.is_empty()) {
                self.shorts(&mut given, shorts, &mut rest)?;
            } else {
                return Err(self.stray(arg));
            }
        }
        Ok(given)
    }

    fn shorts<'a>(
        &self,
        given: &mut Given,
        shorts: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), UsageError> {
        for (at, short) in shorts.char_indices() {
            let option = self.by_short(short).ok_or_else(|| {
                UsageError(format!("unknown shorthand flag: '{short}' in -{shorts}"))
            })?;
            let tail = &shorts[at + short.len_utf8()..];
            if matches!(option.kind, Kind::Bool) && !tail.starts_with('=') {
                given.take(option, "true")?;
                continue;
            }
            let value = match tail.strip_prefix('=').unwrap_or(tail) {
                "" => rest.next().cloned().ok_or_else(|| {
                    UsageError(format!("flag needs an argument: '{short}' in -{shorts}"))
                })?,
                value => value.to_owned(),
            };
            return given.take(option, &value);
        }
        Ok(())
    }

    fn stray(&self, word: &str) -> UsageError {
        UsageError(format!("\"{}\" accepts no arguments: {word}", self.program))
    }

    fn unknown(&self, name: &str) -> UsageError {
        if self.not_yet.contains(&name) {
            return UsageError(format!("flag not supported by Ferry yet: --{name}"));
        }
        UsageError(format!("unknown flag: --{name}"))
    }
}

impl Given {
    fn take(&mut self, option: &Opt, value: &str) -> Result<(), UsageError> {
        self.set(option, value).map_err(|why| {
            let name = match option.short {
                Some(short) => format!("-{short}, --{}", option.flag),
                None => format!("--{}", option.flag),
            };
            UsageError(format!("invalid argument \"{value}\" for \"{name}\" flag: {why}"))
        })
    }

    fn set(&mut self, option: &Opt, value: &str) -> Result<(), String> {
        let (values, key) = match option.key {
            "" => (&mut self.flags, option.flag),
            key => (&mut self.values, key),
        };
        let entry = values.entry(key).or_insert(Value::Null);
        match option.kind {
            Kind::Bool => *entry = parse_bool(value)?.into(),
            Kind::Int => {
                let number: i64 = value.parse().map_err(|_| {
                    format!("strconv.ParseInt: parsing \"{value}\": invalid syntax")
                })?;
                *entry = number.into();
            }
            Kind::Text | Kind::Size => *entry = value.into(),
            Kind::List => append(entry, value.into()),
            Kind::Map => {
                let (name, text) = value.split_once('=').unwrap_or((value, ""));
                insert(entry, name.to_owned(), text.into());
            }
            Kind::Switches => {
                let (name, text) = value.split_once('=').unwrap_or((value, ""));
                insert(entry, name.to_owned(), parse_bool(text)?.into());
            }
            Kind::Form(form) => {
                let (name, item) = (form.read)(value)?;
                if form.is_array { append(entry, item) } else { insert(entry, name, item) }
            }
        }
        Ok(())
    }
}

fn append(to: &mut Value, item: Value) {
    match to {
        Value::Array(list) => list.push(item),
        other => *other = Value::Array(vec![item]),
    }
}

fn insert(to: &mut Value, name: String, item: Value) {
    match to {
        Value::Object(object) => {
            object.insert(name, item);
        }
        other => *other = Value::Object(Map::from_iter([(name, item)])),
    }
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::row;

    const TABLE: Table = Table {
        program: "prog serve",
        about: "Serves.",
        options: &[
            row("debug", Some('D'), "debug", Kind::Bool, ""),
            row("count", None, "count", Kind::Int, ""),
            row("host", Some('H'), "hosts", Kind::List, ""),
            row("label", None, "labels", Kind::Map, ""),
            row("config-file", None, "", Kind::Text, ""),
            row("help", Some('h'), "", Kind::Bool, ""),
        ],
        not_yet: &["later"],
        keys_not_yet: &[],
    };

    fn parse(line: &str) -> Result<Given, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        TABLE.parse(&args).map_err(|e| e.0)
    }

    #[test]
    fn flags_come_in_all_of_pflags_forms() {
        let wanted = Values::from([
            ("debug", json!(true)),
            ("count", json!(3)),
            ("hosts", json!(["a", "b", "c"])),
            ("labels", json!({"x": "1", "y": ""})),
        ]);
        let line = "-DH a -Hb --host=c --count 2 --count=3 --label x=1 --label y -D=true";
        assert_eq!(parse(line).unwrap().values, wanted);
        let given = parse("--config-file /x -h").unwrap();
        assert_eq!(given.text("config-file"), Some("/x"));
        assert!(given.is_set("help") && !given.is_set("debug") && given.values.is_empty());
        assert_eq!(parse("--debug=false --").unwrap().values["debug"], json!(false));
    }

    #[test]
    fn what_is_wrong_is_named_in_pflags_words() {
        let error = |line: &str| parse(line).unwrap_err();
        assert_eq!(error("--nope"), "unknown flag: --nope");
        assert_eq!(error("--later"), "flag not supported by Ferry yet: --later");
        assert_eq!(error("-x"), "unknown shorthand flag: 'x' in -x");
        assert_eq!(error("--host"), "flag needs an argument: --host");
        assert_eq!(error("-DH"), "flag needs an argument: 'H' in -DH");
        assert_eq!(error("word"), "\"prog serve\" accepts no arguments: word");
        assert_eq!(error("-- --debug"), "\"prog serve\" accepts no arguments: --debug");
        assert_eq!(
            error("--debug=x"),
            "invalid argument \"x\" for \"-D, --debug\" flag: strconv.ParseBool: parsing \"x\": invalid syntax"
        );
    }

    proptest! {
        #[test]
        fn no_command_line_panics(args in proptest::collection::vec("-{0,2}[a-zH=é]{0,6}", 0..6)) {
            let _ = TABLE.parse(&args);
        }
    }
}
