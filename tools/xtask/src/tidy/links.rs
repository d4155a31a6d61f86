//! Who may link whom: the table of ARCHITECTURE.md, held against `cargo metadata`.
//! Libraries on opposite sides of a process seam never link each other.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::{command, output};

/// What everybody may link.
const PROTOCOL: [&str; 5] = ["oci", "engine-api", "containerd-api", "shim-api", "options"];

/// Each library → the libraries of ours that it may link besides the protocols. Programs
/// (`bin/`) and tools may link anything.
const MAY_LINK: &[(&str, &[&str])] = &[
    ("oci", &[]),
    ("engine-api", &[]),
    ("containerd-api", &[]),
    ("shim-api", &[]),
    ("options", &[]),
    ("sys", &[]),
    ("dbus", &[]),
    ("cgroup", &["sys", "dbus"]),
    ("archive", &["sys"]),
    ("runtime", &["sys", "cgroup"]),
    ("shim", &["sys", "cgroup"]),
    ("file-stream", &[]),
    ("registry-client", &["file-stream"]),
    ("metastore", &["sys"]),
    ("supervisor", &["metastore", "archive", "registry-client", "sys"]),
    ("registry-server", &["file-stream", "registry-client", "sys"]),
    ("engine-client", &["sys"]),
    ("containerd-rpc", &[]),
    ("cli", &["engine-client", "registry-client", "sys"]),
    ("ipam", &[]),
    ("plan", &[]),
    ("images", &["archive", "containerd-rpc", "metastore", "registry-client"]),
    ("network", &["ipam", "sys", "dbus", "metastore"]),
    (
        "daemon",
        &[
            "containerd-rpc",
            "images",
            "ipam",
            "metastore",
            "network",
            "plan",
            "registry-client",
            "sys",
            "archive",
        ],
    ),
];

/// Each library → foreign crates that must appear nowhere below it.
const MUST_NOT_REACH: &[(&[&str], &[&str])] = &[
    (
        &["sys", "dbus", "cgroup", "runtime", "shim", "shim-api", "oci"],
        &["tokio", "tonic", "hyper", "clap", "regex", "tracing-subscriber", "cc", "redb"],
    ),
    (&["archive"], &["tokio", "tonic", "hyper", "clap"]),
    (&["cli", "engine-client"], &["redb", "tonic", "prost", "clap"]),
    (&["engine-api", "plan", "ipam"], &["tokio", "hyper", "tonic", "redb"]),
    (&["network"], &["tokio", "tonic", "hyper"]),
];

/// Every forbidden link in today's dependency graph.
pub fn check() -> Result<Vec<String>> {
    let graph = Graph::read()?;
    let mut broken = Vec::new();
    for (name, path) in &graph.ours {
        let folder = path.split('/').next().unwrap_or_default();
        if matches!(folder, "bin" | "tools") {
            continue;
        }
        let Some((_, allowed)) = MAY_LINK.iter().find(|(of, _)| of == name) else {
            broken.push(format!("{name}: not in the table of who may link whom"));
            continue;
        };
        for link in graph.direct(name) {
            let ours = graph.ours.contains_key(link);
            if ours && !PROTOCOL.contains(&link.as_str()) && !allowed.contains(&link.as_str()) {
                broken.push(format!("{name} must not link {link}"));
            }
        }
    }
    for (names, forbidden) in MUST_NOT_REACH {
        for name in *names {
            let reached = graph.closure(name);
            for crate_name in forbidden.iter().filter(|f| reached.contains(**f)) {
                broken.push(format!("{name} must not reach {crate_name}"));
            }
        }
    }
    Ok(broken)
}

/// Normal and build dependencies by crate name (development ones link into no program).
struct Graph {
    /// Our crates: name → folder below the workspace root.
    ours: BTreeMap<String, String>,
    links: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    fn read() -> Result<Graph> {
        let text =
            output(command(env!("CARGO"), ["metadata", "--format-version", "1", "--locked"]))?;
        let json: Value = serde_json::from_str(&text).context("cargo metadata")?;
        let root = json["workspace_root"].as_str().context("workspace_root")?.to_owned() + "/";
        let mut names = BTreeMap::new();
        let mut ours = BTreeMap::new();
        for package in json["packages"].as_array().context("packages")? {
            let (id, name) = (text_of(&package["id"]), text_of(&package["name"]));
            if let Some(path) = text_of(&package["manifest_path"]).strip_prefix(&root)
                && package["source"].is_null()
            {
                ours.insert(name.clone(), path.to_owned());
            }
            names.insert(id, name);
        }
        let mut links: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in json["resolve"]["nodes"].as_array().context("nodes")? {
            let from = &names[&text_of(&node["id"])];
            for dep in node["deps"].as_array().into_iter().flatten() {
                let kinds = dep["dep_kinds"].as_array().into_iter().flatten();
                if kinds.clone().any(|kind| kind["kind"] != "dev") {
                    links
                        .entry(from.clone())
                        .or_default()
                        .insert(names[&text_of(&dep["pkg"])].clone());
                }
            }
        }
        Ok(Graph { ours, links })
    }

    fn direct(&self, name: &str) -> impl Iterator<Item = &String> {
        self.links.get(name).into_iter().flatten()
    }

    fn closure(&self, name: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            for link in self.direct(next) {
                if reached.insert(link.as_str()) {
                    open.push(link);
                }
            }
        }
        reached
    }
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_crate_links_what_the_design_forbids() {
        let root = crate::run::workspace_root();
        std::env::set_current_dir(root).unwrap();
        assert_eq!(super::check().unwrap(), Vec::<String>::new());
    }
}
