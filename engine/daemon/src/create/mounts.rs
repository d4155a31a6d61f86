//! From binds, mounts, tmpfs, volumes of the image and of other containers to the list
//! of mounts. Makes nothing: volumes and a bind's source are made when they are needed.

use std::collections::BTreeSet;
use std::path::Path;

use engine_api::path::clean;
use engine_api::{MountPoint, MountRequest};

use super::mount::{self, Mode, Source};
use super::validate::Checked;
use crate::engine::Engine;
use crate::http::ApiError;
use crate::records::{MountRecord, Spec};
use crate::registry::new_id;
use crate::volumes;

/// All mounts of a new container. Read-only binds of an old client are so `at_top` alone.
pub fn plan(engine: &Engine, spec: &Spec, at_top: bool) -> Checked<Vec<MountRecord>> {
    let mut out = inherited(engine, spec)?;
    let mut own: Vec<MountRecord> = Vec::new();
    let mut seen = BTreeSet::new();
    let tmpfs = spec.host.tmpfs.clone().unwrap_or_default();
    for text in spec.host.binds.iter().flatten() {
        let (wanted, mode) = mount::parse(text)?;
        let place = clean(&wanted.target);
        if tmpfs.contains_key(&place) || !seen.insert(place.clone()) {
            return Err(duplicate(&place));
        }
        let record = record(engine, &wanted, &mode, at_top)?;
        own.push(MountRecord { make_source: record.point.kind == "bind", ..record });
    }
    for wanted in spec.host.mounts.iter().flatten() {
        mount::check(wanted, Source::MustExist).map_err(ApiError::bad_request)?;
        if !seen.insert(clean(&wanted.target)) {
            return Err(duplicate(&wanted.target));
        }
        own.push(record(engine, wanted, "", at_top)?);
    }
    for (place, options) in &tmpfs {
        // Another mount at the same place hides it.
        if !seen.contains(&clean(place)) {
            own.push(MountRecord { hidden: true, ..tmpfs_at(place, vec![options.clone()]) });
        }
    }
    out.retain(|m| !seen.contains(&m.point.destination));
    out.extend(own);
    for place in spec.config.volumes.iter().flatten().map(|(place, ())| clean(place)) {
        if place != "/" && !out.iter().any(|m| m.point.destination == place) {
            let wanted = MountRequest { target: place, ..MountRequest::default() };
            let record = volume(engine, &wanted, "")?;
            out.push(MountRecord {
                point: MountPoint { mode: String::new(), ..record.point },
                ..record
            });
        }
    }
    Ok(out)
}

fn duplicate(place: &str) -> ApiError {
    ApiError::bad_request(format!("Duplicate mount point: {place}"))
}

fn record(
    engine: &Engine,
    wanted: &MountRequest,
    mode: &str,
    at_top: bool,
) -> Checked<MountRecord> {
    match wanted.kind.as_str() {
        "bind" => {
            let settings = &engine.settings;
            let default = default_propagation(&[&settings.data_root, &settings.exec_root], wanted)?;
            Ok(bind(wanted, mode, default, at_top))
        }
        "volume" => volume(engine, wanted, mode),
        _ => {
            let words = mount::tmpfs_words(wanted).map_err(ApiError::bad_request)?;
            Ok(tmpfs_at(&wanted.target, words))
        }
    }
}

/// How mounts travel when nothing is said. A container that sees the daemon's own folders must
/// not keep what is mounted there: it would hold other containers' files after their end.
fn default_propagation(roots: &[&Path], wanted: &MountRequest) -> Checked<&'static str> {
    let source = wanted.source.as_str();
    let meets = |root: &&&Path| {
        let root = root.to_string_lossy();
        source.starts_with(&*root) || root.starts_with(source)
    };
    let Some(root) = roots.iter().find(meets) else { return Ok("rprivate") };
    let asked = wanted.bind_options.as_ref().map(|o| o.propagation.as_str()).unwrap_or_default();
    if matches!(asked, "" | "rslave" | "rshared") {
        return Ok("rslave");
    }
    Err(ApiError::bad_request(format!(
        "invalid mount config: must use either propagation mode \"rslave\" or \"rshared\" when mount source is within the daemon root, daemon root: {:?}, bind mount source: {source:?}, propagation: {asked:?}",
        root.to_string_lossy()
    )))
}

