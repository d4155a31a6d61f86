//! A network namespace of its own, so that bridges and firewalls of a daemon under test
//! never touch the host's.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;

use crate::process::run;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A named network namespace with its loopback up; deleted on drop.
pub struct Netns {
    name: String,
}

impl Netns {
    /// Makes one.
    pub fn new() -> Result<Netns> {
        let name =
            format!("ferry-lab-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run("ip", ["netns", "add", &name])?.success()?;
        let made = Netns { name };
        made.run("ip", &["link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// The file that pins it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// The words that start a program inside it. Not `ip netns exec`: that remounts /sys
    /// and hides the cgroups.
    pub fn enter(&self) -> Vec<String> {
        vec!["nsenter".to_owned(), format!("--net={}", self.path().display())]
    }

    /// Runs a program inside it; its output.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<String> {
        let enter = self.enter();
        let words =
            enter[1..].iter().map(String::as_str).chain([program]).chain(args.iter().copied());
        run(&enter[0], words)?.success()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        run("ip", ["netns", "del", &self.name]).ok();
    }
}
