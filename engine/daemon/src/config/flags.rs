//! The command line, by pflag's rules: `--flag value`, `--flag=value`, `-Hvalue`, joined
//! shorthands, `--` ends flags. Scalars: the last one wins; lists append.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::ConfigError;
use super::options::{Kind, NOT_YET, Opt, by_flag, by_short};

/// What the command line said: values by `daemon.json` key, in that file's own form.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Given {
    pub(super) values: BTreeMap<&'static str, Value>,
    pub(super) config_file: Option<String>,
    pub(super) help: bool,
    pub(super) version: bool,
    pub(super) validate: bool,
}

pub(super) fn parse(args: &[String]) -> Result<Given, ConfigError> {
    let mut given = Given::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if let Some(long) = arg.strip_prefix("--").filter(|long| !long.is_empty()) {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let option = by_flag(name).ok_or_else(|| unknown(name))?;
            let value = match (value, option.kind) {
                (Some(value), _) => value,
                (None, Kind::Bool) => "true".to_owned(),
                (None, _) => rest
                    .next()
                    .ok_or_else(|| usage(format!("flag needs an argument: --{name}")))?
                    .clone(),
            };
            given.take(option, &value).map_err(|why| invalid(option, &value, &why))?;
        } else if let Some(shorts) = arg.strip_prefix('-').filter(|shorts| !shorts.is_empty()) {
            given.take_shorts(shorts, &mut rest)?;
        } else {
            return Err(usage(format!("\"ferryd\" accepts no arguments: {arg}")));
        }
    }
    Ok(given)
}

impl Given {
    fn take_shorts<'a>(
        &mut self,
        shorts: &str,
        rest: &mut impl Iterator<Item = &'a String>,
    ) -> Result<(), ConfigError> {
        for (at, short) in shorts.char_indices() {
            let option = by_short(short)
                .ok_or_else(|| usage(format!("unknown shorthand flag: '{short}' in -{shorts}")))?;
            let tail = &shorts[at + short.len_utf8()..];
            if option.kind == Kind::Bool && !tail.starts_with('=') {
                self.take(option, "true").map_err(|why| invalid(option, "true", &why))?;
                continue;
            }
            let value = match tail.strip_prefix('=').unwrap_or(tail) {
                "" => rest.next().cloned().ok_or_else(|| {
                    usage(format!("flag needs an argument: '{short}' in -{shorts}"))
                })?,
                value => value.to_owned(),
            };
            return self.take(option, &value).map_err(|why| invalid(option, &value, &why));
        }
        Ok(())
    }

    fn take(&mut self, option: &Opt, value: &str) -> Result<(), String> {
        match option.flag {
            "help" => self.help = parse_bool(value)?,
            "version" => self.version = parse_bool(value)?,
            "validate" => self.validate = parse_bool(value)?,
            "config-file" => self.config_file = Some(value.to_owned()),
            _ => self.set(option, value)?,
        }
        Ok(())
    }

    fn set(&mut self, option: &Opt, value: &str) -> Result<(), String> {
        let key = option.key;
        match option.kind {
            Kind::Bool => {
                self.values.insert(key, parse_bool(value)?.into());
            }
            Kind::Int => {
                let number: i64 = value.parse().map_err(|_| {
                    format!("strconv.ParseInt: parsing \"{value}\": invalid syntax")
                })?;
                self.values.insert(key, number.into());
            }
            Kind::Text => {
                self.values.insert(key, value.into());
            }
            Kind::List => self.list(key).push(value.into()),
            Kind::Pools => self.list(key).push(pool(value)?),
            Kind::Map => {
                let (name, text) = value.split_once('=').unwrap_or((value, ""));
                let text = if key == "features" { parse_bool(text)?.into() } else { text.into() };
                self.object(key).insert(name.to_owned(), text);
            }
            Kind::Runtimes => {
                let (name, path) = value
                    .split_once('=')
                    .filter(|(name, path)| !name.is_empty() && !path.is_empty())
                    .ok_or(format!("invalid runtime argument: {value}"))?;
                self.object(key).insert(name.to_owned(), json!({ "path": path }));
            }
            Kind::Ulimits => {
                let (name, limit) = ulimit(value)?;
                self.object(key).insert(name, limit);
            }
        }
        Ok(())
    }

    fn list(&mut self, key: &'static str) -> &mut Vec<Value> {
        let entry = self.values.entry(key).or_insert_with(|| Value::Array(Vec::new()));
        if !entry.is_array() {
            *entry = Value::Array(Vec::new());
        }
        match entry {
            Value::Array(list) => list,
            _ => unreachable!("made an array above"),
        }
    }

    fn object(&mut self, key: &'static str) -> &mut Map<String, Value> {
        let entry = self.values.entry(key).or_insert_with(|| Value::Object(Map::new()));
        if !entry.is_object() {
            *entry = Value::Object(Map::new());
        }
        match entry {
            Value::Object(object) => object,
            _ => unreachable!("made an object above"),
        }
    }
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing \"{text}\": invalid syntax")),
    }
}

/// `base=CIDR,size=BITS`.
fn pool(value: &str) -> Result<Value, String> {
    let mut pool = Map::new();
    for field in value.split(',') {
        match field.split_once('=') {
            Some(("base", base)) => pool.insert("base".to_owned(), base.into()),
            Some(("size", size)) => {
                let size: u8 = size.parse().map_err(|_| format!("invalid size value: {size}"))?;
                pool.insert("size".to_owned(), size.into())
            }
            _ => return Err(format!("unexpected key '{field}'")),
        };
    }
    Ok(Value::Object(pool))
}

/// `name=soft[:hard]`, into the form of the file.
fn ulimit(value: &str) -> Result<(String, Value), String> {
    let bad = || format!("invalid ulimit argument: {value}");
    let (name, limits) = value.split_once('=').ok_or_else(bad)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number = |text: &str| text.parse::<i64>().map_err(|_| bad());
    let (soft, hard) = (number(soft)?, number(hard)?);
    Ok((name.to_owned(), json!({ "Name": name, "Soft": soft, "Hard": hard })))
}

fn unknown(name: &str) -> ConfigError {
    if NOT_YET.contains(&name) {
        return usage(format!("flag not supported by Ferry yet: --{name}"));
    }
    usage(format!("unknown flag: --{name}"))
}

fn invalid(option: &Opt, value: &str, why: &str) -> ConfigError {
    let name = match option.short {
        Some(short) => format!("-{short}, --{}", option.flag),
        None => format!("--{}", option.flag),
    };
    usage(format!("invalid argument \"{value}\" for \"{name}\" flag: {why}"))
}

fn usage(text: String) -> ConfigError {
    ConfigError::Usage(text)
}
