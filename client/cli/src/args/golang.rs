//! Values in Go's notation: numbers, durations, switches, quoted texts, with the
//! wording of Go's errors.

/// A text in double quotes, as Go's `%q` has it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A switch's value.
pub fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(syntax("ParseBool", text)),
    }
}

fn syntax(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {}: invalid syntax", quote(text))
}

fn range(function: &str, text: &str) -> String {
    format!("strconv.{function}: parsing {}: value out of range", quote(text))
}

/// The digits of a number whose prefix names its base: 0x, 0o, 0b, a leading 0, or decimal.
fn base_zero(text: &str) -> Option<(u32, String)> {
    let lower = text.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    let prefixed = base != 10;
    if digits.contains('_') {
        // Underscores stand between digits, or between the prefix and a digit.
        let good = !digits.ends_with('_')
            && !digits.contains("__")
            && (prefixed || !digits.starts_with('_'));
        if !good || !prefixed && !text.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
    }
    let plain: String = digits.chars().filter(|c| *c != '_').collect();
    (!plain.is_empty() && plain.chars().all(|c| c.is_digit(base))).then_some((base, plain))
}

/// A whole number, its base told by its prefix.
pub fn parse_int(text: &str) -> Result<i64, String> {
    parse_signed(text, base_zero, "ParseInt")
}

/// A whole number in decimal digits only.
pub fn parse_decimal(text: &str, function: &str) -> Result<i64, String> {
    let digits = |t: &str| {
        (!t.is_empty() && t.bytes().all(|b| b.is_ascii_digit())).then(|| (10, t.to_owned()))
    };
    parse_signed(text, digits, function)
}

fn parse_signed(
    text: &str,
    digits: impl Fn(&str) -> Option<(u32, String)>,
    function: &str,
) -> Result<i64, String> {
    let (minus, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let (base, plain) = digits(unsigned).ok_or_else(|| syntax(function, text))?;
    let sign = if minus { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{plain}"), base).map_err(|_| range(function, text))
}

/// A number without sign up to `max`; `base` 0 lets a prefix tell the base.
pub fn parse_uint(text: &str, base: u32, max: u64) -> Result<u64, String> {
    let found = if base == 0 {
        base_zero(text)
    } else {
        (!text.is_empty() && text.chars().all(|c| c.is_digit(base)))
            .then(|| (base, text.to_owned()))
    };
    let (base, plain) = found.ok_or_else(|| syntax("ParseUint", text))?;
    match u64::from_str_radix(&plain, base) {
        Ok(number) if number <= max => Ok(number),
        _ => Err(range("ParseUint", text)),
    }
}

/// A floating point number.
pub fn parse_float(text: &str) -> Result<f64, String> {
    let plausible = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b));
    match text.parse::<f64>() {
        Ok(number) if plausible => Ok(number),
        _ => Err(syntax("ParseFloat", text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_prefix_of_their_base() {
        for (text, number) in
            [("0x10", 16), ("010", 8), ("0b11", 3), ("-5", -5), ("1_000", 1000), ("0", 0)]
        {
            assert_eq!(parse_int(text), Ok(number), "{text}");
        }
        assert_eq!(
            parse_int("x"),
            Err("strconv.ParseInt: parsing \"x\": invalid syntax".to_owned())
        );
        assert!(parse_int("99999999999999999999").unwrap_err().ends_with("value out of range"));
    }
}
