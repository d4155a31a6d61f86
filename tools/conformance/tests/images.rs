//! Images between Ferry's store and the real programs: archives both ways, and what stays the same.

use std::path::Path;
use std::time::Duration;

use lab::{Containerd, Engine, Kind, Scratch, busybox_archive, peer, run};

const NAME: &str = "docker.io/library/busybox:latest";

fn ctr(of: &Containerd, words: &[&str]) -> String {
    of.ctr(words).unwrap().success().unwrap()
}

/// Exports an image to a file. ctr may end before it has written the last bytes that it received;
/// then it is asked again.
fn export(of: &Containerd, flags: &[&str], out: &Path, image: &str) {
    for _ in 0..3 {
        ctr(of, &[&["images", "export"], flags, &[text(out), image]].concat());
        let whole = std::fs::read(out).unwrap();
        if whole.ends_with(&[0; 1024]) {
            return;
        }
        println!("ctr wrote {} bytes, not the end", whole.len());
    }
    panic!("{} has no end", out.display());
}

/// Name and target digest of each image, sorted.
fn images(of: &Containerd) -> Vec<(String, String)> {
    let table = ctr(of, &["images", "ls"]);
    let rows = table.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.nth(1)?.to_owned()))
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort();
    rows
}

fn blobs(of: &Containerd) -> Vec<String> {
    let mut blobs: Vec<String> =
        ctr(of, &["content", "ls", "-q"]).lines().map(str::to_owned).collect();
    blobs.sort();
    blobs
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The digest of the image's config, which an engine shows as the image's id.
fn config(of: &Containerd, image: &str) -> String {
    let (_, target) = images(of).into_iter().find(|(name, _)| name == image).unwrap();
    let manifest = ctr(of, &["content", "get", &target]);
    let config = manifest.split("\"config\"").nth(1).unwrap();
    let digest = config.split("\"digest\"").nth(1).unwrap();
    digest.split('"').nth(1).unwrap().to_owned()
}

#[test]
fn images_go_between_a_stock_containerd_and_ours_and_keep_their_digests() {
    lab::require!("containerd", "ctr");
    let (a, b) = (Scratch::new("stock").unwrap(), Scratch::new("ours").unwrap());
    let (stock, ours) = (Containerd::stock(&a).unwrap(), Containerd::ours(&b).unwrap());
    let archive = busybox_archive(a.path()).unwrap();
    for local in [&["--local"][..], &[]] {
        for each in [&stock, &ours] {
            ctr(each, &[&["images", "import"], local, &[text(&archive)]].concat());
            ctr(each, &["images", "tag", NAME, "example.org/other:1"]);
        }
        assert_eq!(images(&stock), images(&ours), "{local:?}");
        assert_eq!(images(&ours).len(), 2);
        let before = images(&ours);
        for (from, to) in [(&stock, &ours), (&ours, &stock)] {
            let out = b.join("out.tar");
            export(from, local, &out, NAME);
            for (name, _) in images(to) {
                ctr(to, &["images", "rm", "--sync", &name]);
            }
            assert_eq!(images(to), []);
            ctr(to, &[&["images", "import"], local, &[text(&out)]].concat());
            assert_eq!(images(to), [before[0].clone()], "{local:?}");
        }
        for each in [&stock, &ours] {
            ctr(each, &["images", "rm", "--sync", NAME]);
            assert_eq!(blobs(each), [""; 0], "{local:?}");
        }
    }
}

#[test]
fn kill_9_at_any_moment_of_an_import_leaves_nothing_that_does_not_go() {
    lab::require!("ctr");
    let scratch = Scratch::new("kill").unwrap();
    let mut ours = Containerd::ours(&scratch).unwrap();
    let archive = busybox_archive(scratch.path()).unwrap();
    let files = |below: &str| std::fs::read_dir(scratch.join(below)).unwrap().count();
    for moment in [20, 35, 50, 65, 80, 100, 130, 160] {
        std::thread::scope(|threads| {
            let socket = ours.socket().display().to_string();
            let archive = &archive;
            let importing = threads.spawn(move || {
                let words = ["--address", &socket, "images", "import", text(archive)];
                run(peer("ctr").unwrap(), words).unwrap()
            });
            std::thread::sleep(Duration::from_millis(moment));
            ours.kill();
            // A client that finds nobody waits: it goes on once the daemon is back.
            ours.restart().unwrap();
            importing.join().unwrap();
        });
    }
    ctr(&ours, &["images", "import", text(&archive)]);
    assert!(ctr(&ours, &["run", "--rm", NAME, "c", "echo", "whole"]).contains("whole"));
    // What an import that was cut held under its lease goes with the lease.
    for lease in ctr(&ours, &["leases", "ls", "-q"]).lines() {
        ctr(&ours, &["leases", "rm", lease]);
    }
    ctr(&ours, &["images", "rm", "--sync", NAME]);
    assert_eq!(blobs(&ours), [""; 0]);
    assert_eq!(ctr(&ours, &["snapshots", "ls"]).lines().count(), 1);
    for below in ["snapshots", "content/ingest", "content/blobs/sha256"] {
        assert_eq!(files(&format!("c-root/{below}")), 0, "{below}");
    }
}

#[test]
fn skopeo_reads_what_we_export() {
    lab::require!("skopeo", "ctr");
    let scratch = Scratch::new("skopeo").unwrap();
    let ours = Containerd::ours(&scratch).unwrap();
    let archive = busybox_archive(scratch.path()).unwrap();
    ctr(&ours, &["images", "import", text(&archive)]);
    let out = scratch.join("out.tar");
    export(&ours, &[], &out, NAME);
    let id = config(&ours, NAME);
    let skopeo = peer("skopeo").unwrap();
    for form in ["oci-archive", "docker-archive"] {
        let source = format!("{form}:{}", out.display());
        let manifest = run(&skopeo, ["inspect", "--raw", &source]).unwrap().success().unwrap();
        assert!(manifest.contains(&id), "{form}: {manifest}");
        let copy = format!("dir:{}", scratch.join(form).display());
        let words = ["--insecure-policy", "copy", &source, &copy];
        run(&skopeo, words).unwrap().success().unwrap();
    }
}

#[test]
fn a_stock_engine_loads_what_we_export_and_we_import_what_it_saves() {
    lab::require!("dockerd", "docker", "ctr");
    let scratch = Scratch::new("images").unwrap();
    let ours = Containerd::ours(&scratch).unwrap();
    let archive = busybox_archive(scratch.path()).unwrap();
    ctr(&ours, &["images", "import", text(&archive)]);
    let out = scratch.join("out.tar");
    export(&ours, &[], &out, NAME);
    let id = config(&ours, NAME);
    let engine = Engine::start_empty(Kind::Dockerd, &[]).unwrap();
    let docker = |words: &[&str]| engine.stock_cli(words).unwrap().success().unwrap();
    docker(&["load", "-i", text(&out)]);
    assert_eq!(docker(&["images", "-q", "--no-trunc", "busybox"]).trim(), id);
    assert_eq!(docker(&["run", "--rm", "--network", "none", "busybox", "echo", "hi"]), "hi\n");
    let saved = scratch.join("saved.tar");
    docker(&["save", "-o", text(&saved), "busybox:latest"]);
    ctr(&ours, &["images", "rm", "--sync", NAME]);
    ctr(&ours, &["images", "import", text(&saved)]);
    assert_eq!(config(&ours, NAME), id);
}

#[test]
fn the_built_in_image_is_imported_by_both_alike() {
    lab::require!("containerd", "ctr");
    let (a, b) = (Scratch::new("stock").unwrap(), Scratch::new("ours").unwrap());
    let archive = a.join("hello.tar");
    std::fs::write(&archive, images::hello::archive().unwrap()).unwrap();
    let (stock, ours) = (Containerd::stock(&a).unwrap(), Containerd::ours(&b).unwrap());
    for each in [&stock, &ours] {
        ctr(each, &["images", "import", text(&archive)]);
    }
    assert_eq!(images(&stock), images(&ours));
    assert_eq!(images(&ours)[0].0, images::hello::NAME);
    let said = ctr(&ours, &["run", "--rm", images::hello::NAME, "hello"]);
    assert!(said.contains("Hello from Ferry!"), "{said}");
}
