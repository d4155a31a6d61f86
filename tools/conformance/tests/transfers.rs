//! Images to and from a registry through the API: the streams of messages are dockerd's, line for
//! line, but for digests, sizes and how often progress is told; what was pushed is what is pulled.

use std::collections::BTreeMap;
use std::fmt::Write;

use lab::{Engine, Kind, Registry, RegistryKind, layered_archive};
use serde_json::Value;

/// An engine and a registry that only it reaches.
struct Side {
    engine: Engine,
    registry: Registry,
}

impl Side {
    fn start(kind: Kind, extra: &[&str]) -> Side {
        let engine = Engine::start_empty(kind, extra).unwrap();
        let of = if lab::docker_registry().is_some() {
            RegistryKind::Docker
        } else {
            RegistryKind::Ferry
        };
        let registry = Registry::start_inside(engine.netns().unwrap(), of).unwrap();
        let archive = layered_archive(engine.scratch().path(), 5, 200_000).unwrap();
        let side = Side { engine, registry };
        side.docker(&["load", "-qi", archive.to_str().unwrap()]);
        side
    }

    fn docker(&self, words: &[&str]) -> String {
        let words: Vec<String> =
            words.iter().map(|word| word.replace("REG", &self.address())).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let done = self.engine.stock_cli(&words).unwrap();
        let said = self.plain(&format!("{}{}{}\n", done.stdout, done.stderr, done.code));
        // Manifests are each engine's own.
        let lines = said.lines().map(|line| line.split("@sha256:").next().unwrap_or(line));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn address(&self) -> String {
        self.registry.address().to_string()
    }

    /// Without the registry's port.
    fn plain(&self, text: &str) -> String {
        text.replace(&self.address(), "REG")
    }

    /// What a request answers: its status, and its lines made comparable.
    fn post(&self, target: &str) -> String {
        let target = target.replace("REG", &self.address());
        let headers = [("X-Registry-Auth", "e30=")];
        let reply = self.engine.api("POST", &target, &headers, b"").unwrap();
        let mut out = format!("{}\n", reply.status);
        let mut names = Names::default();
        let mut layers: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in reply.text().lines() {
            let message: Value = serde_json::from_str(line).unwrap();
            let (id, status) = (text(&message, "id"), text(&message, "status"));
            if message.get("progressDetail").is_none() || id.is_empty() {
                let line = self.plain(&names.hide(line));
                // A manifest is as long as its engine writes it.
                let size = line.find("size: ").or_else(|| line.find("\"Size\""));
                out.push_str(&line[..size.unwrap_or(line.len())]);
                out.push('\n');
                continue;
            }
            // Layers overtake each other, and how much is told depends on the machine's speed: the
            // order of a layer's own messages is what holds.
            let told = layers.entry(names.hide(&id)).or_default();
            let is_passing = matches!(
                status.as_str(),
                "Waiting"
                    | "Downloading"
                    | "Download complete"
                    | "Pushing"
                    | "Verifying Checksum"
                    | "Extracting"
            );
            if !is_passing {
                told.push(status);
            }
        }
        for (id, told) in layers {
            writeln!(out, "{id}: {}", told.join(", ")).unwrap();
        }
        out
    }
}

/// Digests by the order in which they are first told of.
#[derive(Default)]
struct Names(Vec<String>);

impl Names {
    fn hide(&mut self, text: &str) -> String {
        let mut out = String::new();
        for part in text.split_inclusive(|c: char| !c.is_ascii_hexdigit()) {
            let word = part.trim_end_matches(|c: char| !c.is_ascii_hexdigit());
            if !matches!(word.len(), 12 | 64) {
                out.push_str(part);
                continue;
            }
            let known = self.0.iter().position(|own| own == word).unwrap_or_else(|| {
                self.0.push(word.to_owned());
                self.0.len() - 1
            });
            write!(out, "<{known}>{}", &part[word.len()..]).unwrap();
        }
        out
    }
}

fn text(message: &Value, key: &str) -> String {
    message.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn push(side: &Side) -> Vec<String> {
    let mut said = Vec::new();
    for tag in ["REG/x/layered:1", "REG/x/layered:2", "REG/y/layered:1"] {
        said.push(side.docker(&["tag", "layered:1", tag]));
    }
    for target in [
        "/images/REG/x/layered/push?tag=1",
        "/images/REG/x/layered/push?tag=2",
        // The registry has these layers in another repository.
        "/images/REG/y/layered/push?tag=1",
        "/images/REG/x/layered/push",
        "/images/REG/x/layered/push?tag=none",
        "/images/REG/x/none/push?tag=1",
        "/images/127.0.0.1:1/x/layered/push?tag=1",
        "/images/REG/x/Layered/push?tag=1",
    ] {
        said.push(format!("{target} {}", side.post(target)));
    }
    side.docker(&["tag", "layered:1", "127.0.0.1:1/x/refused:1"]);
    said.push(side.post("/images/127.0.0.1:1/x/refused/push?tag=1"));
    said.push(side.docker(&["rmi", "127.0.0.1:1/x/refused:1"]));
    said
}

fn pull(side: &Side) -> Vec<String> {
    let mut said = vec![side.docker(&["rmi", "-f", "layered:1", "REG/y/layered:1"])];
    said.push(side.docker(&["rmi", "REG/x/layered:1", "REG/x/layered:2"]));
    for target in [
        "/images/create?fromImage=REG/x/layered&tag=1",
        "/images/create?fromImage=REG/x/layered&tag=1",
        "/images/create?fromImage=REG/x/layered&tag=2",
        "/images/create?fromImage=REG/y/layered:1",
        "/images/create?fromImage=REG/x/layered&tag=1&platform=linux/arm64",
        "/images/create?fromImage=REG/x/layered&tag=none",
        "/images/create?fromImage=REG/x/none&tag=1",
        "/images/create?fromImage=REG/x/layered&tag=1&platform=a/b/c/d",
        "/images/create?fromImage=REG/x/Layered",
        "/images/create?fromImage=127.0.0.1:1/x/layered",
        "/images/create?fromImage=REG/x/layered&tag=sha256:00",
    ] {
        said.push(format!("{target} {}", side.post(target)));
    }
    let format = "{{len .RepoDigests}} {{.RepoTags}} {{.Id}}";
    said.push(side.docker(&["image", "inspect", "REG/x/layered:1", "-f", format]));
    said
}

#[test]
fn pushes_and_pulls_tell_what_dockerd_tells() {
    lab::require!("dockerd", "docker", "containerd", "runc");
    let stock = Side::start(Kind::Dockerd, &[]);
    let ours = Side::start(Kind::Ferryd, &[]);
    for (expected, said) in push(&stock).into_iter().zip(push(&ours)) {
        assert_eq!(said, expected);
    }
    for (expected, said) in pull(&stock).into_iter().zip(pull(&ours)) {
        assert_eq!(said, expected);
    }
}
