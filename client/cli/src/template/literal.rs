//! Numbers and quoted strings as Go writes them in a template.

use super::lex::Token;
use super::parse::{Parsed, Term};

pub(super) fn number(token: &Token) -> Parsed<Term> {
    let text = token.text.replace('_', "");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(&text)),
    };
    let radix = |prefix: &[&str], radix| {
        let digits = prefix.iter().find_map(|prefix| digits.strip_prefix(prefix))?;
        i64::from_str_radix(digits, radix).ok()
    };
    let whole = radix(&["0x", "0X"], 16)
        .or_else(|| radix(&["0b", "0B"], 2))
        .or_else(|| radix(&["0o", "0O"], 8));
    if let Some(value) = whole.or_else(|| digits.parse().ok()) {
        return Ok(Term::Int(sign * value));
    }
    text.parse()
        .map(Term::Float)
        .map_err(|_| (token.at, format!("bad number syntax: \"{}\"", token.text)))
}

/// Removes quotes and resolves Go's escapes.
pub(super) fn unquote(token: &Token) -> Parsed<String> {
    let inner = &token.text[1..token.text.len() - 1];
    if token.text.starts_with('`') {
        return Ok(inner.to_owned());
    }
    let bad = || (token.at, format!("malformed string: {}", token.text));
    let mut out = String::new();
    let mut rest = inner.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let escape = rest.next().ok_or_else(bad)?;
        let mut code = |digits: usize, radix: u32| {
            let text: String = rest.by_ref().take(digits).collect();
            u32::from_str_radix(&text, radix).ok().and_then(char::from_u32)
        };
        out.push(match escape {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'v' => '\u{b}',
            '\\' | '"' | '\'' => escape,
            'x' => code(2, 16).ok_or_else(bad)?,
            'u' => code(4, 16).ok_or_else(bad)?,
            'U' => code(8, 16).ok_or_else(bad)?,
            _ => return Err(bad()),
        });
    }
    Ok(out)
}
