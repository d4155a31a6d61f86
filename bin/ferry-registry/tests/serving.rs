//! The program: its options, its logs and metrics, its limits, its end, and `gc` beside it.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use common::{ask, assert_whole, push_blob, push_image, start};
use lab::{Finished, Request, Scratch, ours, run, wait_until};
use oci::Digest;

fn program(words: &[&str]) -> Finished {
    run(ours("ferry-registry").unwrap(), words).unwrap()
}

fn signal(registry: &lab::Registry, signal: &str) {
    run("kill", [signal, &registry.pid().to_string()]).unwrap().success().unwrap();
}

#[test]
fn the_command_line_explains_itself_and_names_what_is_wrong() {
    let help = program(&["--help"]).success().unwrap();
    assert!(help.contains("serve") && help.contains("gc"), "{help}");
    assert_eq!(program(&[]).success().unwrap(), help);
    let help = program(&["serve", "--help"]).success().unwrap();
    for option in ["--listen list", "--root string", "--tlscert string", "-l, --log-level"] {
        assert!(help.contains(option), "{option}\n{help}");
    }
    assert!(program(&["gc", "-h"]).success().unwrap().contains("--delete-untagged"));
    assert!(program(&["--version"]).success().unwrap().starts_with("ferry-registry version "));
    for (words, told) in [
        (&["bake"][..], "unknown command: bake"),
        (&["serve", "--nope"], "unknown flag: --nope\nSee 'ferry-registry serve --help'."),
        (&["serve", "now"], "\"ferry-registry serve\" accepts no arguments: now"),
        (&["gc", "--min-age", "1d"], "invalid duration \"1d\""),
        (&["serve", "--config-file", "/nowhere"], "open /nowhere: no such file or directory"),
    ] {
        let done = program(words);
        assert_eq!(done.code, 2, "{done:?}");
        assert!(done.stderr.contains(told), "{done:?}");
    }
    let nowhere = program(&["gc", "--root", "/nowhere"]);
    assert_eq!(nowhere.code, 1);
    assert!(nowhere.stderr.contains("no registry is below /nowhere"), "{nowhere:?}");
}

#[test]
fn a_configuration_file_has_the_flags_names_as_keys() {
    let scratch = Scratch::new("serving").unwrap();
    let file = scratch.join("registry.json");
    let root = scratch.join("root").display().to_string();
    let path = file.display().to_string();
    std::fs::write(&file, format!(r#"{{"root": "{root}", "allow-delete": false}}"#)).unwrap();
    let valid = program(&["serve", "--config-file", &path, "--validate"]);
    assert_eq!(valid.success().unwrap(), "configuration OK\n");
    std::fs::write(&file, r#"{"storage": {}}"#).unwrap();
    let wrong = program(&["serve", "--config-file", &path, "--validate"]);
    let told = "the following directives don't match any configuration option: storage";
    assert!(wrong.code == 2 && wrong.stderr.contains(told), "{wrong:?}");
}

#[test]
fn the_mode_is_read_again_and_requests_in_flight_go_on() {
    let scratch = Scratch::new("serving").unwrap();
    let file = scratch.join("registry.json");
    let path = file.display().to_string();
    std::fs::write(&file, "{}").unwrap();
    let registry = start(&["--config-file", &path]);
    let begun = ask(&registry, "POST", "/v2/a/blobs/uploads/");
    let at = begun.header("Location").unwrap();
    let expect = [("Expect", "100-continue")];
    let mut patch = Request::begin(registry.address(), "PATCH", at, &expect, Some(10)).unwrap();
    let mut go_on = [0; 25];
    patch.stream.read_exact(&mut go_on).unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    patch.stream.write_all(b"01234").unwrap();
    std::fs::write(&file, r#"{"read-only": true}"#).unwrap();
    signal(&registry, "-HUP");
    wait_until("the new mode", Duration::from_secs(30), || {
        ask(&registry, "POST", "/v2/a/blobs/uploads/").status == 405
    })
    .unwrap();
    patch.stream.write_all(b"56789").unwrap();
    assert_eq!(patch.reply().unwrap().status, 202);
}

#[test]
fn it_ends_in_order_and_lets_downloads_end_first() {
    let mut registry = start(&["--pidfile=%/pid"]);
    let bytes = vec![7; 40 << 20];
    let digest = push_blob(&registry, "a", &bytes).unwrap();
    let pidfile = registry.scratch().join("pid");
    assert_eq!(std::fs::read_to_string(&pidfile).unwrap(), registry.pid().to_string());
    let mut stream = TcpStream::connect(registry.address()).unwrap();
    let request = format!("GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut head = [0; 1000];
    stream.read_exact(&mut head).unwrap();
    signal(&registry, "-TERM");
    wait_until("the closed door", Duration::from_secs(30), || {
        TcpStream::connect(registry.address()).is_err()
    })
    .unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    let start = head.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(head.len() - start + rest.len(), bytes.len());
    registry.stop();
    assert!(!pidfile.exists());
    assert!(!registry.root().join("ferry/control.sock").exists());
}

#[test]
fn metrics_have_an_address_of_their_own() {
    let registry = start(&["--metrics-addr=127.0.0.1:0"]);
    push_image(&registry, "a", "1", "t", None).unwrap();
    let log = registry.log();
    let line = log.lines().find(|line| line.contains(" metrics ")).unwrap();
    let address: SocketAddr = line.split("address=").nth(1).unwrap().trim().parse().unwrap();
    let reply = lab::http(address, "GET", "/metrics", &[], b"").unwrap();
    assert!(reply.header("Content-Type").unwrap().starts_with("application/openmetrics-text"));
    let text = reply.text();
    for line in [
        "ferry_registry_http_requests_total{method=\"PUT\",route=\"manifest\",code=\"201\"} 1",
        "ferry_registry_open_uploads 0",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}\n{text}");
    }
    assert_eq!(lab::http(address, "GET", "/v2/", &[], b"").unwrap().status, 404);
    assert_eq!(ask(&registry, "GET", "/metrics").status, 404);
}

#[test]
fn every_request_has_a_line_in_the_access_log() {
    let registry = start(&["--access-log=%/access"]);
    let headers = [("User-Agent", "a \"client\""), ("Referer", "http://x/")];
    let reply = registry.send("GET", "/v2/a/tags/list?n=1", &headers, b"").unwrap();
    let file = registry.scratch().join("access");
    wait_until("the line", Duration::from_secs(30), || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))
    })
    .unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("127.0.0.1 - - ["), "{text}");
    let (request, size) = ("\"GET /v2/a/tags/list?n=1 HTTP/1.1\"", reply.body.len());
    let tail = format!("{request} 404 {size} \"http://x/\" \"a _client_\"");
    assert!(text.contains(&tail), "{text}");
}

