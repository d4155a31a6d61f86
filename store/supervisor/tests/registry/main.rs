//! Images move between registries and the store: the stock `ctr` on ferry-containerd and, for
//! comparison, on a stock containerd, with Debian's docker-registry and ours.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::print_stdout)]

mod fake;
mod origin;
mod pushing;
mod trouble;

use archive::Compression;
use lab::{Containerd, Registry, RegistryKind, Scratch, noise};
use oci::Digest;
use origin::{Layer, put_image, put_index, tar};

/// The registries that are there.
fn kinds() -> Vec<RegistryKind> {
    let stock = lab::docker_registry().map(|_| RegistryKind::Docker);
    if stock.is_none() {
        println!("SKIPPED: {}: on docker-registry: it is not installed", module_path!());
    }
    stock.into_iter().chain([RegistryKind::Ferry]).collect()
}

/// What `ctr` prints, without bars and times; its error where it fails.
fn ctr(daemon: &Containerd, words: &[&str]) -> String {
    let done = daemon.ctr(words).unwrap();
    if done.code != 0 { format!("{}\n", done.stderr.trim()) } else { done.stdout }
}

fn column(text: &str, at: usize) -> Vec<String> {
    let lines = text.lines().skip(1);
    let mut found: Vec<String> =
        lines.filter_map(|line| line.split_whitespace().nth(at).map(str::to_owned)).collect();
    found.sort();
    found
}

/// Names, targets, blobs and snapshots.
fn holdings(daemon: &Containerd) -> [Vec<String>; 4] {
    let images = ctr(daemon, &["images", "ls"]);
    [
        column(&images, 0),
        column(&images, 2),
        column(&ctr(daemon, &["content", "ls"]), 0),
        column(&ctr(daemon, &["snapshots", "ls"]), 0),
    ]
}

fn layers() -> Vec<Layer> {
    vec![
        Layer::gzip(&[
            ("etc/", b""),
            ("etc/a", b"1"),
            ("bin/", b""),
            ("bin/x", &noise(1, 300_000)),
        ]),
        Layer::new(&tar(&[("etc/b", b"2"), ("etc/.wh.a", b"")]), Compression::Zstd),
        Layer::new(&tar(&[("plain", b"3")]), Compression::None),
        Layer::gzip(&[]),
    ]
}

#[test]
fn ctr_pulls_and_pushes_as_on_a_stock_containerd() {
    lab::require!("containerd", "ctr");
    for kind in kinds() {
        let registry = Registry::start(kind, &[]).unwrap();
        let image = put_image(&registry, "x/a", "1", &layers(), "amd64");
        let other = [layers(), vec![Layer::gzip(&[("other", b"")])]].concat();
        let index = put_index(&registry, "x/many", "1", &[("amd64", other), ("arm64", layers())]);
        let at = registry.address();
        let stock_scratch = Scratch::new("stock").unwrap();
        let our_scratch = Scratch::new("ours").unwrap();
        let stock = Containerd::stock(&stock_scratch).unwrap();
        let ours = Containerd::ours(&our_scratch).unwrap();
        let both = |words: &[&str]| {
            let words: Vec<String> =
                words.iter().map(|w| w.replace("AT", &at.to_string())).collect();
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            [&stock, &ours].map(|daemon| {
                let done = daemon.ctr(&words).unwrap();
                // ctr tells its own races too, as log lines.
                let told = done.stderr.lines().filter(|line| !line.starts_with("time="));
                (done.code, told.map(str::to_owned).collect::<Vec<_>>())
            })
        };
        for words in [
            &["images", "pull", "--plain-http", "AT/x/a:1"][..],
            &["images", "pull", "--platform", "linux/amd64", "--plain-http", "AT/x/many:1"],
            &["images", "pull", "AT/x/a:1"],
            &["images", "pull", "AT/x/nope:1"],
            &["images", "pull", "AT/x/a"],
            &["images", "push", "--plain-http", "AT/y/a:2", "AT/x/a:1"],
            &["images", "push", "AT/y/nope:2"],
            &["images", "push", "--local", "--plain-http", "AT/z/a:2", "AT/x/a:1"],
            &["images", "pull", "--local", "--plain-http", "AT/y/a:2"],
        ] {
            let [expected, got] = both(words);
            assert_eq!(got, expected, "{kind:?} {words:?}");
        }
        assert_eq!(holdings(&ours), holdings(&stock), "{kind:?}");
        assert!(holdings(&ours)[1].contains(&image.digest.to_string()));
        assert!(holdings(&ours)[1].contains(&index.digest.to_string()));
        // All platforms: everything, and an index that is whole goes back as it came.
        for words in [
            &["images", "pull", "--all-platforms", "--plain-http", "AT/x/many:1"][..],
            &["images", "push", "--plain-http", "AT/y/many:1", "AT/x/many:1"],
        ] {
            let [expected, got] = both(words);
            assert_eq!(got, expected, "{kind:?} {words:?}");
        }
        assert_eq!(holdings(&ours)[..3], holdings(&stock)[..3], "{kind:?}");
        let tag = registry.send("HEAD", "/v2/y/many/manifests/1", &accept(), b"").unwrap();
        assert_eq!(tag.header("Docker-Content-Digest"), Some(&*index.digest.to_string()));
    }
}

