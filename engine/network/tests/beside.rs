//! Containers beside other people's firewalls, the real programs in a network namespace of the
//! test: they reach each other, the host and the outside, before and after those reload, with
//! br_netfilter on and off, by IPv4 and IPv6.
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use common::firewalls::{Host, iptables_folder, start_dockerd};
use common::{Container, World, cut_off, inside, program, reach, reach_within, skipped};
use network::NetworkSpec;
use sys::netlink::route::{self, LinkChange, LinkRef};
use sys::netlink::{Batch, Protocol, Socket};
use sys::netns;

const SECOND: Duration = Duration::from_secs(1);

fn outside4() -> IpAddr {
    "192.0.2.2".parse().unwrap()
}

fn outside6() -> IpAddr {
    "2001:db8::2".parse().unwrap()
}

/// Two containers on a network with IPv6, and a machine outside.
struct Scene {
    outside: OwnedFd,
    host: OwnedFd,
    a: Container,
    b: Container,
}

impl Scene {
    /// Before: `World::outside`, since Ferry is not the first to be there.
    fn new(world: &mut World, outside: OwnedFd) -> Self {
        let spec = NetworkSpec { enable_ipv6: Some(true), ..named("both") };
        world.net().create(&spec).unwrap();
        let (a, b) = (world.run("aa", "both"), world.run("bb", "both"));
        Self { outside, host: world.host(), a, b }
    }

    /// The first way that is shut, if any; each may take `within`.
    fn shut(&self, within: Duration) -> Option<String> {
        let (a, b) = (&self.a, &self.b);
        for bridged in ["1", "0"] {
            for name in ["iptables", "ip6tables"] {
                // A kernel without br_netfilter has no such file.
                let _ = fs::write(format!("/proc/sys/net/bridge/bridge-nf-call-{name}"), bridged);
            }
            for (from, to, address, what) in [
                (&a.netns, &self.outside, outside4(), "outside"),
                (&a.netns, &self.outside, outside6(), "outside by IPv6"),
                (&a.netns, &b.netns, b.ip(), "container"),
                (&a.netns, &b.netns, b.ip6(), "container by IPv6"),
                (&self.host, &a.netns, a.ip(), "host to container"),
                (&self.host, &a.netns, a.ip6(), "host to container by IPv6"),
            ] {
                if reach_within(from, to, address, within).is_none() {
                    return Some(format!("{what} (br_netfilter {bridged})"));
                }
            }
        }
        None
    }

    /// All ways are open by the time that everything that was told of has been heard.
    fn open(&self, world: &mut World, when: &str) {
        world.maintain_until(&format!("{when}: all ways open"), |_| {
            let shut = self.shut(SECOND);
            if let Some(what) = &shut {
                println!("{when}: {what} is shut yet");
            }
            shut.is_none()
        });
    }

    fn reaches_host(&self, world: &World) -> bool {
        let host = world.host();
        let gateway = self.a.endpoint.gateway4.unwrap().into();
        reach(&self.a.netns, &host, gateway).is_some()
    }
}

fn named(name: &str) -> NetworkSpec {
    NetworkSpec { name: name.into(), ..NetworkSpec::default() }
}

fn iptables(kind: &str, args: &[&str]) -> Option<String> {
    program(&format!("iptables-{kind}"), args)?;
    program(&format!("ip6tables-{kind}"), args)
}

