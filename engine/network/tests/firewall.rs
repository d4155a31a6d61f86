//! The firewall beside others: our table is what the design says, survives a flush, and containers
//! reach the outside though iptables or a running Docker drop forwarded packets.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{SHORT, World, cut_off, inside, program, reach, reach_within, skipped};
use network::NetworkSpec;
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
    assert_eq!(sys::nft::table(&mut socket, Family::Ip, "half").unwrap(), None);
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

#[test]
fn tables_that_nobody_owns_are_watched_and_loaded_anew_whoever_changes_them() {
    if skipped() {
        return;
    }
    let mut world = World::bare("unowned");
    let outside = world.outside();
    let config = network::Config { own_tables: false, ..world.config() };
    world.open_with(config.clone(), &|_| false);
    assert!(!world.net().tables_are_owned());
    let a = world.run("aa", "bridge");
    let listed = || program("nft", &["list", "table", "ip", "ferry"]).unwrap();
    let whole = listed();
    for change in [
        "flush ruleset",
        "delete table ip ferry",
        "flush chain ip ferry post",
        "delete element ip ferry masq { 172.17.0.0/16 }",
        "insert rule ip ferry forward drop",
        "add table ip6 ferry { chain extra { }; }",
    ] {
        if program("nft", &[change]).is_none() {
            return;
        }
        world.maintain_until(change, |_| listed() == whole);
        assert_eq!(reach(&a.netns, &outside, outside_address()), "192.0.2.1".parse().ok());
    }
    // Also when our own next change comes before anybody has heard.
    program("nft", &["flush", "ruleset"]);
    world.net().create(&named("more")).unwrap();
    program("nft", &["flush", "ruleset"]);
    world.net().remove("more").unwrap();
    assert_eq!(reach(&a.netns, &outside, outside_address()), "192.0.2.1".parse().ok());
    // A kernel that can have owners comes with the next start.
    world.kill();
    world.open(&|_| true);
    assert!(world.net().tables_are_owned() || kernel_before_6_9());
    assert_eq!(reach(&a.netns, &outside, outside_address()), "192.0.2.1".parse().ok());
    world.kill();
    world.open_with(config, &|_| true);
    assert!(!world.net().tables_are_owned());
    assert_eq!(reach(&a.netns, &outside, outside_address()), "192.0.2.1".parse().ok());
}

fn kernel_before_6_9() -> bool {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = text.split(['.', '-']).map(|n| n.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) < (Some(6), Some(9))
}

fn named(name: &str) -> NetworkSpec {
    NetworkSpec { name: name.into(), ..NetworkSpec::default() }
}

#[test]
fn the_administrators_table_is_there_again_after_a_flush_and_what_is_in_it_holds() {
    if skipped() {
        return;
    }
    let mut world = World::new("admin");
    let outside = world.outside();
    let a = world.run("aa", "bridge");
    // Whoever looks sees what there is.
    let sets = program("nft", &["list", "table", "ip", "ferry"]).unwrap_or_default();
    assert!(sets.contains("{ \"ferry0\" }") && sets.contains("\"ferry0\" . \"ferry0\""), "{sets}");
    let drop = "add rule inet ferry-user forward ip daddr 192.0.2.2 drop";
    if program("nft", &[drop]).is_none() {
        return;
    }
    assert!(cut_off(&a.netns, &outside, outside_address()));
    program("nft", &["flush", "ruleset"]);
    let there = || program("nft", &["list", "tables"]).unwrap().contains("inet ferry-user");
    world.maintain_until("the administrator's table", |_| there());
    assert!(reach(&a.netns, &outside, outside_address()).is_some());
    // From outside to a container only by the mark that is said in the manual.
    assert!(cut_off(&outside, &a.netns, a.ip()));
    let pass =
        "add rule inet ferry-user forward oifname ferry0 meta mark set meta mark | 0x02000000";
    program("nft", &[pass]);
    assert!(reach(&outside, &a.netns, a.ip()).is_some());
    // One of another shape is left as it is, and keeps nobody from starting.
    program("nft", &["delete", "table", "inet", "ferry-user"]);
    let other = "table inet ferry-user { chain forward { type filter hook forward priority 7; }; }";
    program("nft", &[other]);
    world.kill();
    world.open(&|_| true);
    let listed = program("nft", &["list", "table", "inet", "ferry-user"]).unwrap();
    assert!(listed.contains("priority 7") || listed.contains("filter + 7"), "{listed}");
}

