//! From binds, mounts, tmpfs, volumes of the image and of other containers to the list
//! of mounts. Checks everything; makes only the folders that a bind of the old form
//! promises to make.

use std::collections::BTreeSet;
use std::path::Path;

use engine_api::{MountPoint, MountRequest};

use crate::engine::Engine;
use crate::http::ApiError;
use crate::records::{MountRecord, Spec};
use crate::registry::new_id;
use crate::volumes;

type Checked<T> = Result<T, ApiError>;

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];

/// All mounts of a new container.
pub fn plan(engine: &Engine, spec: &Spec) -> Checked<Vec<MountRecord>> {
    let mut out = inherited(engine, spec)?;
    let mut own = Vec::new();
    for text in spec.host.binds.iter().flatten() {
        own.push(bind(engine, text)?);
    }
    for wanted in spec.host.mounts.iter().flatten() {
        own.push(mount(engine, wanted)?);
    }
    for (place, options) in spec.host.tmpfs.iter().flatten() {
        if !place.starts_with('/') {
            let text = format!("invalid mount path: '{place}' mount path must be absolute");
            return Err(ApiError::bad_request(text));
        }
        if clean(place) == "/" {
            return Err(ApiError::bad_request("invalid specification: destination can't be '/'"));
        }
        let options =
            plan::tmpfs_options(options).map_err(|e| ApiError::bad_request(e.to_string()))?;
        own.push(MountRecord { hidden: true, ..tmpfs(place, options) });
    }
    let mut seen = BTreeSet::new();
    for record in &own {
        if !seen.insert(record.point.destination.clone()) {
            return Err(ApiError::bad_request(format!(
                "Duplicate mount point: {}",
                record.point.destination
            )));
        }
    }
    out.retain(|m| !seen.contains(&m.point.destination));
    out.extend(own);
    for place in spec.config.volumes.iter().flatten().map(|(place, ())| clean(place)) {
        if place != "/" && !out.iter().any(|m| m.point.destination == place) {
            out.push(MountRecord {
                anonymous: true,
                ..volume(engine, &new_id(), &place, "", true, true)
            });
        }
    }
    for record in out.iter().filter(|m| m.point.kind == "bind") {
        make_source(record, spec)?;
    }
    Ok(out)
}

/// Binds of the old form make their source.
fn make_source(record: &MountRecord, spec: &Spec) -> Checked<()> {
    let source = Path::new(&record.point.source);
    let from_binds = spec
        .host
        .binds
        .iter()
        .flatten()
        .any(|b| b.split(':').next() == Some(record.point.source.as_str()));
    let asked = spec.host.mounts.iter().flatten().any(|m| {
        m.source == record.point.source
            && m.bind_options.as_ref().is_some_and(|o| o.create_mountpoint)
    });
    if source.exists() || !(from_binds || asked) {
        return Ok(());
    }
    std::fs::create_dir_all(source).map_err(|e| {
        ApiError::internal(format!(
            "error while creating mount source path '{}': {e}",
            record.point.source
        ))
    })
}

fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn tmpfs(place: &str, options: Vec<String>) -> MountRecord {
    let read_only = options.iter().any(|o| o == "ro");
    MountRecord {
        point: MountPoint {
            kind: "tmpfs".into(),
            destination: clean(place),
            rw: !read_only,
            ..MountPoint::default()
        },
        tmpfs: options,
        ..MountRecord::default()
    }
}

fn volume(
    engine: &Engine,
    name: &str,
    place: &str,
    mode: &str,
    rw: bool,
    copy_up: bool,
) -> MountRecord {
    MountRecord {
        point: MountPoint {
            kind: "volume".into(),
            name: name.to_owned(),
            source: volumes::data(&engine.settings.data_root, name).to_string_lossy().into_owned(),
            destination: clean(place),
            driver: "local".into(),
            mode: mode.to_owned(),
            rw,
            propagation: String::new(),
        },
        copy_up,
        ..MountRecord::default()
    }
}

struct Mode {
    rw: bool,
    copy_up: bool,
    propagation: String,
}

fn mode(text: &str, is_volume: bool) -> Checked<Mode> {
    let mut out = Mode { rw: true, copy_up: true, propagation: String::new() };
    for word in text.split(',').filter(|w| !w.is_empty()) {
        match word {
            "ro" => out.rw = false,
            "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" => {}
            "nocopy" if is_volume => out.copy_up = false,
            word if PROPAGATIONS.contains(&word) && !is_volume => {
                word.clone_into(&mut out.propagation);
            }
            _ => return Err(ApiError::internal(format!("invalid mode: {text}"))),
        }
    }
    Ok(out)
}