#[test]
fn more_connections_than_allowed_wait_for_their_turn() {
    let registry = start(&["--max-connections=2"]);
    let idle: Vec<TcpStream> =
        (0..2).map(|_| TcpStream::connect(registry.address()).unwrap()).collect();
    let mut third = TcpStream::connect(registry.address()).unwrap();
    third.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    drop(idle);
    let mut answer = String::new();
    third.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// The most memory that a process ever had, in KiB.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn memory_does_not_grow_with_the_blob() {
    let registry = start(&[]);
    push_blob(&registry, "a", &vec![1; 8 << 20]).unwrap();
    let before = peak(registry.pid());
    let bytes = vec![2; 400 << 20];
    let digest = push_blob(&registry, "a", &bytes).unwrap();
    assert!(ask(&registry, "GET", &format!("/v2/a/blobs/{digest}")).body == bytes);
    let grown = peak(registry.pid()) - before;
    assert!(grown < 32 << 10, "{grown} KiB more");
}

#[test]
fn gc_works_on_a_registry_that_is_served_and_on_one_that_is_not() {
    let mut registry = start(&[]);
    let kept = push_image(&registry, "kept", "kept", "t", None).unwrap();
    let gone = push_image(&registry, "gone", "gone", "t", None).unwrap();
    let untagged = push_image(&registry, "kept", "old", "moves", None).unwrap();
    push_image(&registry, "kept", "new", "moves", None).unwrap();
    let target = format!("/v2/gone/manifests/{gone}");
    assert_eq!(ask(&registry, "DELETE", &target).status, 202);
    let root = registry.root().display().to_string();
    let gc = |more: &[&str]| program(&[&["gc", "--root", &root], more].concat()).success().unwrap();
    let would = gc(&["--dry-run"]);
    assert!(would.contains(&format!("blob {gone} (")), "{would}");
    assert!(would.contains("would remove 0 manifests, 2 links, 3 blobs"), "{would}");
    // The server is asked: the root is its own.
    let did = gc(&[]);
    assert!(did.contains("removed 0 manifests, 2 links, 3 blobs"), "{did}");
    assert!(did.contains("repository gone"), "{did}");
    assert!(registry.log().contains("collected"));
    assert_eq!(ask(&registry, "GET", "/v2/gone/tags/list").status, 404);
    registry.stop();
    assert!(gc(&["--delete-untagged"]).contains("removed 0 manifests"));
    let did = gc(&["--delete-untagged", "--min-age=0"]);
    assert!(did.contains(&format!("manifest kept@{untagged}")), "{did}");
    registry.restart().unwrap();
    assert_whole(&registry, "kept", "t");
    assert_whole(&registry, "kept", &kept.to_string());
    assert_whole(&registry, "kept", "moves");
}

#[test]
fn a_second_server_on_a_root_is_refused_by_name() {
    let registry = start(&[]);
    let root = registry.root().display().to_string();
    let second = program(&["serve", "--root", &root, "--listen=127.0.0.1:0"]);
    assert_eq!(second.code, 1);
    let told = format!("{root} is in use by process {}", registry.pid());
    assert!(second.stderr.contains(&told), "{second:?}");
}

#[test]
fn what_was_pushed_is_there_after_a_restart() {
    let mut registry = start(&[]);
    let digest = push_image(&registry, "a", "1", "t", None).unwrap();
    registry.stop();
    registry.restart().unwrap();
    assert_whole(&registry, "a", "t");
    let head = ask(&registry, "HEAD", "/v2/a/manifests/t");
    assert_eq!(head.header("Docker-Content-Digest"), Some(digest.to_string().as_str()));
    let nothing = Digest::sha256(b"nothing");
    assert_eq!(ask(&registry, "HEAD", &format!("/v2/a/blobs/{nothing}")).status, 404);
}
