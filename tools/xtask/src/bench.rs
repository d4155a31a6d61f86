//! `cargo xtask bench`: our programs and the installed peers, interleaved in one run, so
//! that other load falls on all alike. Prints medians and ratios; asserts nothing.

mod engine;
mod floor;
mod images;
mod measure;
mod registry;
mod runtime;
mod scale;

use anyhow::{Result, bail};

/// Runs one bench by name, or all.
pub fn main(args: &[String]) -> Result<()> {
    let all = ["runtime", "engine", "scale", "registry", "images"];
    let names: Vec<&str> =
        if args.is_empty() { all.to_vec() } else { args.iter().map(String::as_str).collect() };
    for name in names {
        match name {
            "runtime" => runtime::run()?,
            "engine" => engine::run()?,
            "scale" => scale::run()?,
            "registry" => registry::run()?,
            "images" => images::run()?,
            other => bail!("no bench `{other}`: there are {}", all.join(", ")),
        }
    }
    Ok(())
}
