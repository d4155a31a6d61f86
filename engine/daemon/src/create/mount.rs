//! One mount as it is asked for: checked with the texts that clients know, and read from
//! the short form `SOURCE:TARGET[:MODE]`. Looks at the host only for a bind's source.

use std::io;
use std::path::{Component, Path};

use engine_api::path::clean;
use engine_api::{BindOptions, MountRequest, VolumeOptions};

use crate::http::{ApiError, errno_text};

const PROPAGATIONS: [&str; 6] = ["private", "rprivate", "slave", "rslave", "shared", "rshared"];

/// Whether a bind's source is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// It must exist unless it is to be made.
    MustExist,
    /// It is made when it is needed.
    Made,
}

/// Whether something can be mounted at this place of a container.
pub(super) fn destination(place: &str) -> Result<(), String> {
    if place.starts_with('/') && clean(place) == "/" {
        return Err("invalid specification: destination can't be '/'".into());
    }
    absolute(place)
}

fn absolute(path: &str) -> Result<(), String> {
    if path.starts_with('/') {
        return Ok(());
    }
    Err(format!("invalid mount path: '{path}' mount path must be absolute"))
}

/// Checks a mount.
pub(super) fn check(wanted: &MountRequest, source: Source) -> Result<(), String> {
    inner(wanted, source)
        .map_err(|why| format!("invalid mount config for type {:?}: {why}", wanted.kind))
}

fn inner(wanted: &MountRequest, source: Source) -> Result<(), String> {
    if wanted.target.is_empty() {
        return Err(missing("Target"));
    }
    destination(&wanted.target)?;
    let extra = |name: &str, is_given: bool| {
        if is_given { Err(format!("field {name} must not be specified")) } else { Ok(()) }
    };
    let bind = || extra("BindOptions", wanted.bind_options.is_some());
    let volume = || extra("VolumeOptions", wanted.volume_options.is_some());
    let image = || extra("ImageOptions", wanted.image_options.is_some());
    match wanted.kind.as_str() {
        "bind" => check_bind(wanted, source, &[&volume, &image]),
        "volume" => {
            bind()?;
            image()?;
            check_volume(wanted)
        }
        "tmpfs" => {
            bind()?;
            image()?;
            extra("Source", !wanted.source.is_empty())?;
            tmpfs_words(wanted).map(drop)
        }
        "image" => {
            bind()?;
            volume()?;
            if wanted.source.is_empty() {
                return Err(missing("Source"));
            }
            let subpath = wanted.image_options.as_ref().map(|o| o.subpath.as_str());
            subpath.filter(|path| !path.is_empty()).map_or(Ok(()), local)
        }
        "cluster" => Ok(()),
        _ => Err("mount type unknown".into()),
    }
}

fn missing(field: &str) -> String {
    format!("field {field} must not be empty")
}

fn check_bind(
    wanted: &MountRequest,
    source: Source,
    others: &[&dyn Fn() -> Result<(), String>],
) -> Result<(), String> {
    if wanted.source.is_empty() {
        return Err(missing("Source"));
    }
    let options = wanted.bind_options.clone().unwrap_or_default();
    if !options.propagation.is_empty() && !PROPAGATIONS.contains(&options.propagation.as_str()) {
        return Err(format!("invalid propagation mode: {}", options.propagation));
    }
    others.iter().try_for_each(|other| other())?;
    absolute(&wanted.source)?;
    if source == Source::Made || options.create_mountpoint {
        return Ok(());
    }
    exists(&wanted.source)
}

/// Whether a bind's source is there.
pub(crate) fn exists(source: &str) -> Result<(), String> {
    match std::fs::metadata(source) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            Err(format!("bind source path does not exist: {source}"))
        }
        Err(e) => Err(format!("stat {source}: {}", errno_text(&e))),
    }
}

fn check_volume(wanted: &MountRequest) -> Result<(), String> {
    let is_anonymous = wanted.source.is_empty();
    let subpath = wanted.volume_options.as_ref().map(|o| o.subpath.as_str()).unwrap_or_default();
    if !subpath.is_empty() {
        if is_anonymous {
            return Err("must not set Subpath when using anonymous volumes".into());
        }
        local(subpath)?;
    }
    if wanted.read_only && is_anonymous {
        return Err("must not set ReadOnly mode when using anonymous volumes".into());
    }
    Ok(())
}

/// A path that stays where it begins.
fn local(path: &str) -> Result<(), String> {
    let mut depth = 0_i32;
    for part in Path::new(path).components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::ParentDir => depth -= 1,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => depth = -1,
        }
        if depth < 0 {
            return Err("subpath must be a relative path within the volume".into());
        }
    }
    Ok(())
}

/// The options of a tmpfs as words.
pub(super) fn tmpfs_words(wanted: &MountRequest) -> Result<Vec<String>, String> {
    let asked = wanted.tmpfs_options.clone().unwrap_or_default();
    let mut words = Vec::new();
    if wanted.read_only {
        words.push("ro".into());
    }
    if asked.mode != 0 {
        words.push(format!("mode={:o}", asked.mode));
    }
    if asked.size_bytes != 0 {
        words.push(format!("size={}", asked.size_bytes));
    }
    for option in asked.options.iter().flatten() {
        if !(1..=2).contains(&option.len()) {
            return Err("invalid option array length".into());
        }
        if !matches!(option[0].as_str(), "exec" | "noexec") {
            return Err(format!("invalid option: {}", option[0]));
        }
        words.push(option.join("="));
    }
    Ok(words)
}

