//! config.md, `root` and `mounts`; and what config-linux.md says of paths that are hidden or can't be
//! written to.

use crate::common::{Bundle, runtimes, text};
use crate::{ALONE, CRUN, accepted, push, refused, remove};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

fn add(spec: &mut Value, destination: &str, kind: &str, source: &Path, options: &[&str]) {
    let mount =
        json!({"destination": destination, "type": kind, "source": source, "options": options});
    push(&mut spec["mounts"], mount);
}

/// Options of a mount, `per-mount / per-filesystem`, from the container's own table.
fn options(table: &str, at: &str) -> Option<(String, String)> {
    let mut lines = table.lines().filter(|line| line.split(' ').nth(4) == Some(at));
    let line = lines.next_back()?;
    let (mount, fs) = line.split_once(" - ")?;
    Some((mount.split(' ').nth(5)?.to_owned(), fs.split(' ').nth(2)?.to_owned()))
}

fn has(options: &str, word: &str) -> bool {
    options.split(',').any(|option| option == word)
}

#[test]
fn a_root_is_required_and_must_be_a_folder_that_exists() {
    refused("noroot", "root must be specified", ALONE, |_, spec| remove(spec, "root"));
    refused("missingroot", "invalid rootfs: no such file or directory", &[], |_, spec| {
        spec["root"]["path"] = json!("nowhere");
    });
    refused("fileroot", "invalid rootfs", &[], |bundle, spec| {
        std::fs::write(bundle.path("file"), "").unwrap();
        spec["root"]["path"] = json!("file");
    });
}

#[test]
fn a_root_can_be_written_to_unless_it_is_read_only() {
    for (readonly, shown) in [(true, "no\n"), (false, "yes\n")] {
        accepted(
            "rootro",
            "touch /x 2>/dev/null && echo yes || echo no",
            &[],
            |_, spec| spec["root"]["readonly"] = json!(readonly),
            |runtime, said| assert_eq!(said, shown, "{runtime}"),
        );
    }
}

#[test]
fn mounts_are_made_in_the_order_listed() {
    accepted(
        "order",
        "cat /a/b/file; cat /twice/file",
        &[],
        |bundle, spec| {
            for name in ["first", "second"] {
                std::fs::create_dir(bundle.path(name)).unwrap();
                std::fs::write(bundle.path(name).join("file"), name).unwrap();
                add(spec, "/twice", "bind", &bundle.path(name), &["bind"]);
            }
            add(spec, "/a", "tmpfs", Path::new("tmpfs"), &[]);
            add(spec, "/a/b", "bind", &bundle.path("first"), &["bind"]);
        },
        |runtime, said| assert_eq!(said, "firstsecond", "{runtime}"),
    );
}

#[test]
fn a_destination_that_is_not_absolute_is_taken_from_the_root() {
    accepted(
        "relative",
        "cat /proc/self/mountinfo",
        &[],
        |_, spec| {
            spec["process"]["cwd"] = json!("/etc");
            add(spec, "rel/ative", "tmpfs", Path::new("tmpfs"), &[]);
        },
        |runtime, said| assert!(options(said, "/rel/ative").is_some(), "{runtime}: {said}"),
    );
}

