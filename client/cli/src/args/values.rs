//! The check of each kind of flag value, done while the command line is read
//! from left to right, so that the first mistake is the one that is told.

use super::{csv, golang};
use crate::run;
use crate::spec::{Check, Kind};

/// A checked value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Of a switch.
    Bool(bool),
    /// A number; of bytes, nanoseconds or billionths of a processor where the kind says so.
    Number(i64),
    /// A text, as typed or made regular by its check.
    Text(String),
}

/// Checks one value; `before` tells how often the flag came already.
pub fn check(kind: Kind, text: &str, before: usize) -> Result<Vec<Value>, String> {
    let number = |n: i64| vec![Value::Number(n)];
    let same = || vec![Value::Text(text.to_owned())];
    Ok(match kind {
        Kind::Bool => vec![Value::Bool(golang::parse_bool(text)?)],
        Kind::Text | Kind::TextArray => same(),
        Kind::Int => number(golang::parse_int(text)?),
        Kind::Uint16 => number(golang::parse_uint(text, 10, 65535)? as i64),
        Kind::Duration => number(engine_api::moment::duration(text)?),
        Kind::Bytes => number(bytes(text)?),
        Kind::BytesOrUnlimited if text == "-1" => number(-1),
        Kind::BytesOrUnlimited => number(bytes(text)?),
        Kind::Cpus => number(cpus(text)?),
        Kind::List(check) | Kind::Map(check) => vec![Value::Text(list(check, text)?)],
        Kind::Strings if text.is_empty() => vec![],
        Kind::Strings => csv::fields(text)?.into_iter().map(Value::Text).collect(),
        Kind::Filter => filter(text)?.map(Value::Text).into_iter().collect(),
        Kind::Mount => run::mounts::parse(text).map(|_| same())?,
        Kind::Network => run::networks::parse(text).map(|_| same())?,
        Kind::Ulimit => run::limits::parse(text).map(|_| same())?,
        Kind::Gpus => run::devices::parse_gpus(text, before).map(|_| same())?,
        Kind::Pairs => pairs(text)?,
    })
}

fn pairs(text: &str) -> Result<Vec<Value>, String> {
    let fields = if text.contains('"') {
        csv::fields(text)?
    } else {
        text.split(',').map(Into::into).collect()
    };
    for field in &fields {
        if !field.contains('=') {
            return Err(format!("{field} must be formatted as key=value"));
        }
    }
    Ok(fields.into_iter().map(Value::Text).collect())
}

/// A condition; an empty one is none.
fn filter(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| "bad format of filter (expected name=value)".to_owned())?;
    Ok(Some(format!("{}={}", name.trim().to_lowercase(), value.trim())))
}

