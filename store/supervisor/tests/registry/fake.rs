//! A registry that misbehaves as a test wants it: serves one or several images, and lets the test
//! change, cut, hold back or count any answer.

#![allow(dead_code, reason = "two suites use it, each in part")]

use crate::origin::{Layer, documents};
use oci::{Digest, media_type};
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

/// A request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: Vec<(String, String)>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    fn offset(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// Opened once by the test.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    pub(crate) fn wait(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }
}

/// What to do with a request.
pub(crate) enum Act {
    /// What a good registry would.
    Serve,
    /// This status with these headers and this body, whatever was asked for.
    Say(u16, Vec<(&'static str, String)>, String),
    /// Other content under the same name.
    Instead(Vec<u8>),
    /// The whole although a range was asked for.
    Whole,
    /// So many bytes, then nothing until the gate opens, then the connection is closed.
    Hold(usize, Gate),
    /// The answer, once the gate is open.
    After(Gate),
    /// One half, and the other a moment later.
    Slowly,
}

/// The first byte of a client that speaks TLS.
const TLS_HANDSHAKE: u8 = 0x16;

type Rule = dyn Fn(&Asked) -> Act + Send + Sync;

struct Shared {
    content: Mutex<HashMap<String, (String, Vec<u8>)>>,
    asked: Mutex<Vec<Asked>>,
    rule: Mutex<Arc<Rule>>,
    /// Answers with content that are under way, and the most there were.
    busy: Mutex<(usize, usize)>,
}

pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

impl Fake {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            content: Mutex::default(),
            asked: Mutex::default(),
            rule: Mutex::new(Arc::new(|_| Act::Serve)),
            busy: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let shared = Arc::clone(&own);
                std::thread::spawn(move || shared.serve(socket));
            }
        });
        Self { address, shared }
    }

    pub(crate) fn rule(&self, rule: impl Fn(&Asked) -> Act + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Arc::new(rule);
    }

    /// Serves an image as `NAME:1`.
    pub(crate) fn add(&self, name: &str, layers: &[Layer]) {
        let (config, manifest) = documents(layers, "amd64");
        self.add_as(name, layers, &config, &manifest);
    }

    pub(crate) fn add_as(&self, name: &str, layers: &[Layer], config: &[u8], manifest: &[u8]) {
        let mut content = self.shared.content.lock().unwrap();
        let octets = "application/octet-stream";
        for blob in layers.iter().map(|layer| layer.blob.as_slice()).chain([config]) {
            let path = format!("/v2/{name}/blobs/{}", Digest::sha256(blob));
            content.insert(path, (octets.into(), blob.to_vec()));
        }
        for reference in ["1".to_owned(), Digest::sha256(manifest).to_string()] {
            let path = format!("/v2/{name}/manifests/{reference}");
            content.insert(path, (media_type::OCI_MANIFEST.into(), manifest.to_vec()));
        }
    }

    /// How many answers with a blob's content there were at once, at most.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.busy.lock().unwrap().1
    }

    /// Requests for the content of a blob so far.
    pub(crate) fn gets(&self, blob: &[u8]) -> Vec<Asked> {
        let end = format!("/blobs/{}", Digest::sha256(blob));
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|a| a.method == "GET" && a.path.ends_with(&end)).cloned().collect()
    }
}

impl Shared {
    fn serve(&self, mut socket: TcpStream) {
        while let Some(asked) = read(&mut socket) {
            self.asked.lock().unwrap().push(asked.clone());
            let rule = Arc::clone(&self.rule.lock().unwrap());
            let act = rule(&asked);
            let _busy = Busy::new(self, &asked);
            if !self.answer(&mut socket, &asked, act) {
                return;
            }
        }
    }

    /// Whether the connection goes on.
    fn answer(&self, socket: &mut TcpStream, asked: &Asked, act: Act) -> bool {
        if let Act::Say(status, headers, body) = act {
            return send(socket, asked, status, &headers, body.as_bytes());
        }
        let found = self.content.lock().unwrap().get(&asked.path).cloned();
        let (media, mut body) = match (asked.path.as_str(), found) {
            ("/v2/", _) => ("application/json".to_owned(), b"{}".to_vec()),
            (_, Some(found)) => found,
            (_, None) => {
                let body =
                    r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
                return send(socket, asked, 404, &[], body.as_bytes());
            }
        };
        let (mut whole, mut slowly, mut hold) = (false, false, None);
        match act {
            Act::Serve | Act::Say(..) => {}
            Act::Instead(other) => body = other,
            Act::Whole => whole = true,
            Act::Hold(bytes, gate) => hold = Some((bytes, gate)),
            Act::After(gate) => gate.wait(),
            Act::Slowly => slowly = true,
        }
        let digest = Digest::sha256(&body).to_string();
        let mut headers = vec![("Content-Type", media), ("Docker-Content-Digest", digest)];
        let mut status = 200;
        if let Some(offset) = asked.offset().filter(|_| !whole) {
            let range = format!("bytes {offset}-{}/{}", body.len() - 1, body.len());
            headers.push(("Content-Range", range));
            body.drain(..offset);
            status = 206;
        }
        match hold {
            None if slowly => {
                let (first, second) = body.split_at(body.len() / 2);
                let head = head(status, &headers, body.len());
                let begun =
                    socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(first));
                std::thread::sleep(std::time::Duration::from_millis(50));
                begun.and_then(|()| socket.write_all(second)).is_ok()
            }
            None => send(socket, asked, status, &headers, &body),
            Some((bytes, gate)) => {
                let head = head(status, &headers, body.len());
                let _ = socket.write_all(head.as_bytes());
                let _ = socket.write_all(&body[..bytes]);
                gate.wait();
                false
            }
        }
    }
}

/// An answer under way.
struct Busy<'a>(Option<&'a Shared>);

impl<'a> Busy<'a> {
    fn new(shared: &'a Shared, asked: &Asked) -> Self {
        let counts = asked.method == "GET" && asked.path.contains("/blobs/");
        if counts {
            let mut busy = shared.busy.lock().unwrap();
            busy.0 += 1;
            busy.1 = busy.1.max(busy.0);
        }
        Self(counts.then_some(shared))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.busy.lock().unwrap().0 -= 1;
        }
    }
}

fn head(status: u16, headers: &[(&'static str, String)], length: usize) -> String {
    let mut head = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n");
    for (name, value) in headers {
        for part in [name, ": ", value.as_str(), "\r\n"] {
            head.push_str(part);
        }
    }
    head + "\r\n"
}

fn send(
    socket: &mut TcpStream,
    asked: &Asked,
    status: u16,
    headers: &[(&'static str, String)],
    body: &[u8],
) -> bool {
    let head = head(status, headers, body.len());
    let body = if asked.method == "HEAD" { b"" } else { body };
    socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body)).is_ok()
}

fn read(socket: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        socket.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
        // Who tries TLS first would wait for an answer to its greeting.
        if head[0] == TLS_HANDSHAKE {
            return None;
        }
    }
    let text = String::from_utf8(head).ok()?;
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Some(Asked { method, path, headers })
}
