//! What stays, what comes back and what is never touched: over kills, restarts, orderly ends, and
//! when others change links below us.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use common::{World, cut_off, inside, program, reach, skipped};
use network::{EndpointSpec, IpamPool, IpamSpec, Netns, NetworkSpec, SandboxKind};
use sys::netlink::{Protocol, Socket, conntrack};

const LONG: Duration = Duration::from_secs(60);

fn outside_address() -> IpAddr {
    "192.0.2.2".parse().unwrap()
}

fn named(name: &str) -> NetworkSpec {
    NetworkSpec { name: name.into(), ..NetworkSpec::default() }
}

fn on_bridge(name: &str, bridge: &str) -> NetworkSpec {
    let mut spec = named(name);
    spec.options.insert("com.docker.network.bridge.name".into(), bridge.into());
    spec
}

fn endpoint(name: &str) -> EndpointSpec {
    EndpointSpec { container_name: name.into(), ..EndpointSpec::default() }
}

#[test]
fn an_end_without_containers_leaves_other_firewalls_as_they_were() {
    if skipped() {
        return;
    }
    let mut world = World::bare("end");
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
    if program("iptables-nft", &["-P", "FORWARD", "DROP"]).is_none() {
        return;
    }
    let before = program("nft", &["list", "ruleset"]).unwrap();
    world.open(&|_| false);
    world.run("aa", "bridge");
    // A container runs: nothing is taken from it.
    world.net().end();
    let with = program("nft", &["list", "ruleset"]).unwrap();
    assert!(with.contains("ferry*") && with.contains("table ip ferry "), "{with}");
    world.kill();
    world.open(&|id| id == "aa");
    world.net().release("aa").unwrap();
    assert!(world.net().wait_settled(LONG).unwrap());
    world.net().end();
    assert_eq!(program("nft", &["list", "ruleset"]).unwrap(), before);
    // What the administrator wrote into his table stays.
    world.kill();
    world.open(&|_| false);
    program("nft", &["add rule inet ferry-user forward ip daddr 10.0.0.1 drop"]);
    world.net().end();
    let after = program("nft", &["list", "ruleset"]).unwrap();
    assert!(after.contains("10.0.0.1") && !after.contains("table ip ferry "), "{after}");
    program("nft", &["delete", "table", "inet", "ferry-user"]);
    // After the end nothing is repaired.
    program("iptables-nft", &["-F", "FORWARD"]);
    world.net().maintain().unwrap();
    assert!(!program("nft", &["list", "ruleset"]).unwrap().contains("ferry"));
}

#[test]
fn an_end_does_not_open_what_was_kept_closed() {
    if skipped() {
        return;
    }
    let mut world = World::bare("closed");
    let outside = world.outside();
    let second = world.outside_named("up1", "198.51.100");
    world.open(&|_| false);
    world.net().end();
    let forwards = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(forwards.trim(), "1");
    let far = "198.51.100.2".parse().unwrap();
    assert!(cut_off(&outside, &second, far));
    // Another program's guests are served as if we never had been there.
    for line in [
        "netns add GUEST",
        "link add guests0 type bridge",
        "addr add 10.62.0.1/24 dev guests0",
        "link set guests0 up",
        "link add vg0 type veth peer name vg1",
        "link set vg0 master guests0 up",
        "link set vg1 netns GUEST",
        "-n GUEST addr add 10.62.0.2/24 dev vg1",
        "-n GUEST link set vg1 up",
        "-n GUEST route add default via 10.62.0.1",
    ] {
        let guest = format!("ferry-guest-{}", std::process::id());
        let words = line.replace("GUEST", &guest);
        program("ip", &words.split(' ').collect::<Vec<_>>()).unwrap();
    }
    inside(&second, || program("ip", &["route", "add", "10.62.0.0/24", "via", "198.51.100.1"]))
        .join()
        .unwrap();
    let name = format!("ferry-guest-{}", std::process::id());
    let guest = sys::netns::open(format!("/run/netns/{name}").as_ref()).unwrap();
    let reached = reach(&guest, &second, far);
    program("ip", &["netns", "del", &name]).unwrap();
    assert!(reached.is_some());
    // The next daemon takes over; and whoever wants it open says so.
    world.kill();
    world.open(&|_| false);
    assert!(cut_off(&outside, &second, far));
    world.net().end();
    program("nft", &["delete", "table", "ip", "ferry"]).unwrap();
    assert!(reach(&outside, &second, far).is_some());
}

