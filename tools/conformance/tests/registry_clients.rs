//! Real clients on ferry-registry: skopeo, docker with a stock dockerd, podman. What they push
//! is what they pull, digest by digest; the same runs on docker-registry show that a failure is
//! not theirs.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use lab::{Engine, Kind, Netns, Registry, RegistryKind, Scratch, peer, run};
use oci::{Digest, media_type};

/// The registries that are there.
fn kinds(test: &str) -> Vec<RegistryKind> {
    if lab::docker_registry().is_some() {
        return vec![RegistryKind::Ferry, RegistryKind::Docker];
    }
    println!("SKIPPED: {test}: the same on docker-registry: it is not installed");
    vec![RegistryKind::Ferry]
}

/// Pulls everything that a registry has, and holds it against its digests. Returns the number of
/// tags.
fn assert_whole(registry: &Registry) -> usize {
    let get = |target: &str| registry.send("GET", target, &[], b"").unwrap();
    let mut count = 0;
    for name in get("/v2/_catalog").json()["repositories"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        for tag in get(&format!("/v2/{name}/tags/list")).json()["tags"].as_array().unwrap() {
            let tag = tag.as_str().unwrap();
            assert_manifest(registry, name, tag);
            count += 1;
        }
    }
    count
}

fn assert_manifest(registry: &Registry, name: &str, reference: &str) {
    // docker-registry shows a type only to those who say that they take it.
    let types = [media_type::OCI_INDEX, media_type::OCI_MANIFEST, media_type::DOCKER_LIST]
        .join(", ")
        + ", "
        + media_type::DOCKER_MANIFEST;
    let accept = [("Accept", types.as_str())];
    let get = |target: &str| registry.send("GET", target, &accept, b"").unwrap();
    let reply = get(&format!("/v2/{name}/manifests/{reference}"));
    assert_eq!(reply.status, 200, "{name}:{reference}");
    let digest: Digest = reply.header("Docker-Content-Digest").unwrap().parse().unwrap();
    assert!(digest.matches(&reply.body));
    let manifest = reply.json();
    for child in manifest["manifests"].as_array().into_iter().flatten() {
        assert_manifest(registry, name, child["digest"].as_str().unwrap());
    }
    let layers = manifest["layers"].as_array().into_iter().flatten();
    for blob in layers.chain(manifest.get("config")) {
        let digest: Digest = blob["digest"].as_str().unwrap().parse().unwrap();
        let pulled = get(&format!("/v2/{name}/blobs/{digest}"));
        assert_eq!(pulled.status, 200, "{name}@{digest}");
        assert!(digest.matches(&pulled.body) && blob["size"] == pulled.body.len());
    }
}

struct Skopeo {
    /// The program, and what stands before it.
    words: Vec<String>,
}

impl Skopeo {
    fn new() -> Self {
        Self::after(Vec::new())
    }

    /// In a network namespace.
    fn inside(netns: &Netns) -> Self {
        Self::after(netns.enter())
    }

    fn after(mut words: Vec<String>) -> Self {
        // Its cache of where blobs are must not be another test's.
        words.extend(["env".to_owned(), "HOME=/nonexistent".to_owned()]);
        words.push(peer("skopeo").unwrap().display().to_string());
        Self { words }
    }

    fn try_run(&self, words: &[&str]) -> lab::Finished {
        let own = self.words[1..].iter().map(String::as_str);
        run(&self.words[0], own.chain(words.iter().copied())).unwrap()
    }

    fn run(&self, words: &[&str]) -> String {
        self.try_run(words).success().unwrap()
    }

