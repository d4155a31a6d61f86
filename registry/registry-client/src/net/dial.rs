//! TCP connections: names resolved, both address families tried, errors in Go's words.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use crate::error::ConnectKind;

/// How long the first address family has to itself (RFC 8305; Go waits as long).
const HEAD_START: Duration = Duration::from_millis(300);

/// Why there is no connection.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) kind: ConnectKind,
    pub(crate) text: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refusal {}

/// Connects within `limit`.
pub(crate) async fn dial(host: &str, port: u16, limit: Duration) -> Result<TcpStream, Refusal> {
    let late = |text: String| Refusal { kind: ConnectKind::Timeout, text };
    let found = match timeout(limit, tokio::net::lookup_host((host, port))).await {
        Err(_) => return Err(late(format!("dial tcp: lookup {host}: i/o timeout"))),
        Ok(Err(error)) => return Err(unresolved(host, &error)),
        Ok(Ok(found)) => found.collect::<Vec<_>>(),
    };
    let Some(first) = found.first().copied() else {
        return Err(Refusal {
            kind: ConnectKind::Name,
            text: format!("dial tcp: lookup {host}: no such host"),
        });
    };
    let (near, far) = found.into_iter().partition(|at| at.is_ipv4() == first.is_ipv4());
    match timeout(limit, race(near, far)).await {
        Ok(result) => result,
        Err(_) => Err(late(format!("dial tcp {first}: i/o timeout"))),
    }
}

fn unresolved(host: &str, error: &io::Error) -> Refusal {
    let text = error.to_string();
    let known = ["not known", "No address", "no such host", "Name does not resolve"];
    let why = if known.iter().any(|part| text.contains(part)) { "no such host" } else { &text };
    Refusal { kind: ConnectKind::Name, text: format!("dial tcp: lookup {host}: {why}") }
}

/// The preferred family, and after a head start or its failure the other one beside it.
async fn race(near: Vec<SocketAddr>, far: Vec<SocketAddr>) -> Result<TcpStream, Refusal> {
    let first = in_turn(near);
    if far.is_empty() {
        return first.await;
    }
    tokio::pin!(first);
    tokio::select! {
        result = &mut first => match result {
            Ok(stream) => return Ok(stream),
            Err(refusal) => return in_turn(far).await.map_err(|_| refusal),
        },
        () = sleep(HEAD_START) => {}
    }
    let second = in_turn(far);
    tokio::pin!(second);
    tokio::select! {
        result = &mut first => match result {
            Ok(stream) => Ok(stream),
            Err(refusal) => second.await.map_err(|_| refusal),
        },
        result = &mut second => match result {
            Ok(stream) => Ok(stream),
            Err(_) => first.await,
        },
    }
}

/// One address after the other; the first refusal is told.
async fn in_turn(addresses: Vec<SocketAddr>) -> Result<TcpStream, Refusal> {
    let mut told = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                // Requests are written whole; waiting for more would only delay them.
                stream.set_nodelay(true).ok();
                return Ok(stream);
            }
            Err(error) => told = told.or(Some(refusal(address, &error))),
        }
    }
    Err(told.unwrap_or_else(|| Refusal { kind: ConnectKind::Other, text: "no address".into() }))
}

fn refusal(address: SocketAddr, error: &io::Error) -> Refusal {
    let kind = match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectKind::Refused,
        io::ErrorKind::TimedOut => ConnectKind::Timeout,
        _ => ConnectKind::Other,
    };
    Refusal { kind, text: format!("dial tcp {address}: connect: {}", words(error)) }
}

/// An error of the system as Go words it: in lower case, without its number.
pub(crate) fn words(error: &io::Error) -> String {
    let text = match error.kind() {
        io::ErrorKind::ConnectionReset => return "connection reset by peer".into(),
        io::ErrorKind::BrokenPipe => return "broken pipe".into(),
        io::ErrorKind::UnexpectedEof => return "unexpected EOF".into(),
        io::ErrorKind::HostUnreachable => return "no route to host".into(),
        _ => error.to_string(),
    };
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut rest = text.chars();
    match rest.next() {
        Some(first) => first.to_lowercase().chain(rest).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_are_in_gos_words() {
        for (number, expected) in [
            (111, "connection refused"),
            (104, "connection reset by peer"),
            (101, "network is unreachable"),
            (113, "no route to host"),
        ] {
            assert_eq!(words(&io::Error::from_raw_os_error(number)), expected);
        }
    }

    #[tokio::test]
    async fn the_other_family_is_tried_when_the_first_fails() {
        let there = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        // A port that is never given out.
        let gone = SocketAddr::from(([127, 0, 0, 1], 1));
        let good = there.local_addr().unwrap();
        assert!(race(vec![gone], vec![good]).await.is_ok());
        assert!(race(vec![gone, good], vec![]).await.is_ok());
        let refusal = race(vec![gone], vec![gone]).await.unwrap_err();
        assert_eq!(refusal.text, format!("dial tcp {gone}: connect: connection refused"));
        assert_eq!(refusal.kind, ConnectKind::Refused);
    }

    #[tokio::test]
    async fn an_unknown_name_is_told_as_go_tells_it() {
        let refusal = dial("no-such-host.invalid", 443, Duration::from_secs(60)).await.unwrap_err();
        assert_eq!(refusal.kind, ConnectKind::Name);
        assert!(refusal.text.starts_with("dial tcp: lookup no-such-host.invalid: "));
    }
}
