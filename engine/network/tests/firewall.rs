//! The firewall beside others: our table is what the design says, survives a flush, and containers
//! reach the outside though iptables or a running Docker drop forwarded packets.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use common::{World, cut_off, program, reach, skipped};
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
    let variant = Variant { gate: Some(fin0), strict: true, strict6: false };
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
fn forwarding_that_we_switched_on_stays_closed_between_foreign_links() {
    if skipped() {
        return;
    }
    let mut world = World::bare("strict");
    let outside = world.outside();
    let second = world.outside_named("up1", "198.51.100");
    world.open(&|_| false);
    assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim(), "1");
    assert!(cut_off(&outside, &second, "198.51.100.2".parse().unwrap()));
    let a = world.run("aa", "bridge");
    assert!(reach(&a.netns, &second, "198.51.100.2".parse().unwrap()).is_some());
    // Remembered over a restart.
    world.kill();
    world.open(&|_| true);
    assert!(cut_off(&outside, &second, "198.51.100.2".parse().unwrap()));
}