fn bind(wanted: &MountRequest, mode: &str, default: &str, at_top: bool) -> MountRecord {
    let options = wanted.bind_options.clone().unwrap_or_default();
    let propagation = match options.propagation.as_str() {
        "" => default.to_owned(),
        own => own.to_owned(),
    };
    MountRecord {
        point: MountPoint {
            kind: "bind".into(),
            source: clean(&wanted.source),
            destination: clean(&wanted.target),
            mode: mode.to_owned(),
            rw: !wanted.read_only,
            propagation: propagation.clone(),
            ..MountPoint::default()
        },
        propagation,
        non_recursive: options.non_recursive,
        read_only_non_recursive: options.read_only_non_recursive || (wanted.read_only && at_top),
        make_source: options.create_mountpoint,
        ..MountRecord::default()
    }
}

fn volume(engine: &Engine, wanted: &MountRequest, mode: &str) -> Checked<MountRecord> {
    let options = wanted.volume_options.clone().unwrap_or_default();
    let anonymous = wanted.source.is_empty();
    let name = if anonymous { new_id() } else { wanted.source.clone() };
    volumes::check_name(&name)
        .map_err(|why| ApiError::bad_request(format!("create {name}: {why}")))?;
    let source = volumes::data(&engine.settings.data_root, &name);
    Ok(MountRecord {
        point: MountPoint {
            kind: "volume".into(),
            name,
            source: source.to_string_lossy().into_owned(),
            destination: clean(&wanted.target),
            driver: "local".into(),
            // Shared by containers unless it is said otherwise.
            mode: if mode.is_empty() { "z".into() } else { mode.to_owned() },
            rw: !wanted.read_only,
            propagation: String::new(),
        },
        anonymous,
        copy_up: !options.no_copy,
        volume_labels: options.labels,
        ..MountRecord::default()
    })
}

/// A tmpfs; its options are read at the start, as dockerd does.
fn tmpfs_at(place: &str, options: Vec<String>) -> MountRecord {
    let read_only = options.iter().flat_map(|o| o.split(',')).any(|o| o == "ro");
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

/// The mounts of other containers (`--volumes-from`), which become this one's own.
fn inherited(engine: &Engine, spec: &Spec) -> Checked<Vec<MountRecord>> {
    let mut out: Vec<MountRecord> = Vec::new();
    for text in spec.host.volumes_from.iter().flatten() {
        let (reference, mode) = volumes_from(text).map_err(ApiError::bad_request)?;
        let other = engine.find(reference).map_err(|e| ApiError::bad_request(e.to_string()))?;
        let other = other.spec().map_err(ApiError::internal)?;
        for mut record in other.mounts.into_iter().filter(|m| m.point.kind != "tmpfs") {
            record.point.rw &= !mode.read_only;
            // It goes with the container that made it.
            record.anonymous = false;
            out.retain(|m| m.point.destination != record.point.destination);
            out.push(record);
        }
    }
    Ok(out)
}

/// `CONTAINER[:MODE]`.
fn volumes_from(text: &str) -> Result<(&str, Mode), String> {
    if text.is_empty() {
        return Err("volumes-from specification cannot be an empty string".into());
    }
    let (reference, words) = text.split_once(':').unwrap_or((text, ""));
    let mode = Mode::parse(words).filter(|m| m.propagation.is_empty() && !m.no_copy);
    Ok((reference, mode.ok_or_else(|| format!("invalid mode: {words}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemons_own_folders_are_never_held() {
        let roots: [&Path; 2] = [Path::new("/var/lib/ferry"), Path::new("/run/ferry")];
        let of = |source: &str, propagation: &str| {
            let bind_options = Some(engine_api::BindOptions {
                propagation: propagation.into(),
                ..Default::default()
            });
            let source = source.into();
            default_propagation(
                &roots,
                &MountRequest { source, bind_options, ..Default::default() },
            )
        };
        assert_eq!(of("/home", "").unwrap(), "rprivate");
        for source in ["/", "/var", "/var/lib/ferry/x", "/run/ferry"] {
            assert_eq!(of(source, "").unwrap(), "rslave", "{source}");
            assert!(of(source, "rprivate").is_err(), "{source}");
        }
    }

    #[test]
    fn mounts_of_others_are_taken_read_only_or_not() {
        assert_eq!(volumes_from("c").unwrap(), ("c", Mode::default()));
        assert!(volumes_from("c:ro").unwrap().1.read_only);
        assert!(volumes_from("c:rw,z").is_ok());
        for wrong in ["x", "nocopy", "rslave", "ro,rw"] {
            let refused = volumes_from(&format!("c:{wrong}")).unwrap_err();
            assert_eq!(refused, format!("invalid mode: {wrong}"));
        }
        assert!(volumes_from("").is_err());
    }
}