/// The words of a mode such as `ro,rslave`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) read_only: bool,
    pub(super) no_copy: bool,
    pub(super) propagation: String,
}

impl Mode {
    /// Reads one; of each kind of word there may be one. `None` for what is no mode.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut mode = Self::default();
        let mut seen: Vec<u8> = Vec::new();
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let kind = match word {
                "ro" | "rw" => 0,
                "z" | "Z" => 1,
                "nocopy" => 2,
                "consistent" | "cached" | "delegated" => 3,
                word if PROPAGATIONS.contains(&word) => 4,
                _ => return None,
            };
            if seen.contains(&kind) {
                return None;
            }
            seen.push(kind);
            match kind {
                0 => mode.read_only = word == "ro",
                2 => mode.no_copy = true,
                4 => word.clone_into(&mut mode.propagation),
                _ => {}
            }
        }
        Some(mode)
    }
}

/// A mount in the short form, and the text of its mode.
pub(super) fn parse(text: &str) -> Result<(MountRequest, String), ApiError> {
    let invalid = || ApiError::internal(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let (source, target, words) = match parts[..] {
        [target] if !target.is_empty() => ("", target, ""),
        // A place and a mode, without a source.
        [source, target] if !source.is_empty() && Mode::parse(target).is_none() => {
            (source, target, "")
        }
        [source, target, words] if !source.is_empty() => (source, target, words),
        _ => return Err(invalid()),
    };
    let mode =
        Mode::parse(words).ok_or_else(|| ApiError::internal(format!("invalid mode: {words}")))?;
    let kind = if source.starts_with('/') { "bind" } else { "volume" };
    let volume_options =
        mode.no_copy.then(|| VolumeOptions { no_copy: true, ..VolumeOptions::default() });
    let bind_options = (!mode.propagation.is_empty())
        .then(|| BindOptions { propagation: mode.propagation, ..BindOptions::default() });
    let wanted = MountRequest {
        kind: kind.into(),
        source: source.into(),
        target: target.into(),
        read_only: mode.read_only,
        volume_options,
        bind_options,
        ..MountRequest::default()
    };
    check(&wanted, Source::Made).map_err(|why| ApiError {
        message: format!("{}: {why}", invalid().message),
        ..invalid()
    })?;
    Ok((wanted, words.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_has_one_word_of_each_kind() {
        let mode = Mode::parse("ro,rslave,z").unwrap();
        assert!(mode.read_only && mode.propagation == "rslave");
        assert_eq!(Mode::parse(""), Some(Mode::default()));
        for wrong in ["foo", "ro,rw", "rslave,shared", "z,Z", "ro,"] {
            assert_eq!(Mode::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_short_form_is_read_and_refused_as_clients_know_it() {
        let (wanted, mode) = parse("/tmp:/x:ro").unwrap();
        assert_eq!((wanted.kind.as_str(), wanted.read_only, mode.as_str()), ("bind", true, "ro"));
        assert_eq!(parse("/x").unwrap().0.kind, "volume");
        assert!(parse("vol:/x:nocopy").unwrap().0.volume_options.unwrap().no_copy);
        let text = |spec: &str| parse(spec).unwrap_err().message;
        for spec in ["", ":/x", "a:b:c:d", "/foo:rw"] {
            assert_eq!(text(spec), format!("invalid volume specification: '{spec}'"));
        }
        assert_eq!(text("v:/x:ro,rw"), "invalid mode: ro,rw");
        assert_eq!(
            text("/tmp:/x:nocopy"),
            "invalid volume specification: '/tmp:/x:nocopy': invalid mount config for type \"bind\": field VolumeOptions must not be specified"
        );
        assert_eq!(
            text("/:/"),
            "invalid volume specification: '/:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'"
        );
    }

    #[test]
    fn a_tmpfs_has_its_options_from_the_request() {
        let options = |options: Option<Vec<Vec<String>>>| MountRequest {
            kind: "tmpfs".into(),
            target: "/t".into(),
            tmpfs_options: Some(engine_api::TmpfsOptions {
                size_bytes: 1 << 20,
                mode: 0o1770,
                options,
            }),
            ..MountRequest::default()
        };
        assert_eq!(tmpfs_words(&options(None)).unwrap(), ["mode=1770", "size=1048576"]);
        let wrong = options(Some(vec![vec!["x".into()]]));
        assert_eq!(
            check(&wrong, Source::MustExist).unwrap_err(),
            "invalid mount config for type \"tmpfs\": invalid option: x"
        );
    }

    #[test]
    fn subpaths_stay_inside() {
        assert!(local("a/../b").is_ok());
        for out in ["/a", "../a", "a/../../b"] {
            assert!(local(out).is_err(), "{out}");
        }
    }
}
