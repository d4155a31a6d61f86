//! The firewall beside others: our table is what the design says, survives a flush, and containers
//! reach the outside though iptables or a running Docker drop forwarded packets.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{World, program, reach, skipped};
use network::firewall::{Variant, schema};
use sys::netlink::route::{self, LinkChange, LinkRef};
use sys::netlink::{Batch, Protocol, Socket};
use sys::nft::{Family, Transaction};

fn outside_address() -> std::net::IpAddr {
    "192.0.2.2".parse().unwrap()
}

#[test]
fn the_whole_table_is_what_nft_makes_of_its_text() {
    if skipped() {
        return;
    }
    let _world = World::bare("table");
    program("ip", &["link", "add", "fin0", "type", "veth", "peer", "name", "fin1"]);
    let text = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/table.nft");
    if program("nft", &["-f", text.to_str().unwrap()]).is_none() {
        return;
    }
    let want = program("nft", &["list", "ruleset"]).unwrap();
    program("nft", &["flush", "ruleset"]);

    let mut route_socket = Socket::open(Protocol::Route).unwrap();
    let fin0 = route::link_by_name(&mut route_socket, "fin0").unwrap().unwrap().index;
    let mut socket = Socket::open(Protocol::Netfilter).unwrap();
    let mut transaction = Transaction::default();
    schema::load_user(&mut transaction, "ferry-user");
    transaction.add_table(Family::Ip, "ferry", 0);
    let variant = Variant { gate: Some(fin0), strict: false };
    schema::load(&mut transaction, Family::Ip, "ferry", variant);
    transaction.commit(&mut socket).unwrap();
    let got = program("nft", &["list", "ruleset"]).unwrap();
    assert_eq!(blocks(&got), blocks(&want));
}

/// Sets and chains as blocks in order of their names: nft lists them in the order they were made.
fn blocks(text: &str) -> Vec<String> {
    let mut all: Vec<String> = text
        .split("\n\n")
        .map(|block| {
            let lines = block.lines().map(str::trim).filter(|l| !l.is_empty() && *l != "}");
            lines.filter(|l| !l.starts_with("table ")).collect::<Vec<_>>().join("\n")
        })
        .collect();
    all.sort();
    all
}

#[test]
fn a_refused_transaction_names_the_object_and_changes_nothing() {
    if skipped() {
        return;
    }
    let _world = World::bare("refused");
    let mut socket = Socket::open(Protocol::Netfilter).unwrap();
    let mut transaction = Transaction::default();
    transaction.add_table(Family::Ip, "half", 0);
    transaction.append_rule(Family::Ip, "half", "nowhere", &[]);
    let error = transaction.commit(&mut socket).unwrap_err().to_string();
    assert!(error.starts_with("add rule to half nowhere: No such file"), "{error}");
    assert_eq!(sys::nft::table_flags(&mut socket, Family::Ip, "half").unwrap(), None);
    let mut route_socket = Socket::open(Protocol::Route).unwrap();
    let mut batch = Batch::default();
    route::set_link(&mut batch, LinkRef::Name("nix0"), &LinkChange::default());
    let error = route_socket.request(batch).unwrap_err().to_string();
    assert!(error.starts_with("configure link nix0: No such device"), "{error}");
}

#[test]
fn a_flush_of_all_rules_cuts_nobody_off() {
    if skipped() {
        return;
    }
    let mut world = World::new("flush");
    let outside = world.outside();
    let a = world.run("aa", "bridge");
    if program("nft", &["flush", "ruleset"]).is_none() {
        return;
    }
    world.net().maintain().unwrap();
    assert_eq!(reach(&a.netns, &outside, outside_address()), "192.0.2.1".parse().ok());
    let delete = Command::new("nft").args(["delete", "table", "ip", "ferry"]).output().unwrap();
    assert_eq!(delete.status.success(), !world.net().tables_are_owned());
    // A killed daemon's tables stay, and the next one takes them over.
    world.kill();
    assert!(program("nft", &["list", "tables"]).unwrap().contains("table ip ferry\n"));
    let owned = world.open(&|_| true).kept;
    assert_eq!(owned, 1);
    assert_eq!(reach(&a.netns, &outside, outside_address()), "192.0.2.1".parse().ok());
    println!("tables owned: {}", world.net().tables_are_owned());
}

#[test]
fn a_forward_policy_of_drop_by_iptables_cuts_nobody_off_even_after_a_flush() {
    if skipped() {
        return;
    }
    let mut world = World::bare("drop");
    let outside = world.outside();
    if program("iptables-nft", &["-P", "FORWARD", "DROP"]).is_none() {
        return;
    }
    world.open(&|_| false);
    let (a, b) = (world.run("aa", "bridge"), world.run("bb", "bridge"));
    assert!(reach(&a.netns, &outside, outside_address()).is_some());
    assert_eq!(reach(&a.netns, &b.netns, b.ip()), Some(a.ip()));
    // To iptables they are rules like others.
    let listed = program("iptables-nft", &["-S", "FORWARD"]).unwrap();
    assert!(listed.contains("-A FORWARD -i ferry+ -j ACCEPT"), "{listed}");
    program("iptables-nft", &["-F", "FORWARD"]);
    world.net().maintain().unwrap();
    assert!(reach(&a.netns, &outside, outside_address()).is_some());
    let listed = program("iptables-nft", &["-S", "FORWARD"]).unwrap();
    assert_eq!(listed.matches("ferry+").count(), 2, "{listed}");
}

