//! `--security-opt`, and the modes of namespaces.

use crate::args::Matches;

/// The options, profiles read from their files; and whether system paths are unmasked.
pub fn options(texts: &[&str]) -> Result<(Vec<String>, bool), String> {
    let mut found = Vec::new();
    let mut unmasked = false;
    for text in texts {
        if *text == "systempaths=unconfined" {
            unmasked = true;
            continue;
        }
        let pair = text.split_once('=').or_else(|| text.split_once(':'));
        let Some((key, value)) = pair else {
            if *text == "no-new-privileges" {
                found.push((*text).to_owned());
                continue;
            }
            return Err(format!("Invalid --security-opt: {}", crate::args::golang::quote(text)));
        };
        if key == "seccomp" && value != "unconfined" && value != "builtin" {
            let failed = |why: String| format!("opening seccomp profile ({value}) failed: {why}");
            let bytes = crate::error::read_file(value).map_err(failed)?;
            let profile = engine_api::json::parse(&bytes).map_err(|e| {
                format!("compacting json for seccomp profile ({value}) failed: {e}")
            })?;
            found.push(format!("seccomp={profile}"));
        } else {
            found.push((*text).to_owned());
        }
    }
    Ok((found, unmasked))
}

/// Checks the modes of namespaces that the daemon is not asked about.
pub fn modes(m: &Matches) -> Result<(), String> {
    let joins = |mode: &str| mode.strip_prefix("container:").is_some_and(|n| !n.is_empty());
    let pid = m.text("pid");
    if !(matches!(pid, "" | "host") || joins(pid)) {
        return Err("--pid: invalid PID mode".into());
    }
    if !matches!(m.text("uts"), "" | "host") {
        return Err("--uts: invalid UTS mode".into());
    }
    if !matches!(m.text("userns"), "" | "host") {
        return Err("--userns: invalid USER mode".into());
    }
    if !matches!(m.text("cgroupns"), "" | "host" | "private") {
        return Err("--cgroupns: invalid CGROUP mode".into());
    }
    Ok(())
}
