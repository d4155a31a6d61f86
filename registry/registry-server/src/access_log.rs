//! The access log: a line for every request, in the combined format of web servers. A thread
//! writes it, so that a slow reader of the log never holds up a request; what it cannot take is
//! counted and said.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use jiff::Timestamp;

/// Lines that may wait for the writer.
const WAITING: usize = 4096;

/// What a line tells.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    pub(crate) peer: Option<IpAddr>,
    pub(crate) user: Option<&'a str>,
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) version: &'a str,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) referer: &'a str,
    pub(crate) agent: &'a str,
    pub(crate) took: Duration,
}

enum Message {
    Line(String),
    Reopen,
}

/// The log, for those who write to it.
#[derive(Debug)]
pub(crate) struct AccessLog {
    lines: Mutex<SyncSender<Message>>,
    lost: AtomicU64,
}

impl AccessLog {
    /// Opens the log at `path`; `-` is standard output.
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        let out = open(path)?;
        let (lines, received) = sync_channel(WAITING);
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("access-log".into())
            .stack_size(64 << 10)
            .spawn(move || write_all(&path, out, &received))?;
        Ok(Self { lines: Mutex::new(lines), lost: AtomicU64::new(0) })
    }

    /// Adds a line.
    pub(crate) fn add(&self, line: &Line<'_>) {
        self.send(Message::Line(line.to_string()));
    }

    /// Opens the file anew, after somebody moved it away.
    pub(crate) fn reopen(&self) {
        self.send(Message::Reopen);
    }

    fn send(&self, message: Message) {
        let lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match lines.try_send(message) {
            Ok(()) => {
                let lost = self.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    tracing::warn!(lost, "the access log could not take all lines");
                }
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

type Output = Box<dyn Write + Send>;

fn open(path: &str) -> io::Result<Output> {
    if path == "-" {
        return Ok(Box::new(io::stdout()));
    }
    Ok(Box::new(File::options().create(true).append(true).open(path)?))
}

fn write_all(path: &str, mut out: Output, received: &Receiver<Message>) {
    let mut text = String::new();
    while let Ok(first) = received.recv() {
        let mut next = Some(first);
        // Whatever waits goes in one write.
        while let Some(message) = next {
            match message {
                Message::Line(line) => text.push_str(&line),
                Message::Reopen => {
                    out.write_all(text.as_bytes()).ok();
                    text.clear();
                    match open(path) {
                        Ok(fresh) => out = fresh,
                        Err(error) => tracing::error!("opening the access log {path}: {error}"),
                    }
                }
            }
            next = (text.len() < 64 << 10).then(|| received.try_recv().ok()).flatten();
        }
        if let Err(error) = out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
            tracing::error!("writing the access log {path}: {error}");
        }
        text.clear();
    }
}

impl std::fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.peer {
            Some(peer) => write!(f, "{peer}")?,
            None => f.write_char('-')?,
        }
        write!(f, " - {} [{}]", plain(self.user.unwrap_or("-")), now())?;
        let (target, status, bytes) = (plain(self.target), self.status, self.bytes);
        write!(f, " \"{} {target} {}\" {status} {bytes}", self.method, self.version)?;
        write!(f, " \"{}\" \"{}\"", plain(self.referer), plain(self.agent))?;
        writeln!(f, " {}us", self.took.as_micros())
    }
}

fn now() -> String {
    Timestamp::now().strftime("%d/%b/%Y:%H:%M:%S +0000").to_string()
}

/// Without what could end a field or a line.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || c == '"' || c == '\\' { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_cannot_be_forged_by_what_a_client_says() {
        let line = Line {
            peer: Some(IpAddr::from([127, 0, 0, 1])),
            user: Some("a\nb"),
            method: "GET",
            target: "/v2/\"x",
            version: "HTTP/1.1",
            status: 200,
            bytes: 2,
            referer: "",
            agent: "curl\r\n127.0.0.1",
            took: Duration::from_micros(7),
        };
        let text = line.to_string();
        assert_eq!(text.lines().count(), 1);
        assert!(text.starts_with("127.0.0.1 - a_b ["), "{text}");
        let end = "\"GET /v2/_x HTTP/1.1\" 200 2 \"\" \"curl__127.0.0.1\" 7us\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn a_moved_log_goes_on_in_a_new_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let log = AccessLog::open(path.to_str().unwrap()).unwrap();
        let line = |target| Line {
            peer: None,
            user: None,
            method: "GET",
            target,
            version: "HTTP/2.0",
            status: 404,
            bytes: 0,
            referer: "",
            agent: "",
            took: Duration::ZERO,
        };
        let seen = |path: &std::path::Path, what: &str| {
            lab::wait_until("a line", Duration::from_secs(20), || {
                std::fs::read_to_string(path).is_ok_and(|text| text.contains(what))
            })
            .unwrap();
        };
        log.add(&line("/one"));
        seen(&path, "/one");
        let moved = dir.path().join("moved");
        std::fs::rename(&path, &moved).unwrap();
        log.reopen();
        log.add(&line("/two"));
        seen(&path, "/two");
        assert!(!std::fs::read_to_string(moved).unwrap().contains("/two"));
    }
}
