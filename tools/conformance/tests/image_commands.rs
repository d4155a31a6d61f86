//! Commands on images that tables of requests can't hold: imports from afar, images for several
//! platforms, exports, images of other builders, a configuration that is reloaded.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use conformance::normal;
use lab::{
    Engine, Kind, busybox_rootfs, layered_archive, peer, platforms_archive, run, serve_files,
    wait_until,
};
use serde_json::Value;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn get(engine: &Engine, target: &str) -> (u16, Value) {
    let reply = engine.api("GET", target, &[], b"").unwrap();
    let status = reply.status;
    (status, serde_json::from_slice(&reply.body).unwrap_or_default())
}

/// Code and both outputs of the stock client.
fn told(engine: &Engine, words: &[&str]) -> (i32, String, String) {
    let done = engine.stock_cli(words).unwrap();
    let scratch = engine.scratch().path().display().to_string();
    let plain = |text: &str| normal(&text.replace(&scratch, "<scratch>"));
    (done.code, plain(&done.stdout), plain(&done.stderr))
}

/// A file as a program compresses it. An empty stream follows: several are one.
fn packed(program: &str, file: &Path) -> String {
    let out = format!("{}.{}", text(file), program.replace(' ', ""));
    let line = format!("({program} -c {}; {program} -c </dev/null) >{out}", text(file));
    run("sh", ["-c", &line]).unwrap().success().unwrap();
    out
}

#[test]
fn images_are_imported_from_urls_and_files_as_dockerd_does() {
    lab::require!("dockerd", "docker", "containerd", "runc");
    let mut answers = Vec::new();
    for kind in [Kind::Dockerd, Kind::Ferryd] {
        let engine = Engine::start_empty(kind, &[]).unwrap();
        let scratch = engine.scratch();
        let root = scratch.join("root");
        busybox_rootfs(&root).unwrap();
        let file = scratch.join("root.tar");
        run("tar", ["--mtime=@0", "--sort=name", "-C", text(&root), "-cf", text(&file), "."])
            .unwrap()
            .success()
            .unwrap();
        let layered = layered_archive(scratch.path(), 2, 50_000).unwrap();
        let [gzip, bzip2, xz] = ["gzip -n", "bzip2", "xz -9"].map(|program| packed(program, &file));
        let [layered_bzip2, layered_xz] = ["bzip2", "xz"].map(|program| packed(program, &layered));
        let files = BTreeMap::from([
            ("root.tar".to_owned(), fs::read(&file).unwrap()),
            ("none.tar".to_owned(), b"this is no archive, however long one looks".repeat(40)),
        ]);
        let at = serve_files(engine.netns().unwrap(), files).unwrap();
        let url = |name: &str| format!("http://{at}/{name}");
        let show =
            "{{.Comment}}|{{.Architecture}}|{{.Variant}}|{{json .Config}}|{{.RootFS.Layers}}";
        let bare = format!("{at}/root.tar");
        for words in [
            &["import", &url("root.tar"), "u:1", "-m", "hi", "-c", "CMD ls", "-c", "ENV A=b"][..],
            &["image", "inspect", "-f", show, "u:1"],
            &["history", "--format", "{{.CreatedBy}}|{{.Comment}}", "u:1"],
            &["import", &bare, "u:2"],
            &["import", text(&file), "f:1", "--platform", "linux/arm/v6"],
            &["image", "inspect", "-f", show, "f:1"],
            &["import", &gzip, "g:1"],
            &["image", "inspect", "-f", show, "g:1"],
            &["import", &bzip2, "b:1"],
            &["image", "inspect", "-f", show, "b:1"],
            &["import", &xz, "x:1"],
            &["image", "inspect", "-f", show, "x:1"],
            &["load", "-i", &layered_bzip2],
            &["image", "inspect", "-f", show, "layered:1"],
            &["rmi", "layered:1"],
            &["load", "-i", &layered_xz],
            &["image", "inspect", "-f", show, "layered:1"],
            &["import", &url("missing.tar"), "m:1"],
            &["import", "http://127.0.0.1:1/x", "m:1"],
            &["import", &url("root.tar"), "Bad"],
            &["import", text(&file), "w:1", "--platform", "windows/amd64"],
            &["import", text(&file), "w:1", "--platform", "a/b/c/d"],
            &["images", "--format", "{{.Repository}}:{{.Tag}}"],
        ] {
            let mut told = told(&engine, words);
            if words[0] == "images" {
                // Of images of one second neither daemon says which comes first.
                let mut lines: Vec<&str> = told.1.lines().collect();
                lines.sort_unstable();
                told.1 = lines.join("\n");
            }
            answers.push((kind, words.join(" "), told));
        }
        let refused = engine.stock_cli(&["import", &url("none.tar"), "n:1"]).unwrap();
        assert_eq!(refused.code, 1, "{kind:?}: {refused:?}");
    }
    let (stock, ours) = answers.split_at(answers.len() / 2);
    for (stock, ours) in stock.iter().zip(ours) {
        assert_eq!(ours.2, stock.2, "{}", stock.1);
    }
}

