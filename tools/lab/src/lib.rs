//! Real peers and our own programs, brought up side by side for tests and benches.
//!
//! Everything runs in a [`Scratch`] folder and, where it touches the network, in a
//! [`Netns`] of its own; dropping a value ends what it started and removes what it made.
//! Nothing here is linked into what users run.
//!
//! Begin reading at [`Engine`]: a dockerd or a ferryd, and the command lines that drive it.

mod containerd;
mod engine;
mod http;
mod image;
mod netns;
mod process;
mod registry;
mod scratch;
mod serve;
mod terminal;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub use containerd::Containerd;
pub use engine::{Engine, Kind, static_cli};
pub use http::{Reply, Request, http, http_unix};
pub use image::{busybox_archive, busybox_rootfs, layered_archive, noise, platforms_archive};
pub use netns::Netns;
pub use process::{Finished, Program, run, wait_until};
pub use registry::{Registry, RegistryKind, docker_registry};
pub use scratch::Scratch;
pub use serve::{serve_files, serve_search};
pub use terminal::Terminal;

/// The folder of the real programs: `$FERRY_PEERS`, else where `tools/lab/peers.sh` puts them.
pub fn peers_folder() -> PathBuf {
    std::env::var_os("FERRY_PEERS").map_or_else(|| "/opt/ferry-peers/bin".into(), PathBuf::from)
}

/// A real program, or `None` when it is not installed.
pub fn peer(name: &str) -> Option<PathBuf> {
    let path = peers_folder().join(name);
    path.is_file().then_some(path)
}

static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();

/// Makes this process take our programs from `folder`; the first call holds.
pub fn use_programs(folder: &Path) {
    PROGRAMS.set(folder.to_owned()).ok();
}

/// The folder of our own programs: what [`use_programs`] said, else `$FERRY_BIN`, else the
/// build folder that this test or tool itself was built into.
pub fn ours_folder() -> PathBuf {
    if let Some(folder) = PROGRAMS.get() {
        return folder.clone();
    }
    if let Some(folder) = std::env::var_os("FERRY_BIN") {
        return folder.into();
    }
    let this = std::env::current_exe().unwrap_or_default();
    let folder = this.parent().unwrap_or(Path::new("."));
    if folder.ends_with("deps") { folder.parent().unwrap_or(folder).into() } else { folder.into() }
}

/// One of our programs, or `None` when it is not built.
pub fn ours(name: &str) -> Option<PathBuf> {
    let path = ours_folder().join(name);
    path.is_file().then_some(path)
}

/// What a test that needs real containers lacks here, said in one line.
///
/// Use as: `if let Some(why) = lab::lacking(&["dockerd"]) { eprintln!("SKIPPED: …{why}"); return; }`
pub fn lacking(peers: &[&str]) -> Option<String> {
    if std::fs::read_to_string("/proc/self/status").is_ok_and(|s| !s.contains("\nUid:\t0\t0\t")) {
        return Some("needs root".to_owned());
    }
    let missing: Vec<&str> = peers.iter().copied().filter(|name| peer(name).is_none()).collect();
    if !missing.is_empty() {
        return Some(format!("needs {} (cargo xtask setup)", missing.join(", ")));
    }
    None
}

/// Says loudly that a test was skipped, and why; `xtask test` collects these lines.
#[macro_export]
macro_rules! require {
    ($($peer:expr),* $(,)?) => {
        if let Some(why) = $crate::lacking(&[$($peer),*]) {
            eprintln!("SKIPPED: {}: {why}", module_path!());
            return;
        }
    };
}
