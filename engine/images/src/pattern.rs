//! Matching references with patterns: Go's `path.Match` over familiar names.

use oci::Reference;

/// A pattern that is malformed, in Go's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("syntax error in pattern")]
pub(crate) struct BadPattern;

/// Whether `pattern` names `reference`: by its whole familiar form, or by its
/// repository alone.
pub(crate) fn reference_matches(pattern: &str, reference: &Reference) -> Result<bool, BadPattern> {
    Ok(path_match(pattern, &reference.familiar())?
        || path_match(pattern, &reference.familiar_name())?)
}

/// Go's `path.Match`: `*` and `?` stop at `/`; `[a-z]`, `[^a]`; `\` escapes.
pub(crate) fn path_match(pattern: &str, text: &str) -> Result<bool, BadPattern> {
    let pattern: Vec<char> = pattern.chars().collect();
    let text: Vec<char> = text.chars().collect();
    check(&pattern)?;
    Ok(matches(&pattern, &text))
}

fn check(pattern: &[char]) -> Result<(), BadPattern> {
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            '\\' if at + 1 == pattern.len() => return Err(BadPattern),
            '\\' => at += 2,
            '[' => at += class(&pattern[at..], None).ok_or(BadPattern)?.0,
            _ => at += 1,
        }
    }
    Ok(())
}

/// Reads the class at the start of `pattern`: its length, and whether `c` is
/// in it.
fn class(pattern: &[char], c: Option<char>) -> Option<(usize, bool)> {
    let mut at = 1;
    let negated = pattern.get(at) == Some(&'^');
    at += usize::from(negated);
    let one = |at: &mut usize| -> Option<char> {
        let mut c = *pattern.get(*at)?;
        if c == '\\' {
            *at += 1;
            c = *pattern.get(*at)?;
        } else if matches!(c, '-' | ']') {
            return None;
        }
        *at += 1;
        Some(c)
    };
    let (mut found, mut ranges) = (false, 0);
    loop {
        if pattern.get(at) == Some(&']') && ranges > 0 {
            return Some((at + 1, found != negated));
        }
        let low = one(&mut at)?;
        let mut high = low;
        if pattern.get(at) == Some(&'-') {
            at += 1;
            high = one(&mut at)?;
        }
        found |= c.is_some_and(|c| (low..=high).contains(&c));
        ranges += 1;
    }
}

/// Matches without recursion: at a mismatch the last star takes one more.
fn matches(pattern: &[char], text: &[char]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            None if t == text.len() => return true,
            None => None,
            Some('*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            Some(_) if t == text.len() => None,
            Some('?') => (text[t] != '/').then_some(1),
            Some('[') => {
                class(&pattern[p..], Some(text[t])).filter(|(_, found)| *found).map(|(len, _)| len)
            }
            Some('\\') => (pattern.get(p + 1) == Some(&text[t])).then_some(2),
            Some(c) => (*c == text[t]).then_some(1),
        };
        if let Some(len) = step {
            p += len;
            t += 1;
            continue;
        }
        let Some((resume, from)) = star else { return false };
        if from >= text.len() || text[from] == '/' {
            return false;
        }
        star = Some((resume, from + 1));
        p = resume;
        t = from + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        for (pattern, text, want) in [
            ("busy*", "busybox:latest", true),
            ("*box", "busybox", true),
            ("*", "a/b", false),
            ("*/*", "a/b", true),
            ("b?sy[a-c]ox", "busybox", true),
            ("[^b]x", "ax", true),
            ("a*b*c", "axxbyyc", true),
            ("a\\*", "a*", true),
        ] {
            assert_eq!(path_match(pattern, text), Ok(want), "{pattern} {text}");
        }
        assert_eq!(path_match("[", "x"), Err(BadPattern));
    }
}
