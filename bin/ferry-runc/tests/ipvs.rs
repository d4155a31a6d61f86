//! IPVS in a container's own network: with CAP_NET_ADMIN it balances connections, without it is
//! refused, and its sysctls are the container's alone. Needs a kernel with it, as the virtual
//! machine's; elsewhere it says so.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may")]

mod common;

use common::{Bundle, runtimes, text};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Stdio};

/// Two servers, one address for both, six connections to it.
const BALANCE: &str = "set -e
ip link set lo up
for a in 10.0.0.1 10.0.0.2 10.9.9.9; do ip addr add $a/32 dev lo; done
socat TCP-LISTEN:8001,bind=10.0.0.1,reuseaddr,fork SYSTEM:'echo one' &
socat TCP-LISTEN:8002,bind=10.0.0.2,reuseaddr,fork SYSTEM:'echo two' &
for s in 10.0.0.1:8001 10.0.0.2:8002; do
  until socat -u TCP:$s STDOUT >/dev/null 2>&1; do sleep 0.05; done
done
ipvsadm -A -t 10.9.9.9:80 -s rr
ipvsadm -a -t 10.9.9.9:80 -r 10.0.0.1:8001 -m
ipvsadm -a -t 10.9.9.9:80 -r 10.0.0.2:8002 -m
for n in 1 2 3 4 5 6; do socat -u TCP:10.9.9.9:80 STDOUT; done
ipvsadm -S -n";
const REFUSED: &str = "ip link show lo >/dev/null && ipvsadm -A -t 10.9.9.9:80 -s rr; echo $?; \
    grep -c 0A090909 /proc/net/ip_vs; true";
const SYSCTLS: [(&str, &str); 3] = [
    ("net.ipv4.vs.conn_reuse_mode", "0"),
    ("net.ipv4.vs.expire_nodest_conn", "1"),
    ("net.ipv4.vs.sloppy_tcp", "1"),
];

/// A container with this machine's programs, or `None` where there is no IPVS.
fn bundle(name: &str, program: &Path, args: &[&str]) -> Option<Bundle> {
    let mut modprobe = Command::new("modprobe");
    modprobe.args(["-a", "ip_vs", "ip_vs_rr"]).stdin(Stdio::null()).stderr(Stdio::null());
    let there = modprobe.status().is_ok_and(|done| done.success())
        && Path::new("/proc/net/ip_vs").exists()
        && ["/usr/sbin/ipvsadm", "/usr/bin/socat"].iter().all(|tool| Path::new(tool).exists());
    if !there {
        eprintln!("SKIPPED: {name}: needs IPVS, ipvsadm and socat (cargo xtask vm)");
        return None;
    }
    let mut bundle = Bundle::new(name, args)?;
    program.clone_into(&mut bundle.program);
    for link in ["lib", "lib64"] {
        let target = Path::new("usr").join(link);
        std::os::unix::fs::symlink(target, bundle.path("rootfs").join(link)).unwrap();
    }
    bundle.edit(|spec| {
        let usr = json!({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]});
        spec["mounts"].as_array_mut().unwrap().push(usr);
        spec["process"]["env"] = json!(["PATH=/bin:/usr/sbin:/usr/bin"]);
    });
    Some(bundle)
}

fn grant(spec: &mut Value, capability: &str) {
    for set in ["bounding", "effective", "permitted"] {
        let set = &mut spec["process"]["capabilities"][set];
        set.as_array_mut().unwrap().push(capability.into());
    }
}

/// Virtual services of the machine itself.
fn services() -> usize {
    let table = std::fs::read_to_string("/proc/net/ip_vs").unwrap();
    table.lines().filter(|line| line.starts_with("TCP") || line.starts_with("UDP")).count()
}

#[test]
fn a_container_that_may_administer_its_network_balances_connections() {
    for (runtime, program) in runtimes() {
        let Some(bundle) = bundle("ipvs", &program, &["sh", "-c", BALANCE]) else { return };
        bundle.edit(|spec| grant(spec, "CAP_NET_ADMIN"));
        let before = services();
        let out = bundle.run();
        assert!(out.status.success(), "{runtime}: {}", text(&out.stderr));
        let said = text(&out.stdout);
        let lines: Vec<&str> = said.lines().collect();
        let of = |answer: &str| lines[..6].iter().filter(|line| **line == answer).count();
        assert_eq!((of("one"), of("two")), (3, 3), "{runtime}: {said}");
        assert!(said.contains("-A -t 10.9.9.9:80 -s rr"), "{runtime}: {said}");
        assert_eq!(services(), before, "{runtime}: it reached the machine's own network");
    }
}

#[test]
fn a_container_that_may_not_is_refused() {
    for (runtime, program) in runtimes() {
        let Some(bundle) = bundle("ipvs-refused", &program, &["sh", "-c", REFUSED]) else { return };
        let out = bundle.run();
        assert!(out.status.success(), "{runtime}: {}", text(&out.stderr));
        let said = text(&out.stdout);
        let lines: Vec<&str> = said.lines().collect();
        assert!(lines.len() == 2 && lines[0] != "0" && lines[1] == "0", "{runtime}: {said}");
        let why = text(&out.stderr).to_lowercase();
        assert!(why.contains("permi"), "{runtime}: {why}");
    }
}

#[test]
fn the_sysctls_of_ipvs_are_the_containers_alone() {
    let file = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
    let files: Vec<String> = SYSCTLS.iter().map(|(name, _)| file(name)).collect();
    let words: Vec<&str> = ["cat"].into_iter().chain(files.iter().map(String::as_str)).collect();
    for (runtime, program) in runtimes() {
        let Some(own) = bundle("ipvs-sysctl", &program, &words) else { return };
        let Some(other) = bundle("ipvs-default", &program, &words) else { return };
        own.edit(|spec| {
            for (name, value) in SYSCTLS {
                spec["linux"]["sysctl"][name] = json!(value);
            }
        });
        let here = || -> String {
            files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect()
        };
        let before = here();
        let out = own.run();
        let wanted: String = SYSCTLS.iter().map(|(_, value)| format!("{value}\n")).collect();
        assert_eq!(text(&out.stdout), wanted, "{runtime}: {}", text(&out.stderr));
        let out = other.run();
        let found = text(&out.stdout);
        assert!(out.status.success(), "{runtime}: {}", text(&out.stderr));
        assert_ne!(found, wanted, "{runtime}");
        assert_eq!(here(), before, "{runtime}: it reached the machine's own network");
    }
}
