//! The requests of `api/*.txt`, sent byte for byte alike to a stock dockerd and to ferryd:
//! statuses, headers and bodies are equal but for ids, times and how each stores layers.
//!
//! A line is `METHOD /path [body]`; `name=METHOD …` keeps the `Id` of the reply as `$name` for
//! later lines, `$SCRATCH` is a folder of the engine's own, and `$SEARCH` a registry that
//! finds the same whatever it is asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use lab::{Engine, Kind};
use serde_json::Value;

/// Fields whose values belong to the engine, the machine or the moment.
const OWN: &[&str] = &[
    "DockerVersion",
    "Driver",
    "GraphDriver",
    "ImageManifestDescriptor",
    "MacAddress",
    "Pid",
    "Processes",
    "Runtime",
    "SandboxKey",
    "Created",
];
/// Headers that belong to the connection or the moment.
const OWN_HEADERS: &[&str] =
    &["date", "server", "content-length", "connection", "transfer-encoding", "builder-version"];

fn escaped(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b' ' | b'"' | b'{' | b'}' | b'[' | b']' | b'<' | b'>' | b'^' => {
                write!(out, "%{byte:02X}").unwrap();
            }
            _ => out.push(char::from(byte)),
        }
    }
    out
}

fn send(engine: &Engine, line: &str) -> Vec<u8> {
    let mut words = line.splitn(3, ' ');
    let (method, path) = (words.next().unwrap(), escaped(words.next().unwrap()));
    let body = words.next().unwrap_or_default();
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n");
    if method == "POST" {
        let length = body.len();
        write!(request, "Content-Type: application/json\r\nContent-Length: {length}\r\n").unwrap();
    }
    let mut stream = UnixStream::connect(engine.scratch().join("s")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(format!("{request}\r\n{body}").as_bytes()).unwrap();
    let mut answer = Vec::new();
    if let Err(e) = stream.read_to_end(&mut answer) {
        write!(answer, "<{e}>").unwrap();
    }
    answer
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// The body of a chunked answer.
fn joined(mut text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(end) = find(text, b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&text[..end]), 16).unwrap_or(0);
        if size == 0 || text.len() < end + 2 + size {
            return out;
        }
        out.extend(&text[end + 2..end + 2 + size]);
        text = text.get(end + 4 + size..).unwrap_or_default();
    }
    out.extend(b"<cut>");
    out
}

/// Ids, times of day, ages, and the engine's own folder as placeholders.
fn plain(text: &str, engine: &Engine) -> String {
    let text = text.replace(&engine.scratch().path().display().to_string(), "<scratch>");
    let text = text.replace("-json.log", "/json.log").replace("ferry0", "docker0");
    let mut out = String::new();
    let mut word = String::new();
    for c in text.chars().chain(['\0']) {
        if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+') || (c == ':' && clock(&word)) {
            word.push(c);
            continue;
        }
        let hex = word.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let time = word.len() >= 20 && clock(&word);
        match word.len() {
            12 | 64 if hex => out.push_str("<id>"),
            _ if time => out.push_str("<time>"),
            _ => out.push_str(&word),
        }
        word.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out.replace("Less than a second", "1 second")
}

/// Whether a word begins as `2026-01-02T` does.
fn clock(word: &str) -> bool {
    let bytes = word.as_bytes();
    bytes.len() > 10 && bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b'T'
}

/// An address without its last number: a removed container's is free again when its tear-down
/// is done, so that the next one may get another.
fn network_of(address: &str) -> String {
    address.rsplit_once('.').map_or_else(String::new, |(network, _)| format!("{network}.<n>"))
}

/// `Up 3 seconds (Paused)` without the time.
fn without_age(text: &str) -> String {
    let Some(unit) = text.find(" second") else { return text.to_owned() };
    let number = text[..unit].rfind(' ').map_or(0, |at| at + 1);
    if text[number..unit].bytes().any(|b| !b.is_ascii_digit()) {
        return text.to_owned();
    }
    let rest = text[unit + " second".len()..].trim_start_matches('s');
    format!("{}<age>{rest}", &text[..number])
}