/// `SOURCE:TARGET[:MODE]`, or `TARGET` alone for an anonymous volume.
fn bind(engine: &Engine, text: &str) -> Checked<MountRecord> {
    let parts: Vec<&str> = text.split(':').collect();
    let invalid =
        |why: &str| ApiError::internal(format!("invalid volume specification: '{text}'{why}"));
    let (source, target, words) = match parts[..] {
        [target] => ("", target, ""),
        [source, target] => (source, target, ""),
        [source, target, words] => (source, target, words),
        _ => return Err(invalid("")),
    };
    if target.is_empty() || (parts.len() > 1 && source.is_empty()) {
        return Err(invalid(""));
    }
    let is_volume = !source.starts_with('/');
    let kind = if is_volume { "volume" } else { "bind" };
    if !target.starts_with('/') {
        return Err(invalid(&format!(
            ": invalid mount config for type \"{kind}\": invalid mount path: '{target}' mount path must be absolute"
        )));
    }
    if clean(target) == "/" {
        return Err(invalid(&format!(
            ": invalid mount config for type \"{kind}\": invalid specification: destination can't be '/'"
        )));
    }
    let parsed = mode(words, is_volume)?;
    if source.is_empty() {
        return Ok(MountRecord {
            anonymous: true,
            ..volume(engine, &new_id(), target, words, parsed.rw, parsed.copy_up)
        });
    }
    if is_volume {
        check_volume_name(source)?;
        let shown = if words.is_empty() { "z" } else { words };
        return Ok(volume(engine, source, target, shown, parsed.rw, parsed.copy_up));
    }
    Ok(host_bind(source, target, words, parsed.rw, &parsed.propagation))
}

fn check_volume_name(name: &str) -> Checked<()> {
    if volumes::is_valid_name(name) {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "create {name}: \"{name}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )))
}

fn host_bind(source: &str, target: &str, words: &str, rw: bool, propagation: &str) -> MountRecord {
    let propagation = if propagation.is_empty() { "rprivate" } else { propagation };
    MountRecord {
        point: MountPoint {
            kind: "bind".into(),
            source: clean(source),
            destination: clean(target),
            mode: words.to_owned(),
            rw,
            propagation: propagation.to_owned(),
            ..MountPoint::default()
        },
        propagation: propagation.to_owned(),
        ..MountRecord::default()
    }
}

fn mount(engine: &Engine, wanted: &MountRequest) -> Checked<MountRecord> {
    let kind = wanted.kind.as_str();
    let invalid = |why: &str| {
        ApiError::bad_request(format!("invalid mount config for type \"{kind}\": {why}"))
    };
    if !matches!(kind, "bind" | "volume" | "tmpfs") {
        return Err(match kind {
            "image" | "cluster" | "npipe" => ApiError::not_implemented(format!(
                "mounts of type {kind} are not supported by Ferry yet"
            )),
            _ => invalid("mount type unknown"),
        });
    }
    if wanted.target.is_empty() {
        return Err(invalid("field Target must not be empty"));
    }
    if clean(&wanted.target) == "/" {
        return Err(invalid("invalid specification: destination can't be '/'"));
    }
    if !wanted.target.starts_with('/') {
        return Err(invalid(&format!(
            "invalid mount path: '{}' mount path must be absolute",
            wanted.target
        )));
    }
    match kind {
        "bind" => mount_bind(wanted, &invalid),
        "volume" => mount_volume(engine, wanted),
        _ => mount_tmpfs(wanted, &invalid),
    }
}

fn mount_bind(wanted: &MountRequest, invalid: &dyn Fn(&str) -> ApiError) -> Checked<MountRecord> {
    if wanted.source.is_empty() {
        return Err(invalid("field Source must not be empty"));
    }
    if !wanted.source.starts_with('/') {
        return Err(invalid(&format!(
            "invalid mount path: '{}' mount path must be absolute",
            wanted.source
        )));
    }
    let options = wanted.bind_options.clone().unwrap_or_default();
    if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return Err(invalid(&format!("invalid propagation mode: {}", options.propagation)));
    }
    if !options.create_mountpoint && !Path::new(&wanted.source).exists() {
        return Err(invalid(&format!("bind source path does not exist: {}", wanted.source)));
    }
    let record =
        host_bind(&wanted.source, &wanted.target, "", !wanted.read_only, &options.propagation);
    Ok(MountRecord {
        non_recursive: options.non_recursive,
        read_only_non_recursive: options.read_only_non_recursive,
        ..record
    })
}