    fn copy(&self, more: &[&str], from: &str, to: &str) {
        let plain = ["copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
        self.run(&[&plain[..], more, &[from, to]].concat());
    }

    fn digest(&self, image: &str) -> String {
        let format = "--format={{.Digest}}";
        self.run(&["inspect", "--tls-verify=false", "--no-tags", format, image]).trim().to_owned()
    }
}

/// Two files that differ, as images in an OCI layout: `one` and `two`.
fn layout(scratch: &Scratch, skopeo: &Skopeo) -> String {
    let archive = lab::busybox_archive(scratch.path()).unwrap();
    let layout = format!("oci:{}", scratch.join("layout").display());
    let from = format!("docker-archive:{}", archive.display());
    skopeo.copy(&[], &from, &format!("{layout}:one"));
    skopeo.copy(&["--dest-compress-format=zstd"], &from, &format!("{layout}:two"));
    layout
}

#[test]
fn skopeo_pushes_and_pulls_and_digests_stay() {
    lab::require!("skopeo");
    for kind in kinds("skopeo_pushes_and_pulls_and_digests_stay") {
        let scratch = Scratch::new("skopeo").unwrap();
        let skopeo = Skopeo::new();
        let layout = layout(&scratch, &skopeo);
        let registry = Registry::start(kind, &[]).unwrap();
        let at = format!("docker://{}", registry.address());
        skopeo.copy(&[], &format!("{layout}:one"), &format!("{at}/app/one:1"));
        skopeo.copy(&[], &format!("{layout}:two"), &format!("{at}/app/two:zstd"));
        let archive = format!("docker-archive:{}", scratch.join("busybox.tar").display());
        skopeo.copy(&["--format=v2s2"], &archive, &format!("{at}/app/docker:1"));
        // Within the registry, blobs are mounted.
        skopeo.copy(&[], &format!("{at}/app/one:1"), &format!("{at}/other/one:2"));
        assert_eq!(assert_whole(&registry), 4);
        let before = skopeo.digest(&format!("{at}/app/one:1"));
        assert_eq!(skopeo.digest(&format!("{at}/other/one:2")), before);
        let dir = format!("dir:{}", scratch.join("dir").display());
        skopeo.copy(&["--preserve-digests"], &format!("{at}/app/two:zstd"), &dir);
        skopeo.copy(&["--preserve-digests"], &dir, &format!("{at}/back/two:1"));
        let two = skopeo.digest(&format!("{at}/app/two:zstd"));
        assert_eq!(skopeo.digest(&format!("{at}/back/two:1")), two);
        let tags = skopeo.run(&["list-tags", "--tls-verify=false", &format!("{at}/app/one")]);
        assert!(tags.contains("\"1\""), "{tags}");
        skopeo.run(&["delete", "--tls-verify=false", &format!("{at}/app/one:1")]);
        let gone = skopeo.try_run(&["inspect", "--tls-verify=false", &format!("{at}/app/one:1")]);
        assert!(gone.code != 0 && gone.stderr.contains("manifest unknown"), "{gone:?}");
    }
}

#[test]
fn layers_of_zstd_chunked_run_here_and_go_on_as_they_came() {
    lab::require!("skopeo", "docker");
    let engine = Engine::start_empty(Kind::Ferryd, &[]).unwrap();
    let netns = engine.netns().unwrap();
    let registry = Registry::start_inside(netns, RegistryKind::Ferry).unwrap();
    let skopeo = Skopeo::inside(netns);
    // The layers' blobs, and what is noted of each: here, where its parts are.
    let layers = |image: &str| {
        let raw = skopeo.run(&["inspect", "--tls-verify=false", "--raw", image]);
        serde_json::from_str::<serde_json::Value>(&raw).unwrap()["layers"].take()
    };
    let archive = lab::busybox_archive(engine.scratch().path()).unwrap();
    let layout = format!("oci:{}:one", engine.scratch().join("layout").display());
    let archive = format!("docker-archive:{}", archive.display());
    skopeo.copy(&["--dest-compress-format=zstd:chunked"], &archive, &layout);
    let [came, went] = ["came", "went"].map(|name| format!("{}/app/{name}:1", registry.address()));
    let [from, to] = [&came, &went].map(|name| format!("docker://{name}"));
    skopeo.copy(&[], &layout, &from);
    let docker = |words: &[&str]| engine.stock_cli(words).unwrap().success().unwrap();
    docker(&["pull", "-q", &came]);
    assert_eq!(docker(&["run", "--rm", "--network=none", &came, "echo", "whole"]), "whole\n");
    docker(&["tag", &came, &went]);
    docker(&["push", "-q", &went]);
    assert!(layers(&from).to_string().contains("zstd-chunked"), "{}", layers(&from));
    assert_eq!(layers(&to), layers(&from));
}

#[test]
fn podman_pushes_and_pulls_single_images_and_lists() {
    lab::require!("podman", "crun");
    for kind in kinds("podman_pushes_and_pulls_single_images_and_lists") {
        let scratch = Scratch::new("podman").unwrap();
        let registry = Registry::start(kind, &[]).unwrap();
        let archive = lab::busybox_archive(scratch.path()).unwrap();
        let at = registry.address().to_string();
        let program = peer("podman").unwrap().display().to_string();
        let podman = |words: &[&str]| {
            let folder = scratch.path().display();
            let root = [format!("--root={folder}/root"), format!("--runroot={folder}/run")];
            let runtime = format!("--runtime={}", peer("crun").unwrap().display());
            let before = [&program, &root[0], &root[1], "--storage-driver=vfs", &runtime];
            run("env", before.iter().chain(words)).unwrap().success().unwrap()
        };
        podman(&["load", "-q", "-i", &archive.display().to_string()]);
        let name = format!("{at}/p/busybox");
        for format in ["oci", "v2s2"] {
            let to = format!("{name}:{format}");
            let format = format!("--format={format}");
            podman(&["push", "-q", "--tls-verify=false", &format, "busybox", &to]);
        }
        podman(&["manifest", "create", "list"]);
        let from = format!("docker://{name}:oci");
        podman(&["manifest", "add", "--tls-verify=false", "list", &from]);
        let to = format!("docker://{name}:list");
        podman(&["manifest", "push", "-q", "--all", "--tls-verify=false", "list", &to]);
        assert_eq!(assert_whole(&registry), 3);
        let ids = podman(&["images", "-q", "--no-trunc", "busybox"]);
        podman(&["rmi", "-f", ids.trim()]);
        let pulled = ["oci", "list", "v2s2"]
            .map(|tag| podman(&["pull", "-q", "--tls-verify=false", &format!("{name}:{tag}")]));
        // The list is of the OCI image; the other one has a configuration of its own.
        assert_eq!(pulled[0], pulled[1]);
        assert_ne!(pulled[0], pulled[2]);
    }
}

/// A stock dockerd and a registry in one network namespace, and the CLI there.
struct Docker {
    engine: Engine,
    registry: Registry,
}

impl Docker {
    fn start(kind: RegistryKind) -> Self {
        Self::start_with(kind, &[])
    }