/// Option, and what then is in the options of the mount and of the file system; `!` for what isn't.
const OPTIONS: [(&str, &str, &str); 38] = [
    ("async", "", "!sync"),
    ("atime", "!noatime", ""),
    ("defaults", "rw", "rw"),
    ("dev", "!nodev", ""),
    ("diratime", "!nodiratime", ""),
    ("dirsync", "", "dirsync"),
    ("exec", "!noexec", ""),
    ("iversion", "", ""),
    ("lazytime", "", "lazytime"),
    ("loud", "", ""),
    ("noatime", "noatime", ""),
    ("nodev", "nodev", ""),
    ("nodiratime", "nodiratime", ""),
    ("noexec", "noexec", ""),
    ("noiversion", "", ""),
    ("nolazytime", "", "!lazytime"),
    ("norelatime", "", ""),
    ("nostrictatime", "", ""),
    ("nosuid", "nosuid", ""),
    ("nosymfollow", "nosymfollow", ""),
    ("relatime", "relatime", ""),
    ("ro", "ro", ""),
    ("rw", "rw", ""),
    ("silent", "", ""),
    ("strictatime", "!relatime", ""),
    ("suid", "!nosuid", ""),
    ("symfollow", "!nosymfollow", ""),
    ("sync", "", "sync"),
    ("ro,rw", "rw", ""),
    ("nosuid,suid", "!nosuid", ""),
    ("nodev,dev", "!nodev", ""),
    ("noexec,exec", "!noexec", ""),
    ("nosymfollow,symfollow", "!nosymfollow", ""),
    ("noatime,strictatime", "!noatime", ""),
    ("private", "", ""),
    ("size=64k", "", "size=64k"),
    ("mode=700", "", "mode=700"),
    ("shared", "", ""),
];

#[test]
fn every_mount_option_of_the_specification_has_its_effect() {
    accepted(
        "options",
        "cat /proc/self/mountinfo",
        &[],
        |_, spec| {
            for (n, (words, _, _)) in OPTIONS.iter().enumerate() {
                let words: Vec<&str> = words.split(',').collect();
                add(spec, &format!("/m{n}"), "tmpfs", Path::new("tmpfs"), &words);
            }
        },
        |runtime, said| {
            for (n, (words, on_mount, on_fs)) in OPTIONS.iter().enumerate() {
                let (mount, fs) = options(said, &format!("/m{n}")).unwrap();
                for (all, wanted) in [(&mount, on_mount), (&fs, on_fs)] {
                    let fits = match wanted.strip_prefix('!') {
                        Some(word) => !has(all, word),
                        None => wanted.is_empty() || has(all, wanted),
                    };
                    // crun takes the later of two opposites for the file system alone.
                    let known = runtime == CRUN && words.contains(',');
                    assert!(fits || known, "{runtime} {words}: {mount} {fs}");
                }
            }
        },
    );
}

