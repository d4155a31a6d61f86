//! `--change` of import and commit: single Dockerfile instructions applied to
//! a configuration.

use std::collections::BTreeMap;

use oci::image::{Empty, RunConfig};

use crate::ImageError;

/// Applies Dockerfile instructions in order.
///
/// # Errors
/// An instruction that can't be used here, or is malformed.
pub fn apply_changes(config: &mut RunConfig, changes: &[String]) -> Result<(), ImageError> {
    for line in changes.iter().flat_map(|change| change.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        apply(config, word, rest.trim())?;
    }
    Ok(())
}

fn apply(config: &mut RunConfig, written: &str, rest: &str) -> Result<(), ImageError> {
    let word = written.to_ascii_uppercase();
    let word = word.as_str();
    let invalid = |text: String| Err(ImageError::Invalid(text));
    if rest.is_empty() && matches!(word, "ENV" | "EXPOSE" | "LABEL" | "USER" | "VOLUME" | "WORKDIR")
    {
        return invalid(format!("{word} requires at least one argument"));
    }
    match word {
        "CMD" => config.cmd = Some(command(config, rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(config, rest)),
        "ENV" => {
            let env = config.env.get_or_insert_default();
            for (name, value) in pairs(word, rest)? {
                let prefix = format!("{name}=");
                env.retain(|e| !e.starts_with(&prefix));
                env.push(format!("{name}={value}"));
            }
        }
        "LABEL" => {
            let pairs = pairs(word, rest)?;
            config.labels.get_or_insert_default().extend(pairs);
        }
        "EXPOSE" => {
            let ports = config.exposed_ports.get_or_insert_default();
            for port in rest.split_whitespace() {
                let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
                if number.parse::<u16>().is_err() {
                    return invalid(format!("invalid containerPort: {number}"));
                }
                ports.insert(format!("{number}/{}", protocol.to_lowercase()), Empty {});
            }
        }
        "VOLUME" => {
            let volumes = config.volumes.get_or_insert_default();
            let list = json_list(rest);
            let list = list.unwrap_or_else(|| rest.split_whitespace().map(Into::into).collect());
            volumes.extend(list.into_iter().map(|path| (path, Empty {})));
        }
        "USER" => config.user = rest.into(),
        "WORKDIR" => {
            let below = config.working_dir.trim_end_matches('/').to_owned();
            config.working_dir =
                if rest.starts_with('/') { rest.into() } else { format!("{below}/{rest}") };
        }
        "STOPSIGNAL" => config.stop_signal = rest.into(),
        "ONBUILD" => config.on_build.get_or_insert_default().push(rest.into()),
        "HEALTHCHECK" if rest.eq_ignore_ascii_case("none") => {
            let check = config.healthcheck.get_or_insert_default();
            check.test = vec!["NONE".into()];
        }
        "HEALTHCHECK" => return invalid("HEALTHCHECK in a change: only NONE is supported".into()),
        _ => return invalid(format!("{written} is not a valid change command")),
    }
    Ok(())
}

/// A list in JSON's form, else one string for the shell.
fn command(config: &RunConfig, rest: &str) -> Vec<String> {
    json_list(rest).unwrap_or_else(|| {
        let shell = config.shell.clone().unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into()]);
        shell.into_iter().chain([rest.to_owned()]).collect()
    })
}

fn json_list(rest: &str) -> Option<Vec<String>> {
    serde_json::from_str(rest).ok()
}

/// `a=b c="d e"`, or the old form `a b c`.
fn pairs(word: &str, rest: &str) -> Result<BTreeMap<String, String>, ImageError> {
    let words = words(rest);
    let mut out = BTreeMap::new();
    if words.first().is_some_and(|first| !first.contains('=')) {
        let Some((name, value)) = rest.split_once(char::is_whitespace) else {
            return Err(ImageError::Invalid(format!("{word} must have two arguments")));
        };
        out.insert(name.into(), value.trim().into());
        return Ok(out);
    }
    for pair in words {
        let Some((name, value)) = pair.split_once('=') else {
            let rule = "Must be of the form: name=value";
            let text = format!("Syntax error - can't find = in {pair:?}. {rule}");
            return Err(ImageError::Invalid(text));
        };
        out.insert(name.into(), value.into());
    }
    Ok(out)
}

/// Splits at white space; quotes and backslashes keep it.
fn words(text: &str) -> Vec<String> {
    let mut out = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quote != Some('\'') => {
                word.get_or_insert_default().extend(chars.next());
            }
            c if quote == Some(c) => quote = None,
            '"' | '\'' if quote.is_none() => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            c if c.is_whitespace() && quote.is_none() => out.extend(word.take()),
            c => word.get_or_insert_default().push(c),
        }
    }
    out.extend(word);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_apply_as_in_a_dockerfile() {
        let mut c = RunConfig::default();
        let changes = [
            "CMD [\"sh\"]",
            "ENTRYPOINT echo hi",
            "ENV A=B C=\"d e\"",
            "ENV A=x",
            "ENV OLD form here",
            "EXPOSE 80 53/UDP",
            "LABEL k=v",
            "VOLUME [\"/v\"]",
            "WORKDIR /a",
            "WORKDIR b",
            "USER u",
        ];
        let changes: Vec<String> = changes.iter().map(|s| (*s).to_owned()).collect();
        apply_changes(&mut c, &changes).unwrap();
        assert_eq!(c.cmd.unwrap(), ["sh"]);
        assert_eq!(c.entrypoint.unwrap(), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(c.env.unwrap(), ["C=d e", "A=x", "OLD=form here"]);
        assert_eq!(c.exposed_ports.unwrap().into_keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!((c.working_dir.as_str(), c.user.as_str()), ("/a/b", "u"));
        let wrong = apply_changes(&mut RunConfig::default(), &["RUN x".into()]).unwrap_err();
        assert_eq!(wrong.to_string(), "RUN is not a valid change command");
    }
}
