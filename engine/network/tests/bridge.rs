//! Bridges, addresses, isolation, and life after a kill, on real kernels' network namespaces.
#![allow(clippy::disallowed_methods)]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::{World, cut_off, inside, reach, skipped};
use metastore::{Batch, Class, Table};
use network::{EndpointSpec, IpamPool, IpamSpec, Kind, Netns, NetworkSpec, SandboxKind};

fn spec(name: &str) -> NetworkSpec {
    NetworkSpec { name: name.into(), ..NetworkSpec::default() }
}

fn with_subnet(name: &str, subnet: &str) -> NetworkSpec {
    let pool = IpamPool { subnet: subnet.into(), ..IpamPool::default() };
    let ipam = IpamSpec { config: vec![pool], ..IpamSpec::default() };
    NetworkSpec { name: name.into(), ipam, ..NetworkSpec::default() }
}

#[test]
fn two_containers_reach_each_other_and_the_outside_sees_the_host() {
    if skipped() {
        return;
    }
    let mut world = World::new("pair");
    let outside = world.outside();
    let host = world.host();
    let (a, b) = (world.run(&"a".repeat(64), "bridge"), world.run(&"b".repeat(64), "bridge"));
    assert_eq!(reach(&a.netns, &b.netns, b.ip()), Some(a.ip()));
    assert_eq!(reach(&a.netns, &outside, "192.0.2.2".parse().unwrap()), "192.0.2.1".parse().ok());
    let gateway = a.endpoint.gateway4.unwrap().into();
    assert_eq!(reach(&a.netns, &host, gateway), Some(a.ip()));
    assert_eq!(reach(&host, &a.netns, a.ip()), Some(gateway));
    assert!(cut_off(&outside, &a.netns, a.ip()), "nothing is published");
    let digits = a.endpoint.ipv4.unwrap().0.octets().map(|b| format!("{b:02x}")).join(":");
    assert_eq!(a.endpoint.mac, format!("02:42:{digits}"));
}

#[test]
fn two_networks_do_not_reach_each_other_unless_one_container_is_on_both() {
    if skipped() {
        return;
    }
    let mut world = World::new("two");
    world.net().create(&spec("red")).unwrap();
    world.net().create(&spec("blue")).unwrap();
    let (a, b) = (world.run("aa", "red"), world.run("bb", "blue"));
    assert!(cut_off(&a.netns, &b.netns, b.ip()));
    let both = EndpointSpec { container_name: "aa".into(), ..EndpointSpec::default() };
    let second = world.net().connect("aa", "blue", &both).unwrap();
    assert_eq!(second.interface, "eth1");
    assert_eq!(reach(&a.netns, &b.netns, b.ip()), Some(second.ipv4.unwrap().0.into()));
    world.net().disconnect("aa", "blue", false).unwrap();
    assert!(cut_off(&a.netns, &b.netns, b.ip()));
    let again = world.net().disconnect("aa", "blue", false).unwrap_err();
    assert_eq!(again.to_string(), "container aa is not connected to network blue");
}

#[test]
fn without_icc_containers_reach_the_outside_but_not_each_other() {
    if skipped() {
        return;
    }
    let mut world = World::new("icc");
    let outside = world.outside();
    let mut apart = spec("apart");
    apart.options.insert("com.docker.network.bridge.enable_icc".into(), "false".into());
    world.net().create(&apart).unwrap();
    let (a, b) = (world.run("aa", "apart"), world.run("bb", "apart"));
    assert!(cut_off(&a.netns, &b.netns, b.ip()));
    assert!(reach(&a.netns, &outside, "192.0.2.2".parse().unwrap()).is_some());
}

#[test]
fn an_internal_network_has_no_outside() {
    if skipped() {
        return;
    }
    let mut world = World::new("internal");
    let outside = world.outside();
    let internal = NetworkSpec { internal: true, ..spec("inner") };
    world.net().create(&internal).unwrap();
    let (a, b) = (world.run("aa", "inner"), world.run("bb", "inner"));
    assert!(reach(&a.netns, &b.netns, b.ip()).is_some());
    assert!(cut_off(&a.netns, &outside, "192.0.2.2".parse().unwrap()));
    assert_eq!(a.endpoint.gateway4, None);
}