/// A size in bytes: a number, then perhaps k, m, g, t or p, then perhaps b or ib.
pub fn bytes(text: &str) -> Result<i64, String> {
    let invalid = || format!("invalid size: '{text}'");
    let end =
        text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let (number, suffix) = text.split_at(end + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    let size = golang::parse_float(number)?;
    if size < 0.0 {
        return Err(invalid());
    }
    let unknown = || format!("invalid suffix: '{}'", suffix.to_lowercase());
    let lower = suffix.to_lowercase();
    if lower.len() > 3 {
        return Err(format!("invalid suffix: '{suffix}'"));
    }
    let mut letters = lower.chars();
    let power = match letters.next() {
        None => return Ok(size as i64),
        Some('b') if lower.len() == 1 => return Ok(size as i64),
        Some('k') => 1,
        Some('m') => 2,
        Some('g') => 3,
        Some('t') => 4,
        Some('p') => 5,
        Some(_) => return Err(unknown()),
    };
    match letters.as_str() {
        "" | "b" | "ib" => Ok((size * 1024f64.powi(power)) as i64),
        _ => Err(unknown()),
    }
}

/// A number of processors in billionths.
pub fn cpus(text: &str) -> Result<i64, String> {
    let wrong = || format!("failed to parse {text} as a rational number");
    let (minus, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (numerator, denominator) = if let Some((a, b)) = unsigned.split_once('/') {
        let digits =
            |t: &str| t.parse::<i128>().ok().filter(|_| t.bytes().all(|b| b.is_ascii_digit()));
        (digits(a).ok_or_else(wrong)?, digits(b).filter(|d| *d > 0).ok_or_else(wrong)?)
    } else {
        decimal(unsigned).ok_or_else(wrong)?
    };
    let nanos = numerator.checked_mul(1_000_000_000).ok_or_else(wrong)?;
    if nanos % denominator != 0 {
        return Err("value is too precise".to_owned());
    }
    let nanos = i64::try_from(nanos / denominator).map_err(|_| wrong())?;
    Ok(if minus { -nanos } else { nanos })
}

/// A decimal number, perhaps with an exponent, as a fraction.
fn decimal(text: &str) -> Option<(i128, i128)> {
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], text[at + 1..].parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = format!("{whole}{fraction}");
    if digits.len() > 18 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let shift = exponent - fraction.len() as i32;
    let scale = 10i128.checked_pow(shift.unsigned_abs())?;
    let number: i128 = digits.parse().ok()?;
    if shift >= 0 { Some((number.checked_mul(scale)?, 1)) } else { Some((number, scale)) }
}

/// The check of a list's value; some make it regular.
fn list(check: Check, text: &str) -> Result<String, String> {
    match check {
        Check::Nothing => {}
        Check::Attach => {
            let lower = text.to_lowercase();
            return match lower.as_str() {
                "stdin" | "stdout" | "stderr" => Ok(lower),
                _ => Err("valid streams are STDIN, STDOUT and STDERR".into()),
            };
        }
        Check::Env => {
            let name = text.split('=').next().unwrap_or_default();
            if name.is_empty() {
                return Err(format!("invalid environment variable: {text}"));
            }
            if !text.contains('=') {
                return Ok(text.to_owned());
            }
        }
        Check::Label => {
            if text.split('=').next().unwrap_or_default().trim().is_empty() {
                return Err(format!("invalid label '{text}': empty name"));
            }
        }
        Check::ExtraHost => return extra_host(text),
        Check::Address => {
            let trimmed = text.trim();
            return match trimmed.parse::<std::net::IpAddr>() {
                Ok(_) => Ok(trimmed.to_owned()),
                Err(_) => Err(format!("IP address is not correctly formatted: {text}")),
            };
        }
        Check::DnsSearch => return dns_search(text),
        Check::Link => run::networks::parse_link(text).map(|_| ())?,
        Check::WeightDevice => run::limits::weight_device(text).map(|_| ())?,
        Check::ThrottleBytes => run::limits::throttle_bytes(text).map(|_| ())?,
        Check::ThrottleCount => run::limits::throttle_count(text).map(|_| ())?,
        Check::DeviceRule => run::devices::check_rule(text)?,
        Check::Sysctl => sysctl(text)?,
    }
    Ok(text.to_owned())
}

fn extra_host(text: &str) -> Result<String, String> {
    let (host, address) = match text.split_once('=') {
        Some(pair) => pair,
        None => text
            .split_once(':')
            .ok_or_else(|| format!("bad format for add-host: {}", golang::quote(text)))?,
    };
    if host.is_empty() || address.is_empty() {
        return Err(format!("bad format for add-host: {}", golang::quote(text)));
    }
    if address == "host-gateway" {
        return Ok(format!("{host}:{address}"));
    }
    let bare = match (address.strip_prefix('['), address.strip_suffix(']')) {
        (Some(_), Some(_)) => &address[1..address.len() - 1],
        _ => address,
    };
    match bare.parse::<std::net::IpAddr>() {
        Ok(_) => Ok(format!("{host}:{bare}")),
        Err(_) => Err(format!("invalid IP address in add-host: {}", golang::quote(address))),
    }
}

fn dns_search(text: &str) -> Result<String, String> {
    let trimmed = text.trim();
    if trimmed == "." {
        return Ok(trimmed.to_owned());
    }
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && l.starts_with(|c: char| c.is_ascii_alphanumeric())
            && l.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let has_letter = trimmed.bytes().any(|b| b.is_ascii_alphabetic());
    if has_letter && trimmed.len() < 255 && trimmed.trim_end_matches('.').split('.').all(label) {
        Ok(trimmed.to_owned())
    } else {
        Err(format!("{trimmed} is not a valid domain"))
    }
}

/// Sysctls that belong to a namespace of the container.
fn sysctl(text: &str) -> Result<(), String> {
    const NAMES: [&str; 6] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
    ];
    const MORE: [&str; 2] = ["kernel.shmmni", "kernel.shm_rmid_forced"];
    const PREFIXES: [&str; 2] = ["net.", "fs.mqueue."];
    let wrong = || format!("sysctl '{text}' is not allowed");
    let (name, _) = text.split_once('=').ok_or_else(wrong)?;
    let known = NAMES.contains(&name)
        || MORE.contains(&name)
        || PREFIXES.iter().any(|p| name.starts_with(p));
    if known { Ok(()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!(bytes("64m"), Ok(64 << 20));
        assert_eq!(bytes("1.5k"), Ok(1536));
        assert_eq!(bytes("2 GiB"), Ok(2 << 30));
        assert_eq!(bytes("abc"), Err("invalid size: 'abc'".to_owned()));
        assert!(bytes("1x").is_err());
    }

    #[test]
    fn processors_are_counted_in_billionths() {
        assert_eq!(cpus("1.5"), Ok(1_500_000_000));
        assert_eq!(cpus("1/2"), Ok(500_000_000));
        assert_eq!(cpus("1/3"), Err("value is too precise".to_owned()));
        assert_eq!(cpus("x"), Err("failed to parse x as a rational number".to_owned()));
    }
}