    fn start_with(kind: RegistryKind, flags: &[&str]) -> Self {
        let engine = Engine::start(Kind::Dockerd, flags).unwrap();
        let registry = Registry::start_inside(engine.netns().unwrap(), kind).unwrap();
        // The CLI finds its plugins in its configuration.
        let plugins = engine.scratch().join("config/cli-plugins");
        std::fs::create_dir_all(&plugins).unwrap();
        if let Some(buildx) = peer("docker-buildx") {
            std::os::unix::fs::symlink(buildx, plugins.join("docker-buildx")).unwrap();
        }
        Self { engine, registry }
    }

    fn at(&self, name: &str) -> String {
        format!("{}/{name}", self.registry.address())
    }

    fn try_run(&self, words: &[&str]) -> lab::Finished {
        let mut all = self.engine.netns().unwrap().enter();
        all.push("env".into());
        all.push(format!("DOCKER_HOST={}", self.engine.host()));
        all.push(format!("DOCKER_CONFIG={}", self.engine.scratch().join("config").display()));
        all.push(peer("docker").unwrap().display().to_string());
        all.extend(words.iter().map(|word| (*word).to_owned()));
        run(&all[0], &all[1..]).unwrap()
    }

    fn run(&self, words: &[&str]) -> String {
        self.try_run(words).success().unwrap()
    }

    /// Makes an image of its own, by a layer over busybox.
    fn image(&self, name: &str, content: &str) {
        let id = self.run(&["create", "busybox", "true"]);
        let file = self.engine.scratch().join("content");
        std::fs::write(&file, content).unwrap();
        self.run(&["cp", &file.display().to_string(), &format!("{}:/content", id.trim())]);
        self.run(&["commit", id.trim(), name]);
        self.run(&["rm", id.trim()]);
    }