#[test]
fn ipv6_works_where_the_network_has_it_and_links_have_none_elsewhere() {
    if skipped() {
        return;
    }
    let mut world = World::new("six");
    world.net().create(&NetworkSpec { enable_ipv6: Some(true), ..spec("six") }).unwrap();
    let (a, b) = (world.run("aa", "six"), world.run("bb", "six"));
    let to = b.endpoint.ipv6.unwrap().0.into();
    // Without duplicate detection the address works at once.
    assert_eq!(reach(&a.netns, &b.netns, to), Some(a.endpoint.ipv6.unwrap().0.into()));
    let plain = world.run("cc", "bridge");
    let six = inside(&plain.netns, || std::fs::read_to_string("/proc/thread-self/net/if_inet6"));
    assert!(!six.join().unwrap().unwrap().contains("eth0"));
}

#[test]
fn a_killed_daemon_finds_its_containers_connected_and_sweeps_the_dead() {
    if skipped() {
        return;
    }
    let mut world = World::new("kill");
    let outside = world.outside();
    world.net().create(&spec("mine")).unwrap();
    let (a, b) = (world.run("aa", "bridge"), world.run("bb", "mine"));
    let dead = world.run("dd", "bridge");
    let dead_ip = dead.ip();
    drop(dead);
    let before = world.links();
    world.kill();
    // Nothing of the daemon is there, and packets go on.
    assert!(reach(&a.netns, &outside, "192.0.2.2".parse().unwrap()).is_some());
    let found = world.open(&|id| id != "dd");
    assert_eq!((found.kept, found.made, found.buried), (2, 0, 1));
    assert!(reach(&a.netns, &outside, "192.0.2.2".parse().unwrap()).is_some());
    assert!(cut_off(&a.netns, &b.netns, b.ip()));
    assert!(world.net().wait_settled(Duration::from_secs(10)).unwrap());
    assert_eq!(world.links().len(), before.len() - 1);
    // The dead one's address is handed out last.
    let c = world.run("cc", "bridge");
    assert_ne!(c.ip(), dead_ip);
    assert_ne!(c.ip(), a.ip());
    assert_eq!(world.net().reader().inspect("bridge").unwrap().endpoints.len(), 2);
}

#[test]
fn what_a_kill_left_half_made_is_swept_and_what_is_missing_is_made_again() {
    if skipped() {
        return;
    }
    let mut world = World::new("half");
    let a = world.run("aa", "bridge");
    let link = format!("veth{}", &a.endpoint.id.as_str()[..11]);
    world.kill();
    common::program("ip", &["link", "delete", &link]);
    common::program("ip", &["link", "add", "stray0", "type", "veth", "peer", "name", "stray1"]);
    common::program("ip", &["link", "set", "stray0", "alias", "ferry container zz yy"]);
    let found = world.open(&|_| true);
    assert_eq!((found.kept, found.made), (0, 1));
    assert!(found.swept >= 1 && !world.links().contains(&"stray0".to_owned()));
    let b = world.run("bb", "bridge");
    assert_eq!(reach(&a.netns, &b.netns, b.ip()), Some(a.ip()));
}

#[test]
fn release_answers_at_once_and_an_address_is_free_when_its_link_is_gone() {
    if skipped() {
        return;
    }
    let mut world = World::new("release");
    world.net().create(&with_subnet("fixed", "10.77.0.0/24")).unwrap();
    let wish = EndpointSpec {
        container_name: "one".into(),
        ipv4: "10.77.0.9".into(),
        ..EndpointSpec::default()
    };
    world.net().sandbox("c1", SandboxKind::Own).unwrap();
    world.net().connect("c1", "fixed", &wish).unwrap();
    world.net().sandbox("c2", SandboxKind::Own).unwrap();
    let taken = world.net().connect("c2", "fixed", &wish).unwrap_err();
    assert_eq!(
        (taken.to_string().as_str(), taken.kind()),
        ("Address already in use", Kind::Forbidden)
    );
    let began = Instant::now();
    world.net().release("c1").unwrap();
    assert!(began.elapsed() < Duration::from_millis(20), "{:?}", began.elapsed());
    // The same static address waits for its old holder instead of failing.
    let second = world.net().connect("c2", "fixed", &wish).unwrap();
    assert_eq!(second.ipv4.unwrap().0.to_string(), "10.77.0.9");
    // Running the same container again does not wait for anything.
    world.net().sandbox("c1", SandboxKind::Own).unwrap();
    world.net().release("c1").unwrap();
    world.net().release("c2").unwrap();
    assert!(world.net().wait_settled(Duration::from_secs(10)).unwrap());
    world.net().remove("fixed").unwrap();
    assert!(!world.links().iter().any(|l| l.starts_with("veth")));
}

