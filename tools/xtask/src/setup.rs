//! Installs what tests and benches need: Debian's packages, the musl target,
//! cargo-deny, and the real programs of the seam suites. Safe to run again.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::host;
use crate::run::{check, command, output, which};

/// Program looked for → Debian package that brings it.
const PACKAGES: &[(&str, &str)] = &[
    ("buildah", "buildah"),
    ("busybox", "busybox-static"),
    ("curl", "curl"),
    ("dbus-daemon", "dbus-daemon"),
    ("dbus-send", "dbus-bin"),
    ("debootstrap", "debootstrap"),
    ("docker-registry", "docker-registry"),
    ("gcc", "gcc"),
    ("htpasswd", "apache2-utils"),
    ("ip", "iproute2"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("openssl", "openssl"),
    ("patchelf", "patchelf"),
    ("pgrep", "procps"),
    ("ping", "iputils-ping"),
    ("setcap", "libcap2-bin"),
    ("socat", "socat"),
    ("strace", "strace"),
    ("tmux", "tmux"),
    ("newuidmap", "uidmap"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
];

/// Everything; each part that cannot be had is named, and the rest goes on.
pub fn all() {
    for (what, step) in [
        ("Debian packages", packages as fn() -> Result<()>),
        ("musl target", musl),
        ("cargo-deny", cargo_deny),
        ("real programs of the seam suites", peers),
        ("other firewalls of the network tests", firewalls),
    ] {
        if let Err(error) = step() {
            println!("SKIPPED: setup of {what}: {error:#}");
        }
    }
}

/// Where the peers are: `$FERRY_PEERS`, else where `tools/lab/peers.sh` puts them.
pub fn peers_folder() -> PathBuf {
    std::env::var_os("FERRY_PEERS").map_or_else(|| "/opt/ferry-peers/bin".into(), PathBuf::from)
}

fn packages() -> Result<()> {
    let wanted: Vec<&str> = PACKAGES
        .iter()
        .filter(|(program, _)| which(program).is_none() && which_sbin(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    anyhow::ensure!(host::is_root(), "needs root to install {}", wanted.join(" "));
    anyhow::ensure!(which("apt-get").is_some(), "no apt-get; install {}", wanted.join(" "));
    let mut update = command("apt-get", ["update", "-q"]);
    update.stdout(std::process::Stdio::null());
    check(update)?;
    let mut install = command("apt-get", ["install", "-y", "-q", "--no-install-recommends"]);
    install.arg("-oDpkg::Options::=--force-confold").args(&wanted);
    install.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
    check(install)
}

fn which_sbin(program: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/sbin"].iter().map(|d| PathBuf::from(d).join(program)).find(|p| p.is_file())
}

/// Without it the small programs link against a static glibc: larger and slower to start.
fn musl() -> Result<()> {
    let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
    if output(command("rustup", ["target", "list", "--installed"]))?.contains(&target) {
        return Ok(());
    }
    check(command("rustup", ["target", "add", &target]))
}

fn cargo_deny() -> Result<()> {
    if which("cargo-deny").is_some() {
        return Ok(());
    }
    // Unoptimised: it runs for a second, its build would take minutes.
    let install = ["install", "cargo-deny", "--locked", "--debug", "--quiet"];
    check(command(env!("CARGO"), install))
}

fn peers() -> Result<()> {
    anyhow::ensure!(host::is_root(), "needs root");
    if peers_folder().join("dockerd").is_file() {
        return Ok(());
    }
    check(command("bash", ["tools/lab/peers.sh"])).context("tools/lab/peers.sh")
}

/// They are unpacked, not installed: see the script.
fn firewalls() -> Result<()> {
    anyhow::ensure!(host::is_root(), "needs root");
    if peers_folder().parent().is_some_and(|top| top.join("firewalls/ready-1").is_file()) {
        return Ok(());
    }
    check(command("bash", ["tools/lab/firewalls.sh"])).context("tools/lab/firewalls.sh")
}