/// Takes out what is an engine's own.
fn without_own(value: &mut Value, engine: &Engine) {
    match value {
        Value::Object(members) => {
            for (key, value) in members.iter_mut() {
                if OWN.contains(&key.as_str()) {
                    *value = Value::Null;
                } else if key == "IPAddress" {
                    *value = network_of(value.as_str().unwrap_or_default()).into();
                } else {
                    without_own(value, engine);
                }
            }
            members.remove("ImageManifestDescriptor");
        }
        Value::Array(items) => {
            for item in items.iter_mut() {
                without_own(item, engine);
            }
            // dockerd shows mounts, networks and changes in the order of a hash, and images that
            // were made in the same second in any.
            let text = |item: &Value, key: &str| item[key].as_str().map(str::to_owned);
            let tags = |item: &Value| item["RepoTags"].to_string();
            let places = |item: &Value| (text(item, "Destination"), text(item, "Path"));
            items.sort_by_key(|item| (places(item), text(item, "Name"), tags(item)));
        }
        Value::String(text) => {
            *text = without_age(&plain(text, engine));
        }
        _ => {}
    }
}

/// Status line, headers and body, comparable; and the `Id` of the body.
fn answer(engine: &Engine, line: &str) -> (String, Option<String>) {
    let raw = send(engine, line);
    let end = find(&raw, b"\r\n\r\n").unwrap_or(raw.len());
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let mut body = raw.get(end + 4..).unwrap_or_default().to_vec();
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        body = joined(&body);
    }
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default().to_owned();
    let mut headers: Vec<&str> = lines
        .filter(|l| {
            let name = l.split(':').next().unwrap_or_default().to_ascii_lowercase();
            !OWN_HEADERS.contains(&name.as_str())
        })
        .collect();
    headers.sort_unstable();
    let body = String::from_utf8_lossy(&body).into_owned();
    let mut id = None;
    let body = match serde_json::from_str::<Value>(&body) {
        Ok(mut value) => {
            id = value["Id"].as_str().map(str::to_owned);
            without_own(&mut value, engine);
            let newline = if body.ends_with('\n') { "\\n" } else { "" };
            format!("{value}{newline}")
        }
        Err(_) => plain(&body, engine),
    };
    (format!("{status} {headers:?} {body}"), id)
}

/// An engine, and the ids that lines kept.
struct Player {
    engine: Engine,
    kept: BTreeMap<String, String>,
}

impl Player {
    fn start(kind: Kind) -> Player {
        let engine = Engine::start(kind, &[]).unwrap();
        let scratch = engine.scratch().path().display().to_string();
        let search = lab::serve_search(engine.netns().unwrap()).unwrap().to_string();
        let kept = [("SCRATCH".to_owned(), scratch), ("SEARCH".to_owned(), search)];
        Player { engine, kept: BTreeMap::from(kept) }
    }

    fn play(&mut self, line: &str) -> String {
        let (name, line) = match line.split_once('=') {
            Some((name, rest)) if name.bytes().all(|b| b.is_ascii_lowercase()) => (name, rest),
            _ => ("", line),
        };
        let mut line = line.to_owned();
        for (name, id) in &self.kept {
            line = line.replace(&format!("${name}"), id);
        }
        let (text, id) = answer(&self.engine, &line);
        if !name.is_empty() {
            self.kept.insert(name.to_owned(), id.unwrap_or_default());
        }
        text
    }
}

/// Where two answers begin to differ.
fn difference(line: &str, expected: &str, got: &str) -> String {
    let same = expected.bytes().zip(got.bytes()).take_while(|(a, b)| a == b).count();
    let part = |text: &str| {
        let from = text.as_bytes().get(same.saturating_sub(80)..).unwrap_or_default();
        String::from_utf8_lossy(&from[..from.len().min(400)]).into_owned()
    };
    format!("{line}\n  dockerd …{}\n  ferryd  …{}", part(expected), part(got))
}

#[test]
fn ferryd_answers_requests_as_a_stock_dockerd_does() {
    lab::require!("dockerd", "docker", "containerd", "runc");
    let mut players = [Player::start(Kind::Dockerd), Player::start(Kind::Ferryd)];
    let mut different = Vec::new();
    for table in [
        include_str!("api/volumes.txt"),
        include_str!("api/containers.txt"),
        include_str!("api/create.txt"),
        include_str!("api/exec.txt"),
        include_str!("api/tree.txt"),
        include_str!("api/networks.txt"),
        include_str!("api/lists.txt"),
        // The image is gone after this one.
        include_str!("api/images.txt"),
    ] {
        for line in table.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let [expected, got] = players.each_mut().map(|player| player.play(line));
            if expected != got {
                different.push(difference(line, &expected, &got));
            }
        }
    }
    assert!(different.is_empty(), "{} differ:\n{}", different.len(), different.join("\n"));
}
