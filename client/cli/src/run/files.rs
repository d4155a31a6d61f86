//! Environment variables and labels, from flags and from files.

use std::collections::BTreeMap;

/// All variables: of the files first, then of the flags. A variable without a value takes this
/// process's; where there is none, a flag's stays without one and a file's is left out.
pub fn environment(files: &[&str], flags: &[&str]) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    for file in files {
        for line in lines(file)? {
            match entry(&line).map_err(|why| format!("invalid env file ({file}): {why}"))? {
                (_, Some(_)) => found.push(line.clone()),
                (name, None) => {
                    if let Ok(value) = std::env::var(name) {
                        found.push(format!("{name}={value}"));
                    }
                }
            }
        }
    }
    for flag in flags {
        match (flag.contains('='), std::env::var(flag)) {
            (false, Ok(value)) => found.push(format!("{flag}={value}")),
            _ => found.push((*flag).to_owned()),
        }
    }
    Ok(found)
}

/// All labels: of the files first, then of the flags.
pub fn labels(files: &[&str], flags: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let mut found = BTreeMap::new();
    let mut add = |text: &str| {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        found.insert(key.to_owned(), value.to_owned());
    };
    for file in files {
        for line in lines(file)? {
            entry(&line).map_err(|why| format!("invalid label file ({file}): {why}"))?;
            add(&line);
        }
    }
    for flag in flags {
        add(flag);
    }
    Ok(found)
}

/// The lines of a file that are neither empty nor a comment.
fn lines(file: &str) -> Result<Vec<String>, String> {
    let text = crate::error::read_file(file).map_err(|why| match why.strip_prefix("read ") {
        Some(_) => format!("invalid env file ({file}): {why}"),
        None => why,
    })?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let text = std::str::from_utf8(text)
        .map_err(|_| format!("invalid env file ({file}): invalid utf8 bytes"))?;
    let kept = text.lines().map(str::trim_start).filter(|l| !l.is_empty() && !l.starts_with('#'));
    Ok(kept.map(ToOwned::to_owned).collect())
}

/// A line's name and, after the sign, its value.
fn entry(line: &str) -> Result<(&str, Option<&str>), String> {
    let (name, value) = match line.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (line, None),
    };
    if name.is_empty() {
        return Err(format!("no variable name on line '{line}'"));
    }
    if name.contains([' ', '\t']) {
        return Err(format!("variable '{name}' contains whitespaces"));
    }
    Ok((name, value))
}

/// `key=value` texts as a map; without a sign the value is empty.
pub fn pairs(texts: &[&str]) -> BTreeMap<String, String> {
    let pair = |t: &&str| {
        let (key, value) = t.split_once('=').unwrap_or((t, ""));
        (key.to_owned(), value.to_owned())
    };
    texts.iter().map(pair).collect()
}
