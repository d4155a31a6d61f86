//! containerd's command line, as far as it exists here; anything else is named and refused.

use std::path::PathBuf;

use supervisor::version::VERSION;

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Serve(Flags),
    Publish(Publish),
    Print(String),
}

/// Flags that override the configuration file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Flags {
    pub config: Option<PathBuf>,
    pub address: Option<PathBuf>,
    pub root: Option<PathBuf>,
    pub state: Option<PathBuf>,
    pub log_level: Option<String>,
}

/// An event to pass on to a running daemon.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Publish {
    pub address: Option<PathBuf>,
    pub namespace: String,
    pub topic: String,
}

const HELP: &str = "\
Usage: ferry-containerd [flags]

Serves containerd's gRPC services on a unix socket.

  -c, --config FILE      configuration file, in containerd's format
  -a, --address PATH     gRPC socket (default /run/ferry/containerd.sock)
      --root DIR         persistent folder (default /var/lib/ferry/containerd)
      --state DIR        folder for running things (default /run/ferry/containerd)
  -l, --log-level LEVEL  trace, debug, info, warn, error
  -v, --version          print the version
  -h, --help             print this

Usage: ferry-containerd [--address PATH] publish --topic TOPIC --namespace NAME

Publishes the packed event on standard input, for shims that call this program.
";

/// Parses the arguments after the program's name.
pub(crate) fn parse(args: impl Iterator<Item = String>) -> Result<Action, String> {
    let mut args = args.peekable();
    let mut flags = Flags::default();
    while let Some(arg) = args.next() {
        if arg == "publish" {
            return publish(flags, args).map(Action::Publish);
        }
        let Some(flag) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else {
            return Err(format!("unknown command {arg:?}; see --help"));
        };
        let (name, given) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        match name {
            "h" | "help" => return Ok(Action::Print(HELP.into())),
            "v" | "version" => {
                return Ok(Action::Print(format!("ferry-containerd containerd {VERSION}\n")));
            }
            "c" | "config" | "a" | "address" | "root" | "state" | "l" | "log-level" => {}
            _ => return Err(format!("unknown flag {arg:?}; see --help")),
        }
        let value = given
            .or_else(|| args.next())
            .ok_or_else(|| format!("flag {arg:?} needs a value; see --help"))?;
        match name {
            "c" | "config" => flags.config = Some(value.into()),
            "a" | "address" => flags.address = Some(value.into()),
            "root" => flags.root = Some(value.into()),
            "state" => flags.state = Some(value.into()),
            _ => flags.log_level = Some(value),
        }
    }
    for (name, path) in
        [("root", &flags.root), ("state", &flags.state), ("address", &flags.address)]
    {
        if path.as_ref().is_some_and(|p| !p.is_absolute()) {
            return Err(format!("flag --{name} needs an absolute path"));
        }
    }
    Ok(Action::Serve(flags))
}

fn publish(before: Flags, mut args: impl Iterator<Item = String>) -> Result<Publish, String> {
    let mut wish = Publish { address: before.address, ..Publish::default() };
    while let Some(arg) = args.next() {
        let flag = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')).unwrap_or_default();
        let (name, given) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let field = match name {
            "topic" => &mut wish.topic,
            "namespace" => &mut wish.namespace,
            _ => return Err(format!("publish: unknown argument {arg:?}; see --help")),
        };
        *field = given
            .or_else(|| args.next())
            .ok_or_else(|| format!("flag {arg:?} needs a value; see --help"))?;
    }
    for (name, value) in [("topic", &wish.topic), ("namespace", &wish.namespace)] {
        if value.is_empty() {
            return Err(format!("publish: --{name} is required"));
        }
    }
    Ok(wish)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(line: &str) -> Result<Action, String> {
        parse(line.split_whitespace().map(Into::into))
    }

    #[test]
    fn flags_come_in_all_of_gos_forms() {
        let wanted = Flags {
            config: Some("/c".into()),
            root: Some("/r".into()),
            log_level: Some("debug".into()),
            ..Flags::default()
        };
        for line in ["--config /c --root=/r -l debug", "-c=/c -root /r --log-level=debug"] {
            assert_eq!(parse_words(line), Ok(Action::Serve(wanted_copy(&wanted))), "{line}");
        }
    }

    #[test]
    fn shims_publish_with_the_address_before_the_command() {
        let parsed = parse_words("--address /s publish --topic /a/b --namespace moby");
        let (namespace, topic) = ("moby".into(), "/a/b".into());
        let wanted = Publish { address: Some("/s".into()), namespace, topic };
        assert_eq!(parsed, Ok(Action::Publish(wanted)));
    }

    fn wanted_copy(flags: &Flags) -> Flags {
        Flags {
            config: flags.config.clone(),
            address: flags.address.clone(),
            root: flags.root.clone(),
            state: flags.state.clone(),
            log_level: flags.log_level.clone(),
        }
    }

    #[test]
    fn what_is_unknown_is_named() {
        assert!(parse_words("--nope").unwrap_err().contains("--nope"));
        assert!(parse_words("serve").unwrap_err().contains("serve"));
        assert!(parse_words("publish --namespace n").unwrap_err().contains("--topic"));
        assert!(parse_words("publish --nope").unwrap_err().contains("--nope"));
        assert!(parse_words("--root").unwrap_err().contains("needs a value"));
        assert!(parse_words("--root x").unwrap_err().contains("absolute"));
    }
}
