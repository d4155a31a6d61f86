//! Names: buses, interfaces, members, object paths. What the reference bus refuses is refused here,
//! so that a bad name never ends the connection.

use crate::error::Invalid;

const MAX_LEN: usize = 255;

fn letter(byte: u8, first: bool) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || (!first && byte.is_ascii_digit())
}

fn element(text: &str) -> bool {
    !text.is_empty() && text.bytes().enumerate().all(|(at, b)| letter(b, at == 0))
}

fn refuse(what: &str, text: &str) -> Invalid {
    Invalid::new(format!("{text:?} is no {what}"))
}

/// `/`, or elements of letters, digits and underscores, each after a slash.
pub(crate) fn check_path(text: &str) -> Result<(), Invalid> {
    let valid = text == "/"
        || text.strip_prefix('/').is_some_and(|rest| {
            rest.split('/').all(|part| {
                !part.is_empty() && part.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
            })
        });
    if valid { Ok(()) } else { Err(refuse("object path", text)) }
}

/// At least two elements, joined by dots; error names are such too.
pub(crate) fn check_interface(text: &str) -> Result<(), Invalid> {
    let valid = text.len() <= MAX_LEN && text.contains('.') && text.split('.').all(element);
    if valid { Ok(()) } else { Err(refuse("interface name", text)) }
}

/// One element.
pub(crate) fn check_member(text: &str) -> Result<(), Invalid> {
    let valid = text.len() <= MAX_LEN && element(text);
    if valid { Ok(()) } else { Err(refuse("member name", text)) }
}

/// A unique name (`:1.42`) or a well-known one (`org.freedesktop.systemd1`).
pub(crate) fn check_bus(text: &str) -> Result<(), Invalid> {
    let unique = text.starts_with(':');
    let part = |part: &str| {
        !part.is_empty()
            && (unique || !part.starts_with(|c: char| c.is_ascii_digit()))
            && part.bytes().all(|b| b == b'_' || b == b'-' || b.is_ascii_alphanumeric())
    };
    let dotted = text.strip_prefix(':').unwrap_or(text);
    let valid = text.len() <= MAX_LEN && dotted.contains('.') && dotted.split('.').all(part);
    if valid { Ok(()) } else { Err(refuse("bus name", text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_bus_takes() {
        assert!(check_path("/").is_ok() && check_path("/org/a_1/2").is_ok());
        for bad in ["", "a", "/a/", "//", "/a-b", "/ä"] {
            assert!(check_path(bad).is_err(), "{bad}");
        }
        assert!(check_interface("org.a_b.C2").is_ok());
        for bad in ["", "org", "org.", ".org", "org..a", "org.2a", "org.a-b"] {
            assert!(check_interface(bad).is_err(), "{bad}");
        }
        assert!(check_member("GetUnit").is_ok() && check_member("a.b").is_err());
        assert!(check_bus(":1.42").is_ok() && check_bus("org.a-b.c").is_ok());
        for bad in ["", "org", ":1", "org.1a", "a.b ", "1.42"] {
            assert!(check_bus(bad).is_err(), "{bad}");
        }
    }
}