#[test]
fn links_of_others_are_never_removed_whatever_a_network_is_named_after() {
    if skipped() {
        return;
    }
    let mut world = World::new("others");
    program("ip", &["link", "add", "wire0", "type", "veth", "peer", "name", "wire1"]);
    program("ip", &["link", "add", "lan0", "type", "bridge"]);
    program("ip", &["addr", "add", "10.50.0.1/24", "dev", "lan0"]);
    let error = world.net().create(&on_bridge("bad", "wire0")).unwrap_err().to_string();
    assert_eq!(error, "link wire0 exists already and is no bridge");
    assert!(world.links().contains(&"wire0".to_owned()));
    assert!(world.net().reader().find("bad").is_err());
    let accept_ra = || fs::read_to_string("/proc/sys/net/ipv6/conf/lan0/accept_ra").unwrap();
    let before = accept_ra();
    world.net().create(&on_bridge("adopted", "lan0")).unwrap();
    let a = world.run("aa", "adopted");
    assert!(reach(&world.host(), &a.netns, a.ip()).is_some());
    world.net().release("aa").unwrap();
    drop(a);
    world.net().remove("adopted").unwrap();
    assert!(world.links().contains(&"lan0".to_owned()), "it was there before us");
    assert_eq!(accept_ra(), before);
    let made = world.net().create(&named("made")).unwrap().link.clone().unwrap().name;
    world.net().remove("made").unwrap();
    assert!(!world.links().contains(&made));
}

#[test]
fn a_bridge_that_somebody_removes_is_made_again_with_its_containers_on_it() {
    if skipped() {
        return;
    }
    let mut world = World::new("mend");
    let outside = world.outside();
    let mut apart = named("apart");
    apart.options.insert("com.docker.network.bridge.enable_icc".into(), "false".into());
    let link = world.net().create(&apart).unwrap().link.clone().unwrap().name;
    let (a, b) = (world.run("aa", "bridge"), world.run("bb", "bridge"));
    let (apart1, apart2) = (world.run("cc", "apart"), world.run("dd", "apart"));
    let check = || {
        assert_eq!(reach(&a.netns, &b.netns, b.ip()), Some(a.ip()));
        assert!(reach(&apart1.netns, &outside, outside_address()).is_some());
        assert!(cut_off(&apart1.netns, &apart2.netns, apart2.ip()));
    };
    check();
    for bridge in ["ferry0", link.as_str()] {
        program("ip", &["link", "del", bridge]).unwrap();
        world.maintain_until("the bridge", |w| w.links().contains(&bridge.to_owned()));
    }
    check();
    // A container that starts first does it too.
    program("ip", &["link", "del", "ferry0"]).unwrap();
    let e = world.run("ee", "bridge");
    assert_eq!(reach(&e.netns, &b.netns, b.ip()), Some(e.ip()));
    check();
    world.kill();
    for bridge in ["ferry0", link.as_str()] {
        program("ip", &["link", "del", bridge]).unwrap();
    }
    let found = world.open(&|_| true);
    assert_eq!((found.kept, found.made), (5, 0));
    check();
}

#[test]
fn a_network_that_can_not_be_made_again_keeps_no_daemon_from_starting() {
    if skipped() {
        return;
    }
    let mut world = World::new("stubborn");
    world.net().create(&on_bridge("mine", "mine0")).unwrap();
    let a = world.run("aa", "bridge");
    world.kill();
    program("ip", &["link", "del", "mine0"]).unwrap();
    program("ip", &["link", "add", "mine0", "type", "veth", "peer", "name", "mine1"]).unwrap();
    world.open(&|_| true);
    assert!(reach(&world.host(), &a.netns, a.ip()).is_some());
    assert!(world.links().contains(&"mine0".to_owned()));
    world.net().remove("mine").unwrap();
    assert!(world.links().contains(&"mine0".to_owned()));
}

#[test]
fn addresses_go_on_after_the_last_one_and_never_are_the_hosts_own() {
    if skipped() {
        return;
    }
    let mut world = World::new("ipam");
    let pool = IpamPool { subnet: "10.60.0.0/24".into(), ..IpamPool::default() };
    let ipam = IpamSpec { config: vec![pool], ..IpamSpec::default() };
    world.net().create(&NetworkSpec { ipam, ..on_bridge("fixed", "fixed0") }).unwrap();
    // In no order of their names.
    let ids = ["cc", "aa", "dd", "bb"];
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(world.run(id, "fixed").ip().to_string(), format!("10.60.0.{}", n + 2));
    }
    program("ip", &["addr", "add", "10.60.0.7/24", "dev", "fixed0"]).unwrap();
    world.net().release("dd").unwrap();
    assert!(world.net().wait_settled(LONG).unwrap());
    world.kill();
    world.open(&|_| true);
    let next: Vec<String> =
        ["e1", "e2", "e3"].iter().map(|id| world.run(id, "fixed").ip().to_string()).collect();
    assert_eq!(next, ["10.60.0.6", "10.60.0.8", "10.60.0.9"]);
}