#[test]
fn a_second_daemon_with_the_same_tables_is_told_so_and_the_first_keeps_them() {
    if skipped() {
        return;
    }
    let mut world = World::new("second");
    if !world.net().tables_are_owned() {
        println!("SKIPPED: network: this kernel's tables have no owners");
        return;
    }
    let other = World::folder_only("second-other");
    let mut networks = network::Networks::open(other.config(), other.store()).unwrap();
    let error = networks.restore(&|_| false).unwrap_err().to_string();
    assert!(error.contains("firewall tables ferry belong to another running process"), "{error}");
    assert!(program("nft", &["list", "tables"]).unwrap().contains("table ip ferry\n"));
    drop(networks);
    // Under another name both work side by side.
    let config = network::Config {
        table: "ferry-b".into(),
        bridge: Some("ferryb".into()),
        ..other.config()
    };
    let mut networks = network::Networks::open(config, other.store()).unwrap();
    networks.restore(&|_| false).unwrap();
    let (outside, a) = (world.outside(), world.run("aa", "bridge"));
    let spec = network::EndpointSpec { container_name: "bb".into(), ..Default::default() };
    let sandbox = networks.sandbox("bb", network::SandboxKind::Own).unwrap();
    let b = networks.connect("bb", "bridge", &spec).unwrap();
    let there = sys::netns::open(&sandbox.key.unwrap()).unwrap();
    world.maintain_until("both reach the outside", |_| {
        networks.maintain().unwrap();
        let second = Duration::from_secs(1);
        [&a.netns, &there]
            .iter()
            .all(|from| reach_within(from, &outside, outside_address(), second).is_some())
    });
    assert!(cut_off(&a.netns, &there, b.ipv4.unwrap().0.into()));
    // What one does about a change of others is no reason for the other to do anything.
    program("nft", &["add", "table", "ip", "somebody"]);
    for _ in 0..3 {
        networks.maintain().unwrap();
        world.net().maintain().unwrap();
    }
    let mut events =
        Socket::open_in_groups(Protocol::Netfilter, &[sys::nft::GROUP_NFTABLES]).unwrap();
    program("nft", &["delete", "table", "ip", "somebody"]);
    for _ in 0..3 {
        networks.maintain().unwrap();
        world.net().maintain().unwrap();
    }
    let mut tables = std::collections::BTreeSet::new();
    let all = |header, body: &[u8]| {
        tables.extend(sys::nft::event_table(header, body).map(str::to_owned));
    };
    events.drain(all).unwrap();
    assert_eq!(tables.into_iter().collect::<Vec<_>>(), ["somebody"]);
    networks.release("bb").unwrap();
    assert!(networks.wait_settled(Duration::from_secs(60)).unwrap());
    networks.end();
    assert!(!program("nft", &["list", "tables"]).unwrap().contains("ferry-b\n"));
    assert!(reach(&a.netns, &outside, outside_address()).is_some());
}

#[test]
fn without_firewall_rules_nothing_is_kept_in_the_kernel_and_containers_reach_each_other() {
    if skipped() {
        return;
    }
    let mut world = World::bare("off");
    let outside = world.outside();
    program("iptables-nft", &["-P", "FORWARD", "DROP"]);
    let config = network::Config { firewall: false, ..world.config() };
    world.open_with(config, &|_| false);
    let (a, b) = (world.run("aa", "bridge"), world.run("bb", "bridge"));
    world.net().maintain().unwrap();
    assert!(!program("nft", &["list", "ruleset"]).unwrap().contains("ferry"));
    program("iptables-nft", &["-P", "FORWARD", "ACCEPT"]);
    assert_eq!(reach(&a.netns, &b.netns, b.ip()), Some(a.ip()));
    // Nothing is masqueraded, and the outside knows no way back.
    assert_eq!(reach_within(&a.netns, &outside, outside_address(), SHORT), Some(a.ip()));
    world.net().end();
}