#[test]
fn a_forward_policy_of_drop_by_iptables_cuts_nobody_off_even_after_a_flush() {
    for kind in ["nft", "legacy"] {
        if skipped() {
            return;
        }
        let mut world = World::bare(&format!("drop-{kind}"));
        let outside = world.outside();
        if iptables(kind, &["-P", "FORWARD", "DROP"]).is_none() {
            return;
        }
        world.open(&|_| false);
        let scene = Scene::new(&mut world, outside);
        scene.open(&mut world, "at first");
        // To iptables they are rules like others, and exactly two.
        let rules = |name: &str| program(&format!("{name}-{kind}"), &["-S", "FORWARD"]).unwrap();
        let two = |text: &str| text.matches("ferry+").count() == 2;
        for name in ["iptables", "ip6tables"] {
            let text = rules(name);
            assert!(two(&text) && text.contains("-A FORWARD -i ferry+ "), "{text}");
        }
        iptables(kind, &["-F", "FORWARD"]);
        scene.open(&mut world, "after a flush");
        assert!(two(&rules("iptables")) && two(&rules("ip6tables")));
        // Somebody's rule at the head stays there, and holds.
        let (a, b) = (&scene.a, &scene.b);
        program(&format!("iptables-{kind}"), &["-I", "FORWARD", "-d", "192.0.2.2", "-j", "DROP"]);
        world.net().maintain().unwrap();
        assert!(cut_off(&a.netns, &scene.outside, outside4()));
        assert!(rules("iptables").lines().nth(1).unwrap().contains("192.0.2.2"));
        // One that drops everything is what a policy is.
        program(&format!("iptables-{kind}"), &["-I", "FORWARD", "-j", "REJECT"]);
        world.maintain_until("a rejecting rule", |_| {
            reach_within(&a.netns, &b.netns, b.ip(), SECOND).is_some()
        });
        assert!(two(&rules("iptables")));
        // Where nothing drops there is nothing of ours.
        iptables(kind, &["-F", "FORWARD"]);
        iptables(kind, &["-P", "FORWARD", "ACCEPT"]);
        world.maintain_until("rules that nobody needs", |_| !rules("iptables").contains("ferry"));
        scene.open(&mut world, "with a policy of accept");
    }
}

#[test]
fn a_bridge_of_another_name_has_rules_of_its_own_until_its_network_is_removed() {
    for kind in ["nft", "legacy"] {
        if skipped() {
            return;
        }
        let mut world = World::bare(&format!("named-{kind}"));
        if iptables(kind, &["-P", "FORWARD", "DROP"]).is_none() {
            return;
        }
        world.open(&|_| false);
        let mut spec = named("other");
        spec.options.insert("com.docker.network.bridge.name".into(), "br7".into());
        world.net().create(&spec).unwrap();
        let (a, b) = (world.run("aa", "other"), world.run("bb", "other"));
        let rules = || program(&format!("iptables-{kind}"), &["-S", "FORWARD"]).unwrap();
        assert!(rules().contains("-o br7 ") && rules().contains("-i ferry+ "));
        assert_eq!(reach(&a.netns, &b.netns, b.ip()), Some(a.ip()));
        for id in ["aa", "bb"] {
            world.net().release(id).unwrap();
        }
        drop((a, b));
        world.net().remove("other").unwrap();
        assert!(!rules().contains("br7") && rules().contains("-i ferry+ "), "{}", rules());
    }
}

#[test]
fn legacy_rules_keep_their_counters_and_their_order_when_ours_come_and_go() {
    if skipped() {
        return;
    }
    let mut world = World::bare("counters");
    let outside = world.outside();
    let run = |args: &[&str]| program("iptables-legacy", args);
    if run(&["-P", "FORWARD", "DROP"]).is_none() {
        return;
    }
    run(&["-N", "MINE"]);
    run(&["-A", "FORWARD", "-j", "MINE"]);
    run(&["-A", "FORWARD", "-p", "tcp", "-m", "comment", "--comment", "x y", "-g", "MINE"]);
    run(&["-A", "MINE", "-s", "10.0.0.0/8", "-j", "RETURN"]);
    run(&["-A", "MINE", "-p", "udp", "--dport", "53", "-c", "7", "700", "-j", "ACCEPT"]);
    run(&["-A", "OUTPUT", "-d", "10.9.9.9", "-c", "5", "500", "-j", "MINE"]);
    let save = || program("iptables-legacy-save", &["-c", "-t", "filter"]).unwrap();
    let lines = |text: &str| -> Vec<String> {
        let all = text.lines().filter(|line| !line.starts_with('#'));
        // The host itself may send and receive something meanwhile.
        let all = all.filter(|line| !line.starts_with(":OUTPUT") && !line.starts_with(":INPUT"));
        all.filter(|line| !line.contains("ferry+")).map(str::to_owned).collect()
    };
    let before = save();
    world.open(&|_| false);
    let with = save();
    assert_eq!(with.matches("ferry+").count(), 2, "{with}");
    assert_eq!(lines(&with), lines(&before));
    let a = world.run("aa", "bridge");
    assert!(reach(&a.netns, &outside, outside4()).is_some());
    let counted = save();
    assert!(!counted.contains("[0:0] -A FORWARD -i ferry+ -j ACCEPT"), "{counted}");
    world.net().release("aa").unwrap();
    drop(a);
    assert!(world.net().wait_settled(Duration::from_secs(60)).unwrap());
    world.net().end();
    assert_eq!(lines(&save()), lines(&before));
    assert!(!save().contains("ferry"));
}