/// Takes out what depends on how layers are stored and counted.
fn without_sizes(mut manifests: Value) -> Value {
    for manifest in manifests.as_array_mut().into_iter().flatten() {
        manifest["Size"] = Value::Null;
        if manifest["ImageData"].is_object() {
            manifest["ImageData"]["Size"] = Value::Null;
        }
    }
    manifests
}

#[test]
fn platforms_of_an_image_are_told_kept_and_removed_one_by_one() {
    lab::require!("dockerd", "docker", "containerd", "runc");
    let stock = &["--feature", "containerd-snapshotter=true"];
    let stock = Engine::start_empty(Kind::Dockerd, stock).unwrap();
    let ours = Engine::start_empty(Kind::Ferryd, &[]).unwrap();
    let engines = [&stock, &ours];
    for engine in engines {
        let archive = platforms_archive(engine.scratch().path()).unwrap();
        let loaded = told(engine, &["load", "-q", "-i", text(&archive)]);
        assert_eq!(loaded, (0, "Loaded image: platforms:1\n".to_owned(), String::new()));
    }
    let manifests = |target: &str| {
        engines.map(|engine| {
            let (status, value) = get(engine, target);
            assert_eq!(status, 200, "{target}: {value}");
            let image = if value.is_array() { &value[0] } else { &value };
            (image["Descriptor"].clone(), without_sizes(image["Manifests"].clone()))
        })
    };
    for target in ["/images/json?manifests=1", "/images/platforms:1/json?manifests=1"] {
        let [expected, got] = manifests(target);
        assert_eq!(got, expected, "{target}");
        assert_eq!(got.1.as_array().unwrap().len(), 3);
    }
    let show = "{{.Architecture}} {{json .Config.Cmd}}";
    for words in [
        &["image", "inspect", "--platform", "linux/arm64", "platforms:1", "-f", show][..],
        &["image", "inspect", "--platform", "linux/s390x", "platforms:1"],
        &["history", "--platform", "linux/arm64", "--format", "{{.CreatedBy}}", "platforms:1"],
        &["rmi", "--platform", "linux/arm64", "platforms:1"],
        &["load", "--platform", "linux/s390x", "-i", text(&stock.scratch().join("platforms.tar"))],
    ] {
        assert_eq!(told(&ours, words), told(&stock, words), "{words:?}");
    }
    // What was loaded is saved with all its platforms, under the same digests.
    let saved = ours.scratch().join("saved.tar");
    told(&ours, &["save", "-o", text(&saved), "platforms:1"]);
    let blobs = |archive: &Path| {
        let listed = run("tar", ["-tf", text(archive)]).unwrap().success().unwrap();
        let mut blobs: Vec<String> =
            listed.lines().filter(|l| l.len() > 64).map(str::to_owned).collect();
        blobs.sort();
        blobs
    };
    assert_eq!(blobs(&saved), blobs(&ours.scratch().join("platforms.tar")));
    let arm = ours.scratch().join("arm.tar");
    told(&ours, &["save", "--platform", "linux/arm64", "-o", text(&arm), "platforms:1"]);
    assert_eq!(blobs(&arm).len(), 4, "index, manifest, configuration, layer");
    let none = told(&ours, &["save", "--platform", "linux/s390x", "-o", text(&arm), "platforms:1"]);
    assert!(
        none.2.contains("no suitable export target found for platform linux/s390x"),
        "{none:?}"
    );
    // One platform goes; the others stay.
    let gone = told(&ours, &["rmi", "-f", "--platform", "linux/arm64", "platforms:1"]);
    assert_eq!(gone.1, "Deleted: sha256:<id>\n", "{gone:?}");
    let (_, left) = get(&ours, "/images/platforms:1/json?manifests=1");
    let here: Vec<bool> =
        left["Manifests"].as_array().unwrap().iter().map(|m| m["Available"] == true).collect();
    assert_eq!(here, [true, false, false]);
    let last = told(&ours, &["rmi", "--platform", "linux/amd64", "platforms:1"]);
    assert_eq!(last.0, 0, "{last:?}");
    assert_eq!(told(&ours, &["images", "-q"]).1, "");
}

