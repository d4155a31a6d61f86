//! Signals by name and number.

use crate::error::{Error, Result};

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];

/// `15`, `TERM`, `SIGTERM`, `RTMIN+3` as a number.
///
/// # Errors
/// When there is no such signal.
pub fn parse_signal(text: &str) -> Result<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return Ok(number);
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let alias = match name {
        "IOT" => "ABRT",
        "CLD" => "CHLD",
        "POLL" => "IO",
        other => other,
    };
    if let Some(at) = NAMES.iter().position(|n| *n == alias) {
        return Ok(at as i32 + 1);
    }
    let real_time = |prefix: &str, base: i32, sign: i32| {
        let rest = name.strip_prefix(prefix)?;
        let offset = if rest.is_empty() { 0 } else { rest[1..].parse::<i32>().ok()? };
        Some(base + sign * offset)
    };
    real_time("RTMIN", 34, 1)
        .or_else(|| real_time("RTMAX", 64, -1))
        .filter(|n| (34..=64).contains(n))
        .ok_or_else(|| Error::Refused(format!("unknown signal {text:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_real_time_signals_are_understood() {
        for (text, number) in
            [("9", 9), ("KILL", 9), ("sigterm", 15), ("RTMIN+3", 37), ("RTMAX-1", 63)]
        {
            assert_eq!(parse_signal(text).unwrap(), number);
        }
        assert_eq!(parse_signal("FOO").unwrap_err().to_string(), "unknown signal \"FOO\"");
    }
}