#[test]
fn refusals_say_what_the_stock_daemon_says_and_change_nothing() {
    if skipped() {
        return;
    }
    let mut world = World::new("refuse");
    let before = world.links();
    world.net().create(&with_subnet("one", "10.5.0.0/16")).unwrap();
    let mut named = spec("named");
    named.options.insert("com.docker.network.bridge.name".into(), "ferry0".into());
    let mut odd = spec("odd");
    odd.options.insert("com.docker.network.driver.mtu".into(), "xx".into());
    let cases: Vec<(NetworkSpec, &str)> = vec![
        (spec("one"), "network with name one already exists"),
        (
            with_subnet("two", "10.5.7.0/24"),
            "invalid pool request: Pool overlaps with other one on this address space",
        ),
        (spec("host"), "operation is not permitted on predefined host network "),
        (
            NetworkSpec { driver: "host".into(), ..spec("h2") },
            "only one instance of \"host\" network is allowed",
        ),
        (NetworkSpec { driver: "nope".into(), ..spec("x") }, "plugin \"nope\" not found"),
        (
            odd,
            "failed to parse com.docker.network.driver.mtu value: xx (strconv.Atoi: parsing \"xx\": invalid syntax)",
        ),
    ];
    for (spec, text) in cases {
        assert_eq!(world.net().create(&spec).unwrap_err().to_string(), text);
    }
    let same = world.net().create(&named).unwrap_err().to_string();
    assert!(same.ends_with("networks have same bridge name"), "{same}");
    world.run("aa", "one");
    let active = world.net().remove("one").unwrap_err().to_string();
    assert!(
        active.starts_with(
            "error while removing network: network one has active endpoints (name:\"aa\" id:\""
        ),
        "{active}"
    );
    assert_eq!(
        world.net().remove("bridge").unwrap_err().to_string(),
        "bridge is a pre-defined network and cannot be removed"
    );
    assert_eq!(world.net().remove("nope").unwrap_err().to_string(), "network nope not found");
    world.net().release("aa").unwrap();
    world.net().remove("one").unwrap();
    assert!(world.net().wait_settled(Duration::from_secs(10)).unwrap());
    assert_eq!(world.links(), before);
}

#[test]
fn host_none_shared_and_foreign_namespaces_are_sandboxes_too() {
    if skipped() {
        return;
    }
    let mut world = World::new("kinds");
    let plain = EndpointSpec { container_name: "x".into(), ..EndpointSpec::default() };
    let host = world.net().sandbox("h", SandboxKind::Host).unwrap();
    assert_eq!(host.netns, Netns::Host);
    assert!(host.key.unwrap().ends_with("netns/default"));
    assert_eq!(world.net().connect("h", "host", &plain).unwrap().interface, "");
    let own = world.net().sandbox("n", SandboxKind::Own).unwrap();
    world.net().connect("n", "none", &plain).unwrap();
    assert!(world.net().connect("n", "bridge", &plain).is_err());
    let shared = world.net().sandbox("s", SandboxKind::Container("n".into())).unwrap();
    assert_eq!((&shared.id, &shared.netns), (&own.id, &own.netns));
    assert!(world.net().sandbox("t", SandboxKind::Container("gone".into())).is_err());
    let path = own.key.clone().unwrap();
    let foreign = world.net().sandbox("p", SandboxKind::Path(path.clone())).unwrap();
    assert_eq!(foreign.netns, Netns::Path(path));
    world.net().connect("p", "bridge", &plain).unwrap();
    assert!(world.net().sandbox("q", SandboxKind::Path("/etc/hostname".into())).is_err());
    // A namespace that the runtime makes is taken over afterwards.
    let later = world.net().sandbox("u", SandboxKind::AfterCreate).unwrap();
    assert_eq!((later.netns, later.key), (Netns::New, None));
    let made = std::thread::spawn(|| {
        let home = sys::netns::current().unwrap();
        let there = sys::netns::Excursion::begin_new(std::os::fd::AsFd::as_fd(&home)).unwrap();
        let made = sys::netns::current().unwrap();
        drop(there);
        made
    });
    let adopted = world.net().adopt("u", &made.join().unwrap()).unwrap();
    assert!(adopted.key.is_some());
    world.net().connect("u", "bridge", &plain).unwrap();
    for id in ["h", "n", "s", "p", "u"] {
        world.net().release(id).unwrap();
    }
    assert!(world.net().wait_settled(Duration::from_secs(10)).unwrap());
    assert!(!world.links().iter().any(|l| l.starts_with("veth")));
}