/// Modes, sizes and names of an archive's members, sorted; but for what engines put into every
/// container themselves.
fn members(archive: &Path) -> Vec<String> {
    const OWN: [&str; 6] = [".dockerenv", "dev", "etc/", "proc/", "sys/", "etc/mtab"];
    let listed = run("tar", ["--numeric-owner", "-tvf", text(archive)]).unwrap().success().unwrap();
    let mut out: Vec<String> = listed
        .lines()
        .map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {} {} {}", words[0], words[1], words[2], words[5..].join(" "))
        })
        .filter(|line| {
            let name = line.split(' ').nth(3).unwrap();
            let own =
                OWN.iter().any(|own| name == *own || own == &"dev" && name.starts_with("dev/"));
            !own && !["etc/hosts", "etc/hostname", "etc/resolv.conf"].contains(&name)
        })
        .collect();
    out.sort();
    out
}

#[test]
fn a_container_is_exported_as_dockerd_does_whether_it_runs_or_not() {
    lab::require!("dockerd", "docker", "containerd", "runc");
    let script = "echo x >/new; rm /etc/group; mkdir -p /d/e; ln -s ../../etc/passwd /d/e/l; \
                  mkfifo /p; mknod /c c 1 3; chmod 700 /etc/passwd; echo y >'/sp ace'; \
                  rm -r /var/www; mkdir /var/www; chown 5:6 /new; ln /new /hard";
    let mut seen = Vec::new();
    for kind in [Kind::Dockerd, Kind::Ferryd] {
        let engine = Engine::start(kind, &[]).unwrap();
        told(&engine, &["run", "--name", "c1", "busybox", "sh", "-c", script]);
        told(&engine, &["run", "-d", "--name", "c2", "-v", "/v", "busybox", "sleep", "1000"]);
        for name in ["c1", "c2"] {
            let archive = engine.scratch().join(&format!("{name}.tar"));
            let done = told(&engine, &["export", "-o", text(&archive), name]);
            assert_eq!(done, (0, String::new(), String::new()), "{kind:?}");
            seen.push((kind, name, members(&archive)));
        }
        let mut changes: Vec<String> =
            told(&engine, &["diff", "c1"]).1.lines().map(str::to_owned).collect();
        changes.sort();
        seen.push((kind, "diff", changes));
        // What an export holds makes an image again.
        let archive = engine.scratch().join("c1.tar");
        told(&engine, &["import", text(&archive), "again:1"]);
        let ran = told(&engine, &["run", "--rm", "again:1", "/bin/cat", "/hard"]);
        assert_eq!(ran.1, "x\n", "{kind:?}: {ran:?}");
    }
    let (stock, ours) = seen.split_at(3);
    for (stock, ours) in stock.iter().zip(ours) {
        assert_eq!(ours.2, stock.2, "{}", stock.1);
    }
}

