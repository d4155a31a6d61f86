//! What the client does beside its own commands: plugins, daemons behind `ssh`, completion in a
//! real shell. The stock client passes the same tests.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use lab::{Engine, Kind, ours, peer};

const PROBE: &str = r#"#!/bin/sh
if [ "$1" = docker-cli-plugin-metadata ]; then
    echo '{"SchemaVersion":"0.1.0","Vendor":"Someone","Version":"v1","ShortDescription":"Shows its words"}'
    exit
fi
echo "words: $*"
echo "called: $DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"
exit 7
"#;

fn script(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn plugins(engine: &Engine) -> PathBuf {
    engine.scratch().join("config/cli-plugins")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn clients() -> [PathBuf; 2] {
    [peer("docker").unwrap(), ours("ferry").expect("ferry is built")]
}

#[test]
fn plugins_are_listed_and_get_the_words_as_they_were_typed() {
    lab::require!("docker");
    let engine = Engine::start_empty(Kind::Ferryd, &[]).unwrap();
    script(&plugins(&engine).join("docker-probe"), PROBE);
    script(&plugins(&engine).join("docker-broken"), "#!/bin/sh\necho broken\n");
    for program in clients() {
        let said = |words: &[&str]| output(engine.client(&program).args(words));
        for words in [&["probe", "a", "-b", "--c=d"][..], &["--context", "default", "probe"]] {
            let ran = said(words);
            assert_eq!(ran.status.code(), Some(7), "{ran:?}");
            let expected = format!("words: {}\ncalled: {}\n", words.join(" "), program.display());
            assert_eq!(text(&ran.stdout), expected);
        }
        assert!(text(&said(&["help", "probe"]).stdout).starts_with("words: help probe\n"));
        assert!(text(&said(&["probe", "--help"]).stdout).starts_with("words: probe --help\n"));
        // One that says nothing of itself is none.
        let ran = said(&["broken"]);
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        assert!(text(&ran.stderr).contains("unknown command"), "{ran:?}");
        let help = text(&said(&["--help"]).stdout);
        let line = help.lines().find(|line| line.contains("probe*")).unwrap_or_default();
        assert!(line.contains("Shows its words"), "{help}");
        let offers = text(&said(&["__complete", "pro"]).stdout);
        assert!(offers.contains("probe\tShows its words\n"), "{offers}");
        let offers = text(&said(&["__complete", "probe", "x"]).stdout);
        assert!(offers.starts_with("words: __complete probe x\n"), "{offers}");
    }
}

#[test]
fn buildx_and_compose_are_commands_of_ferry() {
    lab::require!("docker-buildx", "docker-compose");
    let engine = Engine::start_empty(Kind::Ferryd, &[]).unwrap();
    std::fs::create_dir_all(plugins(&engine)).unwrap();
    for name in ["docker-buildx", "docker-compose"] {
        symlink(peer(name).unwrap(), plugins(&engine).join(name)).unwrap();
    }
    let ferry = |words: &[&str]| engine.ferry(words).unwrap().success().unwrap();
    assert!(ferry(&["buildx", "version"]).contains("buildx"));
    assert!(!ferry(&["compose", "version", "--short"]).trim().is_empty());
    // It speaks with the daemon.
    assert!(ferry(&["compose", "ls"]).contains("NAME"));
    let help = ferry(&["--help"]);
    assert!(help.contains("buildx*") && help.contains("compose*"), "{help}");
}

#[test]
fn a_daemon_behind_ssh_is_reached_through_its_client() {
    lab::require!("docker");
    let engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    let folder = engine.scratch().join("ssh");
    let remote = format!(
        "#!/bin/sh
        echo \"$@\" >> {0}/log
        while [ $# -gt 0 ]; do case $1 in docker*) break;; esac; shift; done
        set -- $*; shift
        exec {1} -H {2} \"$@\"\n",
        folder.display(),
        ours("ferry").unwrap().display(),
        engine.host()
    );
    script(&folder.join("ssh"), &remote);
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    for program in clients() {
        let client = |words: &[&str]| {
            let mut command = engine.client(&program);
            command.env("PATH", &path).env("DOCKER_HOST", "ssh://me@there:22").args(words);
            command
        };
        let ran = output(&mut client(&["run", "--rm", "busybox", "sh", "-c", "echo out; exit 4"]));
        assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(4), "out\n"), "{ran:?}");
        // The end of the input passes, too.
        let mut cat = client(&["run", "-i", "--rm", "busybox", "cat"]);
        let mut cat = cat.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        cat.stdin.take().unwrap().write_all(b"over there\n").unwrap();
        let ran = cat.wait_with_output().unwrap();
        assert_eq!((ran.status.code(), text(&ran.stdout).as_str()), (Some(0), "over there\n"));
    }
    let log = std::fs::read_to_string(folder.join("log")).unwrap();
    for line in log.lines() {
        assert!(line.ends_with("-- there docker system dial-stdio"), "{log}");
        assert!(line.contains("-l me") && line.contains("-p 22") && line.contains("-T"), "{log}");
    }
}

#[test]
fn bash_completes_words_that_it_splits_itself() {
    let engine = Engine::start(Kind::Ferryd, &[]).unwrap();
    let ferry = ours("ferry").unwrap();
    engine.ferry(&["create", "--name", "web1", "busybox"]).unwrap().success().unwrap();
    // What readline hands over for a line: words that are split at colons and equal signs.
    let complete = |typed: &str, words: &[&str]| {
        let program = ferry.display();
        let text = format!(
            "source <({program} completion bash)
            COMP_LINE='{program} {typed}' COMP_WORDS=({program} {}) COMP_CWORD={}
            COMP_POINT=${{#COMP_LINE}}
            __ferry_complete; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words.len(),
        );
        let mut bash = engine.client(Path::new("/bin/bash"));
        let ran = output(bash.args(["--norc", "-c", &text]));
        assert!(ran.stderr.is_empty(), "{ran:?}");
        String::from_utf8(ran.stdout).unwrap()
    };
    assert_eq!(complete("renam", &["renam"]), "rename\n");
    assert_eq!(complete("start w", &["start", "w"]), "web1\n");
    assert_eq!(complete("run --network b", &["run", "--network", "b"]), "bridge\n");
    assert_eq!(complete("rmi busybox:l", &["rmi", "busybox", ":", "l"]), "latest\n");
    assert!(complete("run --net", &["run", "--net"]).contains("--network\n"));
}
