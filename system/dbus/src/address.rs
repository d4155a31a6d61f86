//! Where a bus is: server addresses as environment variables carry them. Unix sockets only.

use std::path::PathBuf;

use rustix::net::SocketAddrUnix;

use crate::error::Invalid;

const SYSTEM: &str = "unix:path=/run/dbus/system_bus_socket";

/// The addresses of one bus, tried in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    sockets: Vec<Socket>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Socket {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

impl Address {
    /// Reads `unix:path=/a,guid=…;unix:abstract=b`. Transports other than unix sockets are passed
    /// over; with none left it is an error.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid::new(format!("D-Bus address {text:?} names no unix socket"));
        let mut sockets = Vec::new();
        for one in text.split(';').filter(|one| !one.is_empty()) {
            let Some(pairs) = one.strip_prefix("unix:") else { continue };
            for pair in pairs.split(',') {
                match pair.split_once('=') {
                    Some(("path", value)) => {
                        use std::os::unix::ffi::OsStringExt;
                        let bytes = unescape(value).ok_or_else(wrong)?;
                        let path = std::ffi::OsString::from_vec(bytes).into();
                        sockets.push(Socket::Path(path));
                    }
                    Some(("abstract", value)) => {
                        sockets.push(Socket::Abstract(unescape(value).ok_or_else(wrong)?));
                    }
                    _ => {}
                }
            }
        }
        if sockets.is_empty() {
            return Err(wrong());
        }
        Ok(Self { text: text.to_owned(), sockets })
    }

    /// A socket's path.
    pub fn path(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { text: path.display().to_string(), sockets: vec![Socket::Path(path)] }
    }

    /// The system bus: `$DBUS_SYSTEM_BUS_ADDRESS`, else its usual place.
    pub fn system() -> Result<Self, Invalid> {
        match std::env::var("DBUS_SYSTEM_BUS_ADDRESS") {
            Ok(text) if !text.is_empty() => Self::parse(&text),
            _ => Self::parse(SYSTEM),
        }
    }

    /// The user's own bus: `$DBUS_SESSION_BUS_ADDRESS`, else `$XDG_RUNTIME_DIR/bus`; `None` when
    /// neither is set.
    pub fn session() -> Result<Option<Self>, Invalid> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(text) = set("DBUS_SESSION_BUS_ADDRESS") {
            let text = text.to_str().ok_or_else(|| Invalid::new("D-Bus address is not UTF-8"))?;
            return Self::parse(text).map(Some);
        }
        Ok(set("XDG_RUNTIME_DIR").map(|folder| Self::path(PathBuf::from(folder).join("bus"))))
    }

    /// As written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn sockets(&self) -> impl Iterator<Item = rustix::io::Result<SocketAddrUnix>> {
        self.sockets.iter().map(|socket| match socket {
            Socket::Path(path) => SocketAddrUnix::new(path),
            Socket::Abstract(name) => SocketAddrUnix::new_abstract_name(name),
        })
    }
}

/// `%2f` is a slash.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let mut digit = || Some((bytes.next()? as char).to_digit(16)? as u8);
            out.push(digit()? << 4 | digit()?);
        } else {
            out.push(byte);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unix_sockets_in_order() {
        let text = "tcp:host=x,port=1;unix:path=/run/a%20b,guid=00ff;unix:abstract=/tmp/dbus-x";
        let address = Address::parse(text).unwrap();
        assert_eq!(
            address.sockets,
            [Socket::Path("/run/a b".into()), Socket::Abstract(b"/tmp/dbus-x".to_vec())]
        );
        for bad in ["", "tcp:host=x", "unix:", "unix:path=/a%2", "unix:path=/a%zz", "/run/x"] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