#[test]
fn the_configuration_is_read_again_on_sighup() {
    if let Some(why) = lab::lacking(&["docker"]) {
        println!("SKIPPED: reload: {why}");
        return;
    }
    let engine = Engine::start_empty(Kind::Ferryd, &[]).unwrap();
    let configure = |text: &str| {
        fs::write(engine.scratch().join("daemon.json"), text).unwrap();
        run("kill", ["-HUP", &engine.pid().to_string()]).unwrap().success().unwrap();
    };
    let info = || get(&engine, "/info").1;
    let until = |what: &str, holds: &dyn Fn(&Value) -> bool| {
        wait_until(what, Duration::from_secs(60), || holds(&info())).unwrap();
    };
    configure(
        r#"{"debug": true, "labels": ["a=b"], "registry-mirrors": ["http://127.0.0.1:5000"],
            "insecure-registries": ["r.example:5000"], "max-concurrent-downloads": 7,
            "allow-nondistributable-artifacts": ["x.example"]}"#,
    );
    until("the new labels", &|info| info["Labels"] == serde_json::json!(["a=b"]));
    let now = info();
    assert_eq!(now["Debug"], true);
    let registries = &now["RegistryConfig"];
    assert_eq!(registries["Mirrors"], serde_json::json!(["http://127.0.0.1:5000/"]));
    assert_eq!(registries["IndexConfigs"]["r.example:5000"]["Secure"], false);
    // One that can't be used changes nothing, and the daemon goes on.
    for wrong in [r#"{"labels": ["c=d"], "nope": 1}"#, r#"{"labels": ["c=d""#] {
        configure(wrong);
        wait_until("the complaint", Duration::from_secs(60), || {
            engine.log().matches("reloading the configuration: ").count() > 0
        })
        .unwrap();
    }
    assert_eq!(info()["Labels"], serde_json::json!(["a=b"]));
    // What is not set stays; limits go back.
    configure(r#"{"debug": false}"#);
    until("less to be logged", &|info| info["Debug"] == false);
    assert_eq!(info()["Labels"], serde_json::json!(["a=b"]));
    let words = ["events", "--since", "10m", "--until", "0s", "--filter", "type=daemon"];
    let words = [&words[..], &["--format", "{{.Action}} {{json .Actor.Attributes}}"]].concat();
    // The client asks for what was before this second began.
    wait_until("the event", Duration::from_secs(60), || {
        let events = told(&engine, &words).1;
        let last = events.lines().last().unwrap_or_default();
        last.starts_with("reload ") && last.contains(r#""debug":"false""#)
    })
    .unwrap();
    let events = told(&engine, &words).1;
    let downloads = |line: &str| line.split("max-concurrent-downloads\":\"").nth(1)?.chars().next();
    let downloads: Vec<Option<char>> = events.lines().map(downloads).collect();
    assert_eq!(downloads, [Some('7'), Some('3')], "{events}");
}

#[test]
fn images_of_other_builders_load_and_run_and_ours_run_there() {
    lab::require!("docker", "podman", "runc", "skopeo");
    let Ok(buildah) = run("buildah", ["--version"]) else {
        println!("SKIPPED: images of other builders: buildah is not installed");
        return;
    };
    buildah.success().unwrap();
    let engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    let scratch = engine.scratch();
    let place = |name: &str| scratch.join(name).display().to_string();
    let store = |name: &str| {
        [
            "--root",
            &place(name),
            "--runroot",
            &place(&format!("{name}-run")),
            "--storage-driver",
            "vfs",
        ]
        .map(str::to_owned)
        .to_vec()
    };
    let call = |program: &str, stores: &[String], words: &[&str]| {
        let words = stores.iter().map(String::as_str).chain(words.iter().copied());
        run(program, words).unwrap().success().unwrap()
    };
    let rootfs = scratch.join("built");
    busybox_rootfs(&rootfs).unwrap();
    // buildah makes one; it runs here by either form of archive.
    let own = store("buildah");
    let working = call("buildah", &own, &["from", "scratch"]).trim().to_owned();
    call("buildah", &own, &["copy", "-q", &working, text(&rootfs), "/"]);
    let config = ["config", "--cmd", "echo from buildah", "--env", "PATH=/bin", &working];
    call("buildah", &own, &config);
    call("buildah", &own, &["commit", "-q", &working, "built:1"]);
    for form in ["docker-archive", "oci-archive"] {
        let archive = place(form);
        call("buildah", &own, &["push", "-q", "built:1", &format!("{form}:{archive}:built:1")]);
        let loaded = told(&engine, &["load", "-q", "-i", &archive]);
        assert_eq!(loaded.0, 0, "{form}: {loaded:?}");
        let id = call("buildah", &own, &["images", "-q", "--no-trunc", "built:1"]);
        let ours = engine.stock_cli(&["images", "-q", "--no-trunc"]).unwrap().stdout;
        assert!(ours.contains(id.trim()), "{form}: {id} in {ours}");
        let ran = told(&engine, &["run", "--rm", "--network", "none", id.trim()]);
        assert_eq!(ran.1, "from buildah\n", "{form}: {ran:?}");
    }
    // What runs here is committed, saved, and runs there.
    told(&engine, &["run", "--name", "c1", "busybox", "sh", "-c", "echo ours >/file"]);
    told(&engine, &["commit", "-c", "CMD [\"cat\",\"/file\"]", "c1", "ours:1"]);
    let saved = place("ours.tar");
    assert_eq!(told(&engine, &["save", "-o", &saved, "ours:1"]).0, 0);
    let id = engine.stock_cli(&["images", "-q", "--no-trunc", "ours:1"]).unwrap().stdout;
    let podman = peer("podman").unwrap().display().to_string();
    let runtime = ["--runtime".to_owned(), peer("runc").unwrap().display().to_string()];
    let pods = [store("podman"), runtime.to_vec()].concat();
    call(&podman, &pods, &["load", "-q", "-i", &saved]);
    let there = call(&podman, &pods, &["images", "-q", "--no-trunc"]);
    assert!(there.contains(id.trim()), "{id} in {there}");
    let copied = place("copied.tar");
    let skopeo = peer("skopeo").unwrap().display().to_string();
    let from = format!("docker-archive:{saved}");
    let to = format!("oci-archive:{copied}:ours:2");
    call(&skopeo, &[], &["--insecure-policy", "copy", "-q", &from, &to]);
    told(&engine, &["load", "-q", "-i", &copied]);
    let again = engine.stock_cli(&["run", "--rm", "--network", "none", id.trim()]).unwrap();
    assert_eq!(again.stdout, "ours\n", "{again:?}");
    call("buildah", &own, &["pull", "-q", &format!("docker-archive:{saved}")]);
    let there = call("buildah", &own, &["images", "-q", "--no-trunc"]);
    assert!(there.contains(id.trim()), "{id} in {there}");
}