#[test]
fn labels_and_options_come_back_after_a_restart_and_the_pool_avoids_routes_in_use() {
    if skipped() {
        return;
    }
    let mut world = World::bare("pools");
    common::program("ip", &["link", "add", "x0", "type", "bridge"]);
    common::program("ip", &["addr", "add", "172.17.5.1/24", "dev", "x0"]);
    world.open(&|_| false);
    let reader = world.net().reader();
    assert_eq!(reader.find("bridge").unwrap().pools[0].subnet.to_string(), "172.18.0.0/16");
    let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let made = world.net().create(&NetworkSpec { labels, ..spec("kept") }).unwrap();
    world.kill();
    world.open(&|_| false);
    let reader = world.net().reader();
    assert_eq!(reader.find("kept").unwrap(), made);
    assert_eq!(reader.find(made.id.short()).unwrap(), made);
    assert_eq!(reader.find("bridge").unwrap().pools[0].subnet.to_string(), "172.18.0.0/16");
}

#[test]
fn a_full_bridge_is_an_error_before_any_record() {
    if skipped() {
        return;
    }
    let endpoints = Table::new("endpoints");
    let mut world = World::new("full");
    world.run("aa", "bridge");
    world.kill();
    // A port is counted for each link of a record: one record fills the bridge.
    let store = world.store();
    let (key, one) = store.scan(endpoints, b"").unwrap().remove(0);
    let mut one: serde_json::Value = serde_json::from_slice(&one).unwrap();
    let links = one["host_links"].as_array_mut().unwrap();
    links.extend((1..1023).map(|n| format!("none{n}").into()));
    store.commit(Class::Crash, Batch::default().put(endpoints, key, one.to_string())).unwrap();
    drop(store);
    world.open(&|_| true);
    world.net().sandbox("bb", SandboxKind::Own).unwrap();
    let spec = EndpointSpec { container_name: "bb".into(), ..EndpointSpec::default() };
    let full = world.net().connect("bb", "bridge", &spec).unwrap_err().to_string();
    assert!(
        full.starts_with("network bridge is full: its bridge ferry0 already has 1023 ports"),
        "{full}"
    );
    // The ports of the dead are waited for.
    world.net().release("aa").unwrap();
    world.net().connect("bb", "bridge", &spec).unwrap();
    world.kill();
    assert_eq!(world.store().scan(endpoints, b"").unwrap().len(), 1);
}

#[test]
fn what_is_reserved_has_its_address_before_its_links_and_leaves_nothing_when_released() {
    if skipped() {
        return;
    }
    let mut world = World::new("reserve");
    world.net().sandbox("aa", SandboxKind::Own).unwrap();
    let spec = EndpointSpec { container_name: "aa".into(), ..EndpointSpec::default() };
    let reserved = world.net().reserve("aa", "bridge", &spec).unwrap();
    assert!(reserved.ipv4.is_some());
    assert_eq!(world.net().reader().of_container("aa").len(), 1);
    let veth = format!("veth{}", &reserved.id.as_str()[..11]);
    let link = format!("/proc/sys/net/ipv4/conf/{veth}");
    let has_link = || std::fs::exists(&link).unwrap();
    assert!(!has_link());
    world.net().make_reserved("aa").unwrap();
    assert!(has_link());
    let both = world.net().reserve("aa", "none", &spec).unwrap_err();
    assert!(both.to_string().contains("private (none) mode"), "{both}");
    world.net().create(&self::spec("red")).unwrap();
    world.net().reserve("aa", "red", &spec).unwrap();
    world.net().release("aa").unwrap();
    assert!(world.net().wait_settled(Duration::from_secs(10)).unwrap());
    assert!(!has_link());
    assert!(world.net().reader().of_container("aa").is_empty());
    world.net().remove("red").unwrap();
}

#[test]
fn the_kernel_thread_runs_jobs_keeps_namespaces_ready_and_ends_with_its_handles() {
    if skipped() {
        return;
    }
    let world = World::bare("thread");
    let (config, store) = (world.config(), world.store());
    let (handle, thread) = network::thread::spawn(move || {
        let mut networks = network::Networks::open(config, store)?;
        networks.restore(&|_| false)?;
        Ok(networks)
    })
    .unwrap();
    let other = handle.clone();
    let sandbox = handle.call(|n| n.sandbox("aa", SandboxKind::Own)).unwrap().unwrap();
    let spec = EndpointSpec { container_name: "aa".into(), ..EndpointSpec::default() };
    let endpoint = other.call(move |n| n.connect("aa", "bridge", &spec)).unwrap().unwrap();
    assert_eq!(endpoint.interface, "eth0");
    // The one in use, the host's, and the ready ones.
    let deadline = Instant::now() + Duration::from_secs(5);
    while world.pins().len() < 4 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(world.pins().len(), 4);
    handle.call(|n| n.release("aa")).unwrap().unwrap();
    let path = sandbox.key.unwrap();
    while path.exists() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!path.exists());
    drop((handle, other));
    thread.join().unwrap();
    assert!(world.pins().is_empty());
}