#[test]
fn an_address_is_used_again_only_when_old_flows_are_forgotten() {
    if skipped() {
        return;
    }
    let mut world = World::new("flows");
    let outside = world.outside();
    let pool = IpamPool { subnet: "10.61.0.0/24".into(), ..IpamPool::default() };
    let ipam = IpamSpec { config: vec![pool], ..IpamSpec::default() };
    world.net().create(&NetworkSpec { ipam, ..named("fixed") }).unwrap();
    let wish = EndpointSpec { ipv4: "10.61.0.9".into(), ..endpoint("x") };
    let start = |world: &mut World, id: &str| {
        let sandbox = world.net().sandbox(id, SandboxKind::Own).unwrap();
        world.net().connect(id, "fixed", &wish).unwrap();
        sys::netns::open(&sandbox.key.unwrap()).unwrap()
    };
    let flows = || {
        let mut count = 0;
        let mut socket = Socket::open(Protocol::Netfilter).unwrap();
        let held: IpAddr = "10.61.0.9".parse().unwrap();
        let counted = std::cell::Cell::new(0);
        conntrack::delete(&mut socket, true, |flow| {
            counted.set(counted.get() + usize::from(flow.source == Some(held)));
            false
        })
        .unwrap();
        count += counted.get();
        count
    };
    for id in ["one", "two"] {
        let netns = start(&mut world, id);
        assert_eq!(flows(), 0, "{id} starts clean");
        let far = inside(&outside, || UdpSocket::bind("192.0.2.2:0").unwrap()).join().unwrap();
        let to = far.local_addr().unwrap();
        inside(&netns, move || {
            let near = UdpSocket::bind("10.61.0.9:4000").unwrap();
            near.send_to(b"x", to).unwrap();
        })
        .join()
        .unwrap();
        far.set_read_timeout(Some(LONG)).unwrap();
        far.recv_from(&mut [0; 8]).unwrap();
        assert_eq!(flows(), 1);
        drop(netns);
        if id == "one" {
            world.net().release(id).unwrap();
        } else {
            world.net().disconnect(id, "fixed", false).unwrap();
            assert_eq!(flows(), 0);
        }
    }
}

#[test]
fn a_bridge_that_others_filled_is_the_same_clear_error_and_leaves_nothing() {
    if skipped() {
        return;
    }
    let mut world = World::new("filled");
    let mut lines = String::new();
    for n in 0..512 {
        lines.push_str(&format!("link add fa{n} type veth peer name fb{n}\n"));
        lines.push_str(&format!("link set fa{n} master ferry0\n"));
        if n > 0 {
            lines.push_str(&format!("link set fb{n} master ferry0\n"));
        }
    }
    let file = world.folder.join("batch");
    fs::write(&file, lines).unwrap();
    program("ip", &["-batch", file.to_str().unwrap()]).unwrap();
    let before = world.links();
    world.net().sandbox("aa", SandboxKind::Own).unwrap();
    let full = world.net().connect("aa", "bridge", &endpoint("aa")).unwrap_err().to_string();
    assert!(
        full.starts_with("network bridge is full: its bridge ferry0 already has 1023"),
        "{full}"
    );
    assert_eq!(world.links(), before);
    assert!(world.net().reader().of_container("aa").is_empty());
    program("ip", &["link", "del", "fa0"]).unwrap();
    world.net().connect("aa", "bridge", &endpoint("aa")).unwrap();
}

#[test]
fn whoever_shares_a_namespace_gets_that_one_and_never_the_hosts() {
    if skipped() {
        return;
    }
    let mut world = World::new("share");
    let own = world.net().sandbox("own", SandboxKind::Own).unwrap();
    let mut before = "own".to_owned();
    for n in 0..4 {
        let id = format!("s{n}");
        let kind = SandboxKind::Container(before);
        let shared = world.net().sandbox(&id, kind).unwrap();
        assert_eq!((shared.id, shared.netns), (own.id.clone(), own.netns.clone()));
        let error = world.net().connect(&id, "bridge", &endpoint(&id)).unwrap_err().to_string();
        assert!(error.contains("sharing network namespace with another container"), "{error}");
        before = id;
    }
    world.net().sandbox("later", SandboxKind::AfterCreate).unwrap();
    assert!(world.net().sandbox("x", SandboxKind::Container("later".into())).is_err());
    let host = world.net().sandbox("host", SandboxKind::Host).unwrap();
    let with = world.net().sandbox("y", SandboxKind::Container("host".into())).unwrap();
    assert_eq!((host.netns, with.netns), (Netns::Host, Netns::Host));
}

#[test]
fn a_link_in_somebody_elses_namespace_has_ipv6_only_where_its_network_has_it() {
    if skipped() {
        return;
    }
    let mut world = World::new("foreign-ns");
    world.net().create(&NetworkSpec { enable_ipv6: Some(true), ..named("six") }).unwrap();
    let name = format!("ferry-test-{}", std::process::id());
    program("ip", &["netns", "add", &name]).unwrap();
    let path = format!("/run/netns/{name}");
    world.net().sandbox("aa", SandboxKind::Path(path.clone().into())).unwrap();
    world.net().connect("aa", "bridge", &endpoint("aa")).unwrap();
    world.net().connect("aa", "six", &endpoint("aa")).unwrap();
    let there = sys::netns::open(path.as_ref()).unwrap();
    let all = inside(&there, || fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap());
    let all = all.join().unwrap();
    program("ip", &["netns", "del", &name]).unwrap();
    assert!(all.contains("eth1") && !all.contains("eth0"), "{all}");
}