fn mount_volume(engine: &Engine, wanted: &MountRequest) -> Checked<MountRecord> {
    let options = wanted.volume_options.clone().unwrap_or_default();
    let driver = options.driver_config.unwrap_or_default();
    if !matches!(driver.name.as_str(), "" | "local")
        || driver.options.is_some_and(|o| !o.is_empty())
    {
        return Err(ApiError::not_implemented(
            "VolumeOptions.DriverConfig is not supported by Ferry yet",
        ));
    }
    if !options.subpath.is_empty() {
        return Err(ApiError::not_implemented(
            "VolumeOptions.Subpath is not supported by Ferry yet",
        ));
    }
    let anonymous = wanted.source.is_empty();
    let name = if anonymous { new_id() } else { wanted.source.clone() };
    check_volume_name(&name)?;
    let record = volume(engine, &name, &wanted.target, "z", !wanted.read_only, !options.no_copy);
    Ok(MountRecord { anonymous, ..record })
}

fn mount_tmpfs(wanted: &MountRequest, invalid: &dyn Fn(&str) -> ApiError) -> Checked<MountRecord> {
    if !wanted.source.is_empty() {
        return Err(invalid("field Source must not be specified"));
    }
    let asked = wanted.tmpfs_options.clone().unwrap_or_default();
    let mut words: Vec<String> = Vec::new();
    if wanted.read_only {
        words.push("ro".into());
    }
    if asked.mode != 0 {
        words.push(format!("mode={:o}", asked.mode));
    }
    if asked.size_bytes > 0 {
        words.push(format!("size={}", asked.size_bytes));
    }
    for option in asked.options.iter().flatten() {
        words.push(option.join("="));
    }
    let options = plan::tmpfs_options(&words.join(",")).map_err(|e| invalid(&e.to_string()))?;
    Ok(tmpfs(&wanted.target, options))
}

/// The mounts of other containers (`--volumes-from`), which become this one's own.
fn inherited(engine: &Engine, spec: &Spec) -> Checked<Vec<MountRecord>> {
    let mut out: Vec<MountRecord> = Vec::new();
    for text in spec.host.volumes_from.iter().flatten() {
        let (reference, words) = text.split_once(':').unwrap_or((text, "rw"));
        if !matches!(words, "ro" | "rw" | "z" | "Z" | "ro,z" | "rw,z") {
            return Err(ApiError::bad_request(format!("invalid mode: {words}")));
        }
        let other = engine.find(reference).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let other = other.spec().map_err(ApiError::internal)?;
        for mut record in other.mounts.into_iter().filter(|m| m.point.kind != "tmpfs") {
            record.point.rw &= !words.starts_with("ro");
            // It goes with the container that made it.
            record.anonymous = false;
            out.retain(|m| m.point.destination != record.point.destination);
            out.push(record);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_paths_are_understood() {
        assert_eq!(clean("//a/./b/../c/"), "/a/c");
        assert_eq!(clean("/.."), "/");
        let got = mode("ro,rslave", false).unwrap();
        assert!(!got.rw && got.propagation == "rslave");
        assert_eq!(mode("foo", false).err().unwrap().message, "invalid mode: foo");
        assert!(mode("rslave", true).is_err() && mode("nocopy", true).is_ok());
    }

    #[test]
    fn a_tmpfs_has_its_options_from_the_request() {
        let wanted = MountRequest {
            kind: "tmpfs".into(),
            target: "/t".into(),
            tmpfs_options: Some(engine_api::TmpfsOptions {
                size_bytes: 1 << 20,
                mode: 0o1770,
                options: None,
            }),
            ..MountRequest::default()
        };
        let record = mount_tmpfs(&wanted, &|why| ApiError::bad_request(why)).unwrap();
        assert_eq!(
            record.tmpfs,
            ["noexec", "nosuid", "nodev", "rprivate", "mode=1770", "size=1048576"]
        );
    }
}
