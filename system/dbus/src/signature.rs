//! Type signatures: where one complete type ends, how it is aligned. Values are not known here.

use crate::error::Invalid;

/// The longest signature.
pub(crate) const MAX_LEN: usize = 255;
/// How deep arrays may nest, and likewise structs.
const MAX_DEPTH: u8 = 32;

/// How deep we are, of each kind.
#[derive(Clone, Copy, Default)]
struct Depth {
    arrays: u8,
    structs: u8,
}

/// Checks a sequence of complete types.
pub(crate) fn check(signature: &str) -> Result<(), Invalid> {
    if signature.len() > MAX_LEN {
        return Err(Invalid::new("a signature is longer than 255 bytes"));
    }
    let mut rest = signature.as_bytes();
    while !rest.is_empty() {
        rest = &rest[end(rest, Depth::default(), signature)?..];
    }
    Ok(())
}

/// Checks exactly one complete type.
pub(crate) fn check_one(signature: &str) -> Result<(), Invalid> {
    check(signature)?;
    if signature.is_empty() || first(signature).len() != signature.len() {
        return Err(Invalid::new(format!("signature {signature:?} is not one complete type")));
    }
    Ok(())
}

/// The first complete type of a checked signature that is not empty.
pub(crate) fn first(signature: &str) -> &str {
    let len = end(signature.as_bytes(), Depth::default(), signature).unwrap_or(signature.len());
    signature.get(..len).unwrap_or(signature)
}

/// The alignment of values of the type that begins with this letter.
pub(crate) fn alignment(letter: u8) -> usize {
    match letter {
        b'y' | b'g' | b'v' => 1,
        b'n' | b'q' => 2,
        b'x' | b't' | b'd' | b'(' | b'{' => 8,
        _ => 4,
    }
}

pub(crate) fn is_basic(letter: u8) -> bool {
    b"ybnqiuxtdsog".contains(&letter)
}

/// Where the first complete type ends.
fn end(bytes: &[u8], depth: Depth, whole: &str) -> Result<usize, Invalid> {
    let wrong = || Invalid::new(format!("signature {whole:?} is not valid"));
    match bytes.first() {
        Some(b'v') => Ok(1),
        Some(letter) if is_basic(*letter) => Ok(1),
        Some(b'a') => {
            let depth = Depth { arrays: depth.arrays + 1, ..depth };
            if depth.arrays > MAX_DEPTH {
                return Err(wrong());
            }
            match bytes.get(1) {
                Some(b'{') => Ok(1 + entry(&bytes[1..], depth, whole)?),
                _ => Ok(1 + end(&bytes[1..], depth, whole)?),
            }
        }
        Some(b'(') => {
            let depth = Depth { structs: depth.structs + 1, ..depth };
            if depth.structs > MAX_DEPTH || bytes.get(1) == Some(&b')') {
                return Err(wrong());
            }
            let mut at = 1;
            while bytes.get(at) != Some(&b')') {
                at += end(bytes.get(at..).unwrap_or(&[]), depth, whole)?;
            }
            Ok(at + 1)
        }
        Some(b'h') => Err(Invalid::new("descriptors in messages are not supported")),
        _ => Err(wrong()),
    }
}

/// Where a dictionary's entry ends: a basic type, a complete type, a brace.
fn entry(bytes: &[u8], depth: Depth, whole: &str) -> Result<usize, Invalid> {
    let wrong = || Invalid::new(format!("signature {whole:?} is not valid"));
    let depth = Depth { structs: depth.structs + 1, ..depth };
    if depth.structs > MAX_DEPTH || !bytes.get(1).is_some_and(|b| is_basic(*b)) {
        return Err(wrong());
    }
    let at = 2 + end(bytes.get(2..).unwrap_or(&[]), depth, whole)?;
    if bytes.get(at) == Some(&b'}') { Ok(at + 1) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_what_the_specification_allows() {
        let deep = format!("{}u", "a".repeat(32));
        let nested = format!("{}u{}", "(".repeat(32), ")".repeat(32));
        for good in ["", "s", "a(sv)", "a{sv}", "a{s(ii)}", "(i(ss)av)", "aay", &deep, &nested] {
            check(good).unwrap_or_else(|e| panic!("{good}: {e}"));
        }
        let deeper = format!("{}u", "a".repeat(33));
        let more = format!("{}u{}", "(".repeat(33), ")".repeat(33));
        let long = "u".repeat(256);
        for bad in [
            "a", "()", "(", "(i", ")", "{sv}", "a{vs}", "a{s}", "a{sss}", "a{sv", "z", "h", "e",
            &deeper, &more, &long,
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check_one("ss").is_err() && check_one("").is_err() && check_one("(ss)").is_ok());
        assert_eq!(first("a{sv}u"), "a{sv}");
    }
}
