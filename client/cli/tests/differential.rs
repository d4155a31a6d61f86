//! The command lines of `commands.txt`, typed to the stock client and to `ferry` on one
//! dockerd: what they print, tell and end with is equal, but for ids and times.

// Tests may panic, and start programs as users do.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use lab::{Engine, Kind, Registry, RegistryKind};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// What lines about searches call $SEARCH.
static SEARCH: OnceLock<String> = OnceLock::new();

/// Output, errors, exit code.
type Answer = (String, String, Option<i32>);

/// Both clients are called `docker`, since their texts name them.
fn called_docker(folder: &Path, program: &Path) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let link = folder.join("docker");
    std::os::unix::fs::symlink(program, &link).unwrap();
    link
}

fn type_line(engine: &Engine, registry: &str, client: &Path, line: &str) -> Answer {
    let script = if line.contains("docker") { line.to_owned() } else { format!("docker {line}") };
    let folder = client.parent().unwrap().to_string_lossy().into_owned();
    let path = format!("{folder}:{}", std::env::var("PATH").unwrap_or_default());
    // Where the registry is, for commands that go there themselves.
    let enter = engine.netns().unwrap().enter();
    let done = Command::new(&enter[0])
        .args(&enter[1..])
        .args(["timeout", "60", "bash", "-c", &script])
        .env("PATH", path)
        .env("DOCKER_HOST", engine.host())
        .env("REG", registry)
        .env("SEARCH", SEARCH.get().unwrap())
        .env("ARCHIVE", engine.scratch().join("busybox.tar"))
        .env("DOCKER_CONFIG", client.parent().unwrap())
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| normal(&String::from_utf8_lossy(bytes).replace(&folder, "CONFIG"));
    (text(&done.stdout), text(&done.stderr), done.status.code())
}

/// Ids, times and lengths of time as placeholders; what follows them loses its padding.
fn normal(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut words = Vec::new();
        for word in line.split(' ').filter(|w| !w.is_empty()) {
            let hex = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
            let bare = hex.strip_prefix("sha256:").unwrap_or(hex);
            let is_id =
                matches!(bare.len(), 12 | 64) && bare.bytes().all(|b| b.is_ascii_hexdigit());
            let is_time = bare.len() > 18 && bare.as_bytes()[4] == b'-' && bare.contains(':');
            words.push(if is_id || is_time { "X".to_owned() } else { word.to_owned() });
        }
        out.push_str(&spans(&words).join(" "));
        out.push('\n');
    }
    out
}

/// `2 minutes`, `About a minute`, `Less than a second` as one word.
fn spans(words: &[String]) -> Vec<String> {
    const UNITS: [&str; 6] = ["second", "minute", "hour", "day", "week", "month"];
    let mut out: Vec<String> = Vec::new();
    for word in words {
        let unit = word.trim_end_matches(|c: char| !c.is_ascii_alphabetic());
        if UNITS.contains(&unit.trim_end_matches('s')) {
            while out.last().is_some_and(|w| {
                matches!(w.as_str(), "About" | "Less" | "than" | "a" | "an")
                    || w.parse::<u64>().is_ok()
            }) {
                out.pop();
            }
            out.push("SPAN".into());
        } else {
            out.push(word.clone());
        }
    }
    out
}

#[test]
fn ferry_answers_as_the_stock_client_does() {
    if let Some(why) = lab::lacking(&["dockerd", "docker", "containerd", "runc"]) {
        println!("SKIPPED: differential command lines: {why}");
        return;
    }
    let Some(ferry) = lab::ours("ferry") else {
        println!("SKIPPED: differential command lines: ferry is not built");
        return;
    };
    let engine = Engine::start(Kind::Dockerd, &[]).unwrap();
    // What lines about registries call $REG.
    let kind = lab::docker_registry().map_or(RegistryKind::Ferry, |_| RegistryKind::Docker);
    let registry = Registry::start_inside(engine.netns().unwrap(), kind).unwrap();
    let search = lab::serve_search(engine.netns().unwrap()).unwrap();
    SEARCH.set(search.to_string()).unwrap();
    let scratch = engine.scratch();
    let stock = called_docker(&scratch.join("stock"), &engine.stock_cli_path().unwrap());
    let ours = called_docker(&scratch.join("ours"), &ferry);
    let lines =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/commands.txt")).unwrap();
    let mut differ = Vec::new();
    for line in lines.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let expected = type_line(&engine, &registry.address().to_string(), &stock, line);
        let answered = type_line(&engine, &registry.address().to_string(), &ours, line);
        if expected != answered {
            differ.push(format!("{line}\n  stock {expected:?}\n  ferry {answered:?}"));
        }
    }
    assert!(differ.is_empty(), "{} lines differ:\n{}", differ.len(), differ.join("\n"));
}
