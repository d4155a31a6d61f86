//! The command line as containerd gives it: Go's flag rules (one or two dashes, `=` or a word
//! behind, flags end at the first word that is none). Pure.

use std::path::PathBuf;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start a serving shim and print its address.
    Start,
    /// Clean up after a shim that is gone.
    Delete,
    /// Print the version.
    Version,
    /// Print what the runtime can do.
    Info,
}

/// The parsed command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Args {
    pub(crate) action: Action,
    pub(crate) namespace: String,
    pub(crate) address: String,
    pub(crate) publish_binary: String,
    pub(crate) id: String,
    pub(crate) bundle: Option<PathBuf>,
    pub(crate) debug: bool,
}

/// A command line that means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(String);

impl Args {
    /// Parses the words behind the program's name.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Result<Self, Usage> {
        let mut args = Self {
            action: Action::Version,
            namespace: String::new(),
            address: String::new(),
            publish_binary: String::new(),
            id: String::new(),
            bundle: None,
            debug: false,
        };
        let mut shown = None;
        let mut words = words.into_iter();
        let mut rest = None;
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix('-').filter(|f| !f.is_empty()) else {
                rest = Some(word);
                break;
            };
            let flag = flag.strip_prefix('-').unwrap_or(flag);
            let (name, mut value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let truth = |value: Option<String>| match value.as_deref() {
                None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(true),
                Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(false),
                Some(v) => Err(Usage(format!("invalid boolean value {v:?} for -{name}"))),
            };
            match name {
                "debug" => args.debug = truth(value)?,
                "v" => shown = truth(value)?.then_some(Action::Version).or(shown),
                "info" => shown = truth(value)?.then_some(Action::Info).or(shown),
                "namespace" | "address" | "publish-binary" | "id" | "bundle" | "socket" => {
                    let missing = || Usage(format!("flag needs an argument: -{name}"));
                    let value = value.take().or_else(|| words.next()).ok_or_else(missing)?;
                    match name {
                        "namespace" => args.namespace = value,
                        "address" => args.address = value,
                        "publish-binary" => args.publish_binary = value,
                        "id" => args.id = value,
                        "bundle" => args.bundle = Some(PathBuf::from(value)),
                        _ => return Err(Usage("flag -socket is not supported".into())),
                    }
                }
                _ => return Err(Usage(format!("flag provided but not defined: -{name}"))),
            }
        }
        args.action = match (shown, rest.as_deref()) {
            (Some(action), _) => action,
            (None, Some("start")) => Action::Start,
            (None, Some("delete")) => Action::Delete,
            (None, Some(other)) => return Err(Usage(format!("unknown action {other:?}"))),
            (None, None) => return Err(Usage("an action is needed: start or delete".into())),
        };
        let needs_id = matches!(args.action, Action::Start | Action::Delete);
        if needs_id && args.namespace.is_empty() {
            return Err(Usage("shim namespace cannot be empty".into()));
        }
        let plain =
            |id: &str| !id.is_empty() && !id.contains(['/', '\0']) && id != "." && id != "..";
        if needs_id && !plain(&args.id) {
            return Err(Usage(format!("-id {:?} is not a container's name", args.id)));
        }
        Ok(args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, Usage> {
        Args::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn containerds_words_are_understood() {
        let line = "-namespace moby --address=/run/c.sock -publish-binary /b -id c1 -debug start";
        let args = parse(line).unwrap();
        assert_eq!(args.action, Action::Start);
        assert_eq!((args.namespace.as_str(), args.address.as_str()), ("moby", "/run/c.sock"));
        assert!(args.debug && args.id == "c1");
        assert_eq!(parse("-v").unwrap().action, Action::Version);
    }

    #[test]
    fn wrong_words_are_named() {
        let text = |line| parse(line).unwrap_err().to_string();
        assert_eq!(text("-nope start"), "flag provided but not defined: -nope");
        assert_eq!(text("-id"), "flag needs an argument: -id");
        assert_eq!(text("-id a start"), "shim namespace cannot be empty");
        assert_eq!(text("-namespace n -id ../x start"), "-id \"../x\" is not a container's name");
    }
}