    fn forget(&self, image: &str) {
        self.run(&["rmi", "-f", image]);
    }
}

#[test]
fn docker_pushes_and_pulls_by_tag_by_digest_and_all_tags() {
    lab::require!("dockerd", "docker");
    for kind in kinds("docker_pushes_and_pulls_by_tag_by_digest_and_all_tags") {
        let docker = Docker::start(kind);
        let mut ids = Vec::new();
        for tag in ["1", "2", "3"] {
            let name = docker.at(&format!("team/app:{tag}"));
            docker.image(&name, tag);
            ids.push(docker.run(&["inspect", "--format={{.Id}}", &name]));
        }
        docker.run(&["push", &docker.at("team/app:1")]);
        let pushed = docker.run(&["push", "-a", &docker.at("team/app")]);
        assert!(pushed.contains("Layer already exists"), "{pushed}");
        // Another repository of the registry: its layers are mounted.
        docker.run(&["tag", &docker.at("team/app:1"), &docker.at("other/app:1")]);
        let mounted = docker.run(&["push", &docker.at("other/app:1")]);
        assert!(mounted.contains("Mounted from team/app"), "{mounted}");
        for tag in ["team/app:1", "team/app:2", "team/app:3", "other/app:1"] {
            docker.forget(&docker.at(tag));
        }
        let pulled = docker.run(&["pull", "-a", &docker.at("team/app")]);
        assert!(pulled.contains("Downloaded newer image"), "{pulled}");
        for (tag, id) in ["1", "2", "3"].iter().zip(&ids) {
            let name = docker.at(&format!("team/app:{tag}"));
            assert_eq!(&docker.run(&["inspect", "--format={{.Id}}", &name]), id);
        }
        let name = docker.at("team/app:2");
        let digest = docker.run(&["inspect", "--format={{index .RepoDigests 0}}", &name]);
        docker.forget(&name);
        docker.run(&["pull", digest.trim()]);
        assert_eq!(docker.run(&["inspect", "--format={{.Id}}", digest.trim()]), ids[1]);
        let missing = docker.try_run(&["pull", &docker.at("team/app:none")]);
        assert!(missing.stderr.contains("not found"), "{missing:?}");
        let nobody = docker.try_run(&["pull", &docker.at("no/body")]);
        assert!(nobody.code != 0, "{nobody:?}");
        whole_after(docker, 4);
    }
}

#[test]
fn docker_makes_and_reads_multi_platform_images_in_the_registry() {
    lab::require!("dockerd", "docker", "docker-buildx");
    for kind in kinds("docker_makes_and_reads_multi_platform_images_in_the_registry") {
        let docker = Docker::start(kind);
        for name in ["m/app:a", "m/app:b"] {
            docker.image(&docker.at(name), name);
            docker.run(&["push", &docker.at(name)]);
        }
        let (a, b) = (docker.at("m/app:a"), docker.at("m/app:b"));
        let list = docker.at("m/app:list");
        docker.run(&["manifest", "create", "--insecure", &list, &a, &b]);
        docker.run(&["manifest", "annotate", "--arch=arm64", &list, &b]);
        docker.run(&["manifest", "push", "--insecure", &list]);
        let shown = docker.run(&["manifest", "inspect", "--insecure", &list]);
        assert!(shown.contains("arm64") && shown.contains("manifest.list.v2"), "{shown}");
        let index = docker.at("m/app:index");
        docker.run(&["buildx", "imagetools", "create", "-t", &index, &list]);
        docker.run(&["buildx", "imagetools", "create", "-t", &docker.at("m/copy:1"), &a]);
        let shown = docker.run(&["buildx", "imagetools", "inspect", &index]);
        assert!(shown.contains("linux/arm64"), "{shown}");
        docker.run(&["pull", "--platform=linux/amd64", &list]);
        whole_after(docker, 5);
    }
}

#[test]
fn docker_pulls_from_docker_hub_through_a_cache_as_its_mirror() {
    lab::require!("dockerd", "docker");
    // In a network namespace of its own every port is free.
    let mirror = "--registry-mirror=http://127.0.0.1:5000";
    let docker = Docker::start_with(RegistryKind::Ferry, &[mirror]);
    let name = docker.at("library/app:1");
    docker.image(&name, "of the hub");
    docker.run(&["push", &name]);
    let id = docker.run(&["inspect", "--format={{.Id}}", &name]);
    docker.forget(&name);
    let upstream = format!("--proxy-remote-url=http://{}", docker.registry.address());
    let enter = docker.engine.netns().unwrap().enter();
    let before: Vec<&str> = enter.iter().map(String::as_str).collect();
    let scratch = Scratch::new("registry").unwrap();
    let flags = [upstream.as_str(), "--listen=127.0.0.1:5000"];
    let cache = Registry::start_below(&before, &flags, scratch).unwrap();
    docker.run(&["pull", "app:1"]);
    assert_eq!(docker.run(&["inspect", "--format={{.Id}}", "app:1"]), id);
    let cache = Registry::start_in(RegistryKind::Ferry, &[], cache.into_scratch()).unwrap();
    // What docker had already it did not ask for.
    let kept = cache.send("GET", "/v2/library/app/manifests/1", &[], b"").unwrap();
    let layers = kept.json()["layers"].as_array().unwrap().clone();
    let newest = layers.last().unwrap()["digest"].as_str().unwrap();
    let blob = cache.send("GET", &format!("/v2/library/app/blobs/{newest}"), &[], b"").unwrap();
    assert_eq!((kept.status, blob.status), (200, 200));
}

/// What docker stored is held against its digests by a registry of the host's network.
fn whole_after(docker: Docker, tags: usize) {
    let Docker { engine, registry } = docker;
    drop(engine);
    let registry = Registry::start_in(RegistryKind::Ferry, &[], registry.into_scratch()).unwrap();
    assert_eq!(assert_whole(&registry), tags);
    assert!(Path::new(&registry.root()).join("docker/registry/v2").is_dir());
}
