//! `cargo xtask tidy`: the structure's rules that no compiler checks. What breaks a rule
//! today is listed in `tools/xtask/exceptions.txt`; that list may only shrink.

mod links;
mod sizes;
mod sources;

use anyhow::{Result, bail};

/// Checks everything and prints every exception; fails when a rule is broken beyond the list.
pub fn check() -> Result<()> {
    let sources = sources::all()?;
    let mut broken = sizes::check(&sources)?;
    broken.extend(sources::check(&sources));
    broken.extend(links::check()?);
    if broken.is_empty() {
        println!("tidy: {} source files, structure holds", sources.len());
        return Ok(());
    }
    for line in &broken {
        println!("tidy: {line}");
    }
    bail!("{} broken rules", broken.len());
}
