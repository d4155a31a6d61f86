//! `--mount`, `--volume`, `--tmpfs`.

use crate::args::{csv, golang, values};
use engine_api::path::clean;
use engine_api::{
    BindOptions, ImageOptions, MountDriver, MountRequest, TmpfsOptions, VolumeOptions,
};
use std::collections::BTreeMap;

/// Reads one `--mount`.
pub fn parse(text: &str) -> Result<MountRequest, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("value is empty".into());
    }
    let mut mount = MountRequest { kind: "volume".into(), ..MountRequest::default() };
    let mut recursive = String::new();
    for field in csv::fields(text)? {
        read_field(&mut mount, &field, &mut recursive)?;
    }
    if mount.kind.is_empty() {
        return Err("type is required".into());
    }
    if mount.target.is_empty() {
        return Err("target is required".into());
    }
    let mixed = [
        (mount.volume_options.is_some(), "volume"),
        (mount.image_options.is_some(), "image"),
        (mount.bind_options.is_some(), "bind"),
        (mount.tmpfs_options.is_some(), "tmpfs"),
    ];
    for (used, kind) in mixed {
        if used && mount.kind != kind {
            return Err(format!("cannot mix '{kind}-*' options with mount type '{}'", mount.kind));
        }
    }
    recursion(&mut mount, &recursive)?;
    Ok(mount)
}

fn read_field(mount: &mut MountRequest, field: &str, recursive: &mut String) -> Result<(), String> {
    const SWITCHES: [&str; 4] = ["readonly", "ro", "volume-nocopy", "bind-nonrecursive"];
    let (key, value) = match field.split_once('=') {
        Some((key, value)) => (key.to_lowercase(), value),
        None if SWITCHES.contains(&field.to_lowercase().as_str()) => (field.to_lowercase(), "true"),
        None => return Err(format!("invalid field '{field}' must be a key=value pair")),
    };
    let wrong = || format!("invalid value for {key}: {value}");
    let switch = || golang::parse_bool(value).map_err(|_| wrong());
    let pair = |into: &mut Option<BTreeMap<String, String>>| {
        let (key, value) = value.split_once('=').unwrap_or((value, ""));
        into.get_or_insert_default().insert(key.to_owned(), value.to_owned());
    };
    let bind = |m: &mut MountRequest| m.bind_options.take().unwrap_or_default();
    match key.as_str() {
        "type" => mount.kind = value.to_lowercase(),
        "source" | "src" => mount.source = absolute(value),
        "target" | "dst" | "destination" => value.clone_into(&mut mount.target),
        "readonly" | "ro" => mount.read_only = switch()?,
        "consistency" => mount.consistency = value.to_lowercase(),
        "bind-propagation" => {
            let options = BindOptions { propagation: value.to_lowercase(), ..bind(mount) };
            mount.bind_options = Some(options);
        }
        "bind-nonrecursive" => {
            let options = BindOptions { non_recursive: switch()?, ..bind(mount) };
            mount.bind_options = Some(options);
        }
        "bind-recursive" => {
            value.clone_into(recursive);
            mount.bind_options = Some(bind(mount));
        }
        "volume-nocopy" => volume(mount).no_copy = switch()?,
        "volume-subpath" => value.clone_into(&mut volume(mount).subpath),
        "volume-label" => pair(&mut volume(mount).labels),
        "volume-driver" => {
            value.clone_into(&mut driver(mount).name);
        }
        "volume-opt" => pair(&mut driver(mount).options),
        "image-subpath" => mount.image_options = Some(ImageOptions { subpath: value.to_owned() }),
        "tmpfs-size" => {
            let options = mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default);
            options.size_bytes = values::bytes(value).map_err(|_| wrong())?;
        }
        "tmpfs-mode" => {
            let options = mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default);
            options.mode = u32::from_str_radix(value, 8).map_err(|_| wrong())?;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn volume(mount: &mut MountRequest) -> &mut VolumeOptions {
    mount.volume_options.get_or_insert_with(VolumeOptions::default)
}

fn driver(mount: &mut MountRequest) -> &mut MountDriver {
    volume(mount).driver_config.get_or_insert_with(MountDriver::default)
}

fn recursion(mount: &mut MountRequest, wanted: &str) -> Result<(), String> {
    let read_only = mount.read_only;
    let Some(options) = mount.bind_options.as_mut() else { return Ok(()) };
    match wanted {
        "" | "enabled" => {}
        "disabled" => options.non_recursive = true,
        "writable" => options.read_only_non_recursive = true,
        "readonly" => {
            options.read_only_force_recursive = true;
            if !read_only {
                return Err("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction".into());
            }
            if options.propagation.is_empty() {
                return Err("option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction".into());
            }
        }
        other => {
            return Err(format!(
                "invalid value for bind-recursive: {other} (must be \"enabled\", \"disabled\", \"writable\", or \"readonly\")"
            ));
        }
    }
    if wanted == "writable" && !read_only {
        return Err(
            "option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction"
                .into(),
        );
    }
    Ok(())
}

/// A source that starts with a dot is below the working folder.
fn absolute(source: &str) -> String {
    if !source.starts_with('.') {
        return source.to_owned();
    }
    let here = std::env::current_dir().unwrap_or_default();
    clean(&here.join(source).to_string_lossy())
}

/// `--volume` values as binds and as anonymous volumes.
#[allow(clippy::zero_sized_map_values)] // The API's sets are such maps.
pub fn volumes(texts: &[&str]) -> (Vec<String>, BTreeMap<String, ()>) {
    let mut binds = Vec::new();
    let mut anonymous = BTreeMap::new();
    for text in texts {
        match text.split_once(':') {
            Some((source, rest)) if !source.is_empty() => {
                binds.push(format!("{}:{rest}", absolute(source)));
            }
            _ => {
                anonymous.insert((*text).to_owned(), ());
            }
        }
    }
    (binds, anonymous)
}

/// `--tmpfs` values: a folder, perhaps with options.
pub fn tmpfs(texts: &[&str]) -> Option<BTreeMap<String, String>> {
    let pair = |t: &&str| match t.split_once(':') {
        Some((path, options)) => (path.to_owned(), options.to_owned()),
        None => ((*t).to_owned(), String::new()),
    };
    (!texts.is_empty()).then(|| texts.iter().map(pair).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_says_what_is_missing() {
        assert_eq!(parse("type=bind").unwrap_err(), "target is required");
        assert_eq!(parse("x").unwrap_err(), "invalid field 'x' must be a key=value pair");
        assert_eq!(
            parse("type=bind,dst=/x,tmpfs-size=1m").unwrap_err(),
            "cannot mix 'tmpfs-*' options with mount type 'bind'"
        );
        let mount = parse("type=volume,src=v,dst=/x,ro,volume-opt=a=b").unwrap();
        assert!(mount.read_only && mount.volume_options.is_some());
    }
}