#[test]
fn legacy_rules_that_others_change_at_the_same_moment_are_not_lost() {
    if skipped() {
        return;
    }
    let mut world = World::bare("race");
    if program("iptables-legacy", &["-P", "FORWARD", "DROP"]).is_none() {
        return;
    }
    world.open(&|_| false);
    const RULES: usize = 40;
    let host = world.host();
    let others = inside(&host, || {
        for n in 0..RULES {
            let port = (1000 + n).to_string();
            let rule = ["-w", "-A", "FORWARD", "-p", "tcp", "--dport", &port, "-j", "ACCEPT"];
            program("iptables-legacy", &rule);
            if n % 4 == 0 {
                let ours = ["-w", "-D", "FORWARD", "-i", "ferry+", "-j", "ACCEPT"];
                let _ = std::process::Command::new("/usr/sbin/iptables-legacy").args(ours).output();
            }
        }
    });
    world.maintain_until("the others' end", |_| others.is_finished());
    others.join().unwrap();
    let list = || program("iptables-legacy", &["-S", "FORWARD"]).unwrap();
    world.maintain_until("both rules", |_| list().matches("ferry+").count() == 2);
    for n in 0..RULES {
        assert!(list().contains(&format!("--dport {} -j ACCEPT", 1000 + n)), "{}", list());
    }
}

#[test]
fn a_foreign_table_that_drops_is_named_with_the_line_to_add_until_that_is_added() {
    if skipped() {
        return;
    }
    for (name, chain) in [
        ("policy", "type filter hook forward priority 0; policy drop;"),
        (
            "rule",
            "type filter hook forward priority 10; ct state established accept; counter drop;",
        ),
    ] {
        let mut world = World::bare(&format!("foreign-{name}"));
        let outside = world.outside();
        if program("nft", &[&format!("table inet mine {{ chain fw {{ {chain} }}; }}")]).is_none() {
            return;
        }
        world.open(&|_| false);
        let scene = Scene::new(&mut world, outside);
        assert!(scene.shut(SECOND).is_some());
        let warnings = world.net().reader().warnings();
        let [one] = warnings.as_slice() else { panic!("{warnings:?}") };
        let line = one.split('\'').nth(1).unwrap();
        assert!(line.contains("insert rule inet mine fw iifname \"ferry*\" accept"), "{one}");
        program("nft", &[line]);
        world.maintain_until("no warning", |w| w.net().reader().warnings().is_empty());
        scene.open(&mut world, "with the line added");
        program("nft", &["flush", "chain", "inet", "mine", "fw"]);
        program("nft", &["add", "rule", "inet", "mine", "fw", "reject"]);
        world.maintain_until("a warning again", |w| !w.net().reader().warnings().is_empty());
        program("nft", &["delete", "table", "inet", "mine"]);
        world.maintain_until("no warning", |w| w.net().reader().warnings().is_empty());
    }
}

#[test]
fn ufw_may_start_reload_and_stop_beside_containers() {
    for kind in ["nft", "legacy"] {
        if skipped() {
            return;
        }
        let mut world = World::bare(&format!("ufw-{kind}"));
        let Some(host) = Host::start(&world) else { return };
        let outside = world.outside();
        for name in ["iptables", "ip6tables"] {
            for action in ["", "-save", "-restore"] {
                let to = format!("/usr/sbin/{name}-{kind}{action}");
                host.run("ln", &["-sfn", &to, &format!("/etc/alternatives/{name}{action}")]);
            }
        }
        world.open(&|_| false);
        let scene = Scene::new(&mut world, outside);
        assert!(scene.reaches_host(&world));
        host.run("ufw", &["--force", "enable"]);
        scene.open(&mut world, "after ufw enable");
        // What ufw denies of the host's own input stays denied.
        let gateway = scene.a.endpoint.gateway4.unwrap().into();
        assert!(cut_off(&scene.a.netns, &scene.host, gateway));
        host.run("ufw", &["default", "reject", "routed"]);
        host.run("ufw", &["reload"]);
        scene.open(&mut world, "after ufw reload");
        // The next daemon finds it so.
        world.kill();
        assert_eq!(scene.shut(SECOND), None);
        world.open(&|_| true);
        scene.open(&mut world, "after a restart");
        host.run("ufw", &["disable"]);
        host.run("ufw", &["--force", "enable"]);
        scene.open(&mut world, "after ufw was off and on");
        host.run("ufw", &["disable"]);
        scene.open(&mut world, "after ufw disable");
    }
}