/// Runs a bundle whose host has a mount at `data/sub`, in a mount namespace of its own.
fn above_a_mount(bundle: &Bundle) -> (Option<i32>, String, String) {
    let (data, folder) = (bundle.path("data"), bundle.folder.path().to_str().unwrap().to_owned());
    std::fs::create_dir_all(data.join("sub")).unwrap();
    let script = "mount -t tmpfs data \"$0\" && mkdir \"$0/sub\" && mount -t tmpfs sub \"$0/sub\" && \
        mount --make-rshared \"$0\" && exec \"$@\"";
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", script]).arg(&data).arg(&bundle.program);
    command.arg("--root").arg(bundle.path("state"));
    command.args(["run", "--bundle", &folder, &bundle.id]).stdin(Stdio::null());
    let out = command.output().unwrap();
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

fn on_each_above_a_mount(
    name: &str,
    but: &[&str],
    change: impl Fn(&Bundle, &mut Value),
    check: impl Fn(&str, &str),
) {
    for (runtime, program) in runtimes() {
        if but.contains(&runtime) {
            continue;
        }
        let Some(mut bundle) = Bundle::new(name, &["cat", "/proc/self/mountinfo"]) else { return };
        bundle.program = program;
        bundle.edit(|spec| change(&bundle, spec));
        let (code, said, error) = above_a_mount(&bundle);
        if runtime != "ferry-runc" && code != Some(0) {
            eprintln!("SKIPPED: {name} on {runtime}: {error}");
            continue;
        }
        assert_eq!(code, Some(0), "{runtime}: {error}");
        check(runtime, &said);
    }
}

#[test]
fn a_bind_mount_shows_a_folder_and_a_recursive_one_what_is_mounted_below() {
    on_each_above_a_mount(
        "binds",
        &[],
        |bundle, spec| {
            add(spec, "/one", "bind", &bundle.path("data"), &["bind"]);
            add(spec, "/all", "bind", &bundle.path("data"), &["rbind"]);
        },
        |runtime, said| {
            for (at, there) in
                [("/one", true), ("/one/sub", false), ("/all", true), ("/all/sub", true)]
            {
                assert_eq!(options(said, at).is_some(), there, "{runtime} {at}: {said}");
            }
        },
    );
}

/// Recursive options, and what the mount and the one below it then have; `!` for what they haven't.
const RECURSIVE: [(&str, &str); 19] = [
    ("rro", "ro"),
    ("rnosuid", "nosuid"),
    ("rnodev", "nodev"),
    ("rnoexec", "noexec"),
    ("rnodiratime", "nodiratime"),
    ("rnoatime", "noatime"),
    ("rnosymfollow", "nosymfollow"),
    ("rrelatime", "relatime"),
    ("rstrictatime", "!relatime"),
    ("rro,rrw", "rw"),
    ("rnosuid,rsuid", "!nosuid"),
    ("rnodev,rdev", "!nodev"),
    ("rnoexec,rexec", "!noexec"),
    ("rnodiratime,rdiratime", "!nodiratime"),
    ("rnosymfollow,rsymfollow", "!nosymfollow"),
    ("rnoatime,ratime", "!noatime"),
    ("rnorelatime", ""),
    ("rnostrictatime", ""),
    ("rrw", "rw"),
];

#[test]
fn every_recursive_mount_option_holds_below_too() {
    on_each_above_a_mount(
        "recursive",
        // runc has no way to take rnoatime back with ratime; crun gives them up where they meet.
        ALONE,
        |bundle, spec| {
            for (n, (words, _)) in RECURSIVE.iter().enumerate() {
                let words: Vec<&str> = ["rbind"].into_iter().chain(words.split(',')).collect();
                add(spec, &format!("/m{n}"), "bind", &bundle.path("data"), &words);
            }
        },
        |runtime, said| {
            for (n, (words, wanted)) in RECURSIVE.iter().enumerate() {
                for at in [format!("/m{n}"), format!("/m{n}/sub")] {
                    let (mount, _) = options(said, &at).unwrap();
                    let fits = match wanted.strip_prefix('!') {
                        Some(word) => !has(&mount, word),
                        None => wanted.is_empty() || has(&mount, wanted),
                    };
                    assert!(fits, "{runtime} {words} at {at}: {mount}");
                }
            }
        },
    );
}

#[test]
fn propagation_is_the_one_asked_for_at_the_mount_and_with_r_below_too() {
    let words = [
        "private",
        "slave",
        "shared",
        "unbindable",
        "rprivate",
        "rslave",
        "rshared",
        "runbindable",
    ];
    on_each_above_a_mount(
        "propagation",
        // crun makes every mount private first, so that nothing has a master.
        &[CRUN],
        |bundle, spec| {
            for word in words {
                add(spec, &format!("/{word}"), "bind", &bundle.path("data"), &["rbind", word]);
            }
        },
        |runtime, said| {
            let tags = |at: &str| {
                let line = said.lines().rfind(|line| line.split(' ').nth(4) == Some(at)).unwrap();
                let fields = line.split(" - ").next().unwrap().split(' ').skip(6);
                fields.map(|f| f.split(':').next().unwrap().to_owned()).collect::<Vec<_>>()
            };
            for word in words {
                let kind =
                    if word.starts_with("rs") || word.starts_with("rp") || word.starts_with("ru") {
                        &word[1..]
                    } else {
                        word
                    };
                let wanted: &[&str] = match kind {
                    "private" => &[],
                    "slave" => &["master"],
                    "shared" => &["shared"],
                    _ => &["unbindable"],
                };
                let found = tags(&format!("/{word}"));
                let fits = if kind == "shared" {
                    found.contains(&"shared".to_owned())
                } else {
                    found == wanted
                };
                assert!(fits, "{runtime} {word}: {found:?}");
                if kind != word && kind != "shared" {
                    assert_eq!(tags(&format!("/{word}/sub")), wanted, "{runtime} {word} below");
                }
            }
        },
    );
}

#[test]
fn a_mount_is_changed_by_remount() {
    accepted(
        "remount",
        "cat /proc/self/mountinfo",
        &[],
        |_, spec| {
            add(spec, "/re", "tmpfs", Path::new("tmpfs"), &[]);
            add(spec, "/re", "tmpfs", Path::new("tmpfs"), &["remount", "ro", "nosuid"]);
        },
        |runtime, said| {
            let (mount, _) = options(said, "/re").unwrap();
            assert!(has(&mount, "ro") && has(&mount, "nosuid"), "{runtime}: {mount}");
        },
    );
}

#[test]
fn an_option_that_nobody_knows_is_the_file_systems_to_judge() {
    refused("unknown", "error mounting", &[], |_, spec| {
        add(spec, "/x", "tmpfs", Path::new("tmpfs"), &["bogus=1"]);
    });
}

#[test]
fn maps_of_a_mount_come_in_pairs_and_from_somewhere() {
    let map = json!([{"containerID": 0, "hostID": 7000, "size": 10}]);
    for key in ["uidMappings", "gidMappings"] {
        refused("half", "uidMappings and gidMappings", ALONE, |bundle, spec| {
            add(spec, "/x", "bind", bundle.folder.path(), &["bind", "idmap"]);
            spec["mounts"].as_array_mut().unwrap().last_mut().unwrap()[key] = map.clone();
        });
    }
    for option in ["idmap", "ridmap"] {
        refused("nomap", "map", &[], |bundle, spec| {
            add(spec, "/x", "bind", bundle.folder.path(), &["bind", option]);
        });
    }
}

#[test]
fn paths_are_masked_and_read_only_as_listed_and_must_be_absolute() {
    accepted(
        "hidden",
        "cat /etc/secret; ls /etc/folder; touch /tmp/still/x 2>/dev/null || echo read-only",
        &[],
        |bundle, spec| {
            let root = bundle.path("rootfs");
            for folder in ["etc/folder", "tmp/still"] {
                std::fs::create_dir(root.join(folder)).unwrap();
            }
            std::fs::write(root.join("etc/secret"), "secret").unwrap();
            std::fs::write(root.join("etc/folder/file"), "").unwrap();
            spec["linux"]["maskedPaths"] = json!(["/etc/secret", "/etc/folder", "/nowhere"]);
            spec["linux"]["readonlyPaths"] = json!(["/tmp/still", "/nowhere"]);
        },
        |runtime, said| assert_eq!(said, "read-only\n", "{runtime}"),
    );
    for key in ["maskedPaths", "readonlyPaths"] {
        refused("relativepath", "must be an absolute path", ALONE, |_, spec| {
            spec["linux"][key] = json!(["etc"]);
        });
    }
}

#[test]
fn the_roots_propagation_is_the_one_configured() {
    for (word, wanted) in
        [("private", ""), ("slave", "master"), ("shared", "shared"), ("unbindable", "unbindable")]
    {
        on_each_above_a_mount(
            "rootprop",
            // crun makes every root private first.
            &[CRUN],
            |_, spec| spec["linux"]["rootfsPropagation"] = json!(word),
            |runtime, said| {
                let line = said.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
                let tags = line.split(" - ").next().unwrap().split(' ').skip(6).collect::<Vec<_>>();
                let fits = match wanted {
                    "" => !tags.iter().any(|tag| tag.starts_with("shared")),
                    // A root that nobody shares has no master.
                    "master" => !tags.iter().any(|tag| tag.starts_with("shared")),
                    wanted => tags.iter().any(|tag| tag.starts_with(wanted)),
                };
                assert!(fits, "{runtime} {word}: {line}");
            },
        );
    }
    refused("badprop", "is not supported", &[CRUN], |_, spec| {
        spec["linux"]["rootfsPropagation"] = json!("bogus");
    });
}
