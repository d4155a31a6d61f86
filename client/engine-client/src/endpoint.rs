//! Where a daemon is: the address as written, taken apart.

use std::path::PathBuf;

/// An address that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct InvalidHost(pub String);

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
                let path = if rest.is_empty() { "/var/run/docker.sock" } else { rest };
                Ok(Self::Unix(PathBuf::from(path)))
            }
            "tcp" | "http" => {
                let host = rest.trim_end_matches('/');
                let port = host.rsplit_once(':').map(|(_, p)| p);
                let has_port = port.is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
                let host = match (host.is_empty() || host.starts_with(':'), has_port) {
                    (true, true) => format!("localhost{host}"),
                    (true, false) => "localhost:2375".to_owned(),
                    (false, true) => host.to_owned(),
                    (false, false) => format!("{host}:2375"),
                };
                Ok(Self::Tcp(host))
            }
            "ssh" => {
                let (address, path) = match rest.split_once('/') {
                    Some((address, path)) => (address, Some(format!("/{path}"))),
                    None => (rest, None),
                };
                let path = path.filter(|p| p != "/");
                let (user, address) = match address.rsplit_once('@') {
                    Some((user, address)) => (Some(user.to_owned()), address),
                    None => (None, address),
                };
                let (host, port) = match address.rsplit_once(':') {
                    Some((host, port)) => (host.to_owned(), Some(port.to_owned())),
                    None => (address.to_owned(), None),
                };
                if host.is_empty() {
                    return Err(InvalidHost(format!("no host specified: {text}")));
                }
                Ok(Self::Ssh { user, host, port, path })
            }
            _ => Err(InvalidHost(format!("unable to parse docker host `{text}`"))),
        }
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
        let args = Endpoint::parse("ssh://me@there:22").unwrap().ssh_args().join(" ");
        assert_eq!(args, "-o ConnectTimeout=30 -T -l me -p 22 -- there docker system dial-stdio");
    }
}
