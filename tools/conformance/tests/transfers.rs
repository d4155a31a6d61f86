//! Images to and from a registry through the API: the streams of messages are dockerd's, line for
//! line, but for digests, sizes and how often progress is told; what was pushed is what is pulled.

use std::collections::BTreeMap;
use std::fmt::Write;

use lab::{Containerd, Engine, Kind, Registry, RegistryKind, Scratch, layered_archive};
use oci::media_type;
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

/// The registry of an engine on the host's loopback.
fn loopback_registry() -> Registry {
    let stock = lab::docker_registry().map(|_| RegistryKind::Docker);
    Registry::start(stock.unwrap_or(RegistryKind::Ferry), &[]).unwrap()
}

#[test]
fn a_loaded_image_leaves_compressed_and_is_known_by_the_digest_that_the_registry_has() {
    lab::require!("docker");
    let registry = loopback_registry();
    let at = registry.address().to_string();
    for (form, manifest, layer) in [
        ("gzip", media_type::DOCKER_MANIFEST, media_type::DOCKER_LAYER_GZIP),
        ("zstd", media_type::OCI_MANIFEST, media_type::OCI_LAYER_ZSTD),
        ("none", media_type::DOCKER_MANIFEST, media_type::DOCKER_LAYER),
    ] {
        let flags = ["--bridge=none", "--iptables=false", &format!("--push-compression={form}")];
        let engine = Engine::start_on_host_network(Kind::Ferryd, &flags).unwrap();
        let docker = |words: &[&str]| engine.stock_cli(words).unwrap().success().unwrap();
        let archive = layered_archive(engine.scratch().path(), 2, 50_000).unwrap();
        docker(&["load", "-qi", archive.to_str().unwrap()]);
        let id = docker(&["image", "inspect", "layered:1", "-f", "{{.Id}}"]);
        let names = [1, 2].map(|tag| format!("{at}/{form}:{tag}"));
        let mut digests = Vec::new();
        for (tag, name) in names.iter().enumerate() {
            docker(&["tag", "layered:1", name]);
            let said = docker(&["push", name]);
            // The second time the bytes are the same.
            let expected = if tag == 0 { ": Pushed" } else { ": Layer already exists" };
            assert_eq!(said.matches(expected).count(), 2, "{said}");
            let path = format!("/v2/{form}/manifests/{}", tag + 1);
            let reply = registry.send("GET", &path, &[("Accept", manifest)], b"").unwrap();
            assert_eq!(reply.status, 200, "{form}");
            let layers = reply.json()["layers"].as_array().unwrap().clone();
            assert!(layers.iter().all(|l| l["mediaType"] == layer), "{layers:?}");
            digests.push(reply.header("Docker-Content-Digest").unwrap().to_owned());
            let known = docker(&["image", "inspect", name, "-f", "{{join .RepoDigests \" \"}}"]);
            assert_eq!(known.trim(), format!("{at}/{form}@{}", digests[tag]));
        }
        assert_eq!(digests[0], digests[1]);
        // It is up to date, and the same image when it comes back.
        let said = docker(&["pull", &names[0]]);
        assert!(said.contains("Image is up to date"), "{said}");
        docker(&["rmi", "-f", id.trim()]);
        docker(&["pull", "-q", &names[0]]);
        assert_eq!(docker(&["image", "inspect", &names[0], "-f", "{{.Id}}"]), id);
    }
}

#[test]
fn ferryd_on_a_stock_containerd_pushes_and_pulls() {
    lab::require!("docker", "containerd");
    let scratch = Scratch::new("stock").unwrap();
    let containerd = Containerd::stock(&scratch).unwrap();
    let socket = format!("--containerd={}", containerd.socket().display());
    let flags = ["--bridge=none", "--iptables=false", socket.as_str()];
    let engine = Engine::start_on_host_network(Kind::Ferryd, &flags).unwrap();
    let docker = |words: &[&str]| engine.stock_cli(words).unwrap().success().unwrap();
    let registry = loopback_registry();
    let name = format!("{}/x:1", registry.address());
    let archive = layered_archive(engine.scratch().path(), 3, 50_000).unwrap();
    docker(&["load", "-qi", archive.to_str().unwrap()]);
    let id = docker(&["image", "inspect", "layered:1", "-f", "{{.Id}}"]);
    docker(&["tag", "layered:1", &name]);
    assert_eq!(docker(&["push", &name]).matches(": Pushed").count(), 3);
    docker(&["rmi", "-f", id.trim()]);
    assert_eq!(docker(&["pull", &name]).matches(": Pull complete").count(), 3);
    assert_eq!(docker(&["image", "inspect", &name, "-f", "{{.Id}}"]), id);
    let leases = containerd.ctr(&["-n", "moby", "leases", "ls", "-q"]).unwrap();
    // The one that containers have for good.
    assert_eq!(leases.stdout, "ferryd-containers\n");
}