#[test]
fn firewalld_may_start_reload_and_stop_beside_containers() {
    if skipped() {
        return;
    }
    let mut world = World::bare("firewalld");
    let Some(host) = Host::start(&world) else { return };
    let outside = world.outside();
    let mut config = world.config();
    config.bus = Some(dbus::Address::path(host.bus()));
    world.open_with(config.clone(), &|_| false);
    let scene = Scene::new(&mut world, outside);
    // A bus that comes later tells nobody: the next container's start looks for it.
    world.net().maintain().unwrap();
    let bus = host.start_bus();
    let firewalld = host.start_firewalld();
    world.net().maintain().unwrap();
    assert_eq!(world.net().reader().warnings().len(), 2, "of two bridges");
    world.run("cc", "both");
    scene.open(&mut world, "after firewalld started");
    let bridge = world.net().reader().find("both").unwrap().link.clone().unwrap().name;
    let zone = |name: &str| {
        let out = host.try_run("firewall-cmd", &[&format!("--get-zone-of-interface={name}")]);
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    assert_eq!((zone("ferry0"), zone(&bridge)), ("trusted".into(), "trusted".into()));
    for reload in ["--reload", "--complete-reload"] {
        host.run("firewall-cmd", &[reload]);
        scene.open(&mut world, &format!("after {reload}"));
    }
    host.run("firewall-cmd", &["--zone=trusted", &format!("--remove-interface={bridge}")]);
    scene.open(&mut world, "after the bridge was taken out");
    // A network that comes later is there before its first container.
    world.net().create(&named("later")).unwrap();
    let later = world.net().reader().find("later").unwrap().link.clone().unwrap().name;
    assert_eq!(zone(&later), "trusted");
    world.net().remove("later").unwrap();
    world.maintain_until("its zone", |_| zone(&later) != "trusted");
    firewalld.stop();
    world.kill();
    let firewalld = host.start_firewalld();
    world.open_with(config, &|_| true);
    scene.open(&mut world, "after both were started anew");
    assert!(world.net().reader().warnings().is_empty(), "{:?}", world.net().reader().warnings());
    for id in ["aa", "bb", "cc"] {
        world.net().release(id).unwrap();
    }
    drop(scene);
    assert!(world.net().wait_settled(Duration::from_secs(60)).unwrap());
    world.net().end();
    let untrusted = || zone("ferry0") != "trusted" && zone(&bridge) != "trusted";
    world.maintain_until("an end without traces", |_| untrusted());
    drop((firewalld, bus));
}

#[test]
fn firewalld_keeps_a_bridge_where_its_administrator_wants_it_and_we_say_so() {
    if skipped() {
        return;
    }
    let mut world = World::bare("zones");
    let Some(host) = Host::start(&world) else { return };
    let _bus = host.start_bus();
    let _firewalld = host.start_firewalld();
    let run = |args: &[&str]| host.run("firewall-cmd", args);
    run(&["--permanent", "--zone=internal", "--add-interface=ferry0"]);
    run(&["--permanent", "--new-zone=guests"]);
    run(&["--permanent", "--zone=guests", "--set-target=ACCEPT"]);
    run(&["--reload"]);
    let mut config = world.config();
    config.bus = Some(dbus::Address::path(host.bus()));
    world.open_with(config, &|_| false);
    world.maintain_until("a warning", |w| {
        w.net().reader().warnings().iter().any(|one| one.contains("firewalld's zone internal"))
    });
    assert_eq!(run(&["--get-zone-of-interface=ferry0"]).trim(), "internal");
    // A zone that accepts is as good as ours.
    run(&["--zone=guests", "--change-interface=ferry0"]);
    world.maintain_until("no warning", |w| w.net().reader().warnings().is_empty());
    // firewalld gone, its rules still there: nobody can be asked.
    run(&["--zone=trusted", "--change-interface=ferry0"]);
    run(&["--zone=trusted", "--remove-interface=ferry0"]);
}

#[test]
fn another_namespaces_firewalld_is_left_alone() {
    if skipped() {
        return;
    }
    let mut world = World::bare("other-bus");
    let Some(host) = Host::start(&world) else { return };
    let home = world.host();
    // Firewalld is in a namespace of its own; its bus is shared.
    let there = netns::Excursion::begin_new(home.as_fd()).unwrap();
    let _bus = host.start_bus();
    let _firewalld = host.start_firewalld();
    drop(there);
    let mut config = world.config();
    config.bus = Some(dbus::Address::path(host.bus()));
    world.open_with(config, &|_| false);
    world.net().create(&named("mine")).unwrap();
    let zones = host.run("firewall-cmd", &["--get-active-zones"]);
    assert!(!zones.contains("ferry"), "{zones}");
    assert!(world.net().reader().warnings().is_empty());
}

#[test]
fn containers_reach_each_other_and_the_outside_beside_a_running_docker() {
    for kind in ["nft", "legacy"] {
        if skipped() {
            return;
        }
        let mut world = World::bare(&format!("docker-{kind}"));
        let outside = world.outside();
        let path = iptables_folder(&world, kind);
        let Some(docker) = start_dockerd(&world, &path) else { return };
        world.open(&|_| false);
        let subnet = world.net().reader().find("bridge").unwrap().pools[0].subnet;
        assert!(!subnet.contains("172.17.0.1".parse().unwrap()), "{subnet} is Docker's");
        let scene = Scene::new(&mut world, outside);
        scene.open(&mut world, "beside docker");
        assert!(scene.reaches_host(&world));
        docker.stop();
        scene.open(&mut world, "after docker stopped");
        let Some(docker) = start_dockerd(&world, &path) else { return };
        scene.open(&mut world, "after docker started again");
        docker.stop();
    }
}

#[test]
fn guests_of_a_docker_that_comes_second_reach_the_outside_although_we_switched_forwarding_on() {
    if skipped() {
        return;
    }
    let mut world = World::bare("second");
    let outside = world.outside();
    world.open(&|_| false);
    let path = iptables_folder(&world, "nft");
    let Some(_docker) = start_dockerd(&world, &path) else { return };
    // A guest of Docker's, made as Docker makes one.
    let home = world.host();
    let there = netns::Excursion::begin_new(home.as_fd()).unwrap();
    let guest = netns::current().unwrap();
    drop(there);
    program("ip", &["link", "add", "vd0", "type", "veth", "peer", "name", "vd1"]);
    program("ip", &["link", "set", "vd0", "master", "docker0", "up"]);
    let mut socket = Socket::open(Protocol::Route).unwrap();
    let link = route::link_by_name(&mut socket, "vd1").unwrap().unwrap();
    let mut batch = Batch::default();
    let change = LinkChange { netns: Some(guest.as_fd()), ..LinkChange::default() };
    route::set_link(&mut batch, LinkRef::Index(link.index), &change);
    socket.request(batch).unwrap();
    let docker0 = route::link_by_name(&mut socket, "docker0").unwrap().unwrap().index;
    let all = route::addresses(&mut socket).unwrap();
    let own = all.iter().find(|a| a.link == docker0 && a.address.is_ipv4()).unwrap().address;
    let IpAddr::V4(own) = own else { panic!("{own}") };
    let address = std::net::Ipv4Addr::from_bits(own.to_bits() + 8);
    inside(&guest, move || {
        program("ip", &["addr", "add", &format!("{address}/16"), "dev", "vd1"]);
        program("ip", &["link", "set", "vd1", "up"]);
        program("ip", &["route", "add", "default", "via", &own.to_string()]);
    })
    .join()
    .unwrap();
    world.maintain_until("docker's guest reaches the outside", |_| {
        reach_within(&guest, &outside, outside4(), SECOND).is_some()
    });
    // What comes from the outside goes nowhere but to whom it was published.
    assert!(cut_off(&outside, &guest, address.into()));
}
