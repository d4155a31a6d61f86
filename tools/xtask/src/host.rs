//! What a machine must have to run containers, each with what to do when it is missing.

use std::fs;

use anyhow::{Result, bail};

use crate::run::{command, output};

/// What keeps this machine from running containers; empty when nothing does.
pub fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if !is_root() {
        missing.push("root: run it with sudo".to_owned());
    }
    for namespace in ["mnt", "pid", "net", "uts", "ipc"] {
        if !fs::exists(format!("/proc/self/ns/{namespace}")).unwrap_or(false) {
            missing.push(format!("{namespace} namespaces: use a kernel that has them"));
        }
    }
    if !knows_filesystem("overlay") && !load_module("overlay") {
        missing.push("overlayfs: `modprobe overlay`, or a kernel that has it".to_owned());
    }
    if !has_nftables() && !load_module("nf_tables") {
        missing.push("nftables: `modprobe nf_tables`, or a kernel that has it".to_owned());
    }
    if !fs::exists("/sys/fs/cgroup/cgroup.controllers").unwrap_or(false)
        && !fs::exists("/sys/fs/cgroup/memory").unwrap_or(false)
    {
        missing.push("cgroups: mount them at /sys/fs/cgroup".to_owned());
    }
    missing
}

/// Fails with one line that says what is missing and what to do.
pub fn require() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    bail!("this machine cannot run containers yet; missing {}", missing.join("; "))
}

/// Whether we are the host's root.
pub fn is_root() -> bool {
    output(command("id", ["-u"])).is_ok_and(|uid| uid.trim() == "0")
}

fn knows_filesystem(name: &str) -> bool {
    fs::read_to_string("/proc/filesystems")
        .is_ok_and(|list| list.lines().any(|line| line.split_whitespace().last() == Some(name)))
}

fn has_nftables() -> bool {
    // Present as soon as the subsystem is in the kernel, built in or loaded.
    fs::read_to_string("/proc/kallsyms").is_ok_and(|symbols| symbols.contains("nft_do_chain"))
        || fs::exists("/sys/module/nf_tables").unwrap_or(false)
}

fn load_module(name: &str) -> bool {
    is_root() && output(command("modprobe", [name])).is_ok()
}
