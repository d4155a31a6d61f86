//! Signals by name or number, as the API takes them. Sending one is the
//! lifecycle's part.

/// Linux' signals on x86 and arm, in order of their numbers from 1 on.
const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
    "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
    "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The first and the last real-time signal that programs may use.
const RTMIN: u32 = 34;
const RTMAX: u32 = 64;

/// `SIGKILL`.
pub const SIGKILL: u32 = 9;
/// `SIGTERM`.
pub const SIGTERM: u32 = 15;

/// A signal text that names nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid signal: {0}")]
pub struct InvalidSignal(pub String);

/// The number of a signal given as `9`, `KILL`, `SIGKILL` (any case), `RTMIN+3`.
pub fn parse(text: &str) -> Result<u32, InvalidSignal> {
    let invalid = || InvalidSignal(text.to_owned());
    if let Ok(number) = text.parse::<i64>() {
        return match u32::try_from(number) {
            Ok(n) if (1..=RTMAX).contains(&n) => Ok(n),
            _ => Err(invalid()),
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some(at) = NAMES.iter().position(|n| *n == name) {
        return Ok(at as u32 + 1);
    }
    match name {
        "IOT" => return Ok(6),
        "CLD" => return Ok(17),
        "POLL" => return Ok(29),
        _ => {}
    }
    realtime(name).ok_or_else(invalid)
}

fn realtime(name: &str) -> Option<u32> {
    if name == "RTMIN" {
        return Some(RTMIN);
    }
    if name == "RTMAX" {
        return Some(RTMAX);
    }
    let number = if let Some(plus) = name.strip_prefix("RTMIN+") {
        RTMIN.checked_add(plus.parse().ok()?)?
    } else {
        RTMAX.checked_sub(name.strip_prefix("RTMAX-")?.parse().ok()?)?
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_prefixes_mean_the_same_signal() {
        for text in ["9", "KILL", "SIGKILL", "sigkill", "kill"] {
            assert_eq!(parse(text), Ok(9), "{text}");
        }
        assert_eq!(parse("SIGRTMIN+3"), Ok(37));
        assert_eq!(parse("RTMAX-1"), Ok(63));
        assert_eq!(parse("WINCH"), Ok(28));
    }

    #[test]
    fn what_names_no_signal_is_refused_with_its_text() {
        for text in ["", "0", "-1", "65", "SIGNOPE", "RTMIN+31"] {
            assert_eq!(parse(text), Err(InvalidSignal(text.into())), "{text}");
        }
        assert_eq!(parse("NOPE").unwrap_err().to_string(), "invalid signal: NOPE");
    }
}
