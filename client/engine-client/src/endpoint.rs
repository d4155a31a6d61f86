//! Where a daemon is: the address as written, taken apart.

use std::path::PathBuf;

/// An address that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidHost(pub String);

/// Where Docker's own daemon listens.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A unix socket.
    Unix(PathBuf),
    /// A host and port.
    Tcp(String),
    /// Through `ssh`, to a daemon on that machine.
    Ssh {
        /// The user, when named.
        user: Option<String>,
        /// The machine.
        host: String,
        /// The port, when named.
        port: Option<String>,
        /// The socket's path there, when named.
        path: Option<String>,
    },
}

/// An address as a user wrote it, in full: what it leaves out is added.
///
/// # Errors
/// When the scheme is unknown, or host and port can't be told apart.
pub fn full_address(text: &str) -> Result<String, InvalidHost> {
    let text = text.trim();
    let unknown = || InvalidHost(format!("invalid bind address format: {text}"));
    match text.split_once("://") {
        _ if text.is_empty() => Ok(format!("unix://{DEFAULT_SOCKET}")),
        Some(("unix", "")) => Ok(format!("unix://{DEFAULT_SOCKET}")),
        Some(("unix" | "ssh" | "fd" | "npipe", _)) => Ok(text.to_owned()),
        Some(("tcp", rest)) => tcp_address(rest),
        None => tcp_address(text),
        Some(_) => Err(unknown()),
    }
}

/// `tcp://HOST:PORT[/PATH]` of what may lack host or port.
fn tcp_address(text: &str) -> Result<String, InvalidHost> {
    let (address, path) = text.find('/').map_or((text, ""), |at| text.split_at(at));
    let after_bracket = address.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match address[after_bracket..].rfind(':') {
        Some(at) => (&address[..after_bracket + at], &address[after_bracket + at + 1..]),
        None => (address, ""),
    };
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        let why = format!("parse \"tcp://{text}\": invalid port \":{port}\" after host");
        return Err(InvalidHost(why));
    }
    let host = if host.is_empty() { "localhost" } else { host };
    let port = if port.is_empty() { "2375" } else { port };
    Ok(format!("tcp://{host}:{port}{path}"))
}

impl Endpoint {
    /// Reads `unix://PATH`, `tcp://HOST[:PORT]`, `ssh://[USER@]HOST[:PORT]` or a bare host.
    ///
    /// # Errors
    /// When the scheme is none of these.
    pub fn parse(text: &str) -> Result<Self, InvalidHost> {
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some(pair) => pair,
            None => ("tcp", text),
        };
        match scheme {
            "unix" => {
                let path = if rest.is_empty() { DEFAULT_SOCKET } else { rest };
                Ok(Self::Unix(PathBuf::from(path)))
            }
            "tcp" | "http" => {
                let address = tcp_address(rest.trim_end_matches('/'))?;
                let address = address.trim_start_matches("tcp://");
                if address.contains('/') {
                    let why = format!("a path in the docker host is not supported: `{text}`");
                    return Err(InvalidHost(why));
                }
                Ok(Self::Tcp(address.to_owned()))
            }
            "ssh" => Self::parse_ssh(rest).map_err(|why| {
                InvalidHost(format!("ssh host connection is not valid: invalid SSH URL: {why}"))
            }),
            "npipe" => Err(InvalidHost("protocol not available".into())),
            _ => Err(InvalidHost(format!("unable to parse docker host `{text}`"))),
        }
    }

    /// `[USER@]HOST[:PORT][/SOCKET]`.
    fn parse_ssh(rest: &str) -> Result<Self, String> {
        for (mark, what) in [('#', "fragments are"), ('?', "query parameters are")] {
            if let Some((_, tail)) = rest.split_once(mark) {
                return Err(format!("{what} not allowed: {tail:?}"));
            }
        }
        let (address, path) = match rest.split_once('/') {
            Some((address, path)) => (address, Some(format!("/{path}"))),
            None => (rest, None),
        };
        let path = path.filter(|p| p != "/");
        let (user, address) = match address.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => {
                return Err("plain-text password is not supported".into());
            }
            Some((user, address)) => (Some(user.to_owned()), address),
            None => (None, address),
        };
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) => (host.to_owned(), Some(port.to_owned())),
            None => (address.to_owned(), None),
        };
        if host.is_empty() {
            return Err("hostname is empty".into());
        }
        Ok(Self::Ssh { user, host, port, path })
    }

    /// The arguments of the `ssh` that reaches the daemon.
    pub fn ssh_args(&self) -> Vec<String> {
        let Self::Ssh { user, host, port, path } = self else { return Vec::new() };
        let mut args: Vec<String> = vec!["-o".into(), "ConnectTimeout=30".into(), "-T".into()];
        if let Some(user) = user {
            args.extend(["-l".into(), user.clone()]);
        }
        if let Some(port) = port {
            args.extend(["-p".into(), port.clone()]);
        }
        args.extend(["--".into(), host.clone(), "docker".into()]);
        if let Some(path) = path {
            args.extend(["--host".into(), format!("unix://{path}")]);
        }
        args.extend(["system".into(), "dial-stdio".into()]);
        args
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_apart_by_their_scheme() {
        assert_eq!(Endpoint::parse("unix:///x.sock").unwrap(), Endpoint::Unix("/x.sock".into()));
        assert_eq!(Endpoint::parse("tcp://h:1").unwrap(), Endpoint::Tcp("h:1".into()));
        assert_eq!(Endpoint::parse("h").unwrap(), Endpoint::Tcp("h:2375".into()));
        assert!(Endpoint::parse("ftp://h").is_err());
        assert!(Endpoint::parse("tcp://h/x").is_err());
        let args = Endpoint::parse("ssh://me@there:22").unwrap().ssh_args().join(" ");
        assert_eq!(args, "-o ConnectTimeout=30 -T -l me -p 22 -- there docker system dial-stdio");
    }
    #[test]
    fn what_an_address_leaves_out_is_added() {
        let full = |text: &str| full_address(text).unwrap_or_else(|e| e.to_string());
        assert_eq!(full(""), "unix:///var/run/docker.sock");
        assert_eq!(full("unix://"), "unix:///var/run/docker.sock");
        assert_eq!(full("127.0.0.1:1"), "tcp://127.0.0.1:1");
        assert_eq!(full(":1"), "tcp://localhost:1");
        assert_eq!(full("tcp://[::1]"), "tcp://[::1]:2375");
        assert_eq!(full("tcp://[::1]:1"), "tcp://[::1]:1");
        assert_eq!(full("http://h:1"), "invalid bind address format: http://h:1");
        let text = "parse \"tcp://foo:bar\": invalid port \":bar\" after host";
        assert_eq!(full("foo:bar"), text);
    }

    #[test]
    fn wrong_ssh_addresses_are_told() {
        let told = |text: &str| Endpoint::parse(text).unwrap_err().to_string();
        let start = "ssh host connection is not valid: invalid SSH URL: ";
        assert_eq!(told("ssh://"), format!("{start}hostname is empty"));
        assert_eq!(told("ssh://u:p@h"), format!("{start}plain-text password is not supported"));
        assert_eq!(told("ssh://h/x?y"), format!("{start}query parameters are not allowed: \"y\""));
    }
}