#[test]
fn a_foreign_table_that_drops_is_named_with_the_line_to_add() {
    if skipped() {
        return;
    }
    let mut world = World::new("foreign");
    let table =
        "table inet mine { chain fw { type filter hook forward priority 0; policy drop; }; }";
    if program("nft", &[table]).is_none() {
        return;
    }
    world.net().maintain().unwrap();
    let warnings = world.net().reader().warnings();
    assert!(warnings.iter().any(|w| w.contains("insert rule inet mine fw")), "{warnings:?}");
}

#[test]
fn forwarding_that_we_switched_on_stays_closed_between_foreign_links() {
    if skipped() {
        return;
    }
    let mut world = World::bare("strict");
    let outside = world.outside();
    let second = world.outside_named("up1", "198.51.100");
    world.open(&|_| false);
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
    assert_eq!(reach(&outside, &second, "198.51.100.2".parse().unwrap()), None);
    let a = world.run("aa", "bridge");
    assert!(reach(&a.netns, &second, "198.51.100.2".parse().unwrap()).is_some());
    // Remembered over a restart.
    world.kill();
    world.open(&|_| true);
    assert_eq!(reach(&outside, &second, "198.51.100.2".parse().unwrap()), None);
}

#[test]
fn containers_reach_each_other_and_the_outside_beside_a_running_docker() {
    if skipped() {
        return;
    }
    let peers = std::env::var("FERRY_PEERS").unwrap_or_else(|_| "/opt/ferry-peers/bin".into());
    let Some(dockerd) = find_dockerd(&peers) else {
        println!("SKIPPED: no dockerd below {peers} or on PATH");
        return;
    };
    let mut world = World::bare("docker");
    let outside = world.outside();
    let mut docker = start(&dockerd, &world.folder);
    if docker.is_none() {
        println!("SKIPPED: dockerd did not start");
        return;
    }
    world.open(&|_| false);
    let reader = world.net().reader();
    let subnet = reader.find("bridge").unwrap().pools[0].subnet;
    assert!(!subnet.contains("172.17.0.1".parse().unwrap()), "{subnet} is Docker's");
    let (a, b) = (world.run("aa", "bridge"), world.run("bb", "bridge"));
    let works = |world: &mut World| {
        world.net().maintain().unwrap();
        reach(&a.netns, &outside, outside_address()).is_some()
            && reach(&a.netns, &b.netns, b.ip()) == Some(a.ip())
    };
    assert!(works(&mut world));
    stop(docker.take());
    assert!(works(&mut world));
    docker = start(&dockerd, &world.folder);
    assert!(docker.is_some() && works(&mut world));
    stop(docker);
}

fn find_dockerd(peers: &str) -> Option<PathBuf> {
    let mut all = vec![PathBuf::from(peers).join("dockerd")];
    all.push(PathBuf::from(peers).join("../docker28/bin/dockerd"));
    if let Some(path) = std::env::var_os("PATH") {
        all.extend(std::env::split_paths(&path).map(|p| p.join("dockerd")));
    }
    all.into_iter().find(|p| p.exists())
}

fn start(dockerd: &PathBuf, folder: &std::path::Path) -> Option<Child> {
    let dir = dockerd.parent()?;
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap_or_default());
    let at = |name: &str| folder.join(name).display().to_string();
    let socket = folder.join("d.sock");
    let _ = fs::remove_file(&socket);
    let mut child = Command::new(dockerd)
        .args([
            "--config-file",
            "/dev/null",
            "--data-root",
            &at("d-data"),
            "--exec-root",
            &at("d-exec"),
        ])
        .args(["--pidfile", &at("d.pid"), "--host", &format!("unix://{}", socket.display())])
        .args(["--userland-proxy=false", "--storage-driver", "vfs"])
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(fs::File::create(folder.join("d.log")).ok()?)
        .stderr(fs::File::create(folder.join("d.err")).ok()?)
        .spawn()
        .ok()?;
    let deadline = Instant::now() + Duration::from_secs(40);
    while Instant::now() < deadline && child.try_wait().ok()?.is_none() {
        // The socket is there before the daemon has networks; its log tells when it serves.
        let log = fs::read_to_string(folder.join("d.err")).unwrap_or_default();
        if log.contains("API listen on") {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let log = fs::read_to_string(folder.join("d.err")).unwrap_or_default();
    println!("dockerd: {}", log.lines().last().unwrap_or_default());
    stop(Some(child));
    None
}

fn stop(child: Option<Child>) {
    if let Some(mut child) = child {
        if let Some(pid) = rustix::process::Pid::from_raw(child.id() as i32) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = child.wait();
    }
}