fn accept() -> [(&'static str, &'static str); 1] {
    [("Accept", "application/vnd.oci.image.index.v1+json")]
}

#[test]
fn what_was_pulled_is_the_image() {
    lab::require!("ctr");
    let registry = Registry::start(RegistryKind::Ferry, &[]).unwrap();
    put_image(&registry, "a", "1", &layers(), "amd64");
    let scratch = Scratch::new("ours").unwrap();
    let daemon = Containerd::ours(&scratch).unwrap();
    let name = format!("{}/a:1", registry.address());
    let pulled = daemon.ctr(&["images", "pull", "--plain-http", &name]).unwrap();
    assert_eq!(pulled.code, 0, "{}", pulled.stderr);
    let target = scratch.join("tree");
    std::fs::create_dir(&target).unwrap();
    let at = target.display().to_string();
    ctr(&daemon, &["images", "mount", "--rw", &name, &at]);
    let read = |name: &str| std::fs::read(target.join(name)).ok();
    let found = [read("etc/a"), read("etc/b"), read("plain")];
    let x = read("bin/x");
    lab::run("umount", [&at]).unwrap();
    assert_eq!(found, [None, Some(b"2".to_vec()), Some(b"3".to_vec())]);
    assert_eq!(x.map(|x| Digest::sha256(&x)), Some(Digest::sha256(&noise(1, 300_000))));
}

#[test]
fn an_index_of_which_one_platform_was_pulled_goes_on_whole_or_as_that_platform() {
    lab::require!("ctr");
    let registry = Registry::start(RegistryKind::Ferry, &[]).unwrap();
    let other = Registry::start(RegistryKind::Ferry, &[]).unwrap();
    let foreign = vec![Layer::gzip(&[("foreign", &noise(5, 9000))])];
    let index = put_index(&registry, "x", "1", &[("amd64", layers()), ("arm64", foreign)]);
    let scratch = Scratch::new("partly").unwrap();
    let daemon = Containerd::ours(&scratch).unwrap();
    let name = |registry: &Registry, rest: &str| format!("{}/{rest}", registry.address());
    let from = name(&registry, "x:1");
    let push = |to: &str| daemon.ctr(&["images", "push", "--plain-http", to, &from]).unwrap();
    let platform =
        format!("linux/{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" });
    let pulled = ["images", "pull", "--plain-http", "--platform", &platform, &from];
    assert_eq!(daemon.ctr(&pulled).unwrap().code, 0);
    let head = |registry: &Registry, path: &str| {
        let reply = registry.send("HEAD", path, &accept(), b"").unwrap();
        (reply.status, reply.header("Docker-Content-Digest").map(str::to_owned))
    };
    // In the same registry, what is not here is mounted from where it came.
    let done = push(&name(&registry, "y:1"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    let whole = Some(index.digest.to_string());
    assert_eq!(head(&registry, "/v2/y/manifests/1"), (200, whole.clone()));
    // The label leaves ports out: another registry on the same host is asked in vain, and the
    // platform that is here goes alone.
    let done = push(&name(&other, "y:1"));
    assert_eq!(done.code, 0, "{}", done.stderr);
    let (status, digest) = head(&other, "/v2/y/manifests/1");
    assert_eq!(status, 200);
    assert_ne!(digest, whole);
    assert!(done.stdout.contains("not all of the index is here"), "{}", done.stdout);
}