#[test]
fn ipv6_forwarding_is_switched_on_with_the_first_network_that_has_it_and_stays_closed() {
    if skipped() {
        return;
    }
    let mut world = World::bare("strict6");
    let outside = world.outside();
    let second = world.outside_named("up1", "198.51.100");
    for (at, address) in [(None, "2001:db8:1::1/64"), (Some(&second), "2001:db8:1::2/64")] {
        let link = if at.is_some() { "eth0" } else { "up1" };
        let add = move || {
            program("ip", &["addr", "add", address, "dev", link, "nodad"]);
            if link == "eth0" {
                program("ip", &["route", "add", "default", "via", "2001:db8:1::1"]);
            }
        };
        inside(at.unwrap_or(&world.host()), add).join().unwrap();
    }
    let read = |name: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{name}")).unwrap();
        text.trim().to_owned()
    };
    world.open(&|_| false);
    assert_eq!((read("all/forwarding"), read("up0/accept_ra")), ("0".into(), "1".into()));
    world.net().create(&NetworkSpec { enable_ipv6: Some(true), ..named("six") }).unwrap();
    assert_eq!(read("all/forwarding"), "1");
    // A forwarding host would forget what routers advertise.
    assert_eq!((read("up0/accept_ra"), read("ferry0/accept_ra")), ("2".into(), "0".into()));
    let far = "2001:db8:1::2".parse().unwrap();
    assert!(cut_off(&outside, &second, far));
    let a = world.run("aa", "six");
    assert_eq!(reach(&a.netns, &second, far), "2001:db8:1::1".parse().ok());
    assert!(cut_off(&outside, &a.netns, a.ip6()));
    world.kill();
    world.open(&|_| true);
    assert!(cut_off(&outside, &second, far));
    world.kill();
    let config = network::Config { ip_forward_no_drop: true, ..world.config() };
    world.open_with(config, &|_| true);
    assert!(reach(&outside, &second, far).is_some());
    assert!(reach(&outside, &second, "198.51.100.2".parse().unwrap()).is_some());
}

#[test]
fn forwarding_is_left_off_where_we_are_told_to() {
    if skipped() {
        return;
    }
    let mut world = World::bare("left");
    let config = network::Config { ip_forward: false, ..world.config() };
    world.open_with(config, &|_| false);
    world.net().create(&NetworkSpec { enable_ipv6: Some(true), ..named("six") }).unwrap();
    for path in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        assert_eq!(fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap().trim(), "0");
    }
}

#[test]
fn cve_2020_8558_services_on_the_hosts_loopback_are_not_reached_from_elsewhere() {
    if skipped() {
        return;
    }
    // With and without rules, so that it is known what keeps the packets out.
    for on in [false, true] {
        let mut world = World::bare(&format!("loopback-{on}"));
        let outside = world.outside();
        let host = world.host();
        world.open_with(network::Config { firewall: on, ..world.config() }, &|_| false);
        let a = world.run("aa", "bridge");
        let gateway = a.endpoint.gateway4.unwrap().to_string();
        fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
        for (from, via) in [(&outside, "192.0.2.1".to_owned()), (&a.netns, gateway)] {
            inside(from, move || {
                fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
                program("ip", &["addr", "flush", "dev", "lo"]);
                program("ip", &["route", "flush", "table", "local", "dev", "lo"]);
                program("ip", &["route", "add", "127.0.0.2/32", "via", &via]);
            })
            .join()
            .unwrap();
            let local = "127.0.0.2".parse().unwrap();
            if on {
                assert!(cut_off(from, &host, local));
            } else {
                assert!(reach(from, &host, local).is_some());
            }
        }
    }
}

#[test]
fn cve_2020_13401_containers_can_not_pose_as_the_hosts_ipv6_router() {
    if skipped() {
        return;
    }
    let mut world = World::new("advertise");
    world.net().create(&NetworkSpec { enable_ipv6: Some(true), ..named("six") }).unwrap();
    let six = world.net().reader().find("six").unwrap().link.clone().unwrap().name;
    for (bridge, off) in [("ferry0", "1"), (six.as_str(), "0")] {
        let read = |key: &str| {
            let text = fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{bridge}/{key}"));
            text.unwrap().trim().to_owned()
        };
        assert_eq!(read("accept_ra"), "0", "{bridge}");
        assert_eq!(read("disable_ipv6"), off, "{bridge}");
    }
}

#[test]
fn the_kernel_thread_repairs_foreign_firewalls_by_itself() {
    if skipped() {
        return;
    }
    let world = World::bare("repair");
    if program("iptables-nft", &["-P", "FORWARD", "DROP"]).is_none() {
        return;
    }
    let (config, store, host) = (world.config(), world.store(), world.host());
    let (handle, thread) = inside(&host, move || {
        network::thread::spawn(move || {
            let mut networks = network::Networks::open(config, store)?;
            networks.restore(&|_| false)?;
            Ok(networks)
        })
        .unwrap()
    })
    .join()
    .unwrap();
    let there = |kind: &str| {
        let text = program(&format!("iptables-{kind}"), &["-S", "FORWARD"]).unwrap();
        text.matches("ferry+").count() == 2
    };
    for kind in ["nft", "legacy"] {
        program(&format!("iptables-{kind}"), &["-P", "FORWARD", "DROP"]);
        program(&format!("iptables-{kind}"), &["-F", "FORWARD"]);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !there(kind) {
            assert!(Instant::now() < deadline, "{kind}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    handle.call(network::Networks::end).unwrap();
    assert!(!there("nft") && !there("legacy"));
    drop(handle);
    thread.join().unwrap();
}
